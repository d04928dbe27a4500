"""What one store lacks of a trace that another has. Pure functions."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer._models import TraceState
from tracer.store.batch import SpanRow, StoredTrace, TracePatch

__all__ = ["missing_part"]

_SET_ONCE = ("name_override", "session_id", "user_id")
_OPEN = (TraceState.IN_PROGRESS, TraceState.INTERRUPTED)


def missing_part(trace: StoredTrace, there: StoredTrace | None) -> StoredTrace | None:
    """Return what has to be written so that a store has all of a trace; None if it has.

    Args:
        trace: The whole trace.
        there: What the store has of it, with or without bodies; None if it has nothing.
    """
    if there is None:
        return msgspec.structs.replace(trace, spans=_with_links(trace.spans, trace.links))
    known = {row.span_id: row for row in there.spans}
    spans = [row for row in trace.spans if _is_lacking(row, known.get(row.span_id))]
    if links := _beyond(trace.links, there.links):
        spans = _with_links(trace.spans, links)  # to write a span once more changes nothing
    media = _beyond(trace.media, there.media)
    judged = {each.id for each in there.feedback}
    feedback = [each for each in trace.feedback if each.id not in judged]
    patch, is_lacking = _lacking_patch(trace.patch, there.patch)
    if not (spans or media or feedback or is_lacking):
        return None
    return StoredTrace(patch=patch, spans=spans, media=media, links=links, feedback=feedback)


def _is_lacking(row: SpanRow, there: SpanRow | None) -> bool:
    return there is None or (there.end_time_ns is None and row.end_time_ns is not None)


def _beyond(pairs: list[tuple[str, str]], there: list[tuple[str, str]]) -> list[tuple[str, str]]:
    known = set(there)
    return [pair for pair in pairs if pair not in known]


def _lacking_patch(patch: TracePatch, there: TracePatch) -> tuple[TracePatch, bool]:
    """Return a patch that adds to the row of a trace, and never replaces; and whether it adds anything.

    Counts in `dropped` are added up where they are written.
    """
    lacking = {
        "tags": {key: value for key, value in patch.tags.items() if key not in there.tags},
        "metadata": {key: value for key, value in patch.metadata.items() if key not in there.metadata},
        "dropped": {
            kind: count - there.dropped.get(kind, 0)
            for kind, count in patch.dropped.items()
            if count > there.dropped.get(kind, 0)
        },
        **{name: getattr(patch, name) if getattr(there, name) is None else None for name in _SET_ONCE},
    }
    if _rank(patch) > _rank(there) or (there.state in _OPEN and patch.state not in _OPEN):
        return msgspec.structs.replace(patch, **lacking, experiment=None), True
    same: dict[str, Any] = {
        "root_span_id": there.root_span_id,
        "true_root": there.true_root,
        "state": there.state,
        **dict.fromkeys(("experiment", "name", "end_time_ns", "request_preview", "response_preview")),
    }
    return msgspec.structs.replace(patch, **lacking, **same), any(lacking.values())


def _rank(patch: TracePatch) -> int:
    return 0 if patch.root_span_id is None else 1 + patch.true_root


def _with_links(spans: list[SpanRow], links: list[tuple[str, str]]) -> list[SpanRow]:
    """Give the links of a trace to its spans, one of each kind to a span, as they had them.

    A store keeps links for the trace as a whole, so it does not matter which span brings which.
    """
    carried: list[dict[str, str]] = [{} for _ in spans]
    given: dict[str, int] = {}
    for kind, id_ in links:
        place = given.get(kind, 0)
        if place < len(carried):
            carried[place][kind] = id_
            given[kind] = place + 1
    return [msgspec.structs.replace(row, links=told) if told else row for row, told in zip(spans, carried, strict=True)]
