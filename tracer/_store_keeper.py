"""The store keeper: opens the worker's store, lends it to whoever reads or writes, and closes it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator

import anyio

from tracer._native_threads import wait_for
from tracer.store.base import Store
from tracer.store.uri import MEMORY_URI

__all__ = ["StoreKeeper"]

PAUSE_STEP = 0.001  # seconds between two looks whether a fork is over: it takes a few of them


class StoreKeeper:
    """Owns whether a store is open. Lives in the worker's loop, but for `pause`, `resume` and `wait_until_quiet`.

    A child must not inherit an open SQLite file: SQLite keeps the locks of a file per process in memory, so the
    child would take over what the parent held at that moment, and hold nothing that the system knows of
    (https://sqlite.org/howtocorrupt.html section 2.6). So the store is closed for the time of a fork.

    Attributes:
        store: May be opened and closed here only.
        is_open: It is.
        is_paused: It is not to be used: this process is about to fork.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_open = False
        self.is_paused = False
        self._users = 0
        self._quiet = threading.Event()
        self._opening: anyio.Lock

    # --- in any thread --------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ask for the store to be closed until `resume`."""
        self._quiet.clear()
        self.is_paused = True

    def resume(self) -> None:
        """Take `pause` back."""
        self.is_paused = False

    def wait_until_quiet(self, timeout: float) -> bool:
        """Wait until the store is closed; return whether it is."""
        return wait_for(self._quiet, timeout)

    # --- in the worker's loop -------------------------------------------------------------------------------------

    def enter_loop(self) -> None:
        """Be told that a loop begins, before anything else is asked."""
        self._users = 0
        self._opening = anyio.Lock()

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncIterator[Store]:
        """Lend the store, open, and not in a fork. Of several who ask at once, one opens it."""
        while self.is_paused:  # noqa: ASYNC110  set by another thread, in the middle of a fork
            await anyio.sleep(PAUSE_STEP)
        self._users += 1
        try:
            async with self._opening:
                if not self.is_open:
                    await self.store.open()
                    self.is_open = True
            yield self.store
        finally:
            self._users -= 1

    async def close_for_fork(self) -> bool:
        """Close the store when nobody uses it, until `resume`; return whether readers may now think us gone."""
        while self._users:  # noqa: ASYNC110  a few milliseconds, once a fork
            await anyio.sleep(PAUSE_STEP)
        was_open = self.is_open and self.store.uri != MEMORY_URI
        if was_open:
            await self.aclose()
        while self.is_paused:
            self._quiet.set()
            await anyio.sleep(PAUSE_STEP)
        return was_open

    async def aclose(self) -> None:
        """Close the store if it is open."""
        if self.is_open:
            self.is_open = False
            await self.store.aclose()
