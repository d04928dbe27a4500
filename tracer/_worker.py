"""The worker: one daemon thread with one anyio event loop, between the queue and the store.

A thread and not a task: a task in the user's loop would stall when that loop stalls, and die with it. A daemon: a
non-daemon aiosqlite thread would keep the interpreter from exiting (aiosqlite's threads inherit the flag).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup

from tracer._assembler import Assembler
from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError, TracerError, TransientStoreError
from tracer._queue import RecordQueue
from tracer.store.base import Batch, Store
from tracer.store.process import current_process
from tracer.store.uri import MEMORY_URI

__all__ = ["ErrorLog", "Worker", "WorkerCounts"]

T = TypeVar("T")
Job = Callable[[], Awaitable[Any]]
logger = logging.getLogger("tracer")

BATCH_MAX_BYTES = 8 * 1024 * 1024
BUSY_FOR = 1.0  # seconds without a record after which the worker sleeps until it is woken
SLICE_MIN, SLICE_MAX = 0.0005, 0.002  # seconds of pure Python after which the GIL is offered to the user's threads
BACKLOG = 1_024  # records in the queue from which on the worker no longer lets others go first
OFFER_TAKEN = 0.0002  # seconds: an offer that lasts longer was taken
RETRY_FIRST, RETRY_LAST = 0.05, 1.0
RESTART_AFTER = 1.0  # seconds from a failure of the worker itself to its next try
READ_PATIENCE = 30.0  # seconds of failing writes after which a reader that waits for them is told so
LOG_INTERVAL = 60.0
PAUSE_STEP = 0.001  # seconds between two looks whether a fork is over: it takes a few of them
# What `anyio.run` imports, imported before the thread starts: the thread may fall into the interpreter's exit, where an
# import can turn the exit code of a KeyboardInterrupt into 1 (`exec`, as in dataclasses, clears CPython's mark of it).
LOOP_MODULE = "anyio._backends._asyncio"
# A loop of our own whatever policy the user has set, and without asyncio's debug mode, which is for their code.
LOOP = {"loop_factory": asyncio.SelectorEventLoop, "debug": False}


class ErrorLog:
    """Tells what goes wrong, each kind once a minute at most: a full disk must not fill the log as well."""

    def __init__(self) -> None:
        self.last: str | None = None
        self._logged_at: dict[str, float] = {}

    def report(self, what: str, error: BaseException, count: int | None = None) -> None:
        """Log and keep an error. `what` names its kind; `count` says how many records or spans it cost."""
        self.last = f"{type(error).__name__}: {error}"
        now = time.monotonic()
        if now - self._logged_at.get(what, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged_at[what] = now
            text = what if count is None else f"{count} {what}"
            logger.error("%s: %s (told at most once a minute; see tracer.stats())", text, error, exc_info=error)


class WorkerCounts(msgspec.Struct, frozen=True):
    """What the worker did. Replaced as a whole, so that whoever reads it sees figures of one moment."""

    settled: int = 0  # records that need no more work: written, or lost and counted
    lost: int = 0  # … of which did not reach the store
    batches: int = 0
    spans: int = 0
    retries: int = 0


class Worker:
    """Drains a queue into a store, and runs what readers ask of that store.

    Its thread is started when there is something to do (`start`) and ends when it was told to and nothing is left;
    what comes after that starts it again. A failure of the loop itself costs the records in flight, which are
    counted as lost, and a second.

    Args:
        queue: Where records come from; this worker is its only consumer.
        store: Opened in the worker's own loop when the first record or reader comes, closed when the loop ends.
        settings: Called for the current settings before each batch.
        errors: Told what goes wrong.
    """

    def __init__(
        self,
        queue: RecordQueue,
        store: Store,
        settings: Callable[[], Settings],
        errors: ErrorLog,
    ) -> None:
        importlib.import_module(LOOP_MODULE)
        self.counts = WorkerCounts()
        self.assembler: Assembler | None = None
        self.is_running = False
        self._queue = queue
        self._store = store
        self._is_open = False
        self._users = 0
        self._paused = False
        self._quiet = threading.Event()
        self._settings = settings
        self._errors = errors
        self._jobs: deque[tuple[Job, concurrent.futures.Future[Any]]] = deque()
        self._serving: set[concurrent.futures.Future[Any]] = set()
        self._starting = threading.Lock()
        self._thread_id: int | None = None
        self._slices = _Slices()
        self._reopened = False
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._stop_at = float("inf")
        self._retiring = False
        self._wake: Callable[[], object] | None = None
        self._failing_since: float | None = None

    # --- called from any thread -----------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> None:
        """Start the thread unless it runs. Returns without waiting for its loop.

        Args:
            wait: False returns at once if someone is starting it just now. That someone can be the very code that a
                garbage collection or a signal interrupted, so a producer must not wait for it.

        Raises:
            RuntimeError: The machine has no thread left, or the interpreter exits.
        """
        while not self.is_running and self._starting.acquire(blocking=wait):
            try:
                if not self.is_running:
                    self._ended.clear()
                    self.is_running = True
                    threading.Thread(target=self._run, name="tracer-worker", daemon=True).start()
            except RuntimeError:
                self.is_running = False
                raise
            finally:
                self._starting.release()
            # Whoever came meanwhile did not wait for us; and the thread may have ended again already.
            if not self._has_work():
                return

    def _has_work(self) -> bool:
        return bool(self._jobs) or len(self._queue) > 0

    def try_to_start(self) -> None:
        """Start the thread unless it runs; never waits, never raises."""
        try:
            self.start(wait=False)
        except Exception as error:
            self._errors.report("the worker could not be started, records stay queued", error)

    def submit(self, job: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Run a coroutine function in the worker's loop, where the store lives.

        Raises:
            StoreError: The thread could not be started.
            TracerError: Called from that thread, as from a ``redact=`` hook.
        """
        if threading.get_ident() == self._thread_id:
            raise TracerError("tracer's own thread can't wait for itself: call this elsewhere than in a redact= hook")
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._jobs.append((job, future))
        try:
            self.start()
        except RuntimeError as error:
            future.cancel()
            raise StoreError(f"tracer's worker could not be started: {error}") from error
        self.wake()
        return future

    def wake(self) -> None:
        """Have the worker look at its queue and jobs now. Takes no lock."""
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:  # its loop has just closed; before it ends, the thread looks once more
                logger.debug("the worker's loop closed before it could be woken")

    def stop(self, timeout: float) -> None:
        """Ask the worker to write what is queued and to end; after `timeout` seconds it gives up a failing store."""
        self._stop_at = time.monotonic() + timeout
        self._stopping.set()
        if len(self._queue):
            self.try_to_start()
        self.wake()

    def retire(self, retiring: bool = True) -> None:
        """Ask the worker to end when nothing is queued and no span is open any more; or to stay after all."""
        self._retiring = retiring
        self.wake()

    def pause(self, timeout: float) -> None:
        """Let the store be finished with what it does, and close it until `resume`: this process is about to fork.

        A child must not inherit an open SQLite file: SQLite keeps the locks of a file per process in memory, so the
        child would take over what the parent held at that moment, and hold nothing that the system knows of
        (https://sqlite.org/howtocorrupt.html section 2.6).
        """
        self._quiet.clear()
        self._paused = True
        deadline = time.monotonic() + timeout
        while self.is_running and time.monotonic() < deadline:
            self.wake()
            if self._quiet.wait(0.01):
                return

    def resume(self) -> None:
        """Take `pause` back."""
        self._paused = False

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended or time is up."""
        deadline = time.monotonic() + timeout
        while self.is_running and (left := deadline - time.monotonic()) > 0:
            self._ended.wait(left)

    # --- the worker's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        self._thread_id = threading.get_ident()
        while True:
            try:
                anyio.run(self._main, backend="asyncio", backend_options=LOOP)
                break
            except BaseException as error:
                self._wake = None
                self._settle_in_flight(_innermost(error))
                if self._stopping.is_set():
                    self._abandon()
                    break
                self._stopping.wait(RESTART_AFTER)
        self._thread_id = None
        self.is_running = False
        self._ended.set()
        # A producer or reader that saw the thread running a moment ago relies on it: see the end of `push`, `submit`.
        if self._has_work():
            self.try_to_start()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        if self.assembler is None:
            self.assembler = Assembler(current_process(), self._errors.report)
        self._event = anyio.Event()
        self._job_event = anyio.Event()
        self._settled_event = anyio.Event()
        self._opening = anyio.Lock()
        self._wake = lambda: loop.call_soon_threadsafe(self._look)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve, tasks)
                await self._pump(self.assembler)
                tasks.cancel_scope.cancel()
        finally:
            self._fail_jobs()
            if self._is_open:
                self._is_open = False
                with anyio.CancelScope(shield=True):
                    await self._store.aclose()

    def _look(self) -> None:
        """Let `_pump` look at its queue without waiting for the interval's end, and `_serve` at its jobs."""
        self._event.set()
        self._job_event.set()

    async def _pump(self, assembler: Assembler) -> None:
        last_work = time.monotonic()
        while True:
            self._event = anyio.Event()
            if self._reopened:  # to its readers a process that has closed its file has ended: say that this one has not
                self._reopened = False
                await self._write(Batch(process=current_process()), 0)
            settings = self._settings()
            records = self._queue.drain(settings.batch_max_records, BATCH_MAX_BYTES)
            if records:
                await self._settle(records, settings, assembler)
                last_work = time.monotonic()
                if self._failing_since is not None and self._is_overdue():
                    return self._abandon()
                if len(records) >= settings.batch_max_records or self._stopping.is_set():
                    await anyio.lowlevel.checkpoint()
                    continue
            elif self._should_end(assembler):
                return None
            busy = self._stopping.is_set() or time.monotonic() - last_work < BUSY_FOR
            if not busy and await self._tidy():
                continue
            await self._rest(settings.batch_interval if busy else None)

    def _should_end(self, assembler: Assembler) -> bool:
        """Called when the queue is empty. Readers that are being served may finish, within the deadline."""
        if self._stopping.is_set():
            return not (self._jobs or self._serving) or self._is_overdue()
        return self._retiring and not (self._jobs or self._serving or assembler.open_spans)

    def _is_overdue(self) -> bool:
        return time.monotonic() >= self._stop_at

    async def _tidy(self) -> bool:
        """Use the quiet for the store's own upkeep; return whether there is more to do."""
        if not self._is_open or self._paused:
            return False
        try:
            async with self.open_store() as store:
                return await store.tidy()
        except Exception as error:
            self._errors.report("the store could not be tidied", error)
            return False

    async def _rest(self, interval: float | None) -> None:
        """Sleep for an interval, or until woken. While there is work, producers need not wake us at all."""
        self._queue.call_when(self.wake, at_once=interval is None)
        # What came between the last look and `call_when` asked for nobody's wake-up.
        if interval is None and len(self._queue):
            await anyio.lowlevel.checkpoint()
            return
        with anyio.move_on_after(interval):
            await self._event.wait()

    # --- records --------------------------------------------------------------------------------------------------

    async def _settle(self, records: list[bytes], settings: Settings, assembler: Assembler) -> None:
        """Assemble records, write what they amount to, and count them."""
        batch: Batch | None
        try:
            lost = self._feed(records, settings, assembler)
            batch = assembler.take_batch(self._offer)
        except Exception as error:
            self._errors.report("records could not be assembled", error, len(records))
            batch, lost = None, len(records)
        if batch is not None and (batch.traces or batch.spans) and not await self._write(batch, len(records)):
            lost = len(records)
        self._count(settled=len(records), lost=lost)
        self._settled_event.set()
        self._settled_event = anyio.Event()

    def _feed(self, records: list[bytes], settings: Settings, assembler: Assembler) -> int:
        """Give the assembler its records, in slices; return how many of them were of no use."""
        failed, useless = 0, _useless(assembler)
        assembler.prices = settings.prices
        self._slices.begin()
        for record in records:
            try:
                assembler.feed(record, settings.redact)
            except Exception as error:
                self._errors.report("a record could not be interpreted", error)
                failed += 1
            self._offer()
        return failed + _useless(assembler) - useless

    def _offer(self) -> None:
        """Let the user's threads go first, but for when they make more than we can write at that pace.

        A thread that computes keeps the GIL for 5 ms each time that it gets it: taking turns with it, a slice of ours
        for each of those, could not keep up with 300 calls a second. Then we take as much as we are given.
        """
        if len(self._queue) < BACKLOG:
            self._slices.offer()

    async def _write(self, batch: Batch, records: int) -> bool:
        """Write a batch, again and again while trying again may help; False if it is lost."""
        delay = RETRY_FIRST
        while (written := await self._try_to_write(batch, records)) is None:
            if self._is_overdue():
                return False
            await anyio.sleep(max(0.0, min(delay, self._stop_at - time.monotonic())))
            delay = min(delay * 2, RETRY_LAST)
        return written

    async def _try_to_write(self, batch: Batch, records: int) -> bool | None:
        """Return whether the batch was written; None if trying again may help."""
        try:
            async with self.open_store() as store:
                await store.write(batch)
        except TransientStoreError as error:
            self._failing_since = self._failing_since or time.monotonic()
            self._count(retries=1)
            self._errors.report("records wait for their store", error, records)
            return None
        except Exception as error:
            self._errors.report("records could not be stored", error, records)
            self._failing_since = None
            return False
        self._failing_since = None
        self._count(batches=1, spans=len(batch.spans))
        return True

    def _count(self, **changes: int) -> None:
        counts = self.counts
        self.counts = msgspec.structs.replace(
            counts, **{name: getattr(counts, name) + change for name, change in changes.items()}
        )

    def _settle_in_flight(self, error: BaseException) -> None:
        """Count what was drained when the loop failed. It may yet be written, if it was assembled: never too few."""
        in_flight = self._queue.drained - self.counts.settled
        self._errors.report("records were lost as the worker failed; it starts again", error, in_flight)
        self._count(settled=in_flight, lost=in_flight)

    def _abandon(self) -> None:
        """Give up: count what is still queued as lost, and tell those who wait for answers."""
        while records := self._queue.drain(1_024, BATCH_MAX_BYTES):
            self._count(settled=len(records), lost=len(records))
        while self._jobs:
            _fail(self._jobs.popleft()[1], ClosedError("tracer was shut down"))

    # --- jobs: run in the worker's loop ---------------------------------------------------------------------------

    async def _serve(self, tasks: TaskGroup) -> None:
        """Start jobs as they come: beside `_pump`, which may be held up by a store that is busy."""
        while True:
            self._job_event = anyio.Event()
            while self._jobs:
                job, future = self._jobs.popleft()
                self._serving.add(future)
                tasks.start_soon(self._run_job, job, future)
            if self._paused:
                await self._close_for_fork()
            else:
                await self._job_event.wait()

    async def _run_job(self, job: Job, future: concurrent.futures.Future[Any]) -> None:
        if future.set_running_or_notify_cancel():
            try:
                result = await job()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._serving.discard(future)
        self._look()

    def _fail_jobs(self) -> None:
        """Tell those whose jobs were cut off, or cancelled before their first step."""
        while self._serving:
            future = self._serving.pop()
            if self._stopping.is_set():
                _fail(future, ClosedError("tracer was shut down while the call ran"))
            else:
                _fail(future, StoreError("tracer's worker failed while the call ran; see the log"))

    async def settle_accepted(self) -> None:
        """Wait until every record that was accepted before this call is written, or lost and counted.

        Raises:
            StoreError: The store has been failing for half a minute.
        """
        target = self._queue.accepted
        while self.counts.settled < target:
            self._look()
            settled = self._settled_event
            with anyio.move_on_after(0.5):
                await settled.wait()
            if self._failing_since is not None and time.monotonic() - self._failing_since > READ_PATIENCE:
                raise StoreError(f"traces could not be written for {READ_PATIENCE:.0f} s: {self._errors.last}")

    @contextlib.asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        """Lend the store, open, and not in a fork. Of several who ask at once, one opens it."""
        while self._paused:  # noqa: ASYNC110  set by another thread, in the middle of a fork
            await anyio.sleep(PAUSE_STEP)
        self._users += 1
        try:
            async with self._opening:
                if not self._is_open:
                    await self._store.open()
                    self._is_open = True
            yield self._store
        finally:
            self._users -= 1

    async def _close_for_fork(self) -> None:
        while self._users:  # noqa: ASYNC110  a few milliseconds, once a fork
            await anyio.sleep(PAUSE_STEP)
        was_open = self._is_open and self._store.uri != MEMORY_URI
        if was_open:
            self._is_open = False
            await self._store.aclose()
        while self._paused:
            self._quiet.set()
            await anyio.sleep(PAUSE_STEP)
        self._reopened = was_open
        self._look()


class _Slices:
    """Work in short slices: between them the user's threads go first.

    To let go of the GIL for so long that a thread that waits for it wakes up takes a sleep, of which even the shortest
    lasts some 75 µs on Linux (the kernel's timer slack). So slices grow while nobody takes the offer, and are short
    again as soon as somebody does.
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
            time.sleep(0)
            after = time.perf_counter()
            self._length = SLICE_MIN if after - now > OFFER_TAKEN else min(self._length * 2, SLICE_MAX)
            self._end = after + self._length


def _fail(future: concurrent.futures.Future[Any], error: Exception) -> None:
    if future.running() or future.set_running_or_notify_cancel():
        future.set_exception(error)


def _useless(assembler: Assembler) -> int:
    return assembler.counts.undecodable + assembler.counts.orphaned


def _innermost(error: BaseException) -> BaseException:
    """Return what a task group was left with."""
    inner: tuple[BaseException, ...]
    while len(inner := getattr(error, "exceptions", ())) == 1:
        error = inner[0]
    return error
