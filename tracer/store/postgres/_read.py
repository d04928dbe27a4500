"""Reads traces back, with all that belongs to them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tracer._models import Trace
from tracer.store.postgres._feedback import feedback_of
from tracer.store.postgres._links import chains
from tracer.store.postgres._sql import fetch
from tracer.store.rows import SPAN_FIELDS, TRACE_FIELDS, RawChunks, Row, decode_chunks, read_span, read_trace, runs

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["TRACE_COLUMNS", "read_live_chunks", "read_traces"]

_AS_TEXT = ("metadata", "dropped", "models")
TRACE_COLUMNS = ", ".join(f"traces.{name}{'::text' if name in _AS_TEXT else ''}" for name in TRACE_FIELDS)
_SPANS = f"""
SELECT {", ".join(SPAN_FIELDS)} FROM spans WHERE day = ?::int AND trace_key = ANY(?::bigint[])
ORDER BY trace_key, start_time_ns, written
"""
_DAYS = "SELECT key, day FROM traces WHERE key = ANY(?::bigint[])"
_TAGS = "SELECT trace_key, key, value FROM tags WHERE trace_key = ANY(?::bigint[]) ORDER BY trace_key, key"
_LIVE = "SELECT chunks FROM live_chunks WHERE trace_id = ?::text AND span_id = ?::text ORDER BY key"


async def read_traces(connection: Connection[Any], rows: list[Row], *, spans: bool = True) -> list[Trace]:
    """Complete rows of `TRACE_COLUMNS` with their tags and, if asked for, their spans."""
    if not rows:
        return []
    keys = [row[0] for row in rows]
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for trace_key, key, value in await fetch(connection, _TAGS, (keys,)):
        tags[trace_key][key] = value
    found = await _spans(connection, keys) if spans else {}
    linked = await chains(connection, keys)
    judged = await feedback_of(connection, keys)
    traces = []
    for row in rows:
        built = []
        for span in found.get(row[0], []):
            live = await read_live_chunks(connection, row[1], span[1]) if runs(span) else []
            built.append(read_span(row[1], span, live))
        traces.append(read_trace(row, tags[row[0]], linked.get(row[0], []), built, judged.get(row[0], [])))
    return traces


async def read_live_chunks(connection: Connection[Any], trace_id: str, span_id: str) -> RawChunks:
    """Return the raw reads of a stream that still runs, in order."""
    rows = await fetch(connection, _LIVE, (trace_id, span_id))
    return [chunk for (packed,) in rows for chunk in decode_chunks(packed)]


async def _spans(connection: Connection[Any], keys: list[int]) -> dict[int, list[Row]]:
    """Return the spans of traces. Given their days as values, PostgreSQL looks into these partitions only."""
    days = await fetch(connection, _DAYS, (keys,))
    found: dict[int, list[Row]] = defaultdict(list)
    by_day: dict[int, list[int]] = defaultdict(list)
    for key, day in days:
        by_day[day].append(key)
    for day, some in by_day.items():
        for row in await fetch(connection, _SPANS, (day, some)):
            found[row[0]].append(row)
    return found
