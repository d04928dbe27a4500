"""Expiry: deletes the traces that the retention settings no longer keep, beside the worker's other work."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from tracer.pipeline._error_log import ErrorLog
from tracer.store.base import Store

__all__ = ["Expiry"]

LOOK_EVERY = 1.0  # seconds between two looks at least, once nothing is due
IDLE_LOOK_EVERY = 60.0  # seconds between two looks at most: traces grow old while nothing is recorded
# Times as long as a step has taken; the latter while the queue is half full. A step takes about twice as long as the
# writing of what it deletes did. So it could not keep up with the records if it paused for longer.
PAUSE, PRESSED_PAUSE = 0.25, 9.0
AT_THE_END = 0.1  # seconds, for programs that run only for moments


class Expiry:
    """Deletes in short steps, between which batches are written. Belongs to the worker's loop.

    Args:
        store: Knows what to delete (`StoreOptions.retention`).
        is_pressed: The worker can hardly keep up with the records.
        is_failing: The store takes nothing now.
        on_deleted: Called when nothing is due any more, and something was deleted.
        errors: Receives what goes wrong.
    """

    def __init__(
        self,
        store: Store,
        is_pressed: Callable[[], bool],
        is_failing: Callable[[], bool],
        on_deleted: Callable[[], object],
        errors: ErrorLog,
    ) -> None:
        self._store = store
        self._is_pressed = is_pressed
        self._is_failing = is_failing
        self._on_deleted = on_deleted
        self._errors = errors
        self._event = anyio.Event()

    def look(self) -> None:
        """Something was written, or the settings may be others: look soon. Costs nothing without limits."""
        if self._store.options.retention.is_limited:
            self._event.set()

    async def run(self) -> None:
        """Delete what is due, again and again. With no limit set, it sleeps until `look`."""
        has_deleted = False
        while True:
            self._event = anyio.Event()
            began = time.monotonic()
            if await self._step():
                has_deleted = True
                await anyio.sleep((time.monotonic() - began) * (PRESSED_PAUSE if self._is_pressed() else PAUSE))
                continue
            if has_deleted:
                has_deleted = False
                self._on_deleted()
            is_limited = self._store.options.retention.is_limited
            if is_limited:
                await anyio.sleep(LOOK_EVERY)
            with anyio.move_on_after(IDLE_LOOK_EVERY if is_limited else None):
                await self._event.wait()

    async def finish(self, seconds: float) -> None:
        """Delete for a last moment, if there is as much time."""
        with anyio.move_on_after(min(seconds, AT_THE_END)):
            while await self._step():
                pass

    async def _step(self) -> bool:
        """Delete a little; return whether more may be due."""
        if self._is_failing():
            return False
        try:
            return await self._store.expire()
        except Exception as error:
            self._errors.report("traces that are kept no longer could not be deleted yet", error)
            return False
