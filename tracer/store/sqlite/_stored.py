"""Reads whole traces as the rows of which a batch is made."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

import msgspec

from tracer.store.batch import StoredTrace
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._feedback import feedback_of
from tracer.store.stored import TRACE_ROW_FIELDS, read_stored, span_row_fields

__all__ = ["stored_traces"]

_TRACES = f"""
SELECT {", ".join(TRACE_ROW_FIELDS)} FROM traces WHERE trace_id IN (SELECT value FROM json_each(?))
ORDER BY start_time_ns, key
"""
_TAGS = "SELECT key, value FROM tags WHERE trace_key = ? ORDER BY key"
_LINKS = "SELECT kind, id FROM links WHERE trace_key = ? ORDER BY kind, id"
_MEDIA = """
SELECT span_id, hash FROM spans JOIN span_media ON span_key = spans.key JOIN media ON media.key = media_key
WHERE trace_key = ? ORDER BY span_id, hash
"""


def stored_traces(connection: sqlite3.Connection, trace_ids: list[str], bodies: bool) -> list[StoredTrace]:
    """Return those of these traces that are stored, in the order of their starts."""
    spans = f"SELECT {', '.join(span_row_fields(bodies=bodies))} FROM spans WHERE trace_key = ? "
    spans += "ORDER BY start_time_ns, key"
    with transaction(connection, "DEFERRED"):  # one snapshot for a trace and all that belongs to it
        rows = connection.execute(_TRACES, (msgspec.json.encode(trace_ids).decode(),)).fetchall()
        keys = [row[0] for row in rows]
        judged = feedback_of(connection, msgspec.json.encode(keys).decode()) if keys else defaultdict(list)
        return [
            read_stored(
                row,
                connection.execute(spans, (row[0],)),
                tags=dict(connection.execute(_TAGS, (row[0],))),
                media=connection.execute(_MEDIA, (row[0],)).fetchall(),
                links=connection.execute(_LINKS, (row[0],)).fetchall(),
                feedback=judged.get(row[0], []),
            )
            for row in rows
        ]
