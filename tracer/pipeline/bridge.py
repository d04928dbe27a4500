"""The bridge: from any event loop, any thread or plain code to the worker's loop and back.

The implementation behind the public API is async and exists only once. The only thing it ever awaits is the worker's
answer. Asyncio, trio and blocking callers differ only in how they wait for that answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import anyio

from tracer.pipeline._jobs import Answer
from tracer.process.native_threads import wait_for_all

__all__ = ["blocking", "wait"]

P = ParamSpec("P")
R = TypeVar("R")
LOOK_INTERVAL = 1.0  # seconds between two checks whether there can be an answer at all
_blocks: ContextVar[bool] = ContextVar("tracer_blocks", default=False)


async def wait(future: concurrent.futures.Future[R], timeout: float | None = None, *, withdraw: bool = True) -> R:
    """Wait for a worker's answer: on asyncio (any loop), on trio, or blocking under `blocking`.

    If the question was not asked before, it is asked here. Cancellation (or Ctrl-C) withdraws it, unless `withdraw` is
    False: a query that runs for it is stopped.

    Raises:
        TimeoutError: `timeout` seconds are over.
        StoreError: Only without a `timeout`: something blocks the worker (`Answer.obstacle`).
        Exception: The answer, if it is an exception.
    """
    try:
        if isinstance(future, Answer):
            future.ask()
        if _blocks.get():
            return _wait_in_thread(future, timeout)
        done = anyio.Event()
        announce = _announcer(done)
        future.add_done_callback(lambda _: announce())
        if timeout is not None:
            with anyio.fail_after(timeout):
                await done.wait()
        else:
            await _wait_while_possible(future, done)
    except BaseException:
        if withdraw:
            future.cancel()
        raise
    return future.result()


async def _wait_while_possible(future: concurrent.futures.Future[Any], done: anyio.Event) -> None:
    """Wait without a time limit, but check now and then whether the worker can work at all."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        while not done.is_set():
            with anyio.move_on_after(LOOK_INTERVAL):
                await done.wait()
            _raise_obstacle(future)
        return

    # A timer and not a cancel scope, because a cancel scope would fail if it is closed after its loop is gone.
    timers: list[asyncio.TimerHandle] = []

    def look() -> None:
        if _obstacle(future) is not None:
            done.set()
        timers[:] = [loop.call_later(LOOK_INTERVAL, look)]

    look()
    try:
        await done.wait()
    finally:
        timers.pop().cancel()
    _raise_obstacle(future)


def _obstacle(future: concurrent.futures.Future[Any]) -> Exception | None:
    return future.obstacle() if isinstance(future, Answer) else None


def _raise_obstacle(future: concurrent.futures.Future[Any]) -> None:
    if not future.done() and (obstacle := _obstacle(future)) is not None:
        raise obstacle


def blocking(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Return a function that does the same as one of our coroutine functions, for code without an event loop."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _blocks.set(True)
        try:
            function(*args, **kwargs).send(None)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            _blocks.reset(token)
        raise AssertionError(f"{function.__name__} awaited something else than the worker")

    call.__doc__ = (
        f"Block until `tracer.{function.__name__}` is done, whose description follows.\n\n    {function.__doc__}"
    )
    return call


def _wait_in_thread(future: concurrent.futures.Future[R], timeout: float | None) -> R:
    wait_for_all([future], LOOK_INTERVAL if timeout is None else timeout)
    while timeout is None and not future.done():
        if (obstacle := _obstacle(future)) is not None:
            raise obstacle
        wait_for_all([future], LOOK_INTERVAL)
    if not future.done():
        raise TimeoutError(f"no answer from tracer's worker within {timeout} s")
    return future.result()


def _announcer(done: anyio.Event) -> Callable[[], None]:
    """Return a function that sets an event from any other thread, whichever library runs this loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_announcer(done)

    def announce() -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    return announce


def _trio_announcer(done: anyio.Event) -> Callable[[], None]:
    import trio  # trio runs this code, so it is installed; other code does not need it

    token = trio.lowlevel.current_trio_token()

    def announce() -> None:
        with contextlib.suppress(trio.RunFinishedError):  # the caller's trio run is over
            token.run_sync_soon(done.set)

    return announce
