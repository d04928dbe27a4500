"""Which span is current, and how a trace travels to other processes (W3C trace context)."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer._spans import LiveSpan

__all__ = ["Current", "current_span", "format_traceparent"]

logger = logging.getLogger("tracer")

current_span: ContextVar[LiveSpan | None] = ContextVar("tracer_current_span", default=None)
"""The innermost open span of this task or thread."""


class Current:
    """Makes a span current for the time of a ``with``, which may be entered again after it was left."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: LiveSpan | None) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = current_span.set(self._span)

    def __exit__(self, *_: object) -> None:
        try:
            current_span.reset(self._token)
        except ValueError:  # a generator or coroutine that another task, or the garbage collector, finishes
            logger.debug("%r was left in another context than entered", self._span)


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """Return a ``traceparent`` header's value (https://www.w3.org/TR/trace-context/#traceparent-header)."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
