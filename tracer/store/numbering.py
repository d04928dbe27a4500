"""Numbers the batches of one process, so that a batch that is written again after a lost answer is stored once."""

from __future__ import annotations

import os
import time

from tracer.store.batch import Batch

__all__ = ["Numbering"]


class Numbering:
    """For one store object. In a forked child it numbers anew, under another name.

    Attributes:
        name: The source (`Batch.sources`) under which the numbers are stored.
        is_answered: No batch was sent whose answer did not come.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.name = f"sender-{time.time_ns():016x}-{os.urandom(4).hex()}"
        self.is_answered = True
        self._last = 0
        self._process = os.getpid()

    def mark(self, batch: Batch) -> None:
        """Give a batch its number (`Batch.once`), unless it has one: it keeps that wherever it goes."""
        if self._process != os.getpid():
            self._begin()
        if not batch.once:
            self._last += 1
            batch.sources[self.name] = self._last
            batch.once.append(self.name)
