"""Feedback on traces and spans: written, read and deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tracer._exceptions import TraceNotFoundError
from tracer._models import Feedback
from tracer.store.postgres._sql import fetch, fetch_row, fetch_value, hashed
from tracer.store.rows import read_feedback, stored_feedback

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["add_feedback", "delete_feedback", "feedback_of", "list_feedback"]

_COLUMNS = "id, trace_id, span_id, feedback.name, value, value_type, comment, source, created_ns"
_FROM = f"SELECT trace_key, {_COLUMNS} FROM feedback JOIN traces ON traces.key = trace_key"
_OF_TRACES = f"{_FROM} WHERE trace_key = ANY(?::bigint[]) ORDER BY feedback.key"
_TRACE = "SELECT key, day FROM traces WHERE trace_id = ?::text FOR KEY SHARE"
_SPAN = "SELECT 1 FROM spans WHERE day = ?::int AND trace_key = ?::bigint AND span_id = ?::text"
_ADD = """
INSERT INTO feedback (id, trace_key, span_id, name, value, number, value_type, comment, source, created_ns)
VALUES (?, ?, ?, ?, ?, ?::numeric, ?, ?, ?, ?)
"""


async def add_feedback(connection: Connection[Any], feedback: Feedback) -> None:
    """Write one feedback. Raises TraceNotFoundError if the trace, or the span, is not stored."""
    row = await fetch_row(connection, _TRACE, (feedback.trace_id,))
    if row is None:
        raise TraceNotFoundError(f"no trace {feedback.trace_id!r} is stored")
    key, day = row
    if feedback.span_id is not None and await fetch_value(connection, _SPAN, (day, key, feedback.span_id)) is None:
        raise TraceNotFoundError(f"trace {feedback.trace_id!r} has no span {feedback.span_id!r}")
    value, value_type = stored_feedback(feedback.value)
    number = Decimal(repr(value)) if value_type == "number" else None
    told = (value_type, feedback.comment, feedback.source, feedback.created_ns)
    await fetch(connection, _ADD, (feedback.id, key, feedback.span_id, feedback.name, str(value), number, *told))


async def delete_feedback(connection: Connection[Any], feedback_id: str) -> bool:
    """Delete one feedback and return whether it was there."""
    return bool(await fetch(connection, "DELETE FROM feedback WHERE id = ?::text RETURNING 1", (feedback_id,)))


async def list_feedback(
    connection: Connection[Any], trace_id: str | None, name: str | None, max_results: int
) -> list[Feedback]:
    """Return feedback that meets the conditions given, the newest first."""
    named = f"{hashed('feedback.name')} = {hashed('?::text')} AND feedback.name = ?::text"
    conditions = {"trace_id = ?::text": (trace_id,), named: (name, name)}
    given = {sql: values for sql, values in conditions.items() if values[0] is not None}
    where = " AND ".join(given) or "TRUE"
    sql = f"{_FROM} WHERE {where} ORDER BY feedback.key DESC LIMIT ?::bigint"
    values = [value for some in given.values() for value in some]
    return [feedback for _, feedback in _read(await fetch(connection, sql, (*values, max_results)))]


async def feedback_of(connection: Connection[Any], keys: Sequence[int]) -> dict[int, list[Feedback]]:
    """Return the feedback on these traces: by trace key, the oldest first."""
    found: dict[int, list[Feedback]] = defaultdict(list)
    for trace_key, feedback in _read(await fetch(connection, _OF_TRACES, (list(keys),))):
        found[trace_key].append(feedback)
    return found


def _read(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Feedback]]:
    for trace_key, *head, value, value_type, comment, source, created_ns in rows:
        told = _number(value) if value_type == "number" else value
        yield trace_key, read_feedback((*head, told, value_type, comment, source, created_ns))


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
