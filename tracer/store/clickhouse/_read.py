"""Reads traces back, with all that belongs to them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from tracer._models import Trace
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._feedback import feedback_of
from tracer.store.clickhouse._links import chains
from tracer.store.clickhouse._rows import Place, places_of, trace_key
from tracer.store.clickhouse._sql import live
from tracer.store.rows import SPAN_FIELDS, TRACE_FIELDS, RawChunks, Row, decode_chunks, read_span, read_trace, runs

__all__ = ["TRACE_COLUMNS", "read_live_chunks", "read_traces", "spans_of", "trace_row"]

_JSON = tuple(TRACE_FIELDS.index(name) for name in ("metadata", "dropped", "models"))
_TAGS = len(TRACE_FIELDS)
TRACE_COLUMNS = ", ".join(["trace_key", *TRACE_FIELDS[1:], "tags"])
_AT = "(born, trace_key) IN ?:Array(Tuple(Int64, Int64))"
_LIVE = f"""
SELECT trace_key, span_id, chunks FROM live_chunks
WHERE {live("chunk")} AND trace_key IN ?:Array(Int64) ORDER BY written LIMIT 1 BY row
"""


def trace_row(connection: Connection, trace_id: str) -> tuple[Any, ...] | None:
    """Return the row of `TRACE_COLUMNS` of a trace; None if it is not stored."""
    places = places_of(connection, [trace_key(trace_id)])
    sql = f"SELECT {TRACE_COLUMNS} FROM traces WHERE {_AT} AND {live('trace')} ORDER BY version DESC LIMIT 1"
    return connection.row(sql, (places,)) if places else None


def read_traces(connection: Connection, rows: list[tuple[Any, ...]], *, spans: bool = True) -> list[Trace]:
    """Complete rows of `TRACE_COLUMNS`, which may have more columns behind, with what belongs to them."""
    if not rows:
        return []
    keys = [row[0] for row in rows]
    found = spans_of(connection, places_of(connection, keys), SPAN_FIELDS) if spans else {}
    waiting = {key for key, some in found.items() if any(runs(span) for span in some)}
    live_chunks = _live_chunks(connection, waiting)
    linked = chains(connection, keys)
    judged = feedback_of(connection, keys)
    traces = []
    for row in rows:
        key, trace_id, tags = row[0], row[1], dict(sorted(row[_TAGS].items()))
        built = [read_span(trace_id, span, live_chunks.get((key, span[1]), [])) for span in found.get(key, [])]
        told = read_trace(_as_json(row), tags, linked.get(key, []), built, judged.get(key, []))
        traces.append(told)
    return traces


def _as_json(row: tuple[Any, ...]) -> Row:
    """Return a row of `TRACE_FIELDS`, which has maps and arrays as JSON."""
    values = list(row[:_TAGS])
    for at in _JSON:
        values[at] = json.dumps(values[at]) if values[at] else None
    return tuple(values)


def spans_of(connection: Connection, places: list[Place], columns: Sequence[str]) -> dict[int, list[Row]]:
    """Return the spans of traces in the order of their starts: rows of `columns`, which begin with trace and span."""
    latest: dict[tuple[int, str], tuple[Any, ...]] = {}
    raw = [name for name in columns if name == "chunks"]
    for table, kind in (("running", "running"), ("spans", "span")) if places else ():
        sql = f"SELECT {', '.join(columns)}, written FROM {table} WHERE {_AT} AND {live(kind)}"
        for row in connection.fetch(sql, (places,), raw=raw):
            key = (row[0], row[1])
            if key not in latest or latest[key][-1] <= row[-1]:
                latest[key] = row
    found: dict[int, list[Row]] = defaultdict(list)
    start = columns.index("start_time_ns")
    chunks = columns.index("chunks") if raw else -1
    for row in sorted(latest.values(), key=lambda row: (row[start], row[-1])):
        found[row[0]].append(tuple(value or None if at == chunks else value for at, value in enumerate(row[:-1])))
    return found


def read_live_chunks(connection: Connection, trace_id: str, span_id: str) -> RawChunks:
    """Return the raw reads of a stream that still runs, in order."""
    key = trace_key(trace_id)
    return _live_chunks(connection, [key]).get((key, span_id), [])


def _live_chunks(connection: Connection, keys: Collection[int]) -> dict[tuple[int, str], RawChunks]:
    found: dict[tuple[int, str], RawChunks] = defaultdict(list)
    for key, span_id, packed in connection.fetch(_LIVE, (list(keys),), raw=("chunks",)) if keys else ():
        found[key, span_id] += decode_chunks(packed)
    return found
