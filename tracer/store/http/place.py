"""Where what could not be sent to a server waits: a place of its own for each server, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

__all__ = ["place_of"]


def place_of(url: str) -> Path | None:
    """Return the path beside which the rings and the spool for a server lie; None if this machine has no room for them.

    It is in ``$XDG_STATE_HOME/tracer/servers`` (``~/.local/state``), or, where that can't be written to, in the
    directory for temporary files. The folder is this user's alone (0700).

    Args:
        url: The server's, without a token: nothing of it may lie in a name of a file.
    """
    name = f"{re.sub(r'[^A-Za-z0-9.]+', '-', url)[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    for folder in _folders():
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and (os.name == "nt" or found.st_uid == os.geteuid()):
                if found.st_mode & 0o077:
                    folder.chmod(0o700)
                if os.access(folder, os.W_OK):
                    return folder / name
    return None


def _folders() -> list[Path]:
    state = os.environ.get("XDG_STATE_HOME", "")
    user = os.environ.get("USERNAME", "user") if os.name == "nt" else str(os.geteuid())
    home = Path(state) if os.path.isabs(state) else Path(os.path.expanduser("~")) / ".local" / "state"
    return [home / "tracer" / "servers", Path(tempfile.gettempdir()) / f"tracer-servers-{user}"]
