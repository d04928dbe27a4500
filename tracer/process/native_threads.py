"""Threads of the operating system, also where gevent or eventlet has put greenlets in their place (monkey patching).

The worker must not be a greenlet. Its event loop would run in a thread of the user's: there their own `asyncio.run`
would fail ("cannot be called from a running event loop"), and SQLite would hold up all their greenlets.

- gevent gives back what it replaced: the worker and its connections get threads, locks, queues, a selector and sockets
  from before the patch. They must share no lock of gevent's with a greenlet, which may wait for it for ever (20 of 20
  greenlets that logged beside a thread that logged, gevent 26.9). So whoever waits for the worker looks again every
  millisecond, with a sleep that lets other greenlets run, and what the worker logs is logged by a greenlet.
- eventlet's locks, `logging`'s among them, don't work between threads. There nothing is traced.

A process may be patched before tracer is imported, after, or while the worker runs. So it is looked up when it matters:
when a thread starts, and when somebody waits. Neither library is ever imported here.
"""

from __future__ import annotations

import _socket
import asyncio
import concurrent.futures
import logging
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

__all__ = [
    "is_outdated",
    "new_event_loop",
    "new_lock",
    "patched_by",
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
_thread_hubs: dict[int, Any] = {}  # by native thread id: the hub of whoever started it
_REPLACED_BY_GEVENT = ("threading", "queue", "select", "socket")


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a daemon thread. Raises RuntimeError if there is none left, none to be had, or the interpreter exits."""
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


def is_outdated() -> bool:
    """Tell such a thread whether the process was patched after it started: it should end, and be started anew."""
    return why_there_are_none() is not None or (_gevent() is not None and _native_id() not in _thread_hubs)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for such a thread."""
    if _gevent() is None:
        return asyncio.SelectorEventLoop()
    return _Loop(_original("selectors", "DefaultSelector")())


def share_with_threads(future: concurrent.futures.Future[Any]) -> None:
    """Make a new future one that such a thread may answer."""
    if _gevent() is not None:
        future._condition = threading.Condition(_original("_thread", "RLock")())


def new_lock() -> Any:
    """Return a `threading.RLock` that such a thread may hold."""
    return _original("_thread", "RLock")()


def wait_for(event: threading.Event, timeout: float) -> bool:
    """Wait, in any thread or greenlet, for an event that such a thread sets; return whether it did."""
    return event.wait(timeout) if not _greenlets() else _look_until(event.is_set, timeout)


def wait_for_all(futures: Collection[concurrent.futures.Future[Any]], timeout: float) -> None:
    """Wait, in any thread or greenlet, for what such a thread answers."""
    if not _greenlets():
        concurrent.futures.wait(futures, timeout)
    else:
        _look_until(lambda: all(future.done() for future in futures), timeout)


def why_there_are_none() -> str | None:
    """Why nothing can be traced here, and what to do about it; None if it can."""
    patcher = sys.modules.get("eventlet.patcher")
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
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and any(monkey.is_module_patched(module) for module in _REPLACED_BY_GEVENT):
        return monkey
    return None


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(sys.modules[module], name) if monkey is None else monkey.get_original(module, name)


def _native_id() -> int:
    ident: int = _original("_thread", "get_ident")()
    return ident


def _log_in_a_greenlet(record: logging.LogRecord) -> bool:
    """A filter: let a greenlet of those that started it log what such a thread would."""
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
        time.sleep(_LOOK_AGAIN)  # gevent's, if it has replaced that
    return True


class _Loop(asyncio.SelectorEventLoop):
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
"""Sleep as a thread, and not as a greenlet."""
