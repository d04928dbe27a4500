"""A connection like aiosqlite's, in a thread of the operating system: where gevent has put greenlets in their place.

aiosqlite starts its thread with `threading` and waits in it for a queue of `queue`. With both replaced it is a greenlet
in the worker's thread, with one of them it blocks every greenlet of that thread for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tracer._native_threads import new_queue, start_thread

__all__ = ["NativeConnection"]

P = ParamSpec("P")
T = TypeVar("T")
_Call = tuple["asyncio.Future[Any]", Callable[[], Any]]


class NativeConnection:
    """What of `aiosqlite.Connection` the store uses: `open`, then `_execute` with `_conn`, then `close`."""

    def __init__(self) -> None:
        self._conn: sqlite3.Connection
        self._calls: Any = new_queue()  # of `_Call`, and None at the end

    async def open(self, database: str, **options: Any) -> None:
        """Start the thread and connect in it. Raises sqlite3.Error."""
        start_thread(self._serve, "tracer-sqlite")
        try:
            await self._execute(self._connect, database, options)
        except BaseException:
            self._calls.put(None)
            raise

    async def _execute(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in the connection's thread, also when the caller is cancelled meanwhile."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((future, functools.partial(function, *args, **kwargs)))
        return await future

    async def close(self) -> None:
        """Close the connection and end the thread."""
        try:
            await self._execute(self._conn.close)
        finally:
            self._calls.put(None)

    def _connect(self, database: str, options: dict[str, Any]) -> None:
        self._conn = sqlite3.connect(database, **options)

    def _serve(self) -> None:
        call: _Call | None
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                answer = functools.partial(_set_result, future, function())
            except BaseException as error:
                answer = functools.partial(_set_exception, future, error)
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(answer)
            del call, future, function, answer


def _set_result(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():  # cancelled
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
