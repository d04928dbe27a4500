"""The worker: one daemon thread with one anyio event loop, between the queue and the store.

A thread and not a task: a task in the user's loop would stall when that loop stalls, and die with it. A daemon: a
non-daemon aiosqlite thread would keep the interpreter from exiting (aiosqlite's threads inherit the flag).
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import msgspec

from tracer._assembler import Assembler
from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError, TransientStoreError
from tracer._queue import RecordQueue
from tracer.store.base import Batch, Store

__all__ = ["Worker", "WorkerCounts"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

BATCH_MAX_BYTES = 8 * 1024 * 1024
BUSY_FOR = 1.0  # seconds without a record after which the worker sleeps until it is woken
SLICE = 0.0005  # seconds of pure Python after which the GIL is offered to the user's threads
RETRY_FIRST, RETRY_LAST = 0.05, 2.0
READ_PATIENCE = 30.0  # seconds of failing writes after which a reader that waits for them is told so
LOG_INTERVAL = 60.0


class WorkerCounts(msgspec.Struct):
    """What the worker did. Written by its thread alone."""

    settled: int = 0  # records that need no more work: written, or lost and counted
    lost: int = 0  # … of which could not be written
    batches: int = 0
    spans: int = 0
    retries: int = 0
    last_error: str | None = None


class Worker:
    """Drains a queue into a store, and runs what readers ask of that store.

    Args:
        queue: Where records come from; this worker is its only consumer.
        store: Not yet open: it is opened in the worker's own loop, when the first record or reader comes.
        settings: Called for the current settings before each batch.
    """

    def __init__(
        self, queue: RecordQueue, store: Store, assembler: Assembler, settings: Callable[[], Settings]
    ) -> None:
        self.counts = WorkerCounts()
        self._queue = queue
        self._store = store
        self._assembler = assembler
        self._settings = settings
        self._jobs: deque[tuple[Callable[[], Awaitable[Any]], concurrent.futures.Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._wake: Callable[[], object] | None = None
        self._stop_at: float | None = None
        self._retiring = False
        self._failing_since: float | None = None
        self._logged_at = -LOG_INTERVAL
        self._opened = False
        self.is_running = False
        self.started_at = 0.0

    # --- called from any thread -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Returns without waiting for its loop."""
        self.is_running = True
        self.started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="tracer-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Run a coroutine function in the worker's loop, where the store lives."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._jobs.append((job, future))
        self.wake()
        return future

    def wake(self) -> None:
        """Have the worker look at its queue and jobs now. Takes no lock."""
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:  # its loop has just closed
                logger.debug("the worker ended before it could be woken")

    def stop(self, timeout: float) -> None:
        """Ask the worker to write what is queued and to end; after `timeout` seconds it gives up a failing store."""
        self._stop_at = time.monotonic() + timeout
        self.wake()

    def retire(self) -> None:
        """Ask the worker to end when nothing is queued and no span is open any more."""
        self._retiring = True
        self.wake()

    def join(self, timeout: float | None) -> bool:
        """Wait for the thread's end; return whether it came in time."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.is_running

    # --- the worker's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            anyio.run(self._main, backend="asyncio")
        except BaseException:
            logger.exception("the worker failed; it starts again with the next record")
        finally:
            self.is_running = False
            self._wake = None
            while self._jobs:
                self._jobs.popleft()[1].set_exception(ClosedError("tracer was shut down"))

    async def _main(self) -> None:
        import asyncio  # noqa: PLC0415  only this thread needs it, and `import tracer` should stay light

        loop = asyncio.get_running_loop()
        self._event = anyio.Event()
        self._settled_event = anyio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(self._on_wake)
        try:
            async with anyio.create_task_group() as self._tasks:
                await self._pump()
                self._tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.aclose()

    def _on_wake(self) -> None:
        self._event.set()

    async def _pump(self) -> None:
        last_work = time.monotonic()
        while True:
            self._event = anyio.Event()
            while self._jobs:
                self._tasks.start_soon(self._run_job, *self._jobs.popleft())
            settings = self._settings()
            records = self._queue.drain(settings.batch_max_records, BATCH_MAX_BYTES)
            if records:
                await self._settle(records, settings)
                last_work = time.monotonic()
                if len(records) >= settings.batch_max_records or self._stop_at is not None:
                    await anyio.lowlevel.checkpoint()
                    continue
            elif self._should_end():
                return
            busy = time.monotonic() - last_work < BUSY_FOR
            await self._rest(settings.batch_interval if busy else None)

    def _should_end(self) -> bool:
        return self._stop_at is not None or (self._retiring and not self._jobs and not self._assembler.open_spans)

    async def _rest(self, interval: float | None) -> None:
        """Sleep for an interval, or until woken. While there is work, producers need not wake us at all."""
        self._queue.call_when(self.wake, at_once=interval is None)
        # What came between the last look and `call_when` asked for nobody's wake-up.
        if self._stop_at is not None or self._jobs or (interval is None and len(self._queue)):
            await anyio.lowlevel.checkpoint()
            return
        if interval is None:
            await self._event.wait()
        else:
            with anyio.move_on_after(interval):
                await self._event.wait()

    async def _settle(self, records: list[bytes], settings: Settings) -> None:
        """Assemble records and write what they amount to."""
        slice_end = time.perf_counter() + SLICE
        for record in records:
            try:
                self._assembler.feed(record, settings.redact)
            except Exception as error:
                self._report(error, "a record could not be interpreted")
                self.counts.lost += 1
            if time.perf_counter() > slice_end:
                time.sleep(0)  # noqa: ASYNC251  offers the GIL, not the loop: the user's threads go first
                slice_end = time.perf_counter() + SLICE
        batch = self._assembler.take_batch()
        if (batch.traces or batch.spans) and not await self._write(batch):
            self.counts.lost += len(records)
        self.counts.settled += len(records)
        self._settled_event.set()
        self._settled_event = anyio.Event()

    async def _write(self, batch: Batch) -> bool:
        """Write a batch, again and again while trying again may help; False if it is lost."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._open()
                await self._store.write(batch)
            except TransientStoreError as error:
                self._failing_since = self._failing_since or time.monotonic()
                self.counts.retries += 1
                self._report(error, "traces wait for their store")
                if self._stop_at is not None and time.monotonic() > self._stop_at:
                    return False
                await anyio.sleep(delay)
                delay = min(delay * 2, RETRY_LAST)
            except Exception as error:
                self._report(error, f"{len(batch.spans)} spans could not be stored")
                return False
            else:
                self._failing_since = None
                self.counts.batches += 1
                self.counts.spans += len(batch.spans)
                return True

    async def _open(self) -> None:
        if not self._opened:
            await self._store.open()
            self._opened = True

    async def _run_job(
        self, job: Callable[[], Awaitable[Any]], future: concurrent.futures.Future[Any]
    ) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = await job()
        except Exception as error:
            future.set_exception(error)
        except BaseException:
            future.set_exception(ClosedError("tracer was shut down while the call ran"))
            raise
        else:
            future.set_result(result)

    # --- for jobs: run in the worker's loop -----------------------------------------------------------------------

    async def settle_accepted(self) -> None:
        """Wait until every record that was accepted before this call is written, or lost and counted.

        Raises:
            StoreError: The store has been failing for half a minute.
        """
        target = self._queue.accepted
        while self.counts.settled < target:
            self._event.set()
            settled = self._settled_event
            with anyio.move_on_after(0.5):
                await settled.wait()
            if self._failing_since is not None and time.monotonic() - self._failing_since > READ_PATIENCE:
                raise StoreError(f"traces could not be written for {READ_PATIENCE:.0f} s: {self.counts.last_error}")

    async def opened_store(self) -> Store:
        """Return the store, open."""
        await self._open()
        return self._store

    def _report(self, error: Exception, what: str) -> None:
        """Log, once a minute at most: a full disk must not fill the log as well."""
        self.counts.last_error = f"{type(error).__name__}: {error}"
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            logger.error("%s: %s (told at most once a minute; see tracer.stats())", what, error, exc_info=error)
