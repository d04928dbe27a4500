"""The file ``-lock`` beside a database: one process at a time, the one that holds its lock, looks after the files.

It alone may make, move or leave the database, and empty its log. The lock is taken for one such step, not for the life
of the process, because a forked child would inherit it and keep it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tracer._exceptions import TransientStoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["exclusive", "exclusive_if_free"]

LOCK_TIMEOUT = 5.0  # seconds; as long as SQLite waits for its locks
_LOOK_AGAIN = 0.01
_CLOEXEC, _NOFOLLOW = (getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW"))  # not on Windows


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Keep other processes from making, moving or leaving this database, and from emptying its log. Blocks.

    Raises:
        TransientStoreError: Another process kept the lock for five seconds.
        OSError: There is no such directory, or no file can be made in it.
    """
    with _lock_file(path) as descriptor:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while fcntl is not None and not _try_to_lock(descriptor):
            if time.monotonic() >= deadline:
                raise TransientStoreError(f"another process keeps {path}-lock locked")
            time.sleep(_LOOK_AGAIN)
        yield


@contextlib.contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Do the same without waiting, and yield whether this process has the lock; it never has on Windows.

    Raises:
        OSError: The lock's file can't be opened.
    """
    if fcntl is None:
        yield False
        return
    with _lock_file(path) as descriptor:
        yield _try_to_lock(descriptor)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    descriptor = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR | _CLOEXEC | _NOFOLLOW, 0o600)
    try:
        _give_to_owner(descriptor, path)
        yield descriptor
    finally:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a forked child may have the descriptor too
        os.close(descriptor)


def _give_to_owner(descriptor: int, path: Path) -> None:
    """As root: let the database's owner use its lock. SQLite does the same with its log."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
