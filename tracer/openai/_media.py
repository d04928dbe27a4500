"""Calls whose answer is binary (``audio.speech``)."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.capture.records import Codec, Ending, Payload, Rank
from tracer.openai._calls import Call
from tracer.openai._stream import Reads
from tracer.spans.guard import guarded, report
from tracer.spans.live_span import LiveSpan

__all__ = ["MediaCall"]

_TEXTS = ("text/", "application/json", "application/problem+json", "application/xml")
_LOOKED_AT = 512  # bytes of a body that calls itself text


class MediaCall(Call):
    """A call whose answer is usually binary. It may also be server-sent events, or text such as JSON.

    Its outputs are ``{"content_type": …, "size": bytes, "data": base64}``. If the caller reads the body piece by piece,
    they cover what came. There is no ``data`` if the body is larger than what may be kept of a body.
    """

    __slots__ = ("_content_type", "_is_media", "_media", "_size")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_media = False
        self._size = 0
        self._media: bytes | None = None
        self._content_type: str | None = None

    @guarded
    def response_came(self, response: Any) -> None:
        """See a successful response. The content type must be known before the body is looked at."""
        self._content_type = response.headers.get("content-type")
        self._is_media = not (self._content_type or "").lower().startswith(_TEXTS)
        super().response_came(response)
        body = self._body
        if body is not None and (self._is_media or _is_binary(body)):
            self._is_media, self._body, self._media, self._size = True, None, body, len(body)

    def _new_reads(self) -> Reads:
        return _CountedReads(self.span) if self._is_media else super()._new_reads()

    def _finish(
        self,
        ending: Ending,
        error: BaseException | None = None,
        end_ns: int | None = None,
        outputs: Payload | None = None,
    ) -> None:
        if self._is_media:
            if isinstance(self.reads, _CountedReads):
                self._size = self.reads.size
            self._body = msgspec.json.encode({"content_type": self._content_type, "size": self._size})
        super()._finish(ending, error, end_ns, outputs)

    def _payload_of(self, body: bytes) -> Payload:
        """Return the body as if it were a user's value. The worker encodes it as base64."""
        media, self._media = self._media, None
        pipeline = self.span.pipeline
        limit = pipeline.settings.max_payload_bytes
        if media is None or len(media) > limit or not pipeline.queue.has_room(Rank.DETAIL, len(media)):
            return super()._payload_of(body)
        value = {"content_type": self._content_type, "size": self._size, "data": media}
        return Payload(Codec.VALUE, msgspec.msgpack.encode(value))


class _CountedReads(Reads):
    """Keeps the reads of a binary body, and counts their bytes."""

    __slots__ = ("size",)

    def __init__(self, span: LiveSpan) -> None:
        super().__init__(span)
        self.size = 0

    def keep(self, data: bytes) -> None:
        """Keep and count one read."""
        super().keep(data)
        try:
            if not self.size and data:
                self._span.set_attribute(sc.TIME_TO_FIRST_CHUNK, (self.last_ns - self._span.start_time_ns) / 1e9)
            self.size += len(data)
        except Exception:
            report("_CountedReads.keep")


def _is_binary(body: bytes) -> bool:
    """Tell whether a body declared as text is binary: UTF-8 text has no NUL, and all but its cut end decodes."""
    start = body[:_LOOKED_AT]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start < len(start) - 3
    return b"\0" in start
