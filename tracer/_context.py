"""Which span is current, and how a trace travels to other processes (W3C trace context)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer._spans import LiveSpan

__all__ = ["current_span", "format_traceparent"]

current_span: ContextVar[LiveSpan | None] = ContextVar("tracer_current_span", default=None)
"""The innermost open span of this task or thread."""


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """Return a ``traceparent`` header's value (https://www.w3.org/TR/trace-context/#traceparent-header)."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
