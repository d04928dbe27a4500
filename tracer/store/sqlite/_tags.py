"""Tags of traces that are stored."""

from __future__ import annotations

import sqlite3

from tracer._exceptions import TraceNotFoundError

__all__ = ["delete_tag", "not_found", "set_tag"]


def set_tag(connection: sqlite3.Connection, trace_id: str, key: str, value: str) -> None:
    sql = (
        "INSERT INTO tags SELECT key, ?, ? FROM traces WHERE trace_id = ? "
        "ON CONFLICT (trace_key, key) DO UPDATE SET value = excluded.value"
    )
    if not connection.execute(sql, (key, value, trace_id)).rowcount:
        raise not_found(trace_id)


def delete_tag(connection: sqlite3.Connection, trace_id: str, key: str) -> None:
    row = connection.execute("SELECT key FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
    if row is None:
        raise not_found(trace_id)
    connection.execute("DELETE FROM tags WHERE trace_key = ? AND key = ?", (row[0], key))


def not_found(trace_id: str) -> TraceNotFoundError:
    return TraceNotFoundError(f"no trace {trace_id!r} is stored")
