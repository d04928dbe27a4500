"""Feedback on traces and spans: written, read and deleted."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from tracer._exceptions import TraceNotFoundError
from tracer._models import Feedback
from tracer.store.rows import read_feedback, stored_feedback

__all__ = ["add_feedback", "delete_feedback", "feedback_of", "list_feedback"]

_COLUMNS = "id, trace_id, span_id, feedback.name, value, value_type, comment, source, created_ns"
_FROM = f"SELECT trace_key, {_COLUMNS} FROM feedback JOIN traces ON traces.key = trace_key"
_OF_TRACES = f"{_FROM} WHERE trace_key IN (SELECT value FROM json_each(?)) ORDER BY feedback.key"
_ADD = """
INSERT INTO feedback (id, trace_key, span_id, name, value, value_type, comment, source, created_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def add_feedback(connection: sqlite3.Connection, feedback: Feedback) -> None:
    """Write one feedback. Raises TraceNotFoundError if the trace, or the span, is not stored."""
    row = connection.execute("SELECT key FROM traces WHERE trace_id = ?", (feedback.trace_id,)).fetchone()
    if row is None:
        raise TraceNotFoundError(f"no trace {feedback.trace_id!r} is stored")
    if feedback.span_id is not None:
        known = "SELECT 1 FROM spans WHERE trace_key = ? AND span_id = ?"
        if connection.execute(known, (row[0], feedback.span_id)).fetchone() is None:
            raise TraceNotFoundError(f"trace {feedback.trace_id!r} has no span {feedback.span_id!r}")
    value, value_type = stored_feedback(feedback.value)
    told = (feedback.span_id, feedback.name, value, value_type, feedback.comment, feedback.source, feedback.created_ns)
    connection.execute(_ADD, (feedback.id, row[0], *told))


def delete_feedback(connection: sqlite3.Connection, feedback_id: str) -> bool:
    """Delete one feedback and return whether it was there."""
    return connection.execute("DELETE FROM feedback WHERE id = ?", (feedback_id,)).rowcount > 0


def list_feedback(
    connection: sqlite3.Connection, trace_id: str | None, name: str | None, max_results: int
) -> list[Feedback]:
    """Return feedback that meets the conditions given, the newest first."""
    conditions = {"trace_id = ?": trace_id, "feedback.name = ?": name}
    given = {sql: value for sql, value in conditions.items() if value is not None}
    where = " AND ".join(given) or "TRUE"
    sql = f"{_FROM} WHERE {where} ORDER BY feedback.key DESC LIMIT ?"
    return [feedback for _, feedback in _read(connection.execute(sql, (*given.values(), max_results)))]


def feedback_of(connection: sqlite3.Connection, keys: str) -> dict[int, list[Feedback]]:
    """Return the feedback on the traces whose keys are in a JSON array: by trace key, the oldest first."""
    found: dict[int, list[Feedback]] = defaultdict(list)
    for trace_key, feedback in _read(connection.execute(_OF_TRACES, (keys,))):
        found[trace_key].append(feedback)
    return found


def _read(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Feedback]]:
    return ((row[0], read_feedback(row[1:])) for row in rows)
