"""Threads of the operating system, also where gevent or eventlet has put greenlets in their place (monkey patching).

The worker must not be a greenlet. Its event loop would run in one of the user's threads. There the user's own
`asyncio.run` would fail ("cannot be called from a running event loop"), and SQLite would block all greenlets of the
user.

- gevent still has what it replaced: the worker and its connections get the original threads, locks, queues, selector
  and sockets. They must not share a lock of gevent's with a greenlet: the greenlet may wait for it for ever (so did 20
  of 20 greenlets that logged while a thread logged, gevent 26.9). So whoever waits for the worker looks again every
  millisecond, with a sleep that lets other greenlets run, and what the worker logs is logged by a greenlet.
- eventlet's locks, including those of `logging`, don't work between threads. So with eventlet nothing is traced.

A process may be patched before tracer is imported, after that, or while the worker runs. So the code here looks for a
patch each time a thread starts and each time somebody waits. Neither library is ever imported here.
"""

from __future__ import annotations

import _socket
import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import socket  # noqa: F401  `_original` looks for it among the modules that are loaded
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from tracer.process.imports import imported

__all__ = [
    "is_outdated",
    "new_event_loop",
    "new_lock",
    "patched_by",
    "run_aside",
    "share_with_threads",
    "sleep",
    "start_thread",
    "wait_for",
    "wait_for_all",
    "why_there_are_none",
]

T = TypeVar("T")
_LOOK_AGAIN = 0.001  # seconds
_LOGGERS = (logging.getLogger("tracer"), logging.getLogger("asyncio"))  # all that the worker logs with
_thread_hubs: dict[int, Any] = {}  # by native thread id: the hub of the thread that started it
_REPLACED_BY_GEVENT = ("threading", "queue", "select", "socket")


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a daemon thread. Raises RuntimeError if none is left or can work here, or if the interpreter exits."""
    if reason := why_there_are_none():
        raise RuntimeError(reason)
    if _gevent() is None:
        threading.Thread(target=target, name=name, daemon=True).start()
    else:
        hub = sys.modules["gevent"].get_hub()

        def run() -> None:
            _thread_hubs[_native_id()] = hub
            try:
                target()
            finally:
                _thread_hubs.pop(_native_id(), None)

        for logger in _LOGGERS:
            logger.addFilter(_log_in_a_greenlet)  # once: the same filter is not added twice
        _original("_thread", "start_new_thread")(run, ())


def run_aside(function: Callable[[], object], timeout: float) -> bool:
    """Run a function in a new thread, and wait for its end; return whether it came within `timeout` seconds.

    For signal handlers: takes no lock that the code which they interrupted may hold, as `threading.Thread` would.

    Raises:
        RuntimeError: No thread can be started.
    """
    ended = _original("_thread", "allocate_lock")()
    ended.acquire()

    def run() -> None:
        try:
            function()
        finally:
            ended.release()

    _original("_thread", "start_new_thread")(run, ())
    return bool(ended.acquire(True, timeout))


def is_outdated() -> bool:
    """Tell a thread of `start_thread` whether a patch came after its start: then it should end and be started anew."""
    return why_there_are_none() is not None or (_gevent() is not None and _native_id() not in _thread_hubs)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for a thread of `start_thread`."""
    if _gevent() is None:
        return _Loop()
    return _GeventLoop(_original("selectors", "DefaultSelector")())


def share_with_threads(future: concurrent.futures.Future[Any]) -> None:
    """Change a new future so that a thread of `start_thread` may answer it."""
    if _gevent() is not None:
        future._condition = threading.Condition(_original("_thread", "RLock")())


def new_lock() -> Any:
    """Return a `threading.RLock` that a thread of `start_thread` may hold."""
    return _original("_thread", "RLock")()


def wait_for(event: threading.Event, timeout: float) -> bool:
    """Wait, in any thread or greenlet, for an event that a thread of `start_thread` sets; return whether it did."""
    return event.wait(timeout) if not _greenlets() else _look_until(event.is_set, timeout)


def wait_for_all(futures: Collection[concurrent.futures.Future[Any]], timeout: float) -> None:
    """Wait, in any thread or greenlet, for the answers of a thread of `start_thread`."""
    if not _greenlets():
        concurrent.futures.wait(futures, timeout)
    else:
        _look_until(lambda: all(future.done() for future in futures), timeout)


def why_there_are_none() -> str | None:
    """Return why nothing can be traced here, and what to do about it; None if tracing is possible."""
    patcher = imported("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return None
    return (
        "eventlet has replaced this process's threads, and its locks don't work between threads: use gevent, or call"
        " eventlet.monkey_patch(thread=False)"
    )


def patched_by() -> str | None:
    """Return the name of the library that has replaced this process's threads."""
    if _gevent() is not None:
        return "gevent"
    return None if why_there_are_none() is None else "eventlet"


def _greenlets() -> bool:
    return patched_by() is not None


def _gevent() -> Any:
    """Return `gevent.monkey` if it has replaced anything that the worker needs."""
    monkey = imported("gevent.monkey")
    if monkey is not None and any(monkey.is_module_patched(module) for module in _REPLACED_BY_GEVENT):
        return monkey
    return None


def _original(module: str, name: str) -> Any:
    monkey = imported("gevent.monkey")
    return getattr(sys.modules[module], name) if monkey is None else monkey.get_original(module, name)


def _native_id() -> int:
    ident: int = _original("_thread", "get_ident")()
    return ident


def _log_in_a_greenlet(record: logging.LogRecord) -> bool:
    """A log filter: what a thread of `start_thread` would log, a greenlet beside its starter logs instead."""
    hub = _thread_hubs.get(_native_id()) if _thread_hubs else None
    if hub is None:
        return True
    hub.loop.run_callback_threadsafe(sys.modules["gevent"].spawn, logging.getLogger(record.name).handle, record)
    return False


def _look_until(is_so: Callable[[], bool], timeout: float | None) -> bool:
    until = float("inf") if timeout is None else time.monotonic() + timeout
    while not is_so():
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_AGAIN)  # gevent's sleep, if gevent has replaced it
    return True


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up without an executor, which asyncio can neither use nor close when the interpreter exits."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Do what `socket.getaddrinfo` does, in a thread of its own as long as threads can be started."""
        look_up = functools.partial(_original("socket", "getaddrinfo"), host, port, **options)
        found: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            try:
                answer, failure = look_up(), None
            except OSError as error:
                answer, failure = None, error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.call_soon_threadsafe(tell, answer, failure)

        def tell(answer: Any, failure: OSError | None) -> None:
            if found.done():
                return
            if failure is None:
                found.set_result(answer)
            else:
                found.set_exception(failure)

        if not threading.main_thread().is_alive():
            return look_up()
        try:
            start_thread(run, "tracer-lookup")
        except RuntimeError:
            return look_up()
        return await found


class _GeventLoop(_Loop):
    """Wakes itself through sockets of the operating system: gevent's would make a hub in the worker's thread."""

    _ssock: Any
    _csock: Any
    _internal_fds: int

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = _socket.socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)  # type: ignore[attr-defined]  # not in typeshed


sleep: Callable[[float], None] = _original("time", "sleep")
"""Make the whole thread sleep, not only a greenlet."""
