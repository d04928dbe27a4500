"""Which span is current, and how a trace travels to other processes (W3C trace context).

A span that has ended is never a parent. A context may still hold it, for example because its block was entered in one
context and left in another, because a task or thread that began inside outlives it, or because it was ended by hand.
So code that wants the current span must call `open_current`.

`current_span.set` makes a span current, and `leave` ends that, without a ``with`` and without a `Token`. The reason is
that a ``KeyboardInterrupt`` can come after each call: also between ``set`` and the assignment of its return value, and
before the first line of an ``__exit__``. `leave` needs only values known before ``set``, and may safely run twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracer.spans.live_span import LiveSpan

__all__ = [
    "current_span",
    "foreign_parent",
    "format_traceparent",
    "is_generator",
    "leave",
    "open_current",
    "read_traceparent",
]

current_span: ContextVar[LiveSpan | None] = ContextVar("tracer_current_span", default=None)
"""The span that was made current last in this task or thread. It may have ended: see `open_current`."""


foreign_parent: list[Callable[[LiveSpan | None], tuple[str, str] | None] | None] = [None]
"""What `tracer.otel.connect` has put in: returns the ids of another tool's span that began inside our current one."""


def open_current() -> LiveSpan | None:
    """Return the innermost open span of this task or thread, or None.

    If the current span has ended, its nearest open ancestor becomes current instead, so that the context does not keep
    the ended span alive.
    """
    span = current_span.get()
    if span is not None and span.has_ended:
        span = span.nearest_open()
        current_span.set(span)
    return span


def leave(span: LiveSpan, before: LiveSpan | None) -> None:
    """Make `before` current again, if `span`, or a span below it, is current now.

    Otherwise do nothing: we are in another context, for example in a coroutine that the garbage collector closes.
    """
    current = current_span.get()
    if current is span or (current is not None and current.is_below(span)):
        current_span.set(before)


def is_generator(frame: FrameType) -> bool:
    """Tell whether a frame belongs to a generator that somebody reads. The generator of a context manager is not one.

    A span that is made current inside a generator is current for its reader, too (PEP 568).
    """
    if not frame.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
        return False
    return frame.f_back is None or frame.f_back.f_globals.get("__name__") != "contextlib"


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """Return a ``traceparent`` header's value (https://www.w3.org/TR/trace-context/#traceparent-header)."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII)


def read_traceparent(value: str) -> tuple[str, str] | None:
    """Return the ids of the trace and of the parent span that a ``traceparent`` header names; None if it is malformed.

    A later version of the header may have more at its end (https://www.w3.org/TR/trace-context/#versioning-of-traceparent).
    """
    match = _TRACEPARENT.fullmatch(value.strip())
    if match is None:
        return None
    version, trace_id, span_id, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return trace_id, span_id
