"""Losses that no trace can tell of: they are written to the store on their own, each once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from tracer.store.batch import LossRow

__all__ = ["Losses"]


class Losses:
    """Finds out what was lost since the last look. Used by the worker alone.

    Args:
        count: Returns how much was lost so far, by reason.
    """

    def __init__(self, count: Callable[[], dict[str, int]]) -> None:
        self._count = count
        self._seen: Counter[str] = Counter()
        self._owed: Counter[str] = Counter()

    @property
    def are_new(self) -> bool:
        """Something was lost since `take`."""
        return bool(Counter(self._count()) - self._seen)

    def take(self) -> list[LossRow]:
        """Return what the store has yet to be told, as rows."""
        now = Counter(self._count())
        due = now - self._seen + self._owed
        self._seen, self._owed = now, Counter()
        return [LossRow(reason=reason, count=count, time_ns=time.time_ns()) for reason, count in due.items()]

    def give_back(self, rows: list[LossRow]) -> None:
        """Take back rows that could not be written; the next `take` returns them again, with what was lost by then."""
        self._owed.update({row.reason: row.count for row in rows})
