"""Parts of a span's row: its events, its links to other traces, its times, and the rows of its hosted tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracer import _semconv as sc
from tracer._models import SpanStatusCode
from tracer.assembly._kept_bodies import leave_body_out
from tracer.interpret import ChildView, encode_value
from tracer.interpret.dispatch import child_span_id
from tracer.store.batch import SpanRow

__all__ = ["child_row", "link_ids", "seconds_after"]


LINKS = {
    sc.RESPONSE_ID: "response",
    sc.PREVIOUS_RESPONSE_ID: "previous_response",
    sc.CONVERSATION_ID: "conversation",
}


def link_ids(operation: str | None, attributes: dict[str, Any]) -> dict[str, str] | None:
    """Return the ids by which traces continue one another. Only calls of Responses have such ids."""
    if operation not in ("responses", "retrieved"):
        return None
    return {kind: value for key, kind in LINKS.items() if type(value := attributes.get(key)) is str} or None


def seconds_after(start_ns: int, moments: Iterable[tuple[str, int | None]]) -> dict[str, float]:
    """Return the seconds from the start to each moment. A moment that is None is left out."""
    return {key: max(0, moment - start_ns) / 1e9 for key, moment in moments if moment is not None}


# Looking up an enum member takes 0.1 µs (Python 3.11).
_SPAN_OK, _SPAN_ERROR = SpanStatusCode.OK, SpanStatusCode.ERROR


def child_row(parent: SpanRow, child: ChildView, *, keeps_body: bool = True) -> SpanRow:
    """Return the row of a tool that OpenAI ran inside a call; without `keeps_body`, without inputs and outputs."""
    start = child.start_time_ns if child.start_time_ns is not None else parent.start_time_ns
    end = child.end_time_ns if child.end_time_ns is not None else parent.end_time_ns
    failed = child.error is not None
    finish = "failed" if failed else child.finish
    attributes = {**child.attributes, sc.FINISH: finish}
    row = SpanRow(
        trace_id=parent.trace_id,
        span_id=child_span_id(parent.span_id, child.key),
        parent_id=parent.span_id,
        name=child.name,
        span_type=child.span_type,
        start_time_ns=start,
        end_time_ns=max(end, start) if end is not None else None,
        status_code=_SPAN_ERROR if failed else _SPAN_OK,
        status_description=child.error or "",
        finish=finish,
        inputs=None if child.inputs is None else encode_value(child.inputs),
        outputs=None if child.outputs is None else encode_value(child.outputs),
    )
    if not keeps_body:
        leave_body_out(row, attributes)
    row.attributes = encode_value(attributes)
    return row
