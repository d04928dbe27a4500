"""How the worker shares the interpreter with the user's threads."""

from __future__ import annotations

import time

from tracer.process.native_threads import sleep

__all__ = ["Slices"]

SLICE_MIN, SLICE_MAX = 0.0005, 0.002  # seconds of pure Python after which the GIL is offered to the user's threads
OFFER_TAKEN = 0.0002  # seconds: an offer that lasts longer was taken


class Slices:
    """Work in short slices: between them the user's threads go first.

    A thread that waits for the GIL needs time to wake up. To release the GIL for that long we must sleep, and even the
    shortest sleep lasts some 75 µs on Linux (the kernel's timer slack). So slices grow while no thread takes the offer,
    and are short again as soon as one does.
    """

    def __init__(self) -> None:
        self._length = SLICE_MIN
        self._end = 0.0

    def begin(self) -> None:
        """Begin a slice."""
        self._end = time.perf_counter() + self._length

    def offer(self) -> None:
        """Offer the GIL (not the loop), if the slice is over."""
        now = time.perf_counter()
        if now > self._end:
            sleep(0)
            after = time.perf_counter()
            self._length = SLICE_MIN if after - now > OFFER_TAKEN else min(self._length * 2, SLICE_MAX)
            self._end = after + self._length
