"""Reads whole traces as the rows of which a batch is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.store.batch import StoredTrace
from tracer.store.postgres._feedback import feedback_of
from tracer.store.postgres._sql import fetch
from tracer.store.stored import TRACE_ROW_FIELDS, read_stored, span_row_fields

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["stored_traces"]

_AS_TEXT = ("metadata", "dropped")
_COLUMNS = ", ".join(f"{name}::text" if name in _AS_TEXT else name for name in TRACE_ROW_FIELDS)
_TRACES = f"SELECT day, {_COLUMNS} FROM traces WHERE trace_id = ANY(?::text[]) ORDER BY start_time_ns, key"
_TAGS = "SELECT key, value FROM tags WHERE trace_key = ?::bigint ORDER BY key"
_LINKS = "SELECT kind, id FROM links WHERE trace_key = ?::bigint ORDER BY kind, id"
_MEDIA = """
SELECT span_id, hash FROM span_media JOIN media ON media.key = media_key WHERE trace_key = ?::bigint
ORDER BY span_id, hash
"""


async def stored_traces(connection: Connection[Any], trace_ids: list[str], bodies: bool) -> list[StoredTrace]:
    """Return those of these traces that are stored, in the order of their starts."""
    spans = f"SELECT {', '.join(span_row_fields(bodies=bodies))} FROM spans WHERE day = ?::int AND "
    spans += "trace_key = ?::bigint ORDER BY start_time_ns, written"
    found = []
    rows = await fetch(connection, _TRACES, (trace_ids,))
    judged = await feedback_of(connection, [row[1] for row in rows]) if rows else {}
    for day, *row in rows:
        key = (row[0],)
        found.append(
            read_stored(
                tuple(row),
                await fetch(connection, spans, (day, row[0])),
                tags=dict(await fetch(connection, _TAGS, key)),
                media=await fetch(connection, _MEDIA, key),
                links=await fetch(connection, _LINKS, key),
                feedback=judged.get(row[0], []),
            )
        )
    return found
