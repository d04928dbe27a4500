"""A SQLite database that opens itself: the connections behind a store, opened when they are needed.

One object, the `Gate`, knows whether they are open. They are closed at first, after a fork, when a thread was killed,
and when the file was replaced; whoever needs them then opens them here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import anyio

from tracer._exceptions import DamagedStoreError, StoreError, TransientStoreError
from tracer.store.base import StoreOptions
from tracer.store.sqlite._connection import (
    CREATION_PRAGMAS,
    READER_PRAGMAS,
    WRITER_PRAGMAS,
    create_directory,
    create_file,
    descriptor_shortage,
    prepare,
    set_durability,
)
from tracer.store.sqlite._file_problem import Kind, find_problem, identity, is_damage
from tracer.store.sqlite._gate import Gate, GoneError, forked_in_use
from tracer.store.sqlite._lock import exclusive
from tracer.store.sqlite._private import make_private
from tracer.store.sqlite._readers import READERS, SEARCHES, SUMMARIES, Readers
from tracer.store.sqlite._rescue import OpenedFiles, leave, move_aside, set_free
from tracer.store.sqlite._thread import ConnectionThread
from tracer.store.uri import spool_directory

__all__ = ["Database"]

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)  # of descriptors, of room: they pass

P = ParamSpec("P")
Q = TypeVar("Q")
T = TypeVar("T")


class Database:
    """One file, or memory: a connection that writes and, for a file, others that read at the same time.

    Belongs to one event loop at a time. Its part of a fork runs in the thread that forks.

    Args:
        path: The file; None for memory.
        on_open: Called with the new writing connection, in its thread.
        options: `time_limit` is kept here only where there is no thread; elsewhere the caller keeps it, by cancelling.
        rescues: Move a damaged file aside, and make a new one in its place.

    Attributes:
        was_open: It was open at least once, so a problem with opening it again may pass.
        moved_aside: How many damaged files were moved aside.
        opened: Which files are open, or were open last.
        options: As given, or the defaults.
    """

    def __init__(
        self,
        path: Path | None,
        on_open: Callable[[sqlite3.Connection], None],
        options: StoreOptions | None = None,
        *,
        rescues: bool = False,
    ) -> None:
        self.path = path
        self.was_open = False
        self.moved_aside = 0
        self.opened = OpenedFiles(None, None, None)
        self._on_open = on_open
        self.options = options or StoreOptions()
        self._rescues = rescues
        self._gate = Gate(closes=path is not None)
        self._writer: ConnectionThread | None = None
        self._readers: Readers | None = None
        self._is_durable = False  # the writer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock

    @property
    def is_open(self) -> bool:
        """The connections are open and their threads live, so nothing needs to be opened."""
        return self._is_connected and all(thread.is_alive for thread in self._threads)

    @property
    def is_current(self) -> bool:
        """The path still leads to the file that is open, or was open last: it was not deleted, moved or replaced."""
        return self.path is None or identity(self.path) == self.opened.database

    async def open(self) -> None:
        """Open or create it, if it is not open. If several tasks ask at once, one of them does it.

        Raises:
            sqlite3.Error: SQLite failed to open it.
            StoreError: `on_open` raised it; or the file can't be ours, or can't be made.
            DamagedStoreError: The file is damaged, and must not or can't be moved aside.
            TransientStoreError: The path can't be reached now, but could be before; or another process keeps the file
                locked.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a lock belongs to a loop, and the last loop may have ended while it held the lock
            self._loop, self._opening = loop, asyncio.Lock()
            if self._readers is not None:
                self._readers.begin_anew()
        while not self.is_open:
            async with self._opening:
                if not self.is_open:
                    # A reader's time limit does not end the opening: a large database could then never be migrated.
                    with anyio.CancelScope(shield=True), contextlib.suppress(GoneError):  # a fork: try again
                        await self._open_or_rescue()

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(connection, …)`` on the writing connection, in its thread, opening it if need be.

        If a fork stopped it, it is run again. So it must make all its changes in one transaction.
        """
        while True:
            await self.open()
            assert self._writer is not None
            with contextlib.suppress(GoneError):
                if self._is_durable is not (durable := self.options.durable):
                    await self._writer.run(set_durability, durable, self.path)
                    self._is_durable = durable
                return await self._writer.run(function, *args, **kwargs)

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same on a connection that reads, beside the writer and other readers.

        If the calling task is cancelled, the function is stopped.

        Raises:
            TimeoutError: See `options`.
        """
        return await self._read(READERS, function, *args, **kwargs)

    async def search(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same for a read that may be slow: it leaves a connection to `read`."""
        return await self._read(SEARCHES, function, *args, **kwargs)

    async def sum_up(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same for sums over many traces: they leave connections to `search` and `read`."""
        return await self._read(SUMMARIES, function, *args, **kwargs)

    async def _read(
        self,
        most: int,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        while True:
            await self.open()
            assert self._readers is not None
            with contextlib.suppress(GoneError):
                return await self._readers.run(most, function, *args, **kwargs)

    async def aclose(self) -> None:
        """Close the connections, and end their threads. Reads that run begin again on new connections."""
        threads = self._threads
        if self._readers is not None:
            self._readers.close()
        self._writer = self._readers = None
        for thread in threads:
            await thread.aclose()

    @property
    def _threads(self) -> list[ConnectionThread]:
        """The writer comes last, because the last connection to close a file moves its log."""
        readers = [] if self._readers is None else self._readers.threads
        return [thread for thread in dict.fromkeys((*readers, self._writer)) if thread is not None]

    @property
    def _is_connected(self) -> bool:
        return self._readers is not None and all(thread.is_connected for thread in self._threads)

    async def _open(self) -> None:
        if self._is_connected:
            for thread in self._threads:
                thread.revive()
            return
        if self.path is not None and forked_in_use():
            raise StoreError(
                "this process was forked while SQLite was in use, so it must not open a database; what it records "
                f"waits in {spool_directory(self.path)} for the next process that opens this one"
            )
        await self.aclose()
        try:
            self._writer, self._is_durable = await self._connect_writer(), False
            await self._writer.run(self._on_open)
            if self.path is None:
                self._readers = Readers(self._writer, None)
            else:
                connect = functools.partial(self._connect_reader, self.path)
                self._readers = Readers(await connect(), connect)
                opened, self.opened = self.opened, OpenedFiles.at(self.path)
                if opened.database != self.opened.database:
                    raise TransientStoreError("it was replaced while it was opened")
        except BaseException:
            await self.aclose()
            raise
        self.was_open = True

    async def _open_or_rescue(self) -> None:
        try:
            await self._open()
        except (sqlite3.Error, DamagedStoreError) as error:
            if not await self.rescue(error):
                raise
            await self._open()

    async def rescue(self, error: BaseException) -> bool:
        """Move the file aside if an error says that it is damaged; return whether its place is free now.

        The connections are closed.

        Raises:
            DamagedStoreError: It must stay where it is: the message says why.
            TransientStoreError: Another process keeps it locked.
        """
        if not self._rescues or self.path is None or not (isinstance(error, DamagedStoreError) or is_damage(error)):
            return False
        await self.aclose()
        if not isinstance(error, DamagedStoreError):
            error = DamagedStoreError(str(error), path=self.path, identity=self.opened.database)
        while True:
            with contextlib.suppress(GoneError):
                await self._beside(self._move_aside, error)
                return True

    def _move_aside(self, error: DamagedStoreError) -> None:
        """Move the file, and count that, in one step: a caller who is cancelled does not wait for the count."""
        if move_aside(error) is not None:
            self.moved_aside += 1

    async def leave(self) -> None:
        """Close the connections to a file that is no longer at the path; all that was committed stays in that file."""
        if self.path is not None and self._is_connected and not self.is_current:
            with contextlib.suppress(sqlite3.Error, StoreError, OSError):
                await self.write(leave, self.path, self.opened)
        await self.aclose()

    async def _connect_writer(self) -> ConnectionThread:
        path = self.path
        if path is None:
            return await self._connect(":memory:", (*CREATION_PRAGMAS, *WRITER_PRAGMAS))
        found = identity(path)
        # This comes before anything is changed: even PRAGMAs would change a newer version's file.
        if (problem := find_problem(path)) is not None:
            if problem.kind is Kind.DAMAGED:
                raise DamagedStoreError(problem.text, path=path, identity=found)
            raise self._unopened(problem, passing=problem.kind is Kind.UNREACHABLE)
        try:
            if not path.exists() or not path.stat().st_size:
                create_directory(path)
                await self._beside(_create, path)
        except OSError as error:
            raise self._unopened(error) from error
        make_private(path)
        self.opened = OpenedFiles(identity(path), None, None)
        return await self._connect(str(path), WRITER_PRAGMAS)

    async def _connect_reader(self, path: Path) -> ConnectionThread:
        try:
            create_file(path)  # in case it has gone meanwhile: SQLite would make one that other users can read
        except OSError as error:
            raise self._unopened(error) from error
        return await self._connect(str(path), READER_PRAGMAS)

    def _unopened(self, reason: object, *, passing: bool = True) -> StoreError:
        is_shortage = isinstance(reason, OSError) and reason.errno in _SHORTAGES
        kind = TransientStoreError if is_shortage or (passing and self.was_open) else StoreError
        return kind(f"it can't be opened: {reason}")

    async def _connect(self, database: str, pragmas: tuple[str, ...]) -> ConnectionThread:
        thread = self._thread(database)
        try:
            await thread.open()
            await thread.run(prepare, pragmas, thread.must_stop)
        except BaseException as error:
            await thread.aclose()
            if isinstance(error, sqlite3.OperationalError) and (shortage := descriptor_shortage()) is not None:
                raise self._unopened(shortage) from error
            raise
        return thread

    def _thread(self, database: str) -> ConnectionThread:
        return ConnectionThread(self._gate, database, self.options)

    async def _beside(self, function: Callable[[Q], T], argument: Q) -> T:
        """Run a function that waits for other processes or looks at the file, in a thread that forks know of."""
        helper = self._thread(":memory:")
        try:
            await helper.open()
            return await helper.run(lambda _: function(argument))
        finally:
            await helper.aclose()


def _create(path: Path) -> None:
    """Make the file with its first page while the lock is held: for `set_free`, an empty file can have no log.

    If the file were still empty when the lock is released, another process could take the log that the maker begins
    next for a log that was left behind.
    """
    with exclusive(path):
        set_free(path)
        create_file(path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            prepare(connection, CREATION_PRAGMAS)
