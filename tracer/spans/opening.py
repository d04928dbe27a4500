"""Opening spans: below the current span, for a ``with`` block (``start_span``), and detached from any block."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer._models import SpanType
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_mapping, check_text, optional_moment
from tracer.capture.own_work import own_work
from tracer.capture.records import Ending
from tracer.capture.trace_changes import trace_changes
from tracer.process.forks import mark, notice
from tracer.spans.context import current_span, foreign_parent, is_generator, leave, open_current
from tracer.spans.guard import report
from tracer.spans.live_span import LiveSpan
from tracer.spans.trace_context import TraceContext
from tracer.spans.unrecorded_span import UnrecordedSpan

__all__ = ["CURRENT", "SpanScope", "open_root", "open_span", "start_span", "start_span_no_context"]


CURRENT: Any = object()  # as a parent: the current span


_COLLECTED = Ending.COLLECTED


def open_span(
    name: str, span_type: str, parent: LiveSpan | None = CURRENT, sample_rate: float | None = None
) -> LiveSpan:
    """Make a span below the current span, or below `parent`, not yet begun. It only gets ids and a clock reading.

    A current span that has ended can't be the parent. Its nearest open ancestor is the parent instead; if there is
    none, the span begins a trace of its own.

    The parent's pipeline may be closed, because the process was forked, or tracer was shut down and opened again. Then
    the span still belongs to the parent's trace, and is the first span of that trace in the present pipeline. A span of
    tracer's own work is not recorded, nor one inside ``tracer.context(enabled=False)``. If the span begins a trace,
    `sample_rate` goes before the setting.
    """
    if not mark[0]:  # a child process whose fork ran no hooks: it must not use its parent's ids
        notice()
    if own_work.get():
        trace = TraceContext(runtime.pipeline_for_spans(), recording=False)
        span = LiveSpan(trace, open_current(), name, span_type, True)
        span.discard()  # so it is nobody's parent
        return span
    if parent is CURRENT:
        parent = current_span.get()
        if parent is not None and parent.has_ended:
            parent = open_current()
        if foreign_parent[0] is not None and (remote := foreign_parent[0](parent)) is not None:
            return _open_below(remote, parent, name, span_type, sample_rate)
    if parent is not None and not parent.pipeline.closed:
        return LiveSpan(parent._trace, parent, name, span_type, False)
    pipeline = runtime.current or runtime.pipeline_for_spans()
    trace = TraceContext(pipeline, None if parent is None else parent.trace_id, sample_rate=sample_rate)
    return LiveSpan(trace, parent, name, span_type, True)


def _open_below(
    remote: tuple[str, str], parent: LiveSpan | None, name: str, span_type: str, sample_rate: float | None
) -> LiveSpan:
    """Make a span below one that is not ours. It began inside `parent`, and may be of another trace than that."""
    trace_id, parent_id = remote
    if parent is not None and parent.trace_id == trace_id and not parent.pipeline.closed:
        span = LiveSpan(parent._trace, parent, name, span_type, False)
    else:
        trace = TraceContext(runtime.pipeline_for_spans(), trace_id, sample_rate=sample_rate)
        span = LiveSpan(trace, None, name, span_type, True)
    span.parent_id = parent_id
    return span


def open_root(name: str, span_type: str, remote: tuple[str, str] | None) -> LiveSpan:
    """Make the first span of a trace, whatever span is current. With `remote`, the trace began in another process.

    Args:
        name: As in `open_span`.
        span_type: As in `open_span`.
        remote: The ids of the other process's trace and span, the parent of this one.
    """
    if foreign_parent[0] is not None:
        remote = foreign_parent[0](None) or remote  # which began in this process, inside the remote one
    if remote is None or own_work.get():
        return open_span(name, span_type, None)
    if not mark[0]:
        notice()
    return _open_below(remote, None, name, span_type, None)


def _open(name: str, span_type: str, parent: LiveSpan | None = CURRENT) -> LiveSpan:
    """Do the same for user code: if it fails, log that, and return a span that is not recorded."""
    try:
        return open_span(name, span_type, parent)
    except Exception:
        report(f"opening the span {name}")
        return UnrecordedSpan(name, span_type, open_current() if parent is CURRENT else parent)


def _begin(span: LiveSpan, attributes: dict[str, Any], inputs: object = None) -> None:
    """Begin a span for user code. If that fails, log it, and record nothing of the span."""
    try:
        if not span.has_ended:
            span.begin_with(attributes, inputs)
    except Exception:
        span.discard()
        report(f"beginning the span {span.name}")


class SpanScope:
    """The context manager of a span: the span is current inside the block and ends with it, whatever happens.

    Each entry opens a new span. A scope may be entered again, also inside itself or by other tasks at the same time.
    """

    __slots__ = ("__weakref__", "_attributes", "_entered", "_name", "_span_type")

    def __init__(self, name: str, span_type: str, attributes: dict[str, Any]) -> None:
        self._name = name
        self._span_type = span_type
        self._attributes = attributes
        self._entered: list[tuple[LiveSpan, LiveSpan | None]] = []  # each span with the one that was current before

    def __enter__(self) -> LiveSpan:
        span = _open(self._name, self._span_type)
        entry = span, current_span.get()
        try:
            self._entered.append(entry)
            self.__class__ = _EnteredScope
            _begin(span, self._attributes)
            current_span.set(span)
        except BaseException as error:  # Ctrl-C: the block does not run, and nobody calls `__exit__`
            try:
                self._end(entry, error)
            finally:
                self._end(entry, error)
            raise
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = None
        try:
            entry = self._innermost()
            self._end(entry, error)
        except Exception:
            report(f"ending the span {self._name}")
            self._forget(entry)
        except BaseException:  # Ctrl-C in the middle: do the rest; what is already done is not done again
            self._end(entry or self._innermost(), error)
            raise

    def _innermost(self) -> tuple[LiveSpan, LiveSpan | None]:
        """Return the entry that ends: the one of the current span or its nearest ancestor.

        If it ends in another context, none is found there; then it is the last entry.
        """
        entered, span = self._entered, current_span.get()
        while span is not None:
            for entry in reversed(entered):
                if entry[0] is span:
                    return entry
            span = span._parent
        return entered[-1]

    def _end(self, entry: tuple[LiveSpan, LiveSpan | None], error: BaseException | None) -> None:
        span, before = entry
        if current_span.get() is span:
            current_span.set(before)
        elif not is_generator(_user_frame()):  # a generator's block may end inside any other span, which stays current
            leave(span, before)
        if isinstance(error, GeneratorExit):  # the block is in a generator that its reader left
            span.finish(Ending.CLOSED)
        else:
            span.finish_with(error)
        self._forget(entry)

    def _forget(self, entry: tuple[LiveSpan, LiveSpan | None] | None) -> None:
        if entry in self._entered:
            self._entered.remove(entry)
        if not self._entered:
            self.__class__ = SpanScope

    async def __aenter__(self) -> LiveSpan:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


class _EnteredScope(SpanScope):
    """The class of a scope while it is entered. It ends its spans if the scope is freed without having been left.

    That happens if Ctrl-C came before the first line of `__exit__`, where nothing can catch it, and if a scope was
    entered by hand and dropped. This is a separate class because a Ctrl-C that comes in a `__del__` is lost: a scope
    that was left must not have a `__del__`.
    """

    __slots__ = ()

    def __del__(self) -> None:
        # Runs inside the garbage collector: one queue append, no lock.
        for span, before in self._entered:
            if current_span.get() is span:
                current_span.set(before)
            span.finish(_COLLECTED)


def _user_frame() -> FrameType:
    """Return the frame that called into this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals is globals():
        frame = frame.f_back
    return frame


