"""Takes other users' rights to a database away: it holds prompts. Our own files are made without such rights."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

from tracer.store.sqlite._file_problem import BESIDE

__all__ = ["make_private"]

logger = logging.getLogger("tracer")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_told: set[Path] = set()  # files that stay readable for others, so that each open doesn't say so again


def make_private(path: Path) -> None:
    """Let nobody but its owner use a database and what lies beside it; log what had to be changed. Never raises.

    `find_problem` must have accepted the file. Another user's file stays as it is, unless this process is root.
    """
    if not (shared := _shared(path)):
        return
    for file, mode in shared.items():
        with contextlib.suppress(OSError):
            os.chmod(file, mode & ~_OTHERS)
    names = ", ".join(f"{file} (mode {mode:04o})" for file, mode in shared.items())
    if not _shared(path):
        logger.warning("other users could read or change %s; now only the owner can", names)
    elif path not in _told:
        _told.add(path)
        logger.warning(
            "other users can read or change %s, and the file system does not let tracer change that; name a file in "
            "another directory to keep prompts private",
            names,
        )


def _shared(path: Path) -> dict[Path, int]:
    """Return the modes of those files of a database that other users have rights to, and that we can change."""
    found = {}
    for suffix in ("", *BESIDE):
        file = Path(f"{path}{suffix}")
        with contextlib.suppress(OSError):
            entry = file.lstat()
            if not stat.S_ISLNK(entry.st_mode) and entry.st_mode & _OTHERS and _may_change(entry):
                found[file] = stat.S_IMODE(entry.st_mode)
    return found


def _may_change(entry: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and os.geteuid() in (0, entry.st_uid)  # Windows has no such modes
