"""Spans below a span of another process: `tracer.continue_trace`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from tracer._models import SpanType
from tracer.capture.argument_checks import optional_text
from tracer.spans.context import current_span, leave, read_traceparent
from tracer.spans.unrecorded_span import Nowhere, UnrecordedSpan

__all__ = ["RemoteSpan", "continue_trace"]

logger = logging.getLogger("tracer")


class _OtherPipeline:
    """The pipeline of a remote span. As it counts as closed, each span below begins its trace anew in this process."""

    closed = True


class RemoteSpan(UnrecordedSpan):
    """Stands for a span of another process: it is the parent of spans here, and is not recorded itself."""

    __slots__ = ()

    def __init__(self, trace_id: str, span_id: str) -> None:
        super().__init__("remote", SpanType.UNKNOWN, None)
        self._trace = Nowhere(trace_id)
        self._recording, self.has_ended, self.end_time_ns = True, False, None  # spans below it are recorded
        self.span_id = span_id
        self.pipeline: Any = _OtherPipeline

    def update_trace(self, **changes: Any) -> None:
        """Do nothing, and say so: what is known of the trace here hangs on a span of this process."""
        logger.warning("update_current_trace() did nothing: no span of this process is open here")

    def finish(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the other process ends it."""


@contextlib.contextmanager
def continue_trace(traceparent: str | None) -> Iterator[None]:
    """Put what begins in this block below a span of another process, which sent a ``traceparent`` header along.

    For handlers of requests and workers of queues; `tracer.asgi.TraceMiddleware` does it for ASGI services, with a span
    for each request. The block makes no span itself. It holds in the tasks that are started inside, and in no other.
    The sampling flag is not looked at: each process samples by the trace id.

    ::

        with tracer.continue_trace(request.headers.get("traceparent")):
            with tracer.start_span("answer"):
                ...

    Args:
        traceparent: The header's value (https://www.w3.org/TR/trace-context/#traceparent-header). With None, or with a
            value that is malformed, the block changes nothing: it may come from anybody.

    Raises:
        ConfigurationError: `traceparent` is neither None nor a text.
    """
    header = optional_text("traceparent", traceparent or None)
    remote = None if header is None else read_traceparent(header)
    if remote is None:
        yield
        return
    span, before = RemoteSpan(*remote), current_span.get()
    try:
        current_span.set(span)
        yield
    finally:
        leave(span, before)
