"""Helpers for a SQLite connection: setting it up, transactions, what errors mean, and moving its log."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from tracer._exceptions import StoreError, TransientStoreError
from tracer.store.sqlite._lock import exclusive_if_free
from tracer.store.sqlite._regexp import install as install_regexp
from tracer.store.sqlite._words import install as install_folded

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "BUSY_TIMEOUT_MS",
    "CHECKPOINT_BYTES",
    "CREATION_PRAGMAS",
    "READER_PRAGMAS",
    "WRITER_PRAGMAS",
    "checkpoint",
    "create_directory",
    "create_file",
    "descriptor_shortage",
    "free_pages",
    "is_interrupted",
    "is_locked",
    "prepare",
    "set_durability",
    "shrink",
    "transaction",
    "translated",
    "unless_locked",
]

BUSY_TIMEOUT_MS = 5_000  # for the connection of a command
BUSY_STEP_MS = 100  # for the worker's connections: a wait inside SQLite can't be stopped (see `ConnectionThread.run`)
CHECKPOINT_BYTES = 32 * 1024 * 1024
"""When the write-ahead log has this size or more, it is moved into the database."""

_PATIENCE = f"busy_timeout = {BUSY_STEP_MS}"  # first: those after it take locks, unless the file is in WAL mode already
_WAL = "journal_mode = WAL"  # readers don't block the writer; where WAL is not possible, SQLite keeps its slower mode
# Works only before the first page is written. Later it changes nothing, but takes the write lock all the same: whoever
# only reads could not open the database while another process migrates it or deletes much.
CREATION_PRAGMAS = (_PATIENCE, "auto_vacuum = INCREMENTAL", _WAL)
WRITER_PRAGMAS = (
    _PATIENCE,
    _WAL,  # again: another program may have made the file
    "synchronous = NORMAL",  # a killed process loses no commit; a power cut may lose the newest
    "checkpoint_fullfsync = ON",  # macOS: otherwise a checkpoint could lose what a durable connection has committed
    f"wal_autocheckpoint = {0 if fcntl else 4_000}",  # see `checkpoint`
    "journal_size_limit = 67108864",
    "mmap_size = 0",  # a truncated file would be a SIGBUS in the user's process
    # Until a statement succeeds, SQLite keeps a copy of the old pages: by default in /var/tmp, where no prompt belongs.
    "temp_store = MEMORY",
    "secure_delete = ON",  # zeros take the place of what is deleted; how SQLite was built decides the default
    "foreign_keys = ON",
    "trusted_schema = OFF",  # a crafted file must not run functions through its views and triggers
    "cell_size_check = ON",
    "cache_size = -16384",  # 16 MiB; the default 2 MiB doesn't hold the inner pages of a large index
)
READER_PRAGMAS = (
    f"busy_timeout = {BUSY_STEP_MS}",
    "query_only = ON",  # rather than mode=ro, which can't recover a database after kill -9
    "temp_store = MEMORY",
    "mmap_size = 0",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "cache_size = -16384",
)
_LOCKED = ("locked", "busy")
_TRANSIENT = (*_LOCKED, "disk is full", "disk i/o error", "unable to open database file")


def create_directory(path: Path) -> None:
    """Make the missing directories of this file, for this user only. Raises OSError."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):  # `mkdir(parents=True)` gives its mode to the last one only
        parent.mkdir(mode=0o700, exist_ok=True)


def create_file(path: Path) -> None:
    """Make an empty file for this user only. Raises OSError.

    SQLite gives the ``-wal`` and ``-shm`` files the mode of their database.
    """
    # O_EXCL does not open a file that exists: SQLite may hold locks on it, and closing it would drop them.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))


def descriptor_shortage() -> OSError | None:
    """Return the error if no file at all can be opened now. SQLite only says "unable to open database file"."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error
    return None


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Begin, then commit, or roll back on any exception.

    Writers use IMMEDIATE: a transaction that begins DEFERRED and writes later fails at once if another process wrote in
    between, and the busy timeout does not help.
    """
    if connection.in_transaction:  # a fork stopped even the ROLLBACK of the previous transaction
        connection.execute("ROLLBACK")
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors (a full disk) SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def unless_locked(connection: sqlite3.Connection) -> Iterator[None]:
    """Leave the block quietly, without waiting, if there is a lock or a fork stops it: for work that can wait."""
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        yield
    except sqlite3.OperationalError as error:
        if not is_locked(error) and not is_interrupted(error):
            raise
    finally:
        with contextlib.suppress(sqlite3.OperationalError):  # stopped again: the fork closes the connection in a moment
            connection.execute(f"PRAGMA busy_timeout = {BUSY_STEP_MS}")


