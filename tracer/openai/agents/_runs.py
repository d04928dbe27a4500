"""The runner's own spans: ``AgentRunner.run`` and ``AgentRunner.run_streamed``, with what went in and came out.

The SDK tells its processors neither a run's input nor its result, so the runner's methods are wrapped. The span begins
with the SDK's first trace or span inside the run; where the SDK's own tracing is disabled, with the run.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from tracer._models import SpanType
from tracer.capture.failures import is_cancellation
from tracer.capture.records import Ending, Payload
from tracer.openai.agents._describe import OPERATION, describe_error, run_attributes
from tracer.openai.agents._options import Options
from tracer.spans.context import current_span
from tracer.spans.guard import guarded
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import open_span

__all__ = ["Run", "read_config", "running_run", "wrap_run", "wrap_run_streamed"]

SENSITIVE_VARIABLE = "OPENAI_AGENTS_TRACE_INCLUDE_SENSITIVE_DATA"


class Run:
    """One call of the runner, from the call to the end of its work.

    Attributes:
        span: None until the SDK's first trace or span begins, if there is one.
        inputs: The run's input, as it was when the span began.
        around: The span that was current before.
        is_over: It has ended. A task that was started inside may begin a trace later; that trace does not belong to
            this run.
        withholds: The user told the SDK to leave texts out (``trace_include_sensitive_data=False``).
        session_id: The id of the memory session that the run was given.
    """

    __slots__ = (
        "_agent", "_config", "_error", "_input", "_name", "_noted", "_options", "_result", "around", "inputs",
        "is_over", "session_id", "span", "withholds",
    )  # fmt: skip

    def __init__(self, name: str, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._name = name
        self._options = options
        self._agent = args[0] if args else kwargs.get("starting_agent")
        self._input = args[1] if len(args) > 1 else kwargs.get("input")
        self._result: Any = None
        self._config = kwargs.get("run_config")
        self.withholds = not _includes_sensitive_data(self._config)
        self.session_id = getattr(kwargs.get("session"), "session_id", None)
        self.span: LiveSpan | None = None
        self.inputs: Payload | None = None
        self.around: LiveSpan | None = None
        self.is_over = False
        self._error: BaseException | None = None
        self._noted: str | None = None

    def open(self, options: Options) -> LiveSpan:
        """Begin the span and make it current in this context."""
        self.around = current_span.get()
        self.span = span = open_span(self._name, SpanType.AGENT)
        if isinstance(self._input, (str, list)):  # otherwise a paused run's state, which holds the user's own objects
            self.inputs = span.snapshot(self._input)
        span.begin(
            inputs=self.inputs,
            attributes=run_attributes(self._agent, resumed=not isinstance(self._input, (str, list))),
            operation=OPERATION,
            capture=captures(span, options, self),
        )
        self._agent = self._input = None
        current_span.set(span)
        return span

    @guarded
    def open_if_untraced(self, switch: Switch) -> None:
        """Begin the span now if the SDK will not begin a trace: the run's model calls need a common root."""
        if switch.options is not None and switch.sdk_traces_nothing(self._config):
            self.open(switch.options)

    @guarded
    def _open_unstarted(self) -> None:
        self.open(self._options)

    def leave(self) -> None:
        """The span goes on in a task of its own, and is current no more in this context."""
        if self.span is not None and current_span.get() is self.span:
            current_span.set(self.around)

    @guarded
    def close(self, result: Any = None, error: BaseException | None = None, *, cancelled: bool = False) -> None:
        """End the span with the run's result, or with what it raised."""
        self.is_over = True
        span, noted = self.span, self._noted
        self._agent = self._config = self._input = self._error = self._result = None
        if span is None:
            return
        self.leave()
        if cancelled:
            span.finish(Ending.CANCELLED)
        elif error is not None:
            span.finish_with(error)
        else:
            output = getattr(result, "final_output", None)
            if output is None and noted is not None:  # a streamed run: its task succeeds, its reader gets the error
                span.set_status("ERROR", noted)
            span.finish_with(None, None if output is None else span.snapshot(output))

    def task_done(self, task: asyncio.Future[Any]) -> None:
        """End the span of a streamed run that has no trace of its own, when its task is done.

        If the task was cancelled before its first step, the span begins here, too: the run was asked for.

        The task's exception is not retrieved here: asyncio would then no longer warn that nobody else retrieved it.
        """
        if self.span is None and task.cancelled():
            self._open_unstarted()
        self.close(self._result, self._error, cancelled=task.cancelled())

    def trace_ended(self) -> None:
        """End the span of a streamed run together with the trace that it began, while its exception propagates."""
        if self._result is None:
            return  # not a streamed run: its caller waits for it
        raised = sys.exc_info()[1] or self._error
        cancelled = raised is not None and is_cancellation(raised)
        self.close(self._result, None if cancelled else raised, cancelled=cancelled)

    def note(self, kind: str, error: Any, raised: BaseException | None) -> None:
        """Keep what went wrong in the run's task or in one of its agents, as its span ends."""
        self._error = None if raised is None or is_cancellation(raised) else raised
        if kind == "agent":
            self._noted = None if error is None else describe_error(error)

    @guarded
    def follow(self, result: Any) -> None:
        """Wait for a streamed run, which goes on in a task of its own, whether or not its events are read."""
        tasks = (getattr(result, name, None) for name in ("run_loop_task", "_run_impl_task"))  # the latter before 0.7
        task = next(filter(None, tasks), None)
        if task is not None:  # otherwise the span ends when the run is garbage-collected
            self._result = result
            task.add_done_callback(self.task_done)

    def __del__(self) -> None:
        # The run and its event loop were dropped. This runs inside the garbage collector: one queue append, no lock.
        span = getattr(self, "span", None)
        if span is not None:
            span.finish(Ending.COLLECTED)


