"""Reads whole traces as the rows of which a batch is made."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection

from tracer.store.batch import StoredTrace
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._feedback import feedback_of
from tracer.store.clickhouse._read import spans_of
from tracer.store.clickhouse._rows import current_traces, places_of, trace_key
from tracer.store.clickhouse._sql import live
from tracer.store.stored import TRACE_ROW_FIELDS, read_stored, span_row_fields

__all__ = ["stored_traces"]

_MEDIA = f"SELECT trace_key, span_id, hash FROM span_media WHERE {live('medium')} AND trace_key IN ?:Array(Int64)"
_LINKS = f"SELECT trace_key, kind, id FROM links WHERE {live('link')} AND trace_key IN ?:Array(Int64)"


def stored_traces(connection: Connection, trace_ids: list[str], bodies: bool) -> list[StoredTrace]:
    """Return those of these traces that are stored, in the order of their starts."""
    places = places_of(connection, [trace_key(trace_id) for trace_id in trace_ids])
    rows = [found.row for found in current_traces(connection, places).values()]
    keys = [row["trace_key"] for row in rows]
    if not keys:
        return []
    spans = spans_of(connection, places, ("trace_key", *span_row_fields(bodies=bodies)))
    media, links = _pairs(connection, _MEDIA, keys), _pairs(connection, _LINKS, keys)
    judged = feedback_of(connection, keys)
    found = []
    for row in sorted(rows, key=lambda row: (row["start_time_ns"], row["born"])):
        key = row["trace_key"]
        told = {**row, "key": key, "metadata": json.dumps(row["metadata"]), "dropped": json.dumps(row["dropped"])}
        found.append(
            read_stored(
                tuple(told[name] for name in TRACE_ROW_FIELDS),
                (span[1:] for span in spans[key]),
                tags=dict(sorted(row["tags"].items())),
                media=media[key],
                links=links[key],
                feedback=judged.get(key, []),
            )
        )
    return found


def _pairs(connection: Connection, sql: str, keys: Collection[int]) -> defaultdict[int, list[tuple[str, str]]]:
    """Return what belongs to each trace, in order."""
    found: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for key, one, other in sorted(set(connection.fetch(sql, (list(keys),)))):
        found[key].append((one, other))
    return found
