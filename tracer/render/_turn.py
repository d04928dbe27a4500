"""One trace as a turn of a conversation: what the user said, and what came back in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from tracer._models import MODEL_CALL_TYPES, Span, SpanType, Trace
from tracer.render._conversation import Conversation, Message, Part
from tracer.render._media import MediaLinks
from tracer.render._sides import read_inputs, read_outputs

__all__ = ["read_turn"]

PART_CHARS = 6_000
"""Longer texts are cut here; the trace's page shows them whole."""

Reader = Callable[[Span, MediaLinks], Conversation]


def read_turn(trace: Trace, links: MediaLinks) -> list[Message]:
    """Return the user's message and the answer: from the root if it has words, otherwise from the model calls below it.

    An agent's function often takes and returns objects; what was said is then in its first and its last call.
    """
    root = trace.data.spans[:1]
    calls = _calls(trace)
    asked = _first([*root, *calls], read_inputs, links, _question) or _value(root, "inputs")
    answered = _first([*root, *reversed(calls)], read_outputs, links, _answer) or _value(root, "outputs")
    return [_bounded(message) for message in (*asked, *answered)]


def _calls(trace: Trace) -> list[Span]:
    """Return the calls that hold a conversation; if there are none, all model calls."""
    calls = [span for span in trace.data.spans if span.span_type in MODEL_CALL_TYPES]
    return [span for span in calls if span.span_type != SpanType.EMBEDDING] or calls


def _first(
    spans: Iterable[Span], read: Reader, links: MediaLinks, pick: Callable[[list[Message]], list[Message]]
) -> list[Message]:
    for span in spans:
        try:
            found = pick(read(span, links).messages)
        except Exception:  # data of an unexpected shape: the trace's page shows it as a plain value
            continue
        if found:
            return found
    return []


def _question(messages: list[Message]) -> list[Message]:
    """Return the last thing that the user said; what came before it are earlier turns."""
    return [one for one in messages if one.role in ("user", "input") and one.parts][-1:]


def _answer(messages: list[Message]) -> list[Message]:
    return [one for one in messages if one.role in ("assistant", "output", "embeddings") and (one.parts or one.calls)]


def _value(root: list[Span], side: str) -> list[Message]:
    """Return what a function took, or returned, as a message; an empty list if there is nothing."""
    value = getattr(root[0], side) if root else None
    return [] if value in (None, {}, []) else [Message(role=side[:-1], parts=[Part(kind="json", value=value)])]


def _bounded(message: Message) -> Message:
    """Cut long texts, and remove links to places on the trace's own page."""
    parts = [_cut(part) for part in message.parts]
    calls = [msgspec.structs.replace(call, span_id=None) for call in message.calls]
    return msgspec.structs.replace(message, parts=parts, calls=calls, path=[])


def _cut(part: Part) -> Part:
    left = len(part.text) - PART_CHARS
    if left <= 0 or part.kind == "link":
        return part
    return msgspec.structs.replace(part, text=f"{part.text[:PART_CHARS]}\n\n… {left:,} more characters")
