"""Copies the running traces of a file that was replaced into the file that is there now.

A span's request is written when it starts, its answer when it ends. If the file is moved away between the two, it has
only the request, and the new file would have only the answer.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from tracer.store.sqlite._connection import transaction

__all__ = ["Running", "put_running", "take_running"]

_RUNNING = "SELECT key FROM running"


class Running(NamedTuple):
    """Rows of the running traces, each as values by column name. Their keys are those of the old file."""

    traces: list[dict[str, Any]]
    spans: list[dict[str, Any]]
    tags: list[dict[str, Any]]
    chunks: list[dict[str, Any]]
    media: list[dict[str, Any]]


def take_running(connection: sqlite3.Connection, process_id: str) -> Running:
    """Return the rows of a process's running traces; mark those as interrupted, as their ends go to another file."""
    with transaction(connection):
        connection.execute(
            "CREATE TEMP TABLE running AS SELECT key, trace_id FROM traces "
            "WHERE state = 'IN_PROGRESS' AND process_id = ?",
            (process_id,),
        )
        running = Running(
            traces=_rows(connection, f"SELECT {_columns(connection, 'traces')} FROM traces WHERE key IN ({_RUNNING})"),
            spans=_rows(
                connection, f"SELECT {_columns(connection, 'spans')} FROM spans WHERE trace_key IN ({_RUNNING})"
            ),
            tags=_rows(connection, f"SELECT trace_key, key, value FROM tags WHERE trace_key IN ({_RUNNING})"),
            chunks=_rows(
                connection,
                "SELECT trace_id, span_id, chunks FROM live_chunks "
                "WHERE trace_id IN (SELECT trace_id FROM running) ORDER BY key",
            ),
            media=_rows(
                connection,
                "SELECT span_key, hash, content_type, size, data FROM span_media JOIN media ON media.key = media_key "
                f"WHERE span_key IN (SELECT key FROM spans WHERE trace_key IN ({_RUNNING}))",
            ),
        )
        connection.execute(f"UPDATE traces SET state = 'INTERRUPTED' WHERE key IN ({_RUNNING})")
        connection.execute("DROP TABLE running")
    return running


def put_running(connection: sqlite3.Connection, running: Running) -> None:
    """Write the rows, with new keys of this file; rows that exist already stay. Call it in a transaction."""
    traces: dict[int, int] = {}  # from the old file's keys to this file's
    spans: dict[int, int] = {}
    for trace in running.traces:
        _insert(connection, "traces", {name: trace[name] for name in trace if name != "key"})
        found = connection.execute("SELECT key FROM traces WHERE trace_id = ?", (trace["trace_id"],))
        (traces[trace["key"]],) = found.fetchone()
    for span in running.spans:
        key = traces[span["trace_key"]]
        _insert(connection, "spans", {**{name: span[name] for name in span if name != "key"}, "trace_key": key})
        found = connection.execute("SELECT key FROM spans WHERE trace_key = ? AND span_id = ?", (key, span["span_id"]))
        (spans[span["key"]],) = found.fetchone()
    for tag in running.tags:
        _insert(connection, "tags", {**tag, "trace_key": traces[tag["trace_key"]]})
    for chunks in running.chunks:
        _insert(connection, "live_chunks", chunks)
    for medium in running.media:
        _insert(connection, "media", {name: medium[name] for name in medium if name != "span_key"})
        (key,) = connection.execute("SELECT key FROM media WHERE hash = ?", (medium["hash"],)).fetchone()
        _insert(connection, "span_media", {"span_key": spans[medium["span_key"]], "media_key": key})


def _columns(connection: sqlite3.Connection, table: str) -> str:
    """Return the names of a table's columns, without the generated ones (`table_info` leaves them out)."""
    return ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))


def _rows(connection: sqlite3.Connection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({places})", [*row.values()])
