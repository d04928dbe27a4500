"""Time and ids, the two sources of chance that tests replace (`tracer.testing.FakeClock`, `SequentialIds`)."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol

__all__ = ["Clock", "Ids", "RandomIds", "SystemClock"]


class Clock(Protocol):
    """A wall clock and a monotonic one, both in nanoseconds."""

    def time_ns(self) -> int:
        """Nanoseconds since the epoch; may jump."""
        ...

    def perf_counter_ns(self) -> int:
        """Nanoseconds from some start; never goes back."""
        ...


class SystemClock:
    """The real clocks. ``perf_counter`` and not ``monotonic``: the latter ticks every 15 ms on Windows."""

    time_ns = staticmethod(time.time_ns)
    perf_counter_ns = staticmethod(time.perf_counter_ns)


class Ids(Protocol):
    """W3C trace context ids: lower-case hex, never all zeros (https://www.w3.org/TR/trace-context/)."""

    def trace_id(self) -> str:
        """32 hex digits."""
        ...

    def span_id(self) -> str:
        """16 hex digits."""
        ...


class RandomIds:
    """Random ids from a generator of our own: a user's ``random.seed(0)`` must not make traces collide."""

    def __init__(self) -> None:
        self._random = random.Random()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._random.seed)

    def trace_id(self) -> str:
        """32 hex digits. ``getrandbits`` is one C call and so safe between threads."""
        return (self._random.getrandbits(128) or 1).to_bytes(16, "big").hex()

    def span_id(self) -> str:
        """16 hex digits."""
        return (self._random.getrandbits(64) or 1).to_bytes(8, "big").hex()
