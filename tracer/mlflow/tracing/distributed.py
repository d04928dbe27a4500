"""``mlflow.tracing.distributed``: traces over several processes, by the W3C header ``traceparent``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import tracer
from tracer.mlflow.exceptions import MlflowException
from tracer.spans.context import format_traceparent
from tracer.spans.remote_parent import RemoteSpan

__all__ = ["get_tracing_context_headers_for_http_request", "set_tracing_context_from_http_request_headers"]


def get_tracing_context_headers_for_http_request() -> dict[str, str]:
    """Return the ``traceparent`` header of the current span; empty if there is none."""
    span = tracer.get_current_active_span()
    if span is None:
        return {}
    sampled = span.is_recording or isinstance(span, RemoteSpan)
    return {"traceparent": format_traceparent(span.trace_id, span.span_id, sampled=sampled)}


def set_tracing_context_from_http_request_headers(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """Put the spans that begin in the block below the span that sent these headers: `tracer.attach`.

    Raises:
        MlflowException: The headers hold no ``traceparent``.
    """
    if not any(name.lower() == "traceparent" for name in headers):
        raise MlflowException(
            "headers must hold a traceparent, as get_tracing_context_headers_for_http_request() gives it; "
            f"got the headers {sorted(headers)}"
        )
    return tracer.attach(headers)
