"""Reads traces back, with all that belongs to them."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import Any

import msgspec

from tracer._models import Span, Trace
from tracer.store.rows import SPAN_FIELDS, TRACE_FIELDS, RawChunks, Row, decode_chunks, read_span, read_trace, runs
from tracer.store.sqlite._feedback import feedback_of
from tracer.store.sqlite._links import chains

__all__ = ["TRACE_COLUMNS", "read_live_chunks", "read_traces"]

TRACE_COLUMNS = ", ".join(TRACE_FIELDS)
_IN_KEYS = "trace_key IN (SELECT value FROM json_each(?))"
_SPANS = f"SELECT {', '.join(SPAN_FIELDS)} FROM spans WHERE {_IN_KEYS} ORDER BY trace_key, start_time_ns, key"
_TAGS = f"SELECT trace_key, key, value FROM tags WHERE {_IN_KEYS} ORDER BY trace_key, key"
_LIVE = "SELECT chunks FROM live_chunks WHERE trace_id = ? AND span_id = ? ORDER BY key"


def read_traces(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], *, spans: bool = True) -> list[Trace]:
    """Complete rows of `TRACE_COLUMNS` with their tags and, if asked for, their spans."""
    keys = msgspec.json.encode([row[0] for row in rows]).decode()
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for trace_key, key, value in connection.execute(_TAGS, (keys,)):
        tags[trace_key][key] = value
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    if spans:
        for row in connection.execute(_SPANS, (keys,)):
            found[row[0]].append(row)
    linked = chains(connection, [row[0] for row in rows])
    judged = feedback_of(connection, keys)
    return [
        read_trace(
            row,
            tags[row[0]],
            linked.get(row[0], []),
            [_span(connection, row[1], span) for span in found[row[0]]],
            judged.get(row[0], []),
        )
        for row in rows
    ]


def read_live_chunks(connection: sqlite3.Connection, trace_id: str, span_id: str) -> RawChunks:
    """Return the raw reads of a stream that still runs, in order."""
    rows = connection.execute(_LIVE, (trace_id, span_id)).fetchall()
    return [chunk for (packed,) in rows for chunk in decode_chunks(packed)]


def _span(connection: sqlite3.Connection, trace_id: str, row: Row) -> Span:
    return read_span(trace_id, row, read_live_chunks(connection, trace_id, row[1]) if runs(row) else [])
