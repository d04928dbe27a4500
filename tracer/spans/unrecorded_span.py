"""The span that user code gets where opening one has failed: it takes everything, and keeps nothing."""

from __future__ import annotations

import time

from tracer.spans.live_span import LiveSpan
from tracer.spans.trace_context import TraceContext

__all__ = ["Nowhere", "UnrecordedSpan"]


class UnrecordedSpan(LiveSpan):
    """A span that was never recorded and counts as ended, so that it is nobody's parent.

    Made without asking the runtime for anything, because it is needed where that fails. Its ids are all zeros, which
    OpenTelemetry calls invalid.

    Args:
        name: As asked for.
        span_type: As asked for.
        around: The span that is current around it. Spans inside belong to that one.
    """

    __slots__ = ()

    def __init__(self, name: str, span_type: str, around: LiveSpan | None) -> None:
        self._trace = _NOWHERE
        self._parent = around
        self._is_first = self._recording = self._begun = self.is_recording = False
        self._lost = self._attributes = self._own = self._status = None
        self._inputs = self._outputs = None
        self.has_ended = True
        self.name, self.span_type = name, span_type
        self.span_id, self.parent_id = "0" * 16, None
        self.start_time_ns = self.end_time_ns = time.time_ns()


class Nowhere(TraceContext):
    """The trace of spans that are not recorded; zeros are no valid id."""

    __slots__ = ()

    def __init__(self, trace_id: str = "0" * 32) -> None:
        self.trace_id = trace_id
        self.perf_counter_ns = time.perf_counter_ns
        self.start_ns = time.time_ns()
        self.clock_offset = self.start_ns - time.perf_counter_ns()
        self.experiment, self.spans_dropped = "", 0
        self.has_ended, self.recording, self.told = True, False, None


_NOWHERE = Nowhere()
