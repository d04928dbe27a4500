"""Time and ids, which differ in each run, so tests replace them (`tracer.testing.FakeClock`, `SequentialIds`)."""

from __future__ import annotations

import random
import time
from typing import Protocol

from tracer.process import forks

__all__ = ["Clock", "Ids", "RandomIds", "SystemClock"]

MADE_AT_ONCE = 64  # ids


class Clock(Protocol):
    """A wall clock and a monotonic one, both in nanoseconds."""

    def time_ns(self) -> int:
        """Nanoseconds since the epoch; may jump."""
        ...

    def perf_counter_ns(self) -> int:
        """Nanoseconds from some start; never goes back."""
        ...


class SystemClock:
    """The real clocks. Uses ``perf_counter`` because ``monotonic`` ticks only every 15 ms on Windows."""

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
    """Random ids from a generator of our own: a user's ``random.seed(0)`` must not make traces collide.

    Many ids are made at once, because the first takes ten times as long as the next ones: between two calls of a
    service the generator falls out of the processor's caches. Safe between threads, because ``pop`` and
    ``getrandbits`` are one C call each.
    """

    def __init__(self) -> None:
        self._random = random.Random()
        self._trace_ids: list[str] = []
        self._span_ids: list[str] = []
        forks.register(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._random.seed()
        self._trace_ids, self._span_ids = [], []

    def _make(self, size: int) -> list[str]:
        bits = self._random.getrandbits
        return [(bits(8 * size) or 1).to_bytes(size, "big").hex() for _ in range(MADE_AT_ONCE)]

    def trace_id(self) -> str:
        """32 hex digits."""
        try:
            return self._trace_ids.pop()
        except IndexError:
            self._trace_ids = made = self._make(16)
            return made.pop()

    def span_id(self) -> str:
        """16 hex digits."""
        try:
            return self._span_ids.pop()
        except IndexError:
            self._span_ids = made = self._make(8)
            return made.pop()
