"""Trace every OpenAI call of a service into an embedded database; no call waits for it.

>>> import tracer
>>> tracer.autolog()

Importing starts no thread, opens no file, and imports neither openai nor any extra.
"""

from __future__ import annotations

from tracer import export, openai, otel, redact, sync
from tracer._api import (
    autolog,
    configure,
    flush,
    get_current_active_span,
    get_last_active_trace_id,
    get_tracking_uri,
    set_experiment,
    set_tracking_uri,
    shutdown,
    stats,
    update_current_trace,
)
from tracer._config import Settings
from tracer._exceptions import (
    ClosedError,
    ConfigurationError,
    MediaNotFoundError,
    MissingDependencyError,
    ReadTimeoutError,
    StoreError,
    TraceNotFoundError,
    TracerError,
)
from tracer._models import (
    Feedback,
    Media,
    Span,
    SpanEvent,
    SpanStatus,
    SpanStatusCode,
    SpanType,
    Trace,
    TraceData,
    TraceInfo,
    TracePage,
    TraceState,
)
from tracer._signals import flush_on_signal
from tracer._stored import (
    delete_feedback,
    delete_trace_tag,
    delete_traces,
    get_media,
    get_trace,
    list_feedback,
    log_feedback,
    search_traces,
    set_trace_tag,
)
from tracer.export import (
    to_pandas,
    trace_services,  # noqa: F401  importing it lets traces read media and draw pages
)
from tracer.interpret.cost import PricedCall
from tracer.pipeline.pipeline import Stats
from tracer.spans.decorator import trace
from tracer.spans.live_span import LiveSpan
from tracer.spans.opening import start_span, start_span_no_context
from tracer.spans.remote_parent import attach
from tracer.spans.trace_defaults import context

__all__ = [
    "ClosedError",
    "ConfigurationError",
    "Feedback",
    "LiveSpan",
    "Media",
    "MediaNotFoundError",
    "MissingDependencyError",
    "PricedCall",
    "ReadTimeoutError",
    "Settings",
    "Span",
    "SpanEvent",
    "SpanStatus",
    "SpanStatusCode",
    "SpanType",
    "Stats",
    "StoreError",
    "Trace",
    "TraceData",
    "TraceInfo",
    "TraceNotFoundError",
    "TracePage",
    "TraceState",
    "TracerError",
    "attach",
    "autolog",
    "configure",
    "context",
    "delete_feedback",
    "delete_trace_tag",
    "delete_traces",
    "export",
    "flush",
    "flush_on_signal",
    "get_current_active_span",
    "get_last_active_trace_id",
    "get_media",
    "get_trace",
    "get_tracking_uri",
    "list_feedback",
    "log_feedback",
    "openai",
    "otel",
    "redact",
    "search_traces",
    "set_experiment",
    "set_trace_tag",
    "set_tracking_uri",
    "shutdown",
    "start_span",
    "start_span_no_context",
    "stats",
    "sync",
    "to_pandas",
    "trace",
    "update_current_trace",
]
