"""Exceptions: what happened in the reader's own code first, the frames of libraries folded away."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import Span, SpanEvent

__all__ = ["Attempt", "Failed", "Frame", "failed_attempts", "failures"]

_FRAME = re.compile(r'\s*File "([^"]*)", line (\d+)(?:, in (.*))?$')
_LIBRARIES = re.compile(
    r"[\\/](?:site|dist)-packages[\\/]|^<(?!ipython|stdin)|[\\/]lib[\\/]python\d|[\\/]tracer[\\/](?:openai|_\w+\.py)"
)
_MAX_FRAMES = 400


class Frame(NamedTuple):
    """A line of a stack trace."""

    file: str
    line: int
    function: str
    source: str

    @property
    def is_own(self) -> bool:
        """Whether it is in the reader's code, not in a library."""
        return not _LIBRARIES.search(self.file)


class Failed(NamedTuple):
    """An exception. `own` are the frames of the reader's code, the crash last; `others` counts the rest."""

    type: str
    message: str
    own: list[Frame]
    others: int
    stacktrace: str


class Attempt(NamedTuple):
    """An attempt that failed and was retried; `delay` is in seconds, from its start to that of the next one."""

    number: Any
    reason: str
    delay: float | None
    request_id: str
    event: SpanEvent


def failures(span: Span) -> list[Failed]:
    """Return a span's exceptions, the last one first; if it failed without an exception, its status."""
    found = [_failed(event.attributes) for event in span.events if event.name == sc.EVENT_EXCEPTION]
    if not found and span.status.status_code == "ERROR":
        kind = span.attributes.get(sc.ERROR_TYPE)
        found = [Failed(str(kind or "Error"), span.status.description or "no description", [], 0, "")]
    return found[::-1]


def _failed(attributes: dict[str, Any]) -> Failed:
    text = str(attributes.get(sc.EXCEPTION_STACKTRACE) or "")
    frames = _frames(text)
    own = [frame for frame in frames if frame.is_own]
    return Failed(
        str(attributes.get(sc.EXCEPTION_TYPE) or "Error"),
        str(attributes.get(sc.EXCEPTION_MESSAGE) or ""),
        own,
        len(frames) - len(own),
        text,
    )


def _frames(text: str) -> list[Frame]:
    """Return the frames of the last traceback in the text: its exception is the one that reached the caller."""
    lines = text.rpartition("Traceback (most recent call last):")[2].splitlines()[: _MAX_FRAMES * 2]
    frames = []
    for at, line in enumerate(lines):
        if match := _FRAME.match(line):
            below = lines[at + 1] if at + 1 < len(lines) else ""
            source = below.strip() if below.startswith("    ") and not _FRAME.match(below) else ""
            frames.append(Frame(match[1], int(match[2][:12]), match[3] or "", source))
    return frames


def failed_attempts(span: Span) -> list[Attempt]:
    """Return the attempts before the last one."""
    return [_attempt(at, event) for at, event in enumerate(e for e in span.events if e.name == sc.EVENT_RETRY)]


def _attempt(at: int, event: SpanEvent) -> Attempt:
    known = event.attributes
    status, kind, delay = known.get(sc.HTTP_STATUS_CODE), known.get(sc.ERROR_TYPE), known.get("tracer.retry.delay")
    reason = f"HTTP {status}" if status is not None else str(kind or "failed")
    number = known.get("tracer.retry.attempt")
    return Attempt(
        at + 1 if number is None else number,
        reason,
        delay if isinstance(delay, (int, float)) else None,
        str(known.get(sc.REQUEST_ID) or ""),
        event,
    )
