"""The runtime: who owns settings, the current pipeline, and the hooks for fork and exit.

There is one (`runtime`). Importing it starts no thread and opens no file.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tracer._clock import Clock, Ids, RandomIds, SystemClock
from tracer._config import DEFAULT_EXPERIMENT, DEFAULT_TRACKING_URI, Settings, from_environment, updated
from tracer._exceptions import ConfigurationError
from tracer._pipeline import Pipeline, Stats
from tracer.store import check_uri

__all__ = ["Runtime", "runtime"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

EXIT_TIMEOUT = 5.0
_STATE = (
    "clock", "ids", "last_trace_id", "of_thread",
    "_settings", "_uri", "_experiment", "_pipeline", "_retired", "_misconfigured",
)  # fmt: skip


class Runtime:
    """Owns what is one per process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.ids: Ids = RandomIds()
        self._lock = threading.Lock()
        self._reset()
        self._dormant = Pipeline("memory://", Settings(), self.clock, self.ids)
        self._dormant.closed = True
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork_in_child)

    # --- settings -------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force. Raises ConfigurationError if the environment's can't be read."""
        if self._settings is None:
            self._settings = from_environment()
        return self._settings

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings; what is queued stays."""
        self._settings = updated(self.settings, changes)
        if self._pipeline is not None:
            self._pipeline.configure(self._settings)

    @property
    def tracking_uri(self) -> str:
        """Where traces go."""
        return self._uri or os.environ.get("TRACER_TRACKING_URI") or DEFAULT_TRACKING_URI

    def set_tracking_uri(self, uri: str) -> None:
        """Send the traces that begin from now on to another store. Opens again after a shutdown."""
        checked = check_uri(uri)
        with self._lock:
            current = self._pipeline
            if current is not None and current.uri == checked and not current.closed:
                return
            self._uri, self._pipeline = checked, None
            if current is not None and not current.closed:
                current.retire()
                self._retired = [pipeline for pipeline in [*self._retired, current] if pipeline.is_running]

    @property
    def experiment(self) -> str:
        """The experiment that new traces belong to."""
        return self._experiment or os.environ.get("TRACER_EXPERIMENT") or DEFAULT_EXPERIMENT

    def set_experiment(self, name: str) -> None:
        """Put the traces that begin from now on into an experiment."""
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"experiment must be a non-empty string, got {name!r}")
        self._experiment = name

    # --- the pipeline ---------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        """The current pipeline, made at its first use. Raises ConfigurationError if it can't be."""
        pipeline = self._pipeline
        return pipeline if pipeline is not None else self._make_pipeline()

    def _make_pipeline(self) -> Pipeline:
        uri, settings = check_uri(self.tracking_uri), self.settings
        with self._lock:
            if self._pipeline is None:
                self._pipeline = Pipeline(uri, settings, self.clock, self.ids)
            return self._pipeline

    def pipeline_for_spans(self) -> Pipeline:
        """The current pipeline; where the environment is wrong, one that records nothing, and a log line."""
        pipeline = self._pipeline
        if pipeline is not None:
            return pipeline
        try:
            return self._make_pipeline()
        except ConfigurationError as error:
            if str(error) != self._misconfigured:
                self._misconfigured = str(error)
                logger.error("nothing is traced: %s", error)
            return self._dormant

    def stats(self) -> Stats:
        """The current pipeline's counts."""
        return self.pipeline.stats()

    def shut_down(self, timeout: float) -> concurrent.futures.Future[int]:
        """Write what is queued and stop; the answer is how many records were left unwritten when time was up."""
        pipelines = [*self._retired, self.pipeline]
        answer: concurrent.futures.Future[int] = concurrent.futures.Future()
        threading.Thread(
            target=lambda: answer.set_result(self._stop_all(pipelines, timeout)), name="tracer-shutdown", daemon=True
        ).start()
        return answer

    def _stop_all(self, pipelines: list[Pipeline], timeout: float) -> int:
        deadline = time.monotonic() + timeout
        for pipeline in pipelines:
            pipeline.stop(timeout)
        left = sum(pipeline.join(max(0.0, deadline - time.monotonic())) for pipeline in pipelines)
        self._retired = []
        return left

    def isolate(self, uri: str, clock: Clock | None, ids: Ids | None) -> Callable[[], int]:
        """Begin afresh with default settings; the function returned stops that and puts back what was. For tests.

        It returns how many records were left unwritten.
        """
        before = {name: getattr(self, name) for name in _STATE}
        checked = check_uri(uri)
        self._reset()
        self._settings, self._uri = Settings(), checked
        self.clock, self.ids = clock or self.clock, ids or self.ids

        def restore() -> int:
            pipelines = [p for p in (*self._retired, self._pipeline) if p is not None]
            left = self._stop_all(pipelines, EXIT_TIMEOUT)
            for name, value in before.items():
                setattr(self, name, value)
            return left

        return restore

    def _reset(self) -> None:
        self.last_trace_id: str | None = None
        self.of_thread = threading.local()
        self._settings: Settings | None = None
        self._uri: str | None = None
        self._experiment: str | None = None
        self._pipeline: Pipeline | None = None
        self._retired: list[Pipeline] = []
        self._misconfigured: str | None = None

    # --- fork and exit --------------------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        for pipeline in [*self._retired, *([self._pipeline] if self._pipeline is not None else [])]:
            pipeline.forget()
        self._pipeline, self._retired = None, []

    def _at_exit(self) -> None:
        """Write what is queued, within a deadline, and say how much could not be.

        At ``atexit`` a daemon thread with its loop and connection still works, while new threads and executors do
        not (so this one starts none).
        """
        running = [p for p in (*self._retired, self._pipeline) if p is not None and p.is_running]
        left = self._stop_all(running, EXIT_TIMEOUT)
        if left:
            logger.error("%d records could not be written within %.0f s of the exit", left, EXIT_TIMEOUT)


runtime = Runtime()
