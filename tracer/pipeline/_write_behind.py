"""Writes batches while the next ones are assembled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from tracer.store.batch import Batch

__all__ = ["WriteBehind"]

AHEAD = 4  # batches: so many are assembled while the write-ahead log is moved into the database, which may take 0.3 s


class WriteBehind:
    """Writes batches in their order, one at a time. A few may wait. For one task, which leaves its ``with`` block.

    The block ends when all of them are written. If it is left by an exception, or a cancellation, it waits for the one
    that is being written: nobody may begin anew before it is known whether that one is committed. Those that wait are
    dropped.

    Args:
        write: Writes one batch.
    """

    def __init__(self, write: Callable[[Batch], Awaitable[None]]) -> None:
        self._write = write
        self._room = asyncio.Semaphore(AHEAD)
        self._waiting: deque[Batch] = deque()
        self._writing: asyncio.Future[None] | None = None

    async def put(self, batch: Batch) -> None:
        """Have a batch written after those before it; wait only if too many wait already.

        Raises:
            Exception: What `write` raised for one before it.
        """
        await self._room.acquire()
        self._waiting.append(batch)
        if self._writing is None or self._writing.done():
            if self._writing is not None:
                self._writing.result()
            self._writing = asyncio.ensure_future(self._write_waiting())

    async def _write_waiting(self) -> None:
        while self._waiting:
            try:
                await self._write(self._waiting.popleft())
            finally:
                self._room.release()

    async def __aenter__(self) -> WriteBehind:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._writing is None:
            return
        try:
            if error is None:
                await asyncio.shield(self._writing)
        finally:
            self._waiting.clear()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(self._writing, return_exceptions=True)
