"""Moves files of a database out of the way without losing what they hold: a damaged file, and logs of a moved one.

A database is up to three files: the file itself, ``-wal`` with the newest commits, ``-shm`` with the index of that log.
SQLite finds the other two by name alone. When somebody renames ``t.db`` while it is in use, its ``t.db-wal`` and
``t.db-shm`` stay, and whoever then makes a new ``t.db`` takes them for its own: that corrupts both databases
(https://sqlite.org/howtocorrupt.html sections 1.4 and 2.5). So the names are set free before a new file is opened.

Only one process at a time does this (`_lock`). Once it has the lock, it looks again which file the path
leads to. Nothing is overwritten. Only indexes, empty logs, and logs of
deleted databases are deleted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from tracer._exceptions import DamagedStoreError, TransientStoreError
from tracer.store.sqlite._file_problem import identity, is_damage, owner_of_damage
from tracer.store.sqlite._lock import exclusive

__all__ = ["OpenedFiles", "damaged_name", "leave", "move_aside", "set_free"]

logger = logging.getLogger("tracer")

CHECK_LIMIT = 5.0  # seconds that a damaged file is looked through
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock
_LOG, _INDEX = "-wal", "-shm"
_PARTS = ("", _LOG, _INDEX, "-journal")

Identity = tuple[int, int]


class OpenedFiles(NamedTuple):
    """Which files a connection uses: what their names led to when it was opened."""

    database: Identity | None
    wal: Identity | None
    shm: Identity | None

    @classmethod
    def at(cls, path: Path) -> OpenedFiles:
        """Look where the names lead now. The database is last: if it is the same as before, the others were too."""
        wal, shm = (identity(f"{path}{suffix}") for suffix in (_LOG, _INDEX))
        return cls(identity(path), wal, shm)


# --- a damaged file ---------------------------------------------------------------------------------------------------


def move_aside(error: DamagedStoreError) -> Path | None:
    """Move a damaged file aside with its log and index, if it is still there, is damaged, and is ours to move.

    If several processes find it damaged, one of them moves it; the others then find another file, or none, at the path.
    The caller must have no open connection. A large file takes seconds, all of them inside SQLite. What was done is
    logged.

    Returns:
        Where the file is now; None if another process was quicker. Either way a new one can be opened.

    Raises:
        DamagedStoreError: It must stay where it is: the message says why.
        TransientStoreError: Another process keeps it locked.
    """
    path = error.path
    try:
        with exclusive(path):
            if identity(path) != error.identity:
                return None
            if why := _why_kept(path, str(error)):
                raise _kept(error, why)
            target = _move(path, damaged_name(path))
    except OSError as failure:
        raise _kept(error, f"it can't be moved ({failure})") from failure
    logger.error(
        "%s: the damaged file %s was moved aside to %s, and a new database takes its place. "
        "Nothing was deleted; `tracer db check --uri sqlite:///%s` says what is wrong with it",
        error, path, target, target,
    )  # fmt: skip
    return target


def damaged_name(path: Path) -> Path:
    """Return a name for the damaged file that is free for each of its parts."""
    return _free_name(path, "damaged")


def _free_name(path: Path, what: str) -> Path:
    stem = f"{path}.{what}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (Path(f"{stem}{number}") for number in ("", *(f"-{number}" for number in range(2, 10_000))))
    return next(name for name in names if not any(os.path.lexists(f"{name}{part}") for part in _PARTS))


def _kept(error: DamagedStoreError, why: str) -> DamagedStoreError:
    text = f"{error}; the file stays where it is, since {why}"
    kept = DamagedStoreError(text, path=error.path, identity=error.identity)
    kept.__cause__ = error.__cause__
    return kept


def _why_kept(path: Path, text: str) -> str | None:
    """Say why a file that SQLite called damaged must not be moved; None if it may be."""
    if path.is_symlink() or not path.is_file():
        return "it is no regular file"
    problem = owner_of_damage(path, text)
    if not problem.can_be_moved_aside:
        return problem.why_kept or f"it is a {problem.kind.value} database"
    return None if _is_damaged(path) else "no damage was found when it was looked through"


def _is_damaged(path: Path) -> bool:
    """Check the whole file on a separate connection, which takes locks and reads the log like any other.

    Raises:
        TransientStoreError: Another process keeps it locked, or the disk fails.
    """
    give_up_at = time.monotonic() + CHECK_LIMIT
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)) as looking:
            looking.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS)
            looking.execute("PRAGMA trusted_schema = OFF")
            # `quick_check` would not notice an index that lacks rows, but a write fails because of it too.
            return bool(looking.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok")
    except sqlite3.OperationalError as failure:
        if "interrupted" in str(failure):  # a large file: two connections called it damaged, which must be enough
            return True
        raise TransientStoreError(f"{path} can't be looked through: {failure}") from failure
    except sqlite3.DatabaseError as failure:
        return is_damage(failure)


# --- a file that somebody replaced ------------------------------------------------------------------------------------


def leave(connection: sqlite3.Connection, path: Path, opened: OpenedFiles) -> None:
    """Prepare to close a connection whose file was deleted, moved or replaced, so that its commits stay with it.

    SQLite itself does nothing for such a file when its last connection closes. The commits would stay in a log under
    the old name, and the next database of that name would delete it.

    Raises:
        TransientStoreError: Another process keeps the lock.
    """
    home, is_deleted = _whereabouts(opened.database)
    with _exclusive_if_there(path, home):
        if not is_deleted:
            with contextlib.suppress(sqlite3.Error):  # another user of the file does it when it leaves
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if identity(path) == opened.database:
            return
        for suffix, mine in ((_LOG, opened.wal), (_INDEX, opened.shm)):
            name = Path(f"{path}{suffix}")
            if mine is None or identity(name) != mine:
                continue  # gone, or it belongs to the file that is there now
            if home is not None and not os.path.lexists(f"{home}{suffix}"):
                _rename(name, Path(f"{home}{suffix}"))  # other processes go on using it until they notice
            elif is_deleted:
                name.unlink()  # its database can't be read any more
            else:
                _discard(name, path)


def set_free(path: Path) -> None:
    """Remove the log and index that an earlier database of this name left. Hold the lock, before a new one is made.

    They do not belong to a file that is missing or empty. SQLite would delete the log or use the index, to which a
    process that has the old file open may still be writing.
    """
    if not _is_unmade(path):
        return
    for suffix in (_LOG, _INDEX):
        if os.path.lexists(name := Path(f"{path}{suffix}")):
            _discard(name, path)


def _is_unmade(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _discard(name: Path, path: Path) -> None:
    """Delete an index or an empty log; move a log that holds something to a name of its own."""
    if name == Path(f"{path}{_INDEX}") or name.stat().st_size == 0:
        name.unlink()
        return
    target = Path(f"{_free_name(path, 'left')}{_LOG}")
    _rename(name, target)
    logger.warning(
        "%s was left by a database that is no longer there; it was moved to %s. Rename it to the database's name "
        "with %s to have what was written last, or delete it",
        name, target, _LOG,
    )  # fmt: skip


def _exclusive_if_there(path: Path, home: Path | None) -> contextlib.AbstractContextManager[None]:
    """Take the lock. If the directory was moved with the lock file in it, the lock is where the database is now."""
    place = path.parent if path.parent.is_dir() or home is None else home.parent
    return exclusive(place / path.name) if place.is_dir() else contextlib.nullcontext()


def _whereabouts(mine: Identity | None) -> tuple[Path | None, bool]:
    """Return what an open file is called now, and whether it was deleted; (None, False) if that can't be found out."""
    with contextlib.suppress(OSError):  # only Linux has this list
        for name in os.listdir("/proc/self/fd"):
            descriptor = f"/proc/self/fd/{name}"
            if mine is not None and identity(descriptor) == mine:
                if os.stat(descriptor).st_nlink == 0:
                    return None, True
                path = Path(os.readlink(descriptor))
                return (path if identity(path) == mine else None), False
    return None, False


# --- names ------------------------------------------------------------------------------------------------------------


def _move(path: Path, target: Path) -> Path:
    """Rename the file first, then its other parts: a log that is left without its file is kept (`set_free`)."""
    for part in _PARTS:
        if os.path.lexists(f"{path}{part}"):
            _rename(Path(f"{path}{part}"), Path(f"{target}{part}"))
    return target


def _rename(path: Path, target: Path) -> None:
    """Rename without overwriting: an empty file takes the new name first. Raises OSError."""
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.replace(path, target)
    except BaseException:
        target.unlink()
        raise
