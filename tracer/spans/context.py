"""Which span is current, and how a trace travels to other processes (W3C trace context).

A span that has ended is never a parent, though a context may still hold it: where its block was left in another
context than it was entered, where a task or thread that began inside outlives it, where it was ended by hand. Whoever
wants the current span therefore asks `open_current`.

Spans are made current by `current_span.set` and not current by `leave`, without a ``with`` and without a `Token`.
A ``KeyboardInterrupt`` can come after each call, so also between ``set`` and the assignment of what it returns, and
before the first line of an ``__exit__``. `leave` needs only what was known before, and does nothing the second time.
"""

from __future__ import annotations

from contextvars import ContextVar
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.spans.live_span import LiveSpan

__all__ = ["current_span", "format_traceparent", "is_generator", "leave", "open_current"]

current_span: ContextVar[LiveSpan | None] = ContextVar("tracer_current_span", default=None)
"""The span that was made current last in this task or thread. It may have ended: see `open_current`."""


def open_current() -> LiveSpan | None:
    """Return the innermost open span of this task or thread, or None.

    Where the current span has ended, its nearest ancestor that is open becomes current in its place, so that the
    context does not keep the dead one alive.
    """
    span = current_span.get()
    if span is not None and span.has_ended:
        span = span.nearest_open()
        current_span.set(span)
    return span


def leave(span: LiveSpan, before: LiveSpan | None) -> None:
    """Make current what was before `span`, also where something below it was left current; else do nothing.

    It does nothing in a context where `span` is not current: a coroutine that the garbage collector closes.
    """
    current = current_span.get()
    if current is span or (current is not None and current.is_below(span)):
        current_span.set(before)


def is_generator(frame: FrameType) -> bool:
    """Tell whether a frame is that of a generator which somebody reads; a context manager's is none.

    What is made current in there is current for the reader, too (PEP 568).
    """
    if not frame.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
        return False
    return frame.f_back is None or frame.f_back.f_globals.get("__name__") != "contextlib"


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """Return a ``traceparent`` header's value (https://www.w3.org/TR/trace-context/#traceparent-header)."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"
