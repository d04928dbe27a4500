"""SQLite connections: how they are opened, how a function runs in their thread, what their errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import aiosqlite

from tracer._exceptions import StoreError, TransientStoreError
from tracer._native_threads import patched_by
from tracer.store._native_connection import NativeConnection
from tracer.store._regexp import install as install_regexp

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "CHECKPOINT_BYTES",
    "checkpoint",
    "connect",
    "create_file",
    "run",
    "shrink",
    "transaction",
    "translated",
    "unless_locked",
]

BUSY_TIMEOUT_MS = 5_000
CHECKPOINT_BYTES = 32 * 1024 * 1024
"""Size of the write-ahead log from which on it is moved into the database."""

_WRITER_PRAGMAS = (
    f"busy_timeout = {BUSY_TIMEOUT_MS}",  # first: the next ones take locks
    "auto_vacuum = INCREMENTAL",  # works at creation only, before the first page is written
    "journal_mode = WAL",  # readers don't block the writer; where it can't be had SQLite keeps the slower mode it has
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
_READER_PRAGMAS = (
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "query_only = ON",  # rather than mode=ro, which can't recover a database after kill -9
    "temp_store = MEMORY",
    "mmap_size = 0",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "cache_size = -16384",
)
_LOCKED = ("locked", "busy")
_TRANSIENT = (*_LOCKED, "disk is full", "disk i/o error", "unable to open database file")

P = ParamSpec("P")
T = TypeVar("T")


def create_file(path: Path) -> None:
    """Make an empty file for this user only, and the directories that lack. Raises OSError.

    SQLite gives the ``-wal`` and ``-shm`` files the mode of their database.
    """
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):  # `mkdir(parents=True)` gives its mode to the last one only
        parent.mkdir(mode=0o700, exist_ok=True)
    # Exclusively, so that no file is opened that SQLite may hold locks on: closing it would drop them.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))


async def connect(database: str, *, query_only: bool = False) -> aiosqlite.Connection:
    """Open a connection in autocommit mode with our PRAGMAs set. Raises sqlite3.Error."""
    connection = await _open(database, isolation_level=None, cached_statements=256)
    try:
        await run(connection, _prepare, _READER_PRAGMAS if query_only else _WRITER_PRAGMAS)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _open(database: str, **options: Any) -> aiosqlite.Connection:
    if patched_by() is None:
        return await aiosqlite.connect(database, **options)
    connection = NativeConnection()
    await connection.open(database, **options)
    return cast("aiosqlite.Connection", connection)  # as far as `run` and `close` go


async def run(
    connection: aiosqlite.Connection,
    function: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run ``function(sqlite3_connection, …)`` in the connection's thread, as one call that cancellation can't split.

    aiosqlite has no public way to do that, and a transaction over several of its calls would stay open when its task
    is cancelled between them. So its internals are used, here and nowhere else (``test_connection`` watches them).
    """
    return await connection._execute(function, connection._conn, *args, **kwargs)  # type: ignore[no-any-return, no-untyped-call]


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Begin, then commit, or roll back on any exception.

    A writer's is IMMEDIATE: one that begins deferred and then writes fails at once if another process wrote in
    between, whatever the busy timeout.
    """
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
    """Wait for no lock, and leave the block quietly at one that another connection holds: for work that can wait."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    except sqlite3.OperationalError as error:
        if not any(word in str(error).lower() for word in _LOCKED):
            raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


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


def _prepare(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchone()  # some answer with a row, and run only when it is fetched
    install_regexp(connection)
