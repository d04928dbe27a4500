"""A stream's chunks as one dense table, with the pauses that a reader would have felt; and all other events."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import Span, SpanEvent
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.render._json_tree import one_line

__all__ = ["Chunk", "Stream", "other_events", "read_stream_events"]

MAX_ROWS = 5_000
STALL_NS = 200_000_000
STALL_FACTOR = 5
_DELTA_KEYS = ("content", "reasoning_content", "reasoning", "refusal")


class Chunk(NamedTuple):
    """One row.

    Attributes:
        offset_ns: Time since the span's start; `gap_ns` is the time since the chunk before, or since the start.
        kind: The event's type, or what a chat delta brings.
        text: The text that it adds to the answer; `note` describes it otherwise.
        stalled: The gap is over 200 ms and five times the stream's median.
    """

    number: int
    offset_ns: int
    gap_ns: int
    kind: str
    text: str
    note: str
    stalled: bool


class Stream(NamedTuple):
    """A span's chunks, at most `MAX_ROWS`; `left_out` counts the rest."""

    chunks: list[Chunk]
    left_out: int
    median_ns: int
    stalls: int


def read_stream_events(span: Span) -> Stream:
    """Read the chunks of a span; none if it did not stream."""
    events = [event for event in span.events if event.name == sc.EVENT_CHUNK]
    times = [span.start_time_ns, *(event.timestamp_ns for event in events)]
    gaps = [max(0, after - before) for before, after in pairwise(times)]
    usual = int(median(gaps[1:])) if len(gaps) > 1 else 0
    chunks = [
        _chunk(at, event, gap, span.start_time_ns, at > 0 and gap > STALL_NS and gap > usual * STALL_FACTOR)
        for at, (event, gap) in enumerate(zip(events, gaps, strict=True))
    ]
    stalls = sum(chunk.stalled for chunk in chunks)
    return Stream(chunks[:MAX_ROWS], max(0, len(chunks) - MAX_ROWS), usual, stalls)


def other_events(span: Span) -> list[SpanEvent]:
    """Return the events that are not chunks."""
    return [event for event in span.events if event.name != sc.EVENT_CHUNK]


def _chunk(at: int, event: SpanEvent, gap_ns: int, start_ns: int, stalled: bool) -> Chunk:
    data = event.attributes.get("data")
    kind, text, note = _say(as_dict(data), data, as_text(event.attributes.get("event")) or "")
    return Chunk(at, event.timestamp_ns - start_ns, gap_ns, kind, text, note, stalled)


def _say(body: dict[str, Any], data: Any, name: str) -> tuple[str, str, str]:
    """Return a chunk's kind, the text that it adds, and a note where it adds none."""
    choices = as_dicts(body.get("choices"))
    if choices:
        return _say_choice(choices[0], len(choices))
    kind = as_text(body.get("type")) or name
    for key in ("delta", "partial_image_b64", "audio"):
        if isinstance(body.get(key), str):
            is_text = key == "delta" and "audio.delta" not in kind
            return kind, body[key] if is_text else "", "" if is_text else one_line(body[key], 60)
    if body.get("usage") and not kind:
        return "usage", "", one_line(body["usage"], 200)
    return kind, "", "" if data is None else one_line(_telling(body) if body else data, 160)


def _say_choice(choice: dict[str, Any], count: int) -> tuple[str, str, str]:
    delta = as_dict(choice.get("delta")) or {"content": choice.get("text")}
    reason = as_text(choice.get("finish_reason")) or ""
    note = f"finish: {reason}" if reason else ""
    index = choice.get("index")
    prefix = f"[{index}] " if index else ""
    for key in _DELTA_KEYS:
        if isinstance(delta.get(key), str) and delta[key]:
            return prefix + key, delta[key], note
    calls = as_dicts(delta.get("tool_calls"))
    if calls:
        tool = as_dict(calls[0].get("function")) or as_dict(calls[0].get("custom"))
        text = as_text(tool.get("arguments")) or as_text(tool.get("input")) or ""
        return prefix + "tool call", text, as_text(tool.get("name")) or note
    role = as_text(delta.get("role")) or ""
    return prefix + ("end" if reason else "role" if role else ""), "", note or role


def _telling(body: dict[str, Any]) -> Any:
    """Return the part of an event without a delta that its row shows: the item or part, not the whole response."""
    for key in ("item", "part", "text", "error", "message"):
        if body.get(key):
            return body[key]
    response = as_dict(body.get("response"))
    return response.get("status") or {key: value for key, value in body.items() if key not in ("type", "response")}
