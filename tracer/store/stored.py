"""Stored traces as rows again, for whoever moves them into another store. Each engine brings its rows in this form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import USAGE_KEYS, Feedback, SpanStatusCode, TraceState
from tracer.store.batch import SpanRow, StoredTrace, TracePatch

__all__ = ["BODY_FIELDS", "TRACE_ROW_FIELDS", "check_ids", "read_stored", "span_row_fields"]

TRACE_ROW_FIELDS = (
    "key",
    "trace_id",
    "process_id",
    "start_time_ns",
    "end_time_ns",
    "experiment",
    "root_span_id",
    "root_rank",
    "root_name",
    "name_override",
    "state",
    "request_preview",
    "response_preview",
    "session_id",
    "user_id",
    "metadata",
    "dropped",
)
_SPAN_ROW_FIELDS = (
    "span_id",
    "parent_id",
    "name",
    "span_type",
    "operation",
    "start_time_ns",
    "end_time_ns",
    "status_code",
    "status_description",
    "finish",
    "model",
    "cost",
    "counted",
    *USAGE_KEYS,
)
BODY_FIELDS = ("inputs", "outputs", "attributes", "events", "text", "chunks", "chunk_encoding")
_TEXTS = BODY_FIELDS[:4]
_FIRST_USAGE = _SPAN_ROW_FIELDS.index(USAGE_KEYS[0])

Row = tuple[Any, ...]
MAX_IDS = 100  # traces that are read whole at once, each with all that belongs to it
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode
_decode_counts = msgspec.json.Decoder(dict[str, int]).decode


def check_ids(trace_ids: list[str]) -> None:
    """Raise ConfigurationError for more traces than are read at once: a server has others to serve, too."""
    if len(trace_ids) > MAX_IDS:
        raise ConfigurationError(f"trace_ids must name at most {MAX_IDS} traces at once, got {len(trace_ids)}")


def span_row_fields(*, bodies: bool) -> tuple[str, ...]:
    """Return the columns of a span, in the order in which `read_stored` takes them."""
    return _SPAN_ROW_FIELDS + (BODY_FIELDS if bodies else ())


def read_stored(
    row: Row,
    spans: Iterable[Row],
    *,
    tags: dict[str, str],
    media: list[tuple[str, str]],
    links: list[tuple[str, str]],
    feedback: list[Feedback],
) -> StoredTrace:
    """Make a stored trace of a row of `TRACE_ROW_FIELDS`, and of what belongs to it."""
    _, trace_id, process_id, start, end, experiment, root, rank, name, override, state = row[:11]
    asked, answered, session, user, metadata, dropped = row[11:]
    patch = TracePatch(
        trace_id=trace_id,
        process_id=process_id,
        start_time_ns=start,
        end_time_ns=end,
        experiment=experiment,
        root_span_id=root,
        true_root=rank == 2,  # see the column's comment in the schema
        name=name,
        name_override=override,
        state=TraceState(state),
        request_preview=asked,
        response_preview=answered,
        session_id=session,
        user_id=user,
        tags=tags,
        metadata=_decode_texts(metadata) if metadata else {},
        dropped=_decode_counts(dropped) if dropped else {},
    )
    rows = [_span(trace_id, span) for span in spans]
    return StoredTrace(patch=patch, spans=rows, media=media, links=links, feedback=feedback)


def _span(trace_id: str, row: Row) -> SpanRow:
    (span_id, parent, name, span_type, operation, start, end, status, described, finish, model, cost, counted) = row[
        :_FIRST_USAGE
    ]
    usage = dict(zip(USAGE_KEYS, row[_FIRST_USAGE:], strict=False))
    bodies = dict(zip(BODY_FIELDS, row[len(_SPAN_ROW_FIELDS) :], strict=False))
    for field in _TEXTS:
        if (text := bodies.get(field)) is not None:
            bodies[field] = text.encode("utf-8", "replace")
    return SpanRow(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent,
        name=name,
        span_type=span_type,
        operation=operation,
        start_time_ns=start,
        end_time_ns=end,
        status_code=SpanStatusCode(status or "UNSET"),
        status_description=described or "",
        finish=finish,
        model=model,
        cost=cost,
        counted=bool(counted),
        usage={key: count for key, count in usage.items() if count is not None} or None,
        **bodies,
    )
