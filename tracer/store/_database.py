"""A SQLite database that opens itself: the connections behind a store, opened when they are needed.

Whether they are open is known to one object, the `Gate`; whoever finds them closed (at first, after a fork, when a
thread was killed, when the file was replaced) opens them here.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from tracer._exceptions import ConfigurationError, StoreError, TransientStoreError
from tracer.store._connection import READER_PRAGMAS, WRITER_PRAGMAS, create_file, prepare
from tracer.store._gate import Gate, GoneError, forked_in_use
from tracer.store._spare import spare_file
from tracer.store._thread import ConnectionThread
from tracer.store.uri import check_uri

__all__ = ["Database"]

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One file, or memory: a connection that writes and, of a file, one that reads beside it.

    Belongs to one event loop at a time; what it does at a fork is done in whichever thread forks.

    Args:
        path: The file; None for memory.
        on_open: Called with the new writing connection, in its thread.

    Attributes:
        was_open: It was, at least once: what keeps it from opening again may pass.
    """

    def __init__(self, path: Path | None, on_open: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self.was_open = False
        self._on_open = on_open
        self._gate = Gate(closes=path is not None)
        self._writer: ConnectionThread | None = None
        self._reader: ConnectionThread | None = None
        self._file: tuple[int, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Lock

    @property
    def is_open(self) -> bool:
        """Nobody would have to open it now."""
        return self._is_connected and all(thread.is_alive for thread in self._threads)

    @property
    def is_replaced(self) -> bool:
        """It is open, but the path no longer leads to the open file: that was deleted, moved or replaced."""
        return self.is_open and self._file != self._identity()

    async def open(self) -> None:
        """Open or create it, if it is not open. Of several who ask at once, one does.

        Raises:
            sqlite3.Error: What SQLite says to it.
            StoreError: What `on_open` says; or the file can't be ours, or can't be made.
            TransientStoreError: That, but it was open before.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a lock belongs to a loop, and the last one may have ended while it was taken
            self._loop, self._opening = loop, asyncio.Lock()
        while not self.is_open:
            async with self._opening:
                if not self.is_open:
                    try:
                        await self._open()
                    except GoneError:  # a fork came between: again
                        continue

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(connection, …)`` on the writing connection, in its thread, opening it if need be.

        It is run again if a fork stopped it: whatever it changes, it changes in one transaction.
        """
        return await self._run(True, function, *args, **kwargs)

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same on the reading connection, beside whoever writes."""
        return await self._run(False, function, *args, **kwargs)

    async def _run(
        self,
        writes: bool,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        while True:
            await self.open()
            thread = self._writer if writes else self._reader
            assert thread is not None
            try:
                return await thread.run(function, *args, **kwargs)
            except GoneError:
                continue

    async def aclose(self) -> None:
        """Close the connections, and end their threads."""
        threads = self._threads
        self._writer = self._reader = None
        for thread in threads:
            await thread.aclose()

    @property
    def _threads(self) -> list[ConnectionThread]:
        """The reader before the writer, as the last to close a file moves its log."""
        return [thread for thread in dict.fromkeys((self._reader, self._writer)) if thread is not None]

    @property
    def _is_connected(self) -> bool:
        return self._reader is not None and all(thread.is_connected for thread in self._threads)

    async def _open(self) -> None:
        if self._is_connected:
            for thread in self._threads:
                await thread.revive()
            return
        if self.path is not None and forked_in_use():
            raise StoreError(
                "this process was forked while SQLite was in use, so it must not open a database; what it records "
                f"waits in {spare_file(self.path)} for the next process that opens this one"
            )
        await self.aclose()
        try:
            self._writer = await self._connect(WRITER_PRAGMAS)
            await self._writer.run(self._on_open)
            self._file = self._identity()
            self._reader = self._writer if self.path is None else await self._connect(READER_PRAGMAS)
        except BaseException:
            await self.aclose()
            raise
        self.was_open = True

    async def _connect(self, pragmas: tuple[str, ...]) -> ConnectionThread:
        if self.path is not None:
            try:
                if pragmas is WRITER_PRAGMAS:  # before anything is changed: PRAGMAs leave their mark on a file
                    check_uri(f"sqlite:///{self.path}")
                create_file(self.path)
            except (ConfigurationError, OSError) as error:
                kind = TransientStoreError if self.was_open else StoreError
                raise kind(f"it can't be opened: {error}") from error
        thread = ConnectionThread(self._gate, ":memory:" if self.path is None else str(self.path))
        try:
            await thread.open()
            await thread.run(prepare, pragmas)
        except BaseException:
            await thread.aclose()
            raise
        return thread

    def _identity(self) -> tuple[int, int] | None:
        """Return which file the path leads to, its device and inode; None if there is none."""
        try:
            found = os.stat(self.path) if self.path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)
