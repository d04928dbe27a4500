"""The worker: one daemon thread with one anyio event loop, between the queue and the store.

It is a thread and not a task, because a task in the user's loop would stall when that loop stalls, and die with it. It
is a daemon thread, because aiosqlite's threads inherit that flag, and a non-daemon aiosqlite thread would keep the
interpreter from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio._core._eventloop import get_async_backend
from anyio.abc import TaskGroup

from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError, TracerError
from tracer.capture.own_work import own_work
from tracer.capture.records import Encoded
from tracer.pipeline._batch_writer import RETRY_LAST, BatchWriter
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._expiry import Expiry
from tracer.pipeline._exporter import Exporter
from tracer.pipeline._hook_watch import HookWatch
from tracer.pipeline._jobs import Answer, Jobs
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline.crash_ring import CrashRing
from tracer.process.native_threads import is_outdated, new_event_loop, start_thread, wait_for, why_there_are_none
from tracer.store.base import SIGN_SECONDS, Store

if TYPE_CHECKING:
    from tracer.pipeline.adoption import Adoption, Reading

__all__ = ["Worker", "import_modules"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

BUSY_FOR = 1.0  # seconds without a record after which the worker sleeps until it is woken
RESTART_AFTER = 1.0  # seconds from a failure of the worker itself to its next try
READ_PATIENCE = 30.0  # seconds of failing writes, or of one hook call, after which a waiting reader gets an error
# What the thread needs, the first for `anyio.run`. `import tracer` takes half of its time without them. We import them
# before the thread starts, for two reasons. The thread may still run while the interpreter exits. There an import can
# change the exit code of a KeyboardInterrupt to 1 (`exec`, which dataclasses use, clears CPython's mark of the
# interrupt). And a module's import lock that the thread holds at a fork is never released in the child.
MODULES = ("anyio._backends._asyncio", "tracer.pipeline._settler", "tracer.pipeline.adoption", "ctypes")
# anyio 4.16 imports these names when they are first used; up to CPython 3.10 even that of a loaded module takes a lock.
ANYIO_NAMES = (
    "CancelScope", "Event", "Lock", "create_task_group", "fail_after", "lowlevel", "move_on_after", "run", "sleep",
)  # fmt: skip
# Part of CPython 3.12's error for a thread that is started after the main thread's end (gh-113964 has the versions).
NO_THREAD_AT_EXIT = "at interpreter shutdown"
# Our own loop, whatever policy the user has set; and without asyncio's debug mode, which is meant for the user's code.
LOOP = {"loop_factory": new_event_loop, "debug": False}


class Worker:
    """Drains a queue into a store, and runs what readers ask of that store.

    Its thread is started when there is something to do (`start`). It ends when it was told to end and nothing is left;
    whatever comes later starts it again. If the loop itself fails, the records in flight are lost (and counted as
    lost), and the worker starts again a second later.

    Args:
        queue: Where records come from; this worker is its only consumer.
        store: Used in the worker's own loop. It opens itself there when it is needed, and is closed when the loop ends.
        settings: Called before each batch, to get the current settings.
        errors: Receives what goes wrong.

    Attributes:
        writer: Brings batches into the store, and counts.
        exporter: Sends spans by OpenTelemetry's protocol, and counts.
        hooks: Runs and watches the user's hooks.
        settler: Makes rows of records.
        store: The store.
    """

    def __init__(
        self,
        queue: RecordQueue,
        store: Store,
        settings: Callable[[], Settings],
        errors: ErrorLog,
    ) -> None:
        import_modules()
        from tracer.pipeline._settler import Settler

        self.is_running = False
        self.hooks = HookWatch()
        self.crash_ring = CrashRing(queue, settings)
        self.writer = BatchWriter(store, queue, settings, errors)
        self.store = store
        self.exporter = Exporter(store, settings, lambda: queue.is_pressed, errors)
        self.settler = Settler(queue, store, self.writer, self.crash_ring, self.hooks, errors)
        self._queue = queue
        self._settings = settings
        self._errors = errors
        self._jobs = Jobs()
        self._starting = threading.Lock()
        self._thread_id: int | None = None
        self._ended = threading.Event()
        self._stopping = threading.Event()
        self._retiring = False
        self._wake: Callable[[], object] | None = None

    # --- called from any thread -----------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> None:
        """Start the thread unless it runs. Returns without waiting for its loop.

        Args:
            wait: False returns at once if the thread is just being started by other code. A producer must not wait for
                that code: it can be the very code that a garbage collection or a signal interrupted.

        Raises:
            RuntimeError: The machine has no thread left, or the interpreter exits.
        """
        while not self.is_running and self._starting.acquire(blocking=wait):
            try:
                if not self.is_running:
                    self._ended.clear()
                    self.is_running = True
                    start_thread(self._run, "tracer-worker")
            except RuntimeError:
                self.is_running = False
                raise
            finally:
                self._starting.release()
            # Look again: others that came meanwhile did not wait for us, and the thread may have ended already.
            if not self._has_work():
                return

    def _has_work(self) -> bool:
        return self._jobs.waiting or len(self._queue) > 0

    def try_to_start(self) -> None:
        """Start the thread unless it runs; never waits, never raises."""
        try:
            self.start(wait=False)
        except Exception as error:
            # At exit, `stop` works without a thread. Where there are no threads, the next record reports it.
            if NO_THREAD_AT_EXIT not in str(error) and why_there_are_none() is None:
                self._errors.report("the worker could not be started, records stay queued", error)

    def question(self, job: Callable[[], Awaitable[T]]) -> Answer[T]:
        """Return the answer of a coroutine function that runs in the worker's loop, where the store lives.

        `Answer.ask` submits it, and raises:

            StoreError: The thread could not be started.
            TracerError: Called from the worker's own thread, for example from a ``redact=`` hook.
        """
        return Answer(functools.partial(self._submit, job), self.obstacle)

    def submit(self, job: Callable[[], Awaitable[T]]) -> Answer[T]:
        """Ask such a question at once."""
        return self.question(job).ask()

    def _submit(self, job: Callable[[], Awaitable[T]], answer: Answer[T]) -> None:
        if threading.get_ident() == self._thread_id:
            raise TracerError("tracer's own thread can't wait for itself: call this elsewhere than in a redact= hook")
        self._jobs.add(job, answer)
        try:
            self.start()
        except RuntimeError as error:
            raise StoreError(f"tracer's worker could not be started: {error}") from error
        self.wake()

    def wake(self) -> None:
        """Have the worker look at its queue and jobs now. Takes no lock."""
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:  # its loop has just closed; the thread looks once more before it ends
                logger.debug("the worker's loop closed before it could be woken")

    def stop(self, timeout: float) -> None:
        """Ask the worker to write what is queued within `timeout` seconds (`BatchWriter.hurry`), and to end.

        If no thread can be started for that, which is so at the interpreter's exit, the calling thread does the work.
        """
        self.writer.hurry(timeout)
        self._stopping.set()
        if len(self._queue):
            try:
                self.start(wait=False)
            except RuntimeError:
                self.is_running = True
                self._run()
        self.wake()

    def retire(self, retiring: bool = True) -> None:
        """Ask the worker to end when nothing is queued and no span is open any more. False takes this request back."""
        self._retiring = retiring
        self.wake()

    def abandon(self) -> None:
        """Give up: count what is still queued as lost, and tell those who wait for answers."""
        self.settler.give_up_queued()
        self._jobs.fail_waiting(lambda: ClosedError("tracer was shut down"))

    def obstacle(self) -> StoreError | None:
        """Return an error if a hook has blocked the worker for half a minute; None otherwise."""
        running = self.hooks.running
        if running is None or running.seconds < READ_PATIENCE:
            return None
        return StoreError(f"no answer from tracer's worker: it waits for the {running}")

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended or time is up."""
        deadline = time.monotonic() + timeout
        while self.is_running and (left := deadline - time.monotonic()) > 0:
            wait_for(self._ended, left)

    # --- the worker's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        token = own_work.set(True)
        self._thread_id = threading.get_ident()
        try:
            self._run_loop()
        finally:
            own_work.reset(token)
            with contextlib.suppress(Exception):
                self.crash_ring.end()
            self._thread_id = None
            self.is_running = False
            self._ended.set()
        # Look again: a producer or reader that saw the thread running a moment ago did not start it (see the end of
        # `push`, and `submit`).
        if self._has_work():
            self.try_to_start()

    def _run_loop(self) -> None:
        while True:
            try:
                anyio.run(self._main, backend="asyncio", backend_options=LOOP)
                break
            except BaseException as error:
                self._wake = None
                self.settler.give_up_drained(_innermost(error))
                if self._stopping.is_set():
                    self.abandon()
                    break
                self._stopping.wait(RESTART_AFTER)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._event = anyio.Event()
        self._job_event = anyio.Event()
        self._settled_event = anyio.Event()
        self.adoption = self._adoption()
        self.expiry = Expiry(
            self.store,
            lambda: self._queue.is_pressed,
            lambda: self.writer.failing_since is not None,
            self._look,  # so that `_pump` lets the store give the free pages back
            self._errors,
        )
        self.exporter.begin()
        self._wake = lambda: loop.call_soon_threadsafe(self._look)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._adopt_again_and_again)
                tasks.start_soon(self._serve, tasks)
                tasks.start_soon(self.expiry.run)
                tasks.start_soon(self.exporter.run)
                if self.store.needs_signs_of_life:
                    tasks.start_soon(self._give_signs_of_life)
                await self._pump()
                with anyio.move_on_after(self.writer.seconds_left):
                    await self._adopt()  # what children left, for example
                await self.expiry.finish(self.writer.seconds_left)
                await self.exporter.finish(self.writer.seconds_left)
                tasks.cancel_scope.cancel()
        finally:
            await self.exporter.aclose()
            self._jobs.fail_running(self._cut_off)
            if self._stopping.is_set():
                self.writer.spool.let_go()
            with anyio.CancelScope(shield=True):
                await self.store.aclose()

    def _adoption(self) -> Adoption:
        from tracer.pipeline.adoption import Adoption  # imported already, by `import_modules`

        def reading() -> Reading:
            settings = self._settings()
            return self.hooks.redact(settings.redact), self.hooks.prices(settings.prices)

        return Adoption(self.store, reading, self.settler.offer)

    async def _adopt_again_and_again(self) -> None:
        """Take over what dead processes left, at the beginning and whenever `_tidy` asks for it."""
        while True:
            self._adoption_event = anyio.Event()
            await self._adopt()
            await self._adoption_event.wait()

    async def _adopt(self) -> None:
        try:
            await self.adoption.adopt()
        except Exception as error:
            self._errors.report("what a dead process recorded could not be taken over yet", error)

    async def _give_signs_of_life(self) -> None:
        """While spans are open, let the store know that this process runs."""
        while True:
            await anyio.sleep(SIGN_SECONDS)
            if self.settler.interpreter.open_spans:
                await self.store.sign_of_life()

    def _look(self) -> None:
        """Let `_pump` look at its queue without waiting for the interval's end, and `_serve` at its jobs."""
        self._event.set()
        self._job_event.set()
        self.expiry.look()
        self.exporter.look()

    async def _pump(self) -> None:
        last_work = time.monotonic()
        while True:
            self._event = anyio.Event()
            settings = self._settings()
            records = self._queue.drain(settings.batch_max_records)
            if records or self.settler.has_news:
                kept = await self._settle(records, settings)
                last_work = time.monotonic()
                if not kept and self.writer.is_overdue:
                    return self.abandon()
                if len(records) >= settings.batch_max_records or self._stopping.is_set():
                    await anyio.lowlevel.checkpoint()
                    continue
                if self._is_outdated:  # a busy queue may never be found empty
                    return None
            elif self.writer.can_replay:
                last_work = time.monotonic()
                if await self.writer.replay():
                    continue
            elif self._should_end():
                return None
            busy = self._stopping.is_set() or time.monotonic() - last_work < BUSY_FOR
            if not busy and await self._tidy():
                continue
            interval = settings.batch_interval if self.writer.failing_since is None else RETRY_LAST
            await self._rest(interval if busy else None)

    async def _settle(self, records: list[Encoded], settings: Settings) -> bool:
        kept = await self.settler.settle(records, settings)
        self._settled_event.set()
        self._settled_event = anyio.Event()
        self.expiry.look()
        self.exporter.look()
        return kept

    def _should_end(self) -> bool:
        """Tell whether to end, when the queue is empty. Readers that are being served may finish until the deadline."""
        if self._stopping.is_set():
            return not (self._jobs.waiting or self._jobs.running) or self.writer.is_overdue
        if self._jobs.waiting or self._jobs.running:
            return False
        return self._is_outdated or (self._retiring and not self.settler.interpreter.open_spans)

    @property
    def _is_outdated(self) -> bool:
        """Greenlets have taken the place of threads, and nobody waits for an answer."""
        return is_outdated() and not (self._jobs.waiting or self._jobs.running)

    async def _tidy(self) -> bool:
        """Let the store do its own upkeep while there is no other work; return whether there is more to do."""
        self._adoption_event.set()
        try:
            return await self.store.tidy()
        except Exception as error:
            self._errors.report("the store could not be tidied", error)
            return False

    async def _rest(self, interval: float | None) -> None:
        """Sleep for an interval, or until woken. With an interval, producers wake us only if the queue is half full."""
        self._queue.call_when(self.wake, at_once=interval is None)
        # Records that came between the last look and `call_when` did not wake us.
        if interval is None and len(self._queue):
            await anyio.lowlevel.checkpoint()
            return
        with anyio.move_on_after(interval):
            await self._event.wait()

    # --- jobs: run in the worker's loop ---------------------------------------------------------------------------

    async def _serve(self, tasks: TaskGroup) -> None:
        """Start jobs as they come. Runs beside `_pump`, because a busy store may hold up `_pump`."""
        while True:
            self._job_event = anyio.Event()
            self._jobs.start(tasks.start_soon, self._look)
            await self._job_event.wait()

    def _cut_off(self) -> Exception:
        if self._stopping.is_set():
            return ClosedError("tracer was shut down while the call ran")
        return StoreError("tracer's worker failed while the call ran; see the log")

    async def settle_accepted(self) -> None:
        """Wait until every record that was accepted before this call is written, or lost and counted.

        Raises:
            StoreError: The store has been failing for half a minute, or somebody must change something first.
        """
        accepted, added = self._queue.accepted, None
        while True:
            if self.writer.counts.settled >= accepted:
                added = added or self.writer.spool.added  # before them, nothing newer is written
                if self.writer.spool.removed >= added or not self.writer.can_replay:
                    return
            self._look()
            settled = self._settled_event
            with anyio.move_on_after(0.5):
                await settled.wait()
            if self.writer.refusal is not None:
                raise StoreError(f"traces can't be written: {self.writer.refusal}")
            failing_since = self.writer.failing_since
            if failing_since is not None and time.monotonic() - failing_since > READ_PATIENCE:
                raise StoreError(f"traces could not be written for {READ_PATIENCE:.0f} s: {self._errors.last}")


def import_modules() -> None:
    """Import what a worker needs. Set-up calls do it, so that a first span need not."""
    for module in MODULES:
        importlib.import_module(module)
    for name in ANYIO_NAMES:
        getattr(anyio, name)
    get_async_backend("asyncio")  # `anyio.run` would import it


def _innermost(error: BaseException) -> BaseException:
    """Return the one exception inside nested exception groups; the group itself if it holds more than one."""
    inner: tuple[BaseException, ...]
    while len(inner := getattr(error, "exceptions", ())) == 1:
        error = inner[0]
    return error
