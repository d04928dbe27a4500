"""Jobs: what other threads ask the worker's event loop to do, because the store lives there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tracer.process.native_threads import share_with_threads

__all__ = ["Answer", "Job", "Jobs"]

T = TypeVar("T")
Job = Callable[[], Awaitable[Any]]


class Answer(concurrent.futures.Future[T]):
    """The result of a job. Any thread can wait for it; a thread that waits long asks for the `obstacle`.

    Whoever waits also asks: `ask`. So Ctrl-C finds somebody who withdraws the question, whenever it comes.
    """

    def __init__(self, submit: Callable[[Answer[T]], object], obstacle: Callable[[], Exception | None]) -> None:
        super().__init__()
        share_with_threads(self)
        self.obstacle = obstacle
        """Returns what has blocked the worker for too long; None if nothing has."""
        self.withdrawn = False
        self._submit: Callable[[Answer[T]], object] | None = submit
        self.end_job: Callable[[], object] | None = None
        """Cancels the job, from any thread. None until the job's turn comes."""

    def ask(self) -> Answer[T]:
        """Submit the job, unless that was done before; return this answer. If it fails, the question is withdrawn."""
        submit, self._submit = self._submit, None
        if submit is not None:
            try:
                submit(self)
            except BaseException:
                self.cancel()
                raise
        return self

    def cancel(self) -> bool:
        """Withdraw the question: a job that has not begun is not started, and one that runs is cancelled."""
        if super().cancel():
            return True
        self.withdrawn = True
        if self.end_job is not None:
            with contextlib.suppress(RuntimeError):  # the worker's loop is closed
                self.end_job()
        return False


class Jobs:
    """Coroutine functions on their way into the loop, each with the answer that somebody waits for.

    `add` and the properties are for any thread; the other methods are for the worker's thread only.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, Answer[Any]]] = deque()
        self._running: set[Answer[Any]] = set()

    @property
    def waiting(self) -> bool:
        """True if there are jobs that nobody has started."""
        return bool(self._waiting)

    @property
    def running(self) -> bool:
        """True if there are jobs that have started and not ended."""
        return bool(self._running)

    def add(self, job: Callable[[], Awaitable[T]], answer: Answer[T]) -> None:
        """Ask for a job."""
        self._waiting.append((job, answer))

    def start(self, start_soon: Callable[..., object], done: Callable[[], None]) -> None:
        """Start the waiting jobs; `done` is called as each of them ends."""
        while self._waiting:
            job, future = self._waiting.popleft()
            self._running.add(future)
            start_soon(self._run, job, future, done)

    async def _run(self, job: Job, future: Answer[Any], done: Callable[[], None]) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        future.end_job = lambda: loop.call_soon_threadsafe(task.cancel)
        if future.set_running_or_notify_cancel():
            try:
                result = await job()
            except asyncio.CancelledError:
                if not future.withdrawn:
                    raise
                future.set_exception(concurrent.futures.CancelledError())  # nobody looks at it
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        future.end_job = None
        self._running.discard(future)
        done()

    def fail_running(self, error: Callable[[], Exception]) -> None:
        """Give this error to everyone whose job was cut off, or cancelled before its first step."""
        while self._running:
            _fail(self._running.pop(), error())

    def fail_waiting(self, error: Callable[[], Exception]) -> None:
        """Give this error to everyone whose job will not be started."""
        while self._waiting:
            _fail(self._waiting.popleft()[1], error())


def _fail(future: concurrent.futures.Future[Any], error: Exception) -> None:
    if future.running() or future.set_running_or_notify_cancel():
        future.set_exception(error)
