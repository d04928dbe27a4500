"""The tracing processor: each span of the Agents SDK becomes one of ours, at its place in the tree.

The SDK calls a processor synchronously, in the caller's context. So the current span is the parent, and spans that
users open inside a tool are children of the tool's span. This module imports the SDK.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
from agents.tracing import Span, Trace, TracingProcessor, get_current_span, get_current_trace
from agents.tracing.setup import get_trace_provider

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer._runtime import runtime
from tracer.capture.text import safe_str
from tracer.openai.agents._describe import OPERATION, Kind, kind_of, name_of, start_attributes
from tracer.openai.agents._open import OpenModelSpan, OpenSpan, OpenTurn, inner
from tracer.openai.agents._options import Options
from tracer.openai.agents._runs import Run, captures, read_config, running_run
from tracer.spans.context import open_current
from tracer.spans.guard import guarded
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import CURRENT, open_span

__all__ = ["TracerProcessor"]

FLUSH_TIMEOUT = 2.0
DEFAULT_WORKFLOW_NAME = "Agent workflow"
TRACE = Kind("Trace", SpanType.WORKFLOW)


class TracerProcessor(TracingProcessor):
    """Records the SDK's spans. Raises nothing into the SDK; safe in any thread.

    A span is held only as long as the SDK's own object lives. A span that the SDK drops without ending it ends as
    abandoned, and nothing is retained.

    Attributes:
        options: None while switched off; then no new span begins.
    """

    def __init__(self) -> None:
        self.options: Options | None = None
        self._open: WeakKeyDictionary[Any, OpenSpan] = WeakKeyDictionary()
        self._by_id: WeakValueDictionary[str, OpenSpan] = WeakValueDictionary()
        self._runs: WeakKeyDictionary[Any, Run] = WeakKeyDictionary()

    def sdk_traces_nothing(self, run_config: Any) -> bool:
        """Tell whether the SDK's own tracing is disabled: for this run, by ``set_tracing_disabled``, or from outside.

        The provider reads ``OPENAI_AGENTS_DISABLE_TRACING`` at its first use; it is asked to do that now.
        """
        if read_config(run_config, "tracing_disabled"):
            return True
        provider = get_trace_provider()
        getattr(provider, "_refresh_disabled_flag", bool)()
        return bool(getattr(provider, "_disabled", False))

    @guarded
    def on_trace_start(self, trace: Trace) -> None:
        """Begin the run's span, which stands for its trace, or a span for a ``trace(…)`` of the user's."""
        options, run = self.options, running_run()
        if options is None:
            return
        if run is not None and run.span is None:
            span = run.open(options)
            renames = run.around is None and trace.name != DEFAULT_WORKFLOW_NAME
            _label_trace(span, trace, run.session_id, name=trace.name if renames else None)
            self._runs[trace] = run
            return
        span = open_span(trace.name, SpanType.WORKFLOW)
        span.begin(attributes={sc.WORKFLOW_NAME: trace.name}, operation=OPERATION, capture=captures(span, options, run))
        self._keep(trace, trace.trace_id, OpenSpan(span, TRACE, None, None))
        _label_trace(span, trace)

    @guarded
    def on_trace_end(self, trace: Trace) -> None:
        """End the span of a ``trace(…)``, or of a streamed run before the reader of its events learns of the end."""
        opened, run = self._open.pop(trace, None), self._runs.pop(trace, None)
        if opened is not None:
            opened.end(None, None)
        if run is not None:
            run.trace_ended()

    @guarded
    def on_span_start(self, span: Span[Any]) -> None:
        """Begin a span below the current one, or below the parent that the SDK was given."""
        options, run = self.options, running_run()
        if options is None:
            return
        if run is not None and run.span is None:  # inside a trace that is open already, or resumed
            began, trace = run.open(options), get_current_trace()
            if run.around is None and trace is not None:
                _label_trace(began, trace, run.session_id)
        data = span.span_data
        kind = kind_of(data)
        name = name_of(data, kind)
        parent = self._by_id.get(span.parent_id or span.trace_id)
        below: LiveSpan | None = CURRENT
        if parent is not None and _is_elsewhere(span, parent):
            below = parent.below and parent.below.nearest_open()
        live = open_span(name, kind.span_type, below)
        if kind.gives_way_to is not None:
            opened: OpenSpan = OpenModelSpan(live, kind, run, parent, captures(live, options, run))
        else:
            opened = (OpenTurn if data.type == "turn" else OpenSpan)(live, kind, run, parent)
            inputs = opened.take_inputs()
            live.begin(
                inputs=inputs,
                attributes=start_attributes(data, kind, name),
                operation=OPERATION,
                capture=captures(live, options, run),
            )
        self._keep(span, span.span_id, opened)

    @guarded
    def on_span_end(self, span: Span[Any]) -> None:
        """End the span with what the SDK knows by now."""
        opened = self._open.pop(span, None)
        if opened is not None:
            opened.end(span.span_data, span.error)

    def shutdown(self, timeout: float | None = None) -> None:
        """Do nothing: tracer writes what is queued at exit by itself."""

    @guarded
    def force_flush(self) -> None:
        """Wait until what was recorded is stored, as ``agents.tracing.flush_traces()`` asks; at most two seconds."""
        if runtime.pipeline_for_spans().is_running:
            runtime.pipeline.settle().result(FLUSH_TIMEOUT)

    def _keep(self, sdk_object: Any, sdk_id: str, opened: OpenSpan) -> None:
        self._open[sdk_object] = self._by_id[sdk_id] = opened
        opened.enter()


def _is_elsewhere(span: Span[Any], parent: OpenSpan) -> bool:
    """Tell whether a span's parent is not the span around the call.

    Either the span was given a parent (``parent=``), or our current span is not the SDK's: the SDK started our current
    span without making it current, or ended it in another task.
    """
    current, innermost = get_current_span(), inner.get()
    if span.parent_id != (None if current is None else current.span_id):
        return True
    return innermost is not None and innermost is not parent.live and open_current() is innermost


def _label_trace(span: LiveSpan, trace: Trace, session_id: Any = None, name: str | None = None) -> None:
    """Put the SDK's group, metadata and workflow name on the trace."""
    metadata = getattr(trace, "metadata", None) or {}
    labels = {safe_str(key): _as_text(value) for key, value in metadata.items()}
    labels[sc.AGENTS_TRACE_ID] = trace.trace_id
    group = getattr(trace, "group_id", None) or session_id
    span.set_attribute(sc.WORKFLOW_NAME, trace.name)
    span.update_trace(metadata=labels, session_id=None if group is None else safe_str(group), name=name)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except Exception:
        return safe_str(value)
