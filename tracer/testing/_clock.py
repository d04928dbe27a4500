"""Time and ids under a test's control, for code that takes a clock and an id source."""

from __future__ import annotations

import itertools

__all__ = ["FakeClock", "SequentialIds"]

_NS = 1_000_000_000


class FakeClock:
    """A clock that stands still until a test moves it.

    The wall clock (`time_ns`, since the Unix epoch) and the monotonic one (`perf_counter_ns`, from an arbitrary
    zero) move together; `set_wall` moves the wall clock alone, as an NTP step or a wrong time zone would.

    Args:
        time_ns: The wall clock's start, in nanoseconds since the epoch; by default 2026-01-01T00:00:00Z.
    """

    def __init__(self, time_ns: int = 1_767_225_600 * _NS) -> None:
        self._wall_ns = time_ns
        self._monotonic_ns = 0

    def time_ns(self) -> int:
        """The wall clock, in nanoseconds since the epoch."""
        return self._wall_ns

    def perf_counter_ns(self) -> int:
        """The monotonic clock, in nanoseconds since the clock was made."""
        return self._monotonic_ns

    def advance(self, seconds: float = 0.0, *, ns: int = 0) -> None:
        """Move both clocks on.

        Raises:
            ValueError: The sum is negative: a monotonic clock never goes back (`set_wall` may).
        """
        step = round(seconds * _NS) + ns
        if step < 0:
            raise ValueError(f"a clock can't be advanced by {step} ns; set_wall() moves the wall clock back")
        self._wall_ns += step
        self._monotonic_ns += step

    def set_wall(self, time_ns: int) -> None:
        """Let the wall clock jump; the monotonic clock does not move."""
        self._wall_ns = time_ns


class SequentialIds:
    """Ids that count from 1 in hexadecimal, so that a test can name them.

    Thread-safe. Trace and span ids count apart from each other.
    """

    def __init__(self) -> None:
        # next() on a count is one C call, so it needs no lock.
        self._traces = itertools.count(1)
        self._spans = itertools.count(1)

    def trace_id(self) -> str:
        """The next trace id, 32 lower-case hex digits."""
        return f"{next(self._traces):032x}"

    def span_id(self) -> str:
        """The next span id, 16 lower-case hex digits."""
        return f"{next(self._spans):016x}"
