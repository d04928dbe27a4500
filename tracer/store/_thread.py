"""A connection and its thread: a thread of aiosqlite, which runs one function after the other."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import aiosqlite

from tracer.process.native_threads import patched_by, sleep
from tracer.store._connection import is_interrupted, is_locked
from tracer.store._gate import Gate, GoneError

__all__ = ["ConnectionThread"]

LOCK_PATIENCE = 5.0  # seconds that work waits for the lock of another connection
LOCK_PAUSE = 0.1  # seconds between two tries: each begins with short pauses, which would keep many processes busy
LOOK_AT_THREAD = 1.0  # seconds after which whoever waits for work makes sure that its thread is alive

P = ParamSpec("P")
T = TypeVar("T")


class ConnectionThread:
    """One SQLite connection and the one thread that uses it, through a gate. Belongs to an event loop's thread.

    aiosqlite has no public way to run a function as one call, and a transaction over several of its calls would stay
    open when its task is cancelled between them. So its internals are used, here and nowhere else (`test_thread`
    watches them).

    Where no thread can be had (at the interpreter's exit on Python 3.12, if the machine has none left, or where gevent
    has put greenlets in their place), work runs in the event loop's own thread instead.

    Args:
        gate: Is asked before each use of SQLite.
        database: A path, or ``:memory:``.
        deadline: Returns the moment (`time.monotonic`) from which on nothing waits for a lock.
    """

    def __init__(self, gate: Gate, database: str, deadline: Callable[[], float]) -> None:
        self._gate = gate
        self._deadline = deadline
        self._generation = gate.generation
        self._database = database
        self._raw: sqlite3.Connection | None = None
        self._aio: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Connect, in autocommit mode.

        Raises:
            sqlite3.Error: SQLite failed to open it.
            GoneError: A fork happened meanwhile.
        """
        try:
            await self._start(self._connect)
        except BaseException:
            self._close_in_turn()
            raise

    @property
    def is_connected(self) -> bool:
        """Nobody has closed the connection."""
        return self._raw is not None and self._generation == self._gate.generation

    @property
    def is_alive(self) -> bool:
        """Its thread lives, or it has none. A debugger or a time-out can kill a thread from outside."""
        if self._aio is None:
            return True
        thread: Any = getattr(self._aio, "_thread", self._aio)  # up to aiosqlite 0.21 the connection is its thread
        return bool(thread.is_alive())

    async def revive(self) -> None:
        """Give the connection another thread, if its own is dead."""
        raw = self._raw
        if raw is not None and not self.is_alive:
            self._let_go_of_dead_thread()
            await self._start(lambda: raw)

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``function(connection, …)`` as one call that cancellation can't split.

        While another connection holds the lock that the function needs, the function is tried again, for some seconds.
        So it must leave nothing behind when it fails.

        Raises:
            GoneError: The function did not run, or nothing is left of what it did. Run it again, on another connection
                if this one is no longer usable.
            Exception: Whatever the function raises.
        """
        work = _Work(self._turn, self._deadline, self._was_stopped, function, *args, **kwargs)
        if self._aio is None:
            work()
            return work.outcome()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._aio._tx.put_nowait((future, work))

        while self.is_alive and not future.done():
            await asyncio.wait([future], timeout=LOOK_AT_THREAD)
        return work.outcome()

    async def aclose(self) -> None:
        """Close the connection and end the thread. Raises only if it is cancelled."""
        with contextlib.suppress(GoneError, sqlite3.Error):
            await self.run(lambda _: self._close())
        if self._aio is not None and self.is_alive:
            with contextlib.suppress(sqlite3.Error, ValueError):
                await self._aio.close()
        elif self._aio is not None:
            self._let_go_of_dead_thread()
            self._close_in_turn()
        self._raw = self._aio = None

    async def _start(self, connector: Callable[[], sqlite3.Connection]) -> None:
        if patched_by() is None:
            with contextlib.suppress(RuntimeError):  # no new thread can be started
                self._aio = await aiosqlite.Connection(connector, 64)
                return
        self._aio = None
        connector()

    def _connect(self) -> sqlite3.Connection:
        with self._gate.turn(self._generation):
            # Not bound to this thread, so that a fork can close it. The gate knows whose turn it is.
            self._raw = sqlite3.connect(
                self._database, isolation_level=None, cached_statements=256, check_same_thread=False
            )
            self._gate.register(self._raw)
            return self._raw

    def _close(self) -> None:
        if self._raw is not None:
            self._gate.deregister(self._raw)
            self._raw.close()

    def _close_in_turn(self) -> None:
        with contextlib.suppress(GoneError, sqlite3.Error), self._gate.turn(self._generation):
            self._close()

    def _let_go_of_dead_thread(self) -> None:
        assert self._aio is not None
        self._aio._connection = None  # otherwise aiosqlite warns, when it is freed, that it was not closed

    @contextlib.contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        with self._gate.turn(self._generation):
            if self._raw is None:
                raise GoneError
            yield self._raw

    def _was_stopped(self, error: BaseException) -> bool:
        """Tell whether an error means that a fork has stopped the work. SQLite does not always say "interrupted"."""
        if not isinstance(error, sqlite3.OperationalError):
            return not isinstance(error, Exception)  # thrown into the thread from outside
        return is_interrupted(error) or self._gate.interferes(self._generation)


class _Work(Generic[T]):
    """A function to run in the thread, and its result or its error.

    aiosqlite logs what it runs, with arguments and exceptions, at DEBUG. So it gets to see only this object.
    """

    def __init__(
        self,
        turn: Callable[[], AbstractContextManager[sqlite3.Connection]],
        deadline: Callable[[], float],
        was_stopped: Callable[[BaseException], bool],
        function: Callable[..., T],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self._turn = turn
        self._deadline = deadline
        self._was_stopped = was_stopped
        self._function, self._args, self._kwargs = function, args, kwargs
        self._result: T
        self._error: BaseException | None = GoneError()  # until it has run

    def __call__(self) -> None:
        give_up_at = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                # Between two tries the turn is over, so that a fork need not wait for another process's lock.
                with self._turn() as connection:
                    self._result = self._function(connection, *self._args, **self._kwargs)
                self._error = None
            except BaseException as error:
                if is_locked(error) and time.monotonic() < min(give_up_at, self._deadline()):
                    sleep(LOCK_PAUSE)
                    continue
                self._error = GoneError() if self._was_stopped(error) else error
            return

    def outcome(self) -> T:
        """Return the function's result or raise its error; GoneError if a fork or an outside exception stopped it."""
        error, self._error = self._error, None  # its traceback refers to this object, which must not refer back
        if error is None:
            return self._result
        raise error