def start_span(
    name: str = "span",
    span_type: str = SpanType.UNKNOWN,
    attributes: Mapping[str, object] | None = None,
) -> SpanScope:
    """Open a span for a ``with`` or ``async with`` block; the span is current inside and ends with the block.

    An exception that leaves the block ends the span as failed (cancellation: as cancelled) and goes on unchanged.
    Never blocks; safe in any thread, task and event loop.

    Args:
        name: Shown in the tree.
        span_type: One of `SpanType`, or any string.
        attributes: Attributes that the span has from its start.

    Returns:
        A context manager whose target (``as``) is the `LiveSpan`. If it is entered again, it opens another span.

    Raises:
        ConfigurationError: `name` or `span_type` is not a string, or `attributes` is not a mapping with string keys.
    """
    return SpanScope(
        check_text("name", name), check_text("span_type", span_type), check_mapping("attributes", attributes)
    )


class _DetachedSpan(LiveSpan):
    """The class of a span that only its own `end` ends, until then. If it is dropped before, it ends as abandoned."""

    __slots__ = ()

    def finish(self, *args: Any, **kwargs: Any) -> None:
        super().finish(*args, **kwargs)
        span: LiveSpan = self
        span.__class__ = LiveSpan  # without ``__del__``: see `_EnteredScope`

    def __del__(self) -> None:
        # Runs inside the garbage collector: one queue append, no lock.
        self.finish(_COLLECTED)


def start_span_no_context(
    name: str,
    span_type: str = SpanType.UNKNOWN,
    parent_span: LiveSpan | None = None,
    inputs: object = None,
    attributes: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    *,
    start_time_ns: int | None = None,
) -> LiveSpan:
    """Open a span that is current nowhere, and that ends when its `LiveSpan.end` is called.

    For work that begins in one place and ends in another: callbacks, work that is handed from one thread to the next.
    Where a ``with`` block or a function is around the work, `start_span` or ``@trace`` is simpler.
    Never blocks; safe in any thread, task and event loop. If the span is dropped without an end, it is ``abandoned``.

    ::

        job = tracer.start_span_no_context("job", inputs={"n": 3})
        step = tracer.start_span_no_context("step", parent_span=job)
        step.end(outputs="done")
        job.end()

    Args:
        name: Shown in the tree.
        span_type: One of `SpanType`, or any string.
        parent_span: The span above it, also if that has ended. None: the current span; without one, the span begins a
            trace.
        inputs: As for `LiveSpan.set_inputs`.
        attributes: Attributes that the span has from its start.
        tags: Tags of its trace, as in `tracer.update_current_trace`.
        metadata: Metadata of its trace.
        start_time_ns: When it began, nanoseconds since the epoch; now by default.

    Raises:
        ConfigurationError: An argument has the wrong type.
    """
    name, span_type = check_text("name", name), check_text("span_type", span_type)
    if parent_span is not None and not isinstance(parent_span, LiveSpan):
        raise ConfigurationError(f"parent_span must be a span that start_span gave, or None; got {parent_span!r}")
    given, started = check_mapping("attributes", attributes), optional_moment("start_time_ns", start_time_ns)
    changes = trace_changes(tags=tags, metadata=metadata) if tags or metadata else {}
    if isinstance(parent_span, UnrecordedSpan):
        parent_span = parent_span.nearest_open()
    span = _open(name, span_type, CURRENT if parent_span is None else parent_span)
    if started is not None:
        span.began_at(started)
    _begin(span, given, inputs)
    if not span.has_ended:
        span.__class__ = _DetachedSpan
        if changes:
            span.update_trace(**changes)
    return span
