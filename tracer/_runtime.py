"""The runtime: it owns the settings, the current pipeline, and the hooks for fork and exit.

There is only one (`runtime`). Importing it starts no thread and opens no file.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import importlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from tracer._config import DEFAULT_EXPERIMENT, DEFAULT_TRACKING_URI, Settings, from_environment, updated
from tracer._exceptions import ConfigurationError, StoreError
from tracer.capture.text import clean_text
from tracer.pipeline.clock import Clock, Ids, RandomIds, SystemClock
from tracer.pipeline.pipeline import Pipeline, Stats
from tracer.pipeline.worker import import_modules
from tracer.process import forks
from tracer.process.child_exits import call_before_child_exits
from tracer.process.native_threads import run_aside, wait_for_all, why_there_are_none
from tracer.process.raised_signals import call_before_a_raised_signal_ends_the_process
from tracer.store import check_uri
from tracer.store.sqlite.check import find_uri_problem, problem_text
from tracer.store.uri import MEMORY_URI, parse_uri

__all__ = ["Runtime", "runtime"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

EXIT_TIMEOUT = 5.0
INTERRUPTED_TIMEOUT = 0.5  # seconds, after the user pressed Ctrl+C a second time
RAISED_SIGNAL_TIMEOUT = 1.0  # seconds, before a signal that the process raised at itself
DORMANT_FOR = 60.0  # seconds until a wrong environment is checked again
_STATE = (
    "clock", "ids", "last_trace_id", "of_thread",
    "_settings", "_uri", "chosen_experiment", "current", "_retired", "_misconfigured", "_dormant", "_dormant_until",
    "_inherited_uri",
)  # fmt: skip


class Runtime:
    """Owns what exists once per process. Every method may be called from any thread.

    Attributes:
        current: The pipeline that new traces go through; None until one is needed (`pipeline_for_spans`).
        chosen_experiment: The experiment of new traces; None until somebody asked for it (`experiment`).
    """

    last_trace_id: str | None
    of_thread: threading.local
    _settings: Settings | None
    _uri: str | None
    chosen_experiment: str | None
    current: Pipeline | None
    _retired: weakref.WeakSet[Pipeline]  # kept alive by their worker or by spans that still run
    _misconfigured: str | None
    _dormant_until: float
    _inherited_uri: str | None  # what this process's parent was writing to when it forked

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.ids: Ids = RandomIds()
        # Reentrant: while a thread holds it, the garbage collector may run there and begin or end a user's span.
        self._lock = threading.RLock()
        self._finalizer_pid = 0
        self._hears_raised_signals = False
        self._reset()
        self._dormant: Pipeline | None = None
        atexit.register(self._at_exit)
        forks.register(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)

    # --- settings -------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The current settings. Raises ConfigurationError if the settings in the environment can't be read."""
        if self._settings is None:
            self._settings = from_environment()
        return self._settings

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings, also of old pipelines that still finish their spans. What is queued stays queued."""
        with self._lock:
            self._settings = updated(self.settings, changes)
            self._dormant_until = 0.0
            for pipeline in self._pipelines():
                pipeline.configure(self._settings)

    @property
    def tracking_uri(self) -> str:
        """Where traces go."""
        return self._uri or os.environ.get("TRACER_TRACKING_URI") or DEFAULT_TRACKING_URI

    def set_tracking_uri(self, uri: str) -> None:
        """Send the traces that begin from now on to another store. Opens again after a shutdown."""
        checked = check_uri(uri)
        with self._lock:
            current = self.current
            if current is None or current.uri != checked or current.closed:
                if current is not None:
                    current.retire()
                    self._retired.add(current)
                self.current = self._resumed(checked)
            self._uri = checked
            self._dormant_until = 0.0
        self.warm_up()

    def _resumed(self, uri: str) -> Pipeline | None:
        """Return the old pipeline that still finishes its spans for this store, if there is one, to use it again.

        A store needs only one writer.
        """
        for pipeline in list(self._retired):
            if pipeline.uri == uri and pipeline.is_running and not pipeline.closed:
                self._retired.discard(pipeline)
                pipeline.resume()
                return pipeline
        return None

    @property
    def experiment(self) -> str:
        """The experiment that new traces belong to. The environment is read only once, because each trace asks this."""
        if self.chosen_experiment is None:
            self.chosen_experiment = clean_text(os.environ.get("TRACER_EXPERIMENT") or DEFAULT_EXPERIMENT)
        return self.chosen_experiment

    def set_experiment(self, name: str) -> None:
        """Put the traces that begin from now on into an experiment."""
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"experiment must be a non-empty string, got {name!r}")
        self.chosen_experiment = clean_text(name)

    # --- the pipeline ---------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        """The current pipeline, made at its first use. Raises ConfigurationError if it can't be made."""
        self._notice_fork()
        pipeline = self.current
        return pipeline if pipeline is not None else self._make_pipeline()

    def _make_pipeline(self) -> Pipeline:
        with self._lock:
            if reason := why_there_are_none():
                raise StoreError(reason)
            made = Pipeline(self._usable_uri(), self.settings, self.clock, self.ids)
            if self.current is None:
                self.current = made
            self._flush_before_unusual_ends()
            return self.current

    def _notice_fork(self) -> None:
        if not forks.mark[0]:
            forks.notice()

    def _usable_uri(self) -> str:
        """Return where traces go. A damaged file is no problem here, because the worker will move it aside.

        Raises:
            ConfigurationError: The URI is malformed, or its file can be neither used nor moved aside.
        """
        uri = parse_uri(self.tracking_uri)
        if uri == self._inherited_uri:
            return uri  # it was usable: whatever is wrong now may pass, and records wait for that
        problem = find_uri_problem(uri)
        if problem is not None and not problem.can_be_moved_aside:
            raise ConfigurationError(problem_text(uri, problem))
        return uri

    def _pipelines(self) -> list[Pipeline]:
        self._notice_fork()
        return [*self._retired, *([self.current] if self.current is not None else [])]

    def pipeline_for_spans(self) -> Pipeline:
        """The current pipeline. If the environment is wrong: log that, and return a pipeline that records nothing."""
        self._notice_fork()
        pipeline = self.current
        if pipeline is not None:
            return pipeline
        if time.monotonic() < self._dormant_until and self._dormant is not None:
            return self._dormant
        try:
            return self._make_pipeline()
        except Exception as error:  # ConfigurationError, or whatever a file system comes up with
            self._tell(error)
            return self._make_dormant()

    def _tell(self, error: Exception) -> None:
        """Log why nothing is traced, once for each reason."""
        if str(error) != self._misconfigured:
            self._misconfigured = str(error)
            level = logging.WARNING if isinstance(error, StoreError) else logging.ERROR
            logger.log(level, "nothing is traced (this is looked at again every minute): %s", error)

    def _make_dormant(self) -> Pipeline:
        """Return a pipeline that records nothing.

        It is used for a while, because checking the environment again for each span would cost too much.
        """
        self._dormant_until = time.monotonic() + DORMANT_FOR
        if self._dormant is None:
            self._dormant = Pipeline(MEMORY_URI, Settings(), self.clock, self.ids)
            self._dormant.closed = True
        return self._dormant

    def check_environment(self) -> None:
        """Check everything that the environment can set.

        A malformed value is a mistake of the person who wrote it, so it raises here, where the service starts. A
        problem in the file system does not raise, because the file system can change at any time: the service runs,
        untraced if necessary, and the log says so.

        Raises:
            ConfigurationError: A value can't be understood.
        """
        _ = self.settings
        parse_uri(self.tracking_uri)
        if not self.experiment.strip():
            raise ConfigurationError("TRACER_EXPERIMENT must not be blank")
        if self.current is None:
            try:
                self._usable_uri()
            except ConfigurationError as error:
                self._tell(error)

    def warm_up(self) -> None:
        """Import what the worker and its store will need now, in a set-up call, and not later in the first span."""
        if self.tracking_uri.startswith("sqlite"):
            importlib.import_module("tracer.store.sqlite.store")
        elif self.tracking_uri.startswith("http"):
            importlib.import_module("tracer.store.http.store")
            if "openai" in sys.modules:  # which has imported it already
                importlib.import_module("tracer._http").import_modules()
        import_modules()

    def stats(self) -> Stats:
        """The current pipeline's counts. If the environment is wrong: how much was lost because of that, and why."""
        pipeline = self.pipeline_for_spans()
        counts = pipeline.stats()
        if pipeline is self._dormant:
            return msgspec.structs.replace(counts, last_error=self._misconfigured)
        return counts

    def shut_down(self, timeout: float) -> concurrent.futures.Future[int]:
        """Write what is queued and stop. The future's result is how many records were unwritten when time was up."""
        self.pipeline_for_spans()
        pipelines = self._pipelines()
        answer: concurrent.futures.Future[int] = concurrent.futures.Future()

        def stop() -> None:
            try:
                answer.set_result(self._stop_all(pipelines, timeout))
            except BaseException as error:
                answer.set_exception(error)

        try:
            threading.Thread(target=stop, name="tracer-shutdown", daemon=True).start()
        except RuntimeError:  # the interpreter exits: no new threads
            stop()
        return answer

    def _stop_all(self, pipelines: list[Pipeline], timeout: float) -> int:
        for pipeline in pipelines:
            pipeline.stop(timeout)
        return self._join_all(pipelines, timeout)

    def _join_all(self, pipelines: list[Pipeline], timeout: float) -> int:
        deadline = time.monotonic() + timeout
        return sum(pipeline.join(deadline - time.monotonic()) for pipeline in pipelines)

    def isolate(self, uri: str, clock: Clock | None, ids: Ids | None) -> Callable[[], int]:
        """Start again from an empty state with default settings. For tests.

        The returned function stops the new pipelines and restores the state from before. It returns how many records
        were left unwritten.
        """
        before = {name: getattr(self, name) for name in _STATE}
        checked = check_uri(uri)
        self._reset()
        self._settings, self._uri = Settings(), checked
        self.clock, self.ids = clock or self.clock, ids or self.ids

        def restore() -> int:
            left = self._stop_all(self._pipelines(), EXIT_TIMEOUT)
            for name, value in before.items():
                setattr(self, name, value)
            return left

        return restore

    def _reset(self) -> None:
        self.last_trace_id = None
        self.of_thread = threading.local()
        self._settings = None
        self._uri = None
        self.chosen_experiment = None
        self.current = None
        self._retired = weakref.WeakSet()
        self._misconfigured = None
        self._dormant_until = 0.0
        self._inherited_uri = None

    # --- fork and exit --------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._lock.acquire()  # no thread may be importing a store at the fork: the child could never import it

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        for pipeline in self._pipelines():
            pipeline.forget()
        if self.current is not None:
            self._inherited_uri = self.current.uri
        self.current, self._retired = None, weakref.WeakSet()

    def _flush_before_unusual_ends(self) -> None:
        """Have the queue flushed before those ends of a process that skip ``atexit`` (see `tracer.process`).

        Called with each pipeline that is made; only the first call in each process does something.
        """
        if not self._hears_raised_signals:  # a forked child inherits it
            self._hears_raised_signals = True
            call_before_a_raised_signal_ends_the_process(self._flush_before_signal)
        if self._finalizer_pid != os.getpid():
            self._finalizer_pid = os.getpid()
            call_before_child_exits(self._flush_at_exit)

    def _flush_at_exit(self) -> None:
        for pipeline in self._pipelines():
            pipeline.unfinished.abandon_all()
        self.flush_running(EXIT_TIMEOUT, ends=True)

    def _flush_before_signal(self) -> None:
        self.flush_aside(RAISED_SIGNAL_TIMEOUT, ends=True)

    def flush_aside(self, timeout: float, *, ends: bool) -> None:
        """Flush as `flush_running` does, where a signal is handled or raised. Never raises.

        In a thread of its own, because code that was interrupted may hold a lock that is needed here.
        """

        def flush() -> None:
            try:
                self.flush_running(timeout, ends=ends)
            except Exception as error:
                logger.warning("what is queued was not written when the signal came: %s", error)

        try:
            run_aside(flush, timeout)
        except RuntimeError:  # no thread is left, or the interpreter exits, which flushes as well
            logger.debug("no thread could be started to flush")

    def flush_running(self, timeout: float, *, ends: bool) -> None:
        """Write what is queued, within `timeout` seconds, and stay open, because the user's threads may still run.

        Args:
            timeout: Seconds.
            ends: The process ends afterwards, without ``atexit``: what can't be written in time is put aside, and what
                is left is logged.
        """
        running = [pipeline for pipeline in self._pipelines() if pipeline.is_running and not pipeline.closed]
        if not ends:
            wait_for_all([pipeline.settle() for pipeline in running], timeout)
            return
        for pipeline in running:
            pipeline.hurry(timeout)
        wait_for_all([pipeline.settle_before_the_end() for pipeline in running], timeout)
        _report_left(running, sum(pipeline.stats().queued for pipeline in running), timeout)

    def _at_exit(self) -> None:
        """End what is half read, write what is queued, within a deadline, and log how many records were left.

        At ``atexit`` a daemon thread with its loop and connection still works, but new threads and executors do not.
        So this method starts none.
        """
        running = [pipeline for pipeline in self._pipelines() if pipeline.is_running]
        try:
            for pipeline in running:
                pipeline.unfinished.abandon_all()
            left = self._stop_all(running, EXIT_TIMEOUT)
        except KeyboardInterrupt:  # a user who presses Ctrl+C again doesn't want to wait
            for pipeline in running:
                pipeline.hurry(INTERRUPTED_TIMEOUT)
            left = self._join_all(running, INTERRUPTED_TIMEOUT)
        _report_left(running, left, EXIT_TIMEOUT)


def _report_left(pipelines: list[Pipeline], left: int, timeout: float) -> None:
    if left:
        hooks = [pipeline.running_hook for pipeline in pipelines]
        reason = "".join(f"; tracer's worker waits for the {hook}" for hook in hooks if hook is not None)
        if any(pipeline.has_ring for pipeline in pipelines):
            reason += "; what the crash ring has of them is written by the next process that opens the database"
        logger.error("%d records could not be written within %g s of the exit%s", left, timeout, reason)


runtime = Runtime()
