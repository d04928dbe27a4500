"""What is done with a SQLite connection: how it is set up, transactions, what errors mean, care for its log."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tracer._exceptions import StoreError, TransientStoreError
from tracer.store._regexp import install as install_regexp

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
    "is_interrupted",
    "is_locked",
    "prepare",
    "shrink",
    "transaction",
    "translated",
    "unless_locked",
]

BUSY_TIMEOUT_MS = 5_000  # of a command's connection
BUSY_STEP_MS = 100  # of the worker's: what waits inside SQLite can't be told to stop (see `ConnectionThread.run`)
CHECKPOINT_BYTES = 32 * 1024 * 1024
"""Size of the write-ahead log from which on it is moved into the database."""

CREATION_PRAGMAS = (
    f"busy_timeout = {BUSY_STEP_MS}",  # first: the next ones take locks
    "auto_vacuum = INCREMENTAL",  # works at creation only, before the first page is written
    "journal_mode = WAL",  # readers don't block the writer; where it can't be had SQLite keeps the slower mode it has
)
WRITER_PRAGMAS = (
    *CREATION_PRAGMAS,  # again: the file may have been made by somebody else
    "synchronous = NORMAL",  # a killed process loses no commit; a power cut may lose the newest
    f"wal_autocheckpoint = {0 if fcntl else 4_000}",  # see `checkpoint`
    "journal_size_limit = 67108864",
    "mmap_size = 0",  # a truncated file would be a SIGBUS in the user's process
    # Until a statement succeeds SQLite keeps the pages as they were: by default in /var/tmp, no place for prompts.
    "temp_store = MEMORY",
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
    """Make the directories that lack for this file, for this user only. Raises OSError."""
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):  # `mkdir(parents=True)` gives its mode to the last one only
        parent.mkdir(mode=0o700, exist_ok=True)


def create_file(path: Path) -> None:
    """Make an empty file for this user only. Raises OSError.

    SQLite gives the ``-wal`` and ``-shm`` files the mode of their database.
    """
    # Exclusively, so that no file is opened that SQLite may hold locks on: closing it would drop them.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Begin, then commit, or roll back on any exception.

    A writer's is IMMEDIATE: one that begins deferred and then writes fails at once if another process wrote in
    between, whatever the busy timeout.
    """
    if connection.in_transaction:  # a fork stopped even the ROLLBACK of the one before
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
    """Wait for no lock, and leave the block quietly at one, or for a fork: for work that can wait."""
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        yield
    except sqlite3.OperationalError as error:
        if not is_locked(error) and not is_interrupted(error):
            raise
    finally:
        with contextlib.suppress(sqlite3.OperationalError):  # stopped again: it is closed in a moment
            connection.execute(f"PRAGMA busy_timeout = {BUSY_STEP_MS}")


def is_locked(error: BaseException) -> bool:
    """Tell whether another connection is in the way."""
    return isinstance(error, sqlite3.OperationalError) and any(word in str(error).lower() for word in _LOCKED)


def is_interrupted(error: BaseException) -> bool:
    """Tell whether a statement was stopped, which is done for a fork alone."""
    return isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted"


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
    (https://sqlite.org/wal.html#walresetbug). So no connection does it of itself: whoever holds a lock on a file
    beside the database may, and others skip it. The lock is taken for one checkpoint, not for the process's life: a
    forked child would inherit it and keep it.

    Returns:
        Whether the log was emptied. A reader in an old snapshot can prevent that; the next call tries again.
    """
    if _size(Path(f"{path}-wal")) < at_least:
        return False
    with _sole_checkpointer(path) as elected:
        if not elected:
            return False
        with unless_locked(connection):  # don't make writers wait for a slow reader
            return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return False


def shrink(connection: sqlite3.Connection, pages: int) -> bool:
    """Give up to `pages` free pages back to the file system, if nobody else is writing; return whether more are left.

    The file itself becomes shorter at the next checkpoint.
    """
    if not (free := _free_pages(connection)):
        return False
    with unless_locked(connection):
        # A page a step, as rows without columns, which `execute` takes for the end after the first one.
        connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    return 0 < _free_pages(connection) < free  # a file that wasn't made by us may be unable to


def _free_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


@contextlib.contextmanager
def _sole_checkpointer(path: Path) -> Iterator[bool]:
    """Yield whether this process alone may checkpoint until the block ends."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(f"{path}-lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def prepare(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    """Set a new connection up for writing or reading: `CREATION_PRAGMAS`, `WRITER_PRAGMAS`, `READER_PRAGMAS`."""
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchone()  # some answer with a row, and run only when it is fetched
    install_regexp(connection)
