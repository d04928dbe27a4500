"""What the spans of one trace share in this process."""

from __future__ import annotations

from tracer._runtime import runtime
from tracer.pipeline.pipeline import Pipeline

__all__ = ["TraceContext"]


class TraceContext:
    """What the spans of one trace share in this process.

    Attributes:
        clock_offset: Wall clock minus monotonic clock when the trace began. All times of the trace are monotonic
            readings plus this offset. So if somebody sets the clock meanwhile, no duration becomes negative, and spans
            keep their order.
        experiment: The experiment that the trace belongs to; sent with its first span.
        has_ended: The span that stands for the trace in this process has ended.
        recording: False if sampling left the trace out.
        spans_dropped: Child spans that a full queue refused.
        told: The state and the previews that the user gave the trace. They are sent with the end of that span.
    """

    __slots__ = (
        "clock_offset", "experiment", "has_ended", "perf_counter_ns", "pipeline", "recording", "spans_dropped",
        "start_ns", "told", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        pipeline: Pipeline,
        trace_id: str | None = None,
        *,
        recording: bool = True,
        sample_rate: float | None = None,
    ) -> None:
        clock = pipeline.clock
        self.pipeline = pipeline
        self.trace_id = trace_id or pipeline.ids.trace_id()
        self.perf_counter_ns = clock.perf_counter_ns
        self.start_ns = clock.time_ns()
        self.clock_offset = self.start_ns - clock.perf_counter_ns()
        self.experiment = runtime.chosen_experiment or runtime.experiment
        self.spans_dropped = 0
        self.has_ended = False
        self.told: dict[str, str] | None = None
        settings = pipeline.settings
        rate = settings.sample_rate if sample_rate is None else sample_rate
        self.recording = recording = recording and settings.enabled
        if recording and rate < 1.0 and not self._is_sampled(rate):
            self.recording = False
            pipeline.unsampled.add()

    def _is_sampled(self, rate: float) -> bool:
        """Decide by the trace id's last 56 bits, so that every process decides the same (W3C trace context level 2)."""
        return int(self.trace_id[-14:], 16) < rate * 2**56

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, never going back within the trace."""
        return self.clock_offset + self.perf_counter_ns()
