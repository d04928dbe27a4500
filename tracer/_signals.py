"""An opt-in for signals that end the process: what waits is written first. Without it, tracer handles no signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from tracer._exceptions import ConfigurationError
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_seconds
from tracer.process.raised_signals import raise_at_once

__all__ = ["flush_on_signal"]


def flush_on_signal(signum: int = signal.SIGTERM, *, timeout: float = 1.0) -> None:
    """Write what is queued when this signal comes, then do what would have happened without this call.

    A handler that is installed already is called after the flush, with the same arguments. If there is none, the
    signal ends the process, whose exit status is that of the signal. A signal that is ignored stays ignored. A second
    signal during the flush goes to that handler at once. Calling this again only changes `timeout`.

    Nothing is lost without it: the next process that opens the database takes over what a killed one left in its crash
    ring. Call it where there is no ring, where no process comes after this one, or with ``redact=`` or
    ``capture_content=False``, when the ring has no texts. The price: Python runs handlers in the main thread only, so
    a main thread that stays inside C code keeps the process from ending.

    Children that are forked inherit the handler. A handler that is installed later replaces it, also that of asyncio's
    ``loop.add_signal_handler``: call this after it, or end the program normally in your handler.

    Args:
        signum: For example ``signal.SIGTERM`` or ``signal.SIGHUP``.
        timeout: Seconds that the signal may be held up by the flush. What the database has not taken by then, if the
            process ends, is put aside in files beside it for the next process.

    Raises:
        ConfigurationError: Not called in the main thread; no such signal, or one that can't be handled; its handler was
            not installed from Python, so it can't be called; or `timeout` is not a finite number of seconds.
    """
    seconds = check_seconds("timeout", timeout)
    if seconds is None:
        raise ConfigurationError(f"timeout must be a finite number of seconds, got {timeout!r}")
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("flush_on_signal must be called in the main thread, as Python handles signals there")
    try:
        number = signal.Signals(signum)
        previous = signal.getsignal(number)
        if isinstance(previous, _Flush):
            previous.timeout = seconds
        elif previous is None:
            raise ConfigurationError(f"{number.name} has a handler that is not Python's, which could not be called")
        elif previous is not signal.SIG_IGN:
            signal.signal(number, _Flush(seconds, previous))
    except (ValueError, OSError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"signum must be a signal that can be handled, got {signum!r}: {error}") from error


class _Flush:
    """A signal handler that comes before another one."""

    def __init__(self, timeout: float, previous: Callable[[int, FrameType | None], object] | int) -> None:
        self.timeout = timeout
        self._previous = previous
        self._is_flushing = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        ends = not callable(self._previous)
        if self._is_flushing and ends:
            return  # as if both signals had come at once; the process ends in a moment
        if not self._is_flushing:
            self._is_flushing = True
            try:
                runtime.flush_aside(self.timeout, ends=ends)
            finally:
                self._is_flushing = False
        if callable(self._previous):
            self._previous(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        raise_at_once(number)
        signal.signal(number, self)  # still here: by default this signal ends nothing, or not the process with pid 1