current_run: ContextVar[Run | None] = ContextVar("tracer_current_run", default=None)
"""The run that began last in this task or thread. It may be over: see `running_run`."""


def running_run() -> Run | None:
    """Return the innermost run of this task or thread; None if that run is over."""
    run = current_run.get()
    return None if run is None or run.is_over else run


def captures(span: LiveSpan, options: Options, run: Run | None) -> bool:
    """Tell whether a span's texts may be stored."""
    capture = options.capture_content
    allowed = span.settings.capture_content if capture is None else capture
    return allowed and not (run is not None and run.withholds)


class Switch(Protocol):
    """Says whether runs are recorded, and how (`tracer.openai.agents._processor.TracerProcessor`)."""

    options: Options | None

    def sdk_traces_nothing(self, run_config: Any) -> bool:
        """Tell whether the SDK's own tracing is disabled, for this run or altogether."""
        ...


@guarded
def _new_run(switch: Switch, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run | None:
    options = switch.options
    return None if options is None else Run(f"AgentRunner.{name}", options, args, kwargs)


def wrap_run(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    """Return ``AgentRunner.run`` with a span around it; ``run_sync`` calls it as well."""

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        around = _new_run(switch, "run", args, kwargs)
        running = original(self, *args, **kwargs)
        del args, kwargs  # as in the SDK: a redacted exception's traceback must not hold the input
        if around is None:
            return await running
        before = current_run.get()
        is_over = False
        try:  # Ctrl-C can come anywhere: so all is inside the try, and the clean-up runs twice
            current_run.set(around)
            around.open_if_untraced(switch)
            result = await running
            _leave(around, before)
            around.close(result)
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    _raised(around, before)
            finally:
                if not is_over:
                    _raised(around, before)

    return run


def wrap_run_streamed(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    """Return ``AgentRunner.run_streamed`` with a span that lasts as long as the task it starts."""

    @functools.wraps(original)
    def run_streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = _new_run(switch, "run_streamed", args, kwargs)
        if run is None:
            return original(self, *args, **kwargs)
        before = current_run.get()
        is_over = False
        try:  # as above
            current_run.set(run)
            run.open_if_untraced(switch)
            result = original(self, *args, **kwargs)
            _leave(run, before)
            run.leave()
            run.follow(result)
            is_over = True
            return result
        finally:
            try:
                if not is_over:
                    _raised(run, before)
            finally:
                if not is_over:
                    _raised(run, before)

    return run_streamed


def _leave(run: Run, before: Run | None) -> None:
    if current_run.get() is run:  # otherwise the garbage collector closes a coroutine in another context
        current_run.set(before)


def _raised(run: Run, before: Run | None) -> None:
    _leave(run, before)
    run.close(error=sys.exc_info()[1])


def read_config(run_config: Any, name: str) -> Any:
    """Read a field of a ``RunConfig``, which may be a dict or None."""
    return run_config.get(name) if isinstance(run_config, dict) else getattr(run_config, name, None)


def _includes_sensitive_data(run_config: Any) -> bool:
    """Read ``RunConfig.trace_include_sensitive_data``, or its default if there is no ``RunConfig``."""
    given = read_config(run_config, "trace_include_sensitive_data")
    if isinstance(given, bool):
        return given
    return os.environ.get(SENSITIVE_VARIABLE, "true").strip().lower() in ("1", "true", "yes", "on")
