"""One response of a WebSocket session as it is recorded: a span whose chunks are the events of the response."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.capture.records import Ending, Rank, SpanChunk
from tracer.spans.live_span import LiveSpan

__all__ = ["Turn", "framed"]

_CHUNK = Rank.CHUNK  # members of an enum are slow to look up on Python 3.11 (0.25 µs)


class Turn:
    """The span of one response: from its request (if there was one) to its last event."""

    __slots__ = ("_audio", "_first_audio_ns", "_heard", "_records", "_room", "_unkept", "event_id", "marker", "span")

    def __init__(self, span: LiveSpan, heard: int) -> None:
        self.span = span
        self.event_id: str | None = None  # of the request for this response
        self.marker = b"\0"  # the response's id, as it stands in its events
        self._records = span.is_recording
        self._heard = heard
        self._audio = 0
        self._first_audio_ns: int | None = None
        self._room = span.settings.max_payload_bytes
        self._unkept: bytes | None = None

    def take(self, now_ns: int, data: bytes) -> None:
        """Keep one event."""
        if not self._records:  # a full queue has refused the span
            return
        span, event = self.span, framed(data)
        self._room -= len(event)
        if self._room >= 0 and span.pipeline.push(SpanChunk(span.span_id, now_ns, event), _CHUNK):
            self._unkept = None
        else:
            self._unkept = event
            span.lose("chunks")

    def take_audio(self, size: int) -> None:
        """Count audio that the model speaks."""
        self._audio += size
        if self._first_audio_ns is None:
            self._first_audio_ns = self.span.now_ns()

    def end(self, ending: Ending, error: BaseException | None = None) -> None:
        """End the span; a second end does nothing."""
        span = self.span
        if self._unkept is not None:  # the last event was left out, but it tells how the response ended
            span.pipeline.push(SpanChunk(span.span_id, span.now_ns(), self._unkept), Rank.END)
            self._unkept = None
        attributes: dict[str, Any] = {}
        if self._heard:
            attributes[sc.AUDIO_INPUT_BYTES] = self._heard
        if self._audio:
            attributes[sc.AUDIO_OUTPUT_BYTES] = self._audio
        if self._first_audio_ns is not None:
            attributes[sc.TIME_TO_FIRST_AUDIO] = max(0, self._first_audio_ns - span.start_time_ns) / 1e9
        if self._room < 0:
            attributes[sc.TRUNCATED] = {"chunks": -self._room}
        span.finish(ending, error=error, streamed=True, attributes=attributes or None)


def framed(data: bytes) -> bytes:
    """Return an event as a server-sent one. A line break in JSON text is mere white space."""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"data: %s\n\n" % data
