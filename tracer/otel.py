"""One trace of tracer's spans and OpenTelemetry's: each takes the other's current span as its parent.

Needs ``opentelemetry-api``, which every instrumentation of OpenTelemetry brings; it is imported by `connect` alone.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.spans.context import current_span, foreign_parent, open_current
from tracer.spans.guard import report
from tracer.spans.remote_parent import RemoteSpan

if TYPE_CHECKING:
    from tracer.spans.live_span import LiveSpan

__all__ = ["connect", "disconnect"]

_lock = threading.Lock()


def connect() -> None:
    """From now on, tracer's spans and OpenTelemetry's that begin inside one another belong to one trace.

    A span of tracer's that begins while a sampled span of OpenTelemetry's is the innermost one gets its trace id, and
    becomes its child. A span of OpenTelemetry's that begins inside one of tracer's becomes a child of that one, and
    OpenTelemetry's propagators send its ids to other services. Nothing is recorded twice, and nothing is sent anywhere
    by this: each side keeps its own store or exporter. To see such a trace whole, send both to one place.

    This is not on by itself, because it changes which calls are one trace: all those below one span of OpenTelemetry's.
    Calling it again changes nothing. Safe in any thread; spans that have begun keep their parents.

    ::

        tracer.otel.connect()
        with opentelemetry.trace.get_tracer("shop").start_as_current_span("request"):
            client.chat.completions.create(...)  # a child of "request"

    Raises:
        MissingDependencyError: ``opentelemetry-api`` is not installed.
        ConfigurationError: This version of it keeps its context where tracer does not find it.
    """
    try:
        api: Any = importlib.import_module("opentelemetry.context")
        importlib.import_module("opentelemetry.trace")
    except ImportError as error:
        raise MissingDependencyError("tracer.otel", package="opentelemetry-api", extra="otlp") from error
    with _lock:
        inner = getattr(api, "_RUNTIME_CONTEXT", None)
        if isinstance(inner, _Joined):
            return
        if not all(callable(getattr(inner, name, None)) for name in ("attach", "detach", "get_current")):
            raise ConfigurationError(
                "tracer.otel.connect() does not know this version of opentelemetry-api; use 1.20 to 1.45, or report it"
            )
        joined = _Joined(inner)
        api._RUNTIME_CONTEXT = joined
        foreign_parent[0] = joined.parent


def disconnect() -> None:
    """Undo `connect`: spans that begin from now on have parents of their own kind only. Safe in any thread."""
    with _lock:
        foreign_parent[0] = None
        api: Any = importlib.import_module("opentelemetry.context")
        if isinstance(api._RUNTIME_CONTEXT, _Joined):
            api._RUNTIME_CONTEXT = api._RUNTIME_CONTEXT.inner


class _Joined:
    """OpenTelemetry's context, in which a span of ours stands for the current one where ours is the innermost.

    A context notes, when it is attached, which span of ours was current then. So it is known which of two current spans
    began inside the other: ours, if it is a descendant of the noted one.

    Attributes:
        inner: What this stands in for.
    """

    def __init__(self, inner: Any) -> None:
        from opentelemetry import context, trace

        self.inner = inner
        self._key = context.create_key("tracer-span")
        self._context_class = context.Context
        self._trace = trace

    def attach(self, context: Any) -> Any:
        """Make a context current."""
        try:
            context = self._context_class({**context, self._key: current_span.get()})
        except Exception:
            report("noting the current span in OpenTelemetry's context")
        return self.inner.attach(context)

    def detach(self, token: Any) -> None:
        """Undo an `attach`."""
        self.inner.detach(token)

    def get_current(self) -> Any:
        """Return the current context, with our span in it if that is the innermost one."""
        context = self.inner.get_current()
        try:
            return self._with_ours(context)
        except Exception:
            report("giving OpenTelemetry the current span")
            return context

    def _with_ours(self, context: Any) -> Any:
        ours = open_current()
        if ours is None or not self._is_inside(ours, context):
            return context
        if not (ours.is_recording or isinstance(ours, RemoteSpan)):
            return context
        trace = self._trace
        ids = trace.SpanContext(
            int(ours.trace_id, 16),
            int(ours.span_id, 16),
            is_remote=isinstance(ours, RemoteSpan),
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(ids), context)

    def parent(self, ours: LiveSpan | None) -> tuple[str, str] | None:
        """Return the ids of OpenTelemetry's current span, if it is sampled and began inside `ours`; else None."""
        try:
            context = self.inner.get_current()
            if ours is not None and self._is_inside(ours, context):
                return None
            ids = self._trace.get_current_span(context).get_span_context()
        except Exception:
            report("asking OpenTelemetry for the current span")
            return None
        if not ids.is_valid or not ids.trace_flags.sampled:
            return None
        return f"{ids.trace_id:032x}", f"{ids.span_id:016x}"

    def _is_inside(self, ours: LiveSpan, context: Any) -> bool:
        """Tell whether our span began inside what is current in a context of OpenTelemetry's."""
        noted = context.get(self._key)
        return noted is None or (noted is not ours and ours.is_below(noted))
