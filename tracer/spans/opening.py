"""Opening spans: below the current span, and for a ``with`` block (``start_span``)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

from tracer._models import SpanType
from tracer._runtime import runtime
from tracer.capture.argument_checks import check_mapping, check_text
from tracer.capture.own_work import own_work
from tracer.capture.records import Ending
from tracer.process.forks import mark, notice
from tracer.spans.context import current_span, is_generator, leave, open_current
from tracer.spans.live_span import LiveSpan, TraceContext

__all__ = ["CURRENT", "SpanScope", "open_root", "open_span", "start_span"]


CURRENT: Any = object()  # as a parent: the current span


_COLLECTED = Ending.COLLECTED


def open_span(name: str, span_type: str, parent: LiveSpan | None = CURRENT) -> LiveSpan:
    """Make a span below the current span, or below `parent`, not yet begun. It only gets ids and a clock reading.

    A current span that has ended can't be the parent. Its nearest open ancestor is the parent instead; if there is
    none, the span begins a trace of its own.

    The parent's pipeline may be closed, because the process was forked, or tracer was shut down and opened again. Then
    the span still belongs to the parent's trace, and is the first span of that trace in the present pipeline. A span of
    tracer's own work is not recorded.
    """
    if not mark[0]:  # a child process whose fork ran no hooks: it must not use its parent's ids
        notice()
    if own_work.get():
        return LiveSpan(TraceContext(runtime.pipeline_for_spans(), recording=False), None, name, span_type, True)
    if parent is CURRENT:
        parent = current_span.get()
        if parent is not None and parent.has_ended:
            parent = open_current()
    if parent is not None and not parent.pipeline.closed:
        return LiveSpan(parent._trace, parent, name, span_type, False)
    pipeline = runtime.current or runtime.pipeline_for_spans()
    trace = TraceContext(pipeline, None if parent is None else parent.trace_id)
    return LiveSpan(trace, parent, name, span_type, True)


def open_root(name: str, span_type: str, remote: tuple[str, str] | None) -> LiveSpan:
    """Make the first span of a trace, whatever span is current. With `remote`, the trace began in another process.

    Args:
        name: As in `open_span`.
        span_type: As in `open_span`.
        remote: The ids of the other process's trace and span, the parent of this one.
    """
    if remote is None or own_work.get():
        return open_span(name, span_type, None)
    if not mark[0]:
        notice()
    trace_id, parent_id = remote
    span = LiveSpan(TraceContext(runtime.pipeline_for_spans(), trace_id), None, name, span_type, True)
    span.parent_id = parent_id
    return span


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
        span = open_span(self._name, self._span_type)
        entry = span, current_span.get()
        try:
            self._entered.append(entry)
            self.__class__ = _EnteredScope
            span.begin_with(self._attributes)
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
