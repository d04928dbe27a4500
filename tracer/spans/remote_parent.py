"""Spans below a span of another process: `tracer.attach`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer._models import SpanType
from tracer.spans.context import current_span, leave, read_traceparent
from tracer.spans.unrecorded_span import Nowhere, UnrecordedSpan

__all__ = ["RemoteSpan", "attach"]

logger = logging.getLogger("tracer")

_HEADER = "traceparent"


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
def attach(headers: Mapping[str, str] | None) -> Iterator[None]:
    """Put what begins in this block below a span of another process, which sent a ``traceparent`` header along.

    For handlers of requests and workers of queues; `tracer.asgi.TraceMiddleware` does it for ASGI services, with a span
    for each request. The block makes no span itself. It holds in the tasks that are started inside, and in no other.
    The sampling flag is not looked at: each process samples by the trace id.

    ::

        with tracer.attach(request.headers):
            with tracer.start_span("answer"):
                ...

    Args:
        headers: Of the request or message; a name may be in any case. Without a ``traceparent``
            (https://www.w3.org/TR/trace-context/#traceparent-header), or with one that is malformed, the block changes
            nothing: it may come from anybody.

    Raises:
        ConfigurationError: `headers` are neither None nor a mapping.
    """
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping, as of a request, got {type(headers).__name__}")
    values = (value for name, value in (headers or {}).items() if isinstance(name, str) and name.lower() == _HEADER)
    header = next(values, None)
    remote = read_traceparent(header) if isinstance(header, str) and header else None
    if remote is None:
        yield
        return
    span, before = RemoteSpan(*remote), current_span.get()
    try:
        current_span.set(span)
        yield
    finally:
        leave(span, before)