def set_durability(connection: sqlite3.Connection, durable: bool, path: Path | None) -> None:
    """Have each commit from now on wait until the disk has it, or not. What was committed before counts as well.

    In WAL mode a commit then syncs the log, which covers all that is in it. EXTRA differs from FULL only where WAL is
    not possible: it syncs the directory after a journal was removed (https://sqlite.org/pragma.html#pragma_synchronous).
    On macOS only ``fullfsync`` makes the disk empty its own cache.
    """
    connection.execute(f"PRAGMA synchronous = {'EXTRA' if durable else 'NORMAL'}")
    connection.execute(f"PRAGMA fullfsync = {'ON' if durable else 'OFF'}")
    if durable and path is not None:
        _sync_names(path)


def _sync_names(path: Path) -> None:
    """Make the names of the file, its log and the directories above it durable: they may have been made just now."""
    for directory in path.parents:
        with contextlib.suppress(OSError):  # Windows has no such thing; a directory may be closed to us
            descriptor = os.open(directory, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def is_locked(error: BaseException) -> bool:
    """Tell whether another connection is in the way."""
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error).lower() for word in _LOCKED)


def is_interrupted(error: BaseException) -> bool:
    """Tell whether a statement was stopped: by a fork, or because nobody waits for it any more."""
    return isinstance(error, sqlite3.OperationalError) and str(error).endswith("interrupted")  # FTS5 puts it at the end


@contextlib.contextmanager
def translated(what: str, *, opened: bool = True) -> Iterator[None]:
    """Raise sqlite3's errors as StoreError, or TransientStoreError where trying again may help."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error).lower()
        passing = isinstance(error, sqlite3.OperationalError) and any(word in text for word in _TRANSIENT)
        if passing and (opened or "unable to open" not in text):
            raise TransientStoreError(f"{what}: {error}") from error
        raise StoreError(f"{what}: {error}") from error


def checkpoint(connection: sqlite3.Connection, path: Path, *, at_least: int = CHECKPOINT_BYTES) -> bool:
    """Move the write-ahead log into the database and empty it, if it has grown to `at_least` bytes.

    SQLite up to 3.51.2 can corrupt a database when one connection checkpoints while another restarts the log
    (https://sqlite.org/wal.html#walresetbug). So no connection checkpoints by itself: only the process that holds the
    lock on a file beside the database does it (`tracer.store.sqlite._lock`), and the others skip it.

    Returns:
        Whether the log was emptied. A reader in an old snapshot can prevent that; the next call tries again.
    """
    if _size(Path(f"{path}-wal")) < at_least:
        return False
    with exclusive_if_free(path) as elected:
        if not elected:
            return False
        with unless_locked(connection):  # don't make writers wait for a slow reader
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return False


def shrink(connection: sqlite3.Connection, pages: int) -> bool:
    """Give up to `pages` free pages back to the file system, if nobody else is writing; return whether more are left.

    The file itself becomes shorter at the next checkpoint.
    """
    if not (free := free_pages(connection)):
        return False
    with unless_locked(connection):
        # This frees one page per step, and each step is a row without columns: `execute` would stop after the first.
        connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    return 0 < free_pages(connection) < free  # a file that we did not make may be unable to shrink


def free_pages(connection: sqlite3.Connection) -> int:
    """Return how many pages of the file hold nothing."""
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def prepare(
    connection: sqlite3.Connection, pragmas: tuple[str, ...], must_stop: Callable[[], bool] = lambda: False
) -> None:
    """Set a new connection up for writing or reading: `CREATION_PRAGMAS`, `WRITER_PRAGMAS`, `READER_PRAGMAS`."""
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchone()  # some answer with a row, and run only when it is fetched
    install_regexp(connection, must_stop)
    install_folded(connection)
