"""The connections that read: several, so that a slow read delays no other.

They are opened as they are needed. Some of them are never used for slow reads: so a list does not wait for charts, and
one trace does not wait for lists.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

from tracer.store.sqlite._gate import GoneError
from tracer.store.sqlite._thread import ConnectionThread

__all__ = ["READERS", "SEARCHES", "SUMMARIES", "Readers"]

READERS, SEARCHES, SUMMARIES = 6, 5, 2
"""How many connections there are at most, how many of them searches may take, and how many sums over many traces."""

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """Runs each read on a connection that no other read is using. Belongs to an event loop's thread.

    Args:
        first: The first connection.
        connect: Opens another; None if there is only the first one, which is so for a database in memory.

    Attributes:
        threads: All connections.
        taken: How many are in use, or are being opened.
    """

    def __init__(self, first: ConnectionThread, connect: Callable[[], Awaitable[ConnectionThread]] | None) -> None:
        self.threads = [first]
        self._connect = connect
        self._closed = False
        self._start()

    def begin_anew(self) -> None:
        """Stop what runs, and forget who reads and who waits: they belong to an event loop that is gone."""
        for thread in self.threads:
            thread.stop()
        self._start()

    def _start(self) -> None:
        self.taken = 0
        self._idle = list(self.threads)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def run(
        self,
        most: int,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``function(connection, …)`` once fewer than `most` connections are in use.

        If the calling task is cancelled, the function is stopped.

        Raises:
            GoneError: The connections were closed. Do it again on others.
            TimeoutError: See `ConnectionThread.read`.
            Exception: Whatever the function raises.
        """
        await self._enter(most if self._connect is not None else 1)
        thread = None
        try:
            thread = self._idle.pop() if self._idle else await self._open_another()
            return await thread.read(function, *args, **kwargs)
        finally:
            if thread is None:
                self._leave()
            else:
                thread.call_when_idle(functools.partial(self._put_back, thread, self._idle))

    def close(self) -> None:
        """Stop what runs. Who asked for it gets a GoneError, and the connections can be closed at once."""
        self._closed = True
        for thread in self.threads:
            thread.stop()

    async def _enter(self, most: int) -> None:
        if self.taken < most:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((most, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # our turn came at the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        """Give the place to the first of those who wait and may have it."""
        self.taken -= 1
        self._waiting = [(most, turn) for most, turn in self._waiting if not turn.done()]
        for most, turn in self._waiting:
            if self.taken < most:
                self.taken += 1
                turn.set_result(None)
                return

    def _put_back(self, thread: ConnectionThread, idle: list[ConnectionThread]) -> None:
        if idle is self._idle:  # otherwise `begin_anew` was called meanwhile
            idle.append(thread)
            self._leave()

    async def _open_another(self) -> ConnectionThread:
        if self._closed or self._connect is None:
            raise GoneError
        thread = await self._connect()
        if self._closed:
            await thread.aclose()
            raise GoneError
        self.threads.append(thread)
        return thread
