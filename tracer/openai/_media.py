"""Calls whose answer is binary (``audio.speech``): what came is counted, not kept."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._guard import guarded, report
from tracer._records import Ending
from tracer._spans import LiveSpan
from tracer.openai._calls import Call
from tracer.openai._stream import Reads

__all__ = ["MediaCall"]

_TEXTS = ("text/", "application/json", "application/problem+json", "application/xml")
_LOOKED_AT = 512  # bytes of a body that calls itself text


class MediaCall(Call):
    """A call whose answer is binary, unless it is server-sent events or says something instead.

    Its outputs are ``{"content_type": …, "size": bytes}``: as many as came, if the caller read them piece by piece.
    """

    __slots__ = ("_content_type", "_is_media", "_size")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_media = False
        self._size = 0
        self._content_type: str | None = None

    @guarded
    def response_came(self, response: Any) -> None:
        """See a successful response. What kind it is must be known before its body is looked at."""
        self._content_type = response.headers.get("content-type")
        self._is_media = not (self._content_type or "").lower().startswith(_TEXTS)
        super().response_came(response)
        body = self._body
        if body is not None and (self._is_media or _is_binary(body)):
            self._is_media, self._body, self._size = True, None, len(body)

    def _new_reads(self) -> Reads:
        return _CountedReads(self.span) if self._is_media else super()._new_reads()

    def _finish(self, ending: Ending, error: BaseException | None = None, end_ns: int | None = None) -> None:
        if self._is_media:
            if isinstance(self.reads, _CountedReads):
                self._size = self.reads.size
            self._body = msgspec.json.encode({"content_type": self._content_type, "size": self._size})
        super()._finish(ending, error, end_ns)


class _CountedReads(Reads):
    """Counts the reads of a binary body, and keeps none."""

    __slots__ = ("size",)

    def __init__(self, span: LiveSpan) -> None:
        super().__init__(span)
        self.size = 0

    def keep(self, data: bytes) -> None:
        """Count one read."""
        try:
            self.last_ns = now = self._span.now_ns()
            if not self.size and data:
                self._span.set_attribute(sc.TIME_TO_FIRST_CHUNK, (now - self._span.start_time_ns) / 1e9)
            self.size += len(data)
        except Exception:
            report("_CountedReads.keep")


def _is_binary(body: bytes) -> bool:
    """Tell whether a body that is said to be text is none: UTF-8 text has no NUL, and decodes but for its cut end."""
    start = body[:_LOOKED_AT]
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start < len(start) - 3
    return b"\0" in start
