"""What would end only if somebody read on: streams, generators and sessions that are open when the process ends."""

from __future__ import annotations

import weakref
from typing import Protocol

__all__ = ["Unfinished"]


class Abandonable(Protocol):
    """Something with a span that its reader ends."""

    def abandon(self) -> None:
        """End the span as one whose reader has gone. Never raises; does nothing if the span has ended."""


class Unfinished:
    """The half-read streams and generators of one pipeline.

    Whatever its reader drops is ended by the garbage collector. But an interpreter that exits frees the variables of a
    script only after `atexit`, when nothing can be written any more. So at the exit, what is left is ended from here.

    Holds weak references only, and takes no lock: each step is one operation on a dict.
    """

    def __init__(self) -> None:
        self._open: dict[int, weakref.ref[Abandonable]] = {}

    def add(self, reading: Abandonable) -> None:
        """Have it abandoned at the exit. It must be taken out again with `discard` when it ends."""
        self._open[id(reading)] = weakref.ref(reading)

    def discard(self, reading: Abandonable) -> None:
        """It has ended. Safe in a finalizer."""
        self._open.pop(id(reading), None)

    def abandon_all(self) -> None:
        """The process ends: nobody will read on."""
        for reference in list(self._open.values()):
            reading = reference()
            if reading is not None:
                reading.abandon()
