"""Watches the user's hooks while the worker calls them, so that a hook that is slow or hangs can be named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from tracer.interpret.cost import Prices
from tracer.interpret.rates import PriceList
from tracer.pipeline.throttle import Throttle

__all__ = ["HookWatch", "RunningHook"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

SLOW = 1.0  # seconds; while a hook runs, nothing is written and no read is answered


class RunningHook(NamedTuple):
    """A hook that has not returned yet, and since when (`time.monotonic`)."""

    name: str
    since: float

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        return f"{self.name}, which has been running for {self.seconds:.1f} s"


class HookWatch:
    """Wraps hooks for those that call them, and knows which hook is running. For the worker; any thread may read it.

    Attributes:
        running: The hook that runs now.
    """

    def __init__(self) -> None:
        self.running: RunningHook | None = None
        self._slow: dict[str, float] = {}
        self._throttle = Throttle()
        self._redact: tuple[Sequence[Callable[[str], str]], tuple[Callable[[str], str], ...]] = ((), ())
        self._prices: tuple[Prices | None, Prices | None] = (None, None)

    def redact(self, hooks: Sequence[Callable[[str], str]]) -> tuple[Callable[[str], str], ...]:
        """Return the ``redact=`` hooks, watched."""
        if hooks is not self._redact[0]:
            self._redact = hooks, tuple(self._watched("redact=", hook) for hook in hooks)
        return self._redact[1]

    def prices(self, prices: Prices | None) -> Prices | None:
        """Return the ``prices``, watched if they are a function."""
        if prices is not self._prices[0]:
            is_data = prices is None or isinstance(prices, PriceList)
            self._prices = prices, prices if is_data else self._watched("prices=", prices)  # type: ignore[arg-type]
        return self._prices[1]

    @property
    def slow(self) -> dict[str, float]:
        """Seconds of the longest call of each hook that ever took longer than a second. Includes the running call."""
        running = self.running
        found = dict(self._slow)
        if running is not None and running.seconds > SLOW:
            found[running.name] = max(running.seconds, found.get(running.name, 0.0))
        return {name: round(seconds, 1) for name, seconds in found.items()}

    def complain(self) -> None:
        """If a hook has been running for long, log which one: records were refused meanwhile."""
        running = self.running
        if running is not None and running.seconds > SLOW and self._throttle.allows(running.name):
            logger.warning(
                "records are refused: tracer's worker waits for the %s (told at most once a minute)",
                running,
            )

    def _watched(self, option: str, hook: Callable[[Any], T]) -> Callable[[Any], T]:
        name = f"{option} hook {_name_of(hook)}"

        def watched(argument: Any) -> T:
            self.running = running = RunningHook(name, time.monotonic())
            try:
                return hook(argument)
            finally:
                self.running = None
                if running.seconds > SLOW:
                    self._note(running)

        return watched

    def _note(self, ended: RunningHook) -> None:
        seconds = ended.seconds
        self._slow[ended.name] = max(seconds, self._slow.get(ended.name, 0.0))
        if self._throttle.allows(ended.name):
            logger.warning(
                "%s took %.1f s; nothing was written meanwhile (told at most once a minute; see tracer.stats())",
                ended.name,
                seconds,
            )


def _name_of(hook: Callable[..., object]) -> str:
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    module = getattr(named, "__module__", None)  # `str.upper` has none
    return named.__qualname__ if module is None else f"{module}.{named.__qualname__}"
