"""Feedback on traces and spans: written, read and deleted."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from tracer._exceptions import TraceNotFoundError
from tracer._models import Feedback
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._rows import Clock, current_traces, forget, note_change, places_of, trace_key
from tracer.store.clickhouse._sql import live
from tracer.store.rows import read_feedback, stored_feedback

__all__ = ["add_feedback", "delete_feedback", "feedback_of", "list_feedback"]

_COLUMNS = "id, trace_id, span_id, name, value, value_type, comment, source, created_ns"
_FROM = f"SELECT trace_key, {_COLUMNS} FROM feedback WHERE {live('feedback')}"
_ROW = f"SELECT row FROM feedback WHERE {live('feedback')} AND id = ?:String"


def add_feedback(connection: Connection, feedback: Feedback, clock: Clock) -> None:
    """Write one feedback. Raises TraceNotFoundError if the trace, or the span, is not stored."""
    key = trace_key(feedback.trace_id)
    places = places_of(connection, [key])
    if key not in current_traces(connection, places):
        raise TraceNotFoundError(f"no trace {feedback.trace_id!r} is stored")
    if feedback.span_id is not None:
        where = "(born, trace_key) IN ?:Array(Tuple(Int64, Int64)) AND span_id = ?:String"
        sql = (
            f"SELECT 1 FROM spans WHERE {live('span')} AND {where} LIMIT 1 "
            f"UNION ALL SELECT 1 FROM running WHERE {live('running')} AND {where} LIMIT 1"
        )
        if not connection.fetch(sql, (places, feedback.span_id) * 2):
            raise TraceNotFoundError(f"trace {feedback.trace_id!r} has no span {feedback.span_id!r}")
    value, value_type = stored_feedback(feedback.value)
    row: dict[str, Any] = {
        "trace_key": key,
        "row": random.getrandbits(63),
        "written": clock.next(),
        "id": feedback.id,
        "trace_id": feedback.trace_id,
        "span_id": feedback.span_id,
        "name": feedback.name,
        "value": str(value),
        "number": float(value) if value_type == "number" else None,
        "value_type": value_type,
        "comment": feedback.comment,
        "source": feedback.source,
        "created_ns": feedback.created_ns,
    }
    connection.insert("feedback", [row])
    note_change(connection, clock)


def delete_feedback(connection: Connection, feedback_id: str, clock: Clock) -> bool:
    """Delete one feedback and return whether it was there."""
    rows = [row for (row,) in connection.fetch(_ROW, (feedback_id,))]
    forget(connection, "feedback", rows)
    if rows:
        note_change(connection, clock)
    return bool(rows)


def list_feedback(connection: Connection, trace_id: str | None, name: str | None, max_results: int) -> list[Feedback]:
    """Return feedback that meets the conditions given, the newest first."""
    given = {"trace_id = ?:String": trace_id, "name = ?:String": name}
    told = {sql: value for sql, value in given.items() if value is not None}
    where = "".join(f" AND {sql}" for sql in told)
    sql = f"{_FROM}{where} ORDER BY written DESC LIMIT ?:Int64"
    return [_read(row)[1] for row in connection.fetch(sql, (*told.values(), max_results))]


def feedback_of(connection: Connection, keys: Collection[int]) -> dict[int, list[Feedback]]:
    """Return the feedback on these traces: by trace key, the oldest first."""
    found: dict[int, list[Feedback]] = defaultdict(list)
    for row in connection.fetch(f"{_FROM} AND trace_key IN ?:Array(Int64) ORDER BY written", (list(keys),)):
        key, feedback = _read(row)
        found[key].append(feedback)
    return found


def _read(row: tuple[Any, ...]) -> tuple[int, Feedback]:
    trace_key, *head, value, value_type, comment, source, created_ns = row
    told = _number(value) if value_type == "number" else value
    return trace_key, read_feedback((*head, told, value_type, comment, source, created_ns))


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
