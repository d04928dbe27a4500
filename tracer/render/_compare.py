"""Two traces, or two calls, side by side: what they measured, what they were asked and answered, where they differ."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

from tracer import _semconv as sc
from tracer._exceptions import TraceNotFoundError
from tracer._models import MODEL_CALL_TYPES, Span, SpanStatusCode, Trace
from tracer.render._conversation import Call, Conversation, Message, Part
from tracer.render._diff import word_diff
from tracer.render._json_tree import json_text, one_line
from tracer.render._media import MediaLinks
from tracer.render._span_view import finish_words, make_context, model_words, view_span
from tracer.render._tree import Row, Timeline, rows, timeline
from tracer.render.comparison import Comparison, Figure, Piece, Side, SpanPair, SpanSide, Turn

__all__ = ["compare"]

MAX_TURN_CHARS = 12_000
MAX_CHARS = 40_000  # of all turns of one side: fits into a page of 100 KB even if the text hardly compresses
MAX_SPANS = 300
_NANOSECONDS = 1e9


def compare(a: Trace, b: Trace, *, a_span: str | None = None, b_span: str | None = None) -> Comparison:
    """Compare two traces. If a span of either is named, compare two spans: for a trace without a named span, its root.

    Pure, and bounded: long texts are cut, and the result says how much.

    Raises:
        TraceNotFoundError: A trace has no such span.
    """
    left, right = _subject(a, a_span), _subject(b, b_span)
    whole = a_span is None and b_span is None
    ours, theirs = _conversations(a, left), _conversations(b, right)
    pairs, left_out = _trees(a, b) if whole else ([], 0)
    return Comparison(
        a=_side(a, left, whole),
        b=_side(b, right, whole),
        figures=_figures(_trace_figures(a), _trace_figures(b)) if whole else _figures(_known(left), _known(right)),
        parameters=_figures(_request(ours[0], left), _request(theirs[0], right)),
        inputs=_turns(ours[0], theirs[0], "input"),
        outputs=_turns(ours[1], theirs[1], "output"),
        spans=pairs,
        spans_left_out=left_out,
    )


def _find_span(trace: Trace, span_id: str) -> Span:
    """Return one span of a trace. Raises TraceNotFoundError."""
    for span in trace.data.spans:
        if span.span_id == span_id:
            return span
    raise TraceNotFoundError(f"trace {trace.info.trace_id} has no span {span_id!r}")


def _subject(trace: Trace, span_id: str | None) -> Span | None:
    if span_id is not None:
        return _find_span(trace, span_id)
    return trace.data.spans[0] if trace.data.spans else None


def _side(trace: Trace, span: Span | None, whole: bool) -> Side:
    info = trace.info
    if whole or span is None:
        name, state = info.name or info.trace_id[:12], info.state.value
        return Side(trace_id=info.trace_id, name=name, state=state, start_time_ns=info.start_time_ns)
    state = "IN_PROGRESS" if span.end_time_ns is None else "ERROR" if _failed(span) else "OK"
    return Side(
        trace_id=info.trace_id, span_id=span.span_id, name=span.name, state=state, start_time_ns=span.start_time_ns
    )


# --- figures ----------------------------------------------------------------------------------------------------------

_Known = dict[str, tuple[str, float | str | None]]
"""Unit and value of each figure, by its name."""


def _trace_figures(trace: Trace) -> _Known:
    info, spans = trace.info, trace.data.spans
    calls = sum(span.span_type in MODEL_CALL_TYPES for span in spans)
    return {
        "state": ("text", info.state.value.replace("_", " ").lower()),
        "duration": ("seconds", _seconds(info.duration_ns)),
        "time to first token": ("seconds", info.time_to_first_token),
        **_usage(info.token_usage, info.cost),
        "model": ("text", ", ".join(info.models)),
        "spans": ("count", len(spans)),
        "model calls": ("count", calls),
        "failed spans": ("count", sum(map(_failed, spans))),
    }


def _known(span: Span | None) -> _Known:
    if span is None:
        return {}
    known = span.attributes
    first, retries = known.get(sc.TIME_TO_FIRST_TOKEN), known.get(sc.RETRIES)
    return {
        "error": ("text", one_line(span.status.description or "failed") if _failed(span) else ""),
        "duration": ("seconds", _seconds(span.duration_ns)),
        "time to first token": ("seconds", first if isinstance(first, (int, float)) else None),
        **_usage(span.token_usage, span.cost),
        "model": ("text", model_words(known)),
        "finish": ("text", finish_words(known)),
        "retries": ("count", retries if isinstance(retries, int) else None),
    }


def _usage(usage: dict[str, int] | None, cost: float | None) -> _Known:
    told = usage or {}
    keys = ("input_tokens", "cache_read_input_tokens", "output_tokens", "reasoning_tokens", "total_tokens")
    words = ("tokens in", "of them cached", "tokens out", "of them reasoning", "tokens in all")
    tokens: _Known = {word: ("tokens", told.get(key)) for word, key in zip(words, keys, strict=True)}
    return {**tokens, "cost": ("dollars", cost)}


def _failed(span: Span) -> bool:
    return span.status.status_code is SpanStatusCode.ERROR


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS


def _figures(left: _Known, right: _Known) -> list[Figure]:
    """Pair the figures of both sides, leaving out figures that neither side has."""
    found = []
    for name in dict.fromkeys([*left, *right]):
        unit, a = left.get(name, ("", None))
        other_unit, b = right.get(name, ("", None))
        if a in (None, "") and b in (None, ""):
            continue
        difference = b - a if isinstance(a, (int, float)) and isinstance(b, (int, float)) else None
        found.append(Figure(name=name, unit=unit or other_unit, a=a, b=b, difference=difference, differs=a != b))
    return found


def _request(conversation: Conversation, span: Span | None) -> _Known:
    """Return what a request says beside its messages, and the names of its tools."""
    if not conversation.messages:  # without messages, the fields are the input itself
        return {}
    told: _Known = {key[:100]: ("text", one_line(value, 500)) for key, value in conversation.fields.items()}
    tools = span.attributes.get(sc.TOOL_DEFINITIONS) if span else None
    if type(tools) is list and tools:
        told["tools"] = ("text", ", ".join(map(_tool_name, tools[:100])))
    return told


def _tool_name(tool: Any) -> str:
    if type(tool) is not dict:
        return "?"
    inner = tool["function"] if type(tool.get("function")) is dict else tool
    return one_line(inner.get("name") or tool.get("type") or "?", 60)


# --- messages ---------------------------------------------------------------------------------------------------------


def _conversations(trace: Trace, span: Span | None) -> tuple[Conversation, Conversation]:
    if span is None:
        return Conversation(), Conversation()
    view = view_span(span, make_context(trace, MediaLinks(), trace.info.start_time_ns))
    return view.inputs, view.outputs


_Said = tuple[str, str, str]
"""Role, title and text of a message."""


def _turns(ours: Conversation, theirs: Conversation, role: str) -> list[Turn]:
    """Pair the messages of two sides: equal messages first, then the others between these, in order, by role."""
    left, right = _said(ours, role), _said(theirs, role)
    turns, room = [], MAX_CHARS
    for a, b in _paired(left, right, lambda said: (said[0], said[2]), lambda one, other: one[0] == other[0]):
        turn = _turn(a, b, min(MAX_TURN_CHARS, room))
        room -= max(sum(len(piece.text) for piece in turn.pieces if piece.kind != kind) for kind in _ONE_SIDED)
        turns.append(turn)
    return turns


_ONE_SIDED = ("removed", "added")


def _said(conversation: Conversation, role: str) -> list[_Said]:
    if conversation.messages:
        return [(one.role, one.title, _text(one)) for one in conversation.messages]
    value = conversation.value if conversation.value is not None else conversation.fields or None
    if value is None:
        return []
    return [(role, "", value if isinstance(value, str) else json_text(value))]


def _text(message: Message) -> str:
    return "\n\n".join(filter(None, [*map(_part_text, message.parts), *map(_call_text, message.calls)]))


def _part_text(part: Part) -> str:
    if part.kind == "json":
        return json_text(part.value)
    if part.kind == "media" and part.media is not None:
        stored = part.media.url if part.media.url and not part.media.url.startswith("data:") else part.media.size or ""
        return f"[{part.label}: {part.media.content_type} {stored}]"
    return f"{part.label}: {part.text}" if part.kind == "link" else part.text


def _call_text(call: Call) -> str:
    arguments = call.arguments
    if isinstance(arguments, Part):
        arguments = _part_text(arguments)
    asked = arguments if isinstance(arguments, str) else json_text(arguments)
    result = "\n".join(map(_part_text, call.results))
    return f"{call.name}({asked})" + (f"\n→ {result}" if result else "")


def _turn(a: _Said | None, b: _Said | None, most: int) -> Turn:
    role, title, _ = a or b or ("", "", "")
    left, right = (a[2] if a else ""), (b[2] if b else "")
    cut = max(0, max(len(left), len(right)) - most)
    if a is None or b is None:
        pieces = [Piece("removed" if a else "added", (left or right)[:most])]
        return Turn(role=role, title=title, where="a" if a else "b", pieces=pieces, cut=cut)
    pieces = word_diff(left[:most], right[:most])
    if left != right and all(piece.kind == "same" for piece in pieces):
        pieces += [Piece("removed", "…"), Piece("added", "…")]  # they differ only in the part that is cut
    return Turn(role=role, title=title, pieces=pieces, cut=cut)


# --- trees ------------------------------------------------------------------------------------------------------------


def _trees(a: Trace, b: Trace) -> tuple[list[SpanPair], int]:
    lines = timeline(a), timeline(b)
    longest = max(line.length_ns for line in lines)
    left, right = (rows(trace, Timeline(line.start_ns, longest)) for trace, line in zip((a, b), lines, strict=True))
    left_out = max(0, len(left) - MAX_SPANS) + max(0, len(right) - MAX_SPANS)
    pairs = _paired(left[:MAX_SPANS], right[:MAX_SPANS], _place, lambda one, other: one.level == other.level)
    return [SpanPair(a=one and _span_side(one), b=other and _span_side(other)) for one, other in pairs], left_out


def _place(row: Row) -> tuple[int, str, str]:
    return row.level, row.span.name, row.span.span_type


def _span_side(row: Row) -> SpanSide:
    span = row.span
    return SpanSide(
        span_id=span.span_id,
        name=span.name,
        span_type=span.span_type,
        level=row.level,
        failed=row.failed,
        duration_ns=span.duration_ns,
        total_tokens=(span.token_usage or {}).get("total_tokens"),
        cost=span.cost,
        left=row.left,
        width=row.width,
    )


def _paired(
    left: list[Any], right: list[Any], key: Callable[[Any], Any], fits: Callable[[Any, Any], bool]
) -> Iterator[tuple[Any, Any]]:
    """Yield pairs in order: items with equal keys, and between these, items that `fits` allows to be paired."""
    matcher = difflib.SequenceMatcher(None, list(map(key, left)), list(map(key, right)), autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        ours, theirs = left[i:j], right[k:m]
        if kind == "equal":
            yield from zip(ours, theirs, strict=True)
            continue
        while ours or theirs:
            if ours and theirs and fits(ours[0], theirs[0]):
                yield ours.pop(0), theirs.pop(0)
            elif ours and not any(fits(ours[0], other) for other in theirs):
                yield ours.pop(0), None
            else:
                yield None, theirs.pop(0)
