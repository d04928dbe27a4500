"""A connection and its thread: a thread of aiosqlite, which runs one function after the other."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL as _STOP

from tracer.process.native_threads import new_lock, patched_by, sleep
from tracer.store.base import StoreOptions
from tracer.store.sqlite._connection import is_interrupted, is_locked
from tracer.store.sqlite._gate import Gate, GoneError

__all__ = ["ConnectionThread"]

LOCK_PATIENCE = 5.0  # seconds that work waits for the lock of another connection
LOCK_PAUSE = 0.1  # seconds between two tries: each begins with short pauses, which would keep many processes busy
LOOK_AT_THREAD = 1.0  # seconds after which whoever waits for work makes sure that its thread is alive
STOP_AGAIN = 0.005  # seconds between two requests to stop: one stops the running statement, not the next one
STEPS = 10_000  # of SQLite's virtual machine, between two looks at the clock where there is no thread

P = ParamSpec("P")
T = TypeVar("T")


class ConnectionThread:
    """One SQLite connection and the one thread that uses it, through a gate. Belongs to an event loop's thread.

    aiosqlite has no public way to run a function as one call, and a transaction over several of its calls would stay
    open when its task is cancelled between them. So of aiosqlite only the thread and its queue are used, here and
    nowhere else (`tests/test_private_names.py` watches them). Connecting goes the same way as all other work: a thread
    that has connected for nobody any more can then close its connection and end, even if its event loop is gone.

    Where no thread can be had (at the interpreter's exit on Python 3.12, if the machine has none left, or where gevent
    has put greenlets in their place), work runs in the event loop's own thread instead.

    Args:
        gate: Is asked before each use of SQLite.
        database: A path, or ``:memory:``.
        options: `deadline` ends the waiting for a lock; `time_limit` is for reads where there is no thread to stop
            them from.
    """

    def __init__(
        self,
        gate: Gate,
        database: str,
        options: StoreOptions,
    ) -> None:
        self._gate = gate
        self._options = options
        self._reading: tuple[_Work[Any], asyncio.Future[None]] | None = None
        self._generation = gate.generation
        self._database = database
        self._raw: sqlite3.Connection | None = None
        self._aio: Any = None  # an `aiosqlite.Connection` that knows of no connection, so it never warns or closes one

    async def open(self) -> None:
        """Connect, in autocommit mode.

        Raises:
            sqlite3.Error: SQLite failed to open it.
            GoneError: A fork happened meanwhile.
        """
        self._start_thread()
        try:
            await self._finish(_Work(self._connected, self._options, self._was_stopped, lambda _: None))
        except BaseException:
            self._end_thread()  # it may connect only now, and closes then
            self._aio = None
            raise

    @property
    def is_connected(self) -> bool:
        """Nobody has closed the connection."""
        return self._raw is not None and self._generation == self._gate.generation

    @property
    def is_alive(self) -> bool:
        """Its thread lives, or it has none. A debugger or a time-out can kill a thread from outside."""
        return self._aio is None or bool(_thread_of(self._aio).is_alive())

    def revive(self) -> None:
        """Give the connection another thread, if its own is dead."""
        if not self.is_alive:
            self._start_thread()

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
        return await self._finish(_Work(self._turn, self._options, self._was_stopped, function, *args, **kwargs))

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do the same with a function that only reads, so that it can be stopped: `stop`, or a cancelled caller.

        Call it again only when the connection is idle: `call_when_idle`.

        Raises:
            TimeoutError: There is no thread, and it took longer than the time limit.
        """
        work = _Work(self._turn, self._options, self._was_stopped, function, *args, **kwargs)
        if self._aio is None and (limit := self._options.time_limit) is not None:
            work.stop_at = time.monotonic() + limit
        try:
            return await self._finish(work, reads=True)
        except asyncio.CancelledError:
            self.stop()
            raise
        finally:
            if work.ended:
                self._reading = None  # it holds what was read

    def stop(self) -> None:
        """Have the read that runs or waits end soon. If its caller still waits for it, the caller gets a GoneError."""
        if self._reading is not None:
            self._stop_until_ended(*self._reading)

    def _stop_until_ended(self, work: _Work[Any], future: asyncio.Future[None]) -> None:
        if not work.ended and self.is_alive:
            work.stop()
            asyncio.get_running_loop().call_later(STOP_AGAIN, self._stop_until_ended, work, future)
        elif not work.ended:
            future.cancel()  # nobody else will end it

    def call_when_idle(self, callback: Callable[[], object]) -> None:
        """Call this when the last read has ended: at once, or when a read that was told to stop has done so."""
        if self._reading is None or self._reading[1].done():
            callback()
        else:
            self._reading[1].add_done_callback(lambda _: callback())

    def must_stop(self) -> bool:
        """Tell whether what runs was told to stop. For functions within SQLite, which `interrupt` does not reach."""
        return (self._reading is not None and self._reading[0].stopped) or self._gate.interferes(self._generation)

    async def _finish(self, work: _Work[T], *, reads: bool = False) -> T:
        if self._aio is None:
            work()
            return work.outcome()
        reply = _Reply()
        if reads:
            self._reading = (work, reply.future)
        self._aio._tx.put_nowait((reply, work))
        await self._replied(reply)
        return work.outcome()

    async def _replied(self, reply: _Reply) -> None:
        while self.is_alive and not reply.future.done():
            await asyncio.wait([reply.future], timeout=LOOK_AT_THREAD)

    async def aclose(self) -> None:
        """Close the connection and end the thread. Raises only if it is cancelled; both happen all the same."""
        reply = self._end_thread()
        if reply is not None:
            await self._replied(reply)
        self._raw = self._aio = None

    def _start_thread(self) -> None:
        self._aio = None
        if patched_by() is None:
            with contextlib.suppress(RuntimeError):  # no new thread can be started
                aio = aiosqlite.Connection(_nothing, 0)
                _thread_of(aio).start()
                self._aio = aio

    def _end_thread(self) -> _Reply | None:
        """Have the thread do what waits, close the connection and end; return by what it tells that."""
        if self._aio is None or not self.is_alive:
            self._close_in_turn()
            return None
        reply = _Reply()
        self._aio._tx.put_nowait((_Reply(), self._close_in_turn))
        self._aio._tx.put_nowait((reply, lambda: _STOP))  # up to aiosqlite 0.21, this ends nothing,
        self._aio._tx.put_nowait(_STOP)  # and from 0.22 on, nobody comes to see this
        return reply

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A `_turn` that connects."""
        with self._gate.turn(self._generation):
            # Not bound to this thread, so that a fork can close it. The gate knows whose turn it is.
            self._raw = sqlite3.connect(
                self._database, isolation_level=None, cached_statements=256, check_same_thread=False
            )
            self._gate.register(self._raw)
            yield self._raw

    def _close_in_turn(self) -> None:
        with contextlib.suppress(GoneError, sqlite3.Error), self._turn() as connection:
            self._gate.deregister(connection)
            connection.close()

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


class _Reply:
    """Takes the place of the future by which a thread of aiosqlite tells the loop that a function has ended.

    A future of a loop that is closed would kill the thread, which would then say so on the user's stderr. A reply has
    nothing to tell there: nobody waits any more.

    Attributes:
        future: Is done once the function has ended. What came of it is kept by the function itself (`_Work`).
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def get_loop(self) -> _Reply:
        """Return what the thread takes for the future's loop."""
        return self

    def call_soon_threadsafe(self, *_: object) -> None:
        """The function has ended, well or badly."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Work(Generic[T]):
    """A function to run in the thread, and its result or its error.

    aiosqlite logs what it runs, with arguments and exceptions, at DEBUG. So it gets to see only this object.

    Attributes:
        stopped: `stop` was called.
        ended: It has run, or will not run.
        stop_at: The moment (`time.monotonic`) at which it ends with a TimeoutError.
    """

    def __init__(
        self,
        turn: Callable[[], AbstractContextManager[sqlite3.Connection]],
        options: StoreOptions,
        was_stopped: Callable[[BaseException], bool],
        function: Callable[..., T],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self.stopped = self.ended = False
        self.stop_at: float | None = None
        self._turn = turn
        self._options = options
        self._was_stopped = was_stopped
        self._function, self._args, self._kwargs = function, args, kwargs
        self._lock = new_lock()
        self._running: sqlite3.Connection | None = None
        self._result: T
        self._error: BaseException | None = GoneError()  # until it has run

    def __call__(self) -> None:
        try:
            self._run_until_unlocked()
        finally:
            self.ended = True

    def _run_until_unlocked(self) -> None:
        give_up_at = time.monotonic() + LOCK_PATIENCE
        while not self.stopped:
            try:
                # Between two tries the turn is over, so that a fork need not wait for another process's lock.
                with self._turn() as connection:
                    error = self._run(connection)
                    if error is not None:
                        _roll_back(connection)
            except BaseException as unexpected:
                error = self._judged(unexpected)
            if error is not None and is_locked(error) and time.monotonic() < min(give_up_at, self._options.deadline):
                sleep(LOCK_PAUSE)
                continue
            self._error = error
            return

    def stop(self) -> None:
        """Have it end soon, or not begin. Safe in any thread."""
        with self._lock:
            self.stopped = True
            if self._running is not None:
                self._running.interrupt()

    def outcome(self) -> T:
        """Return the function's result or raise its error; GoneError if a fork or an outside exception stopped it."""
        error, self._error = self._error, None  # its traceback refers to this object, which must not refer back
        if error is None:
            return self._result
        raise error

    def _run(self, connection: sqlite3.Connection) -> BaseException | None:
        """Run the function, and return its error."""
        try:
            with self._running_on(connection):
                self._result = self._function(connection, *self._args, **self._kwargs)
        except BaseException as error:
            return self._judged(error)
        return None

    @contextlib.contextmanager
    def _running_on(self, connection: sqlite3.Connection) -> Iterator[None]:
        """In this block `stop` interrupts the connection, and at no other time: then it has other work."""
        with self._lock:
            if self.stopped:
                raise GoneError
            self._running = connection
        if self.stop_at is not None:
            connection.set_progress_handler(self._is_late, STEPS)
        try:
            yield
        finally:
            if self.stop_at is not None:
                connection.set_progress_handler(None, 0)
            with self._lock:
                self._running = None

    def _is_late(self) -> bool:
        return self.stop_at is not None and time.monotonic() > self.stop_at

    def _judged(self, error: BaseException) -> BaseException:
        """Return what the caller gets to see of an error."""
        if self._is_late() and isinstance(error, sqlite3.OperationalError):
            return TimeoutError()
        return GoneError() if self.stopped or self._was_stopped(error) else error


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction that a stopped function has left. A reader would see the same old snapshot for ever."""
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _thread_of(aio: Any) -> threading.Thread:
    thread: threading.Thread = getattr(aio, "_thread", aio)  # up to aiosqlite 0.21 the connection is its thread
    return thread


def _nothing() -> Any:
    """Stands for the function with which aiosqlite would connect."""
