"""Deletes traces, with all that belongs to them: on request, and those that are kept no longer (`Retention`)."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from tracer.store.base import Retention
from tracer.store.sqlite._connection import free_pages, transaction, unless_locked
from tracer.store.sqlite._text import follow_changes

__all__ = ["Expired", "choose_expired", "delete_expired", "delete_traces", "has_much_free"]

# A step of retention deletes about so much, and always a span. It then took 7 to 15 ms, as measured with 150 rare words
# a span, on a machine with twice as much to do as it has cores.
_SPANS = 50
_BYTES = 1024 * 1024
_TEXT_WEIGHT = 16  # to take a text out of the full-text index takes about that many times as long as to delete it
_ROW_BYTES = 1024  # that a span takes beside its contents, about, with its entries in indexes

_CONDITIONS = {
    "trace_ids": "trace_id IN (SELECT value FROM json_each(:trace_ids))",
    "experiment": "experiment = :experiment",
    "max_timestamp_ms": "start_time_ns <= :max_timestamp_ms * 1000000",
}
_ENDED = "state <> 'IN_PROGRESS'"
_OVER_AGE = "start_time_ns < :since AND ifnull(end_time_ns, start_time_ns) < :since"
_SIZES = f"""
SELECT key, {" + ".join(f"ifnull(length({c}), 0)" for c in ("inputs", "outputs", "attributes", "events", "chunks"))}
    + (SELECT total(size) FROM span_media JOIN media ON media.key = media_key WHERE span_key = spans.key),
    ifnull(length(text), 0)
FROM spans WHERE trace_key = ?
"""
_DELETE_SPANS = f"""
DELETE FROM spans WHERE key IN (SELECT value FROM json_each(:spans))
AND trace_key = (SELECT key FROM traces WHERE key = :trace AND {_ENDED})
"""


class Expired(msgspec.Struct):
    """What one step deletes: whole traces; or, of a trace that is too much for a step, some spans."""

    traces: list[int] = msgspec.field(default_factory=list)
    part_of: int | None = None
    spans: list[int] = msgspec.field(default_factory=list)


def delete_traces(connection: sqlite3.Connection, given: dict[str, Any], limit: int) -> int:
    """Delete up to `limit` traces that meet all conditions, oldest first, in one transaction; return how many."""
    values = dict(given)
    if "trace_ids" in given:
        values["trace_ids"] = _json(given["trace_ids"])
    with transaction(connection):
        return _delete(connection, [_CONDITIONS[name] for name in given], values, limit)


def choose_expired(connection: sqlite3.Connection, retention: Retention, now_ns: int) -> Expired | None:
    """Return what to delete next, of the oldest traces that have ended; None if nothing is due. Takes no lock."""
    with transaction(connection, "DEFERRED"):
        if retention.max_age is not None:
            since = now_ns - int(retention.max_age * 1e9)
            if expired := _choose(connection, _OVER_AGE, {"since": since}, float("inf")):
                return expired
        if retention.max_bytes is not None:
            excess = _used_bytes(connection) - retention.max_bytes
            if excess > 0:
                return _choose(connection, "TRUE", {}, excess)
    return None


def _choose(connection: sqlite3.Connection, condition: str, values: dict[str, Any], excess: float) -> Expired | None:
    """Choose as much as one step may delete, but not more than brings `excess` bytes."""
    oldest = f"SELECT key FROM traces WHERE {_ENDED} AND {condition} ORDER BY start_time_ns LIMIT {_SPANS}"
    chosen = Expired()
    count = weight = freed = 0
    for (trace,) in connection.execute(oldest, values).fetchall():
        spans: list[int] = []
        for key, size, text in connection.execute(_SIZES, (trace,)):
            count, weight = count + 1, weight + size + text * _TEXT_WEIGHT
            if (count > _SPANS or weight > _BYTES) and (chosen.traces or spans):
                if not chosen.traces:
                    chosen.part_of, chosen.spans = trace, spans
                return chosen
            spans.append(key)
            freed += size + text + _ROW_BYTES
        chosen.traces.append(trace)
        if freed >= excess:
            break
    return chosen if chosen.traces else None


def delete_expired(connection: sqlite3.Connection, expired: Expired) -> tuple[int, bool]:
    """Delete, in one transaction, what `choose_expired` has found, unless it runs again.

    If somebody else is writing just now, do nothing: it can wait.

    Returns:
        How many traces were deleted, and whether anything was.
    """
    with unless_locked(connection), transaction(connection):
        values = {"trace": expired.part_of, "spans": _json(expired.spans), "traces": _json(expired.traces)}
        spans = connection.execute(_DELETE_SPANS, values).rowcount
        condition = f"key IN (SELECT value FROM json_each(:traces)) AND {_ENDED}"
        traces = _delete(connection, [condition], {"traces": values["traces"]}, -1)
        return traces, traces + spans > 0
    return 0, False


def has_much_free(connection: sqlite3.Connection) -> bool:
    """Tell whether more than an eighth of the file is free pages. Fewer are left for what is written next."""
    return free_pages(connection) > _pragma(connection, "page_count") // 8


def _delete(connection: sqlite3.Connection, conditions: list[str], values: dict[str, Any], limit: int) -> int:
    """Delete in the open transaction. Foreign keys and triggers delete spans, tags, links, feedback and media."""
    where = " AND ".join(conditions) or "TRUE"
    chosen = f"SELECT key, trace_id FROM traces WHERE {where} ORDER BY start_time_ns LIMIT :limit"
    connection.execute(f"CREATE TEMP TABLE doomed AS {chosen}", {**values, "limit": limit})
    connection.execute("DELETE FROM live_chunks WHERE trace_id IN (SELECT trace_id FROM doomed)")
    count = connection.execute("DELETE FROM traces WHERE key IN (SELECT key FROM doomed)").rowcount
    connection.execute("DROP TABLE doomed")
    follow_changes(connection)  # the list of changes holds the text that was deleted
    return count


def _used_bytes(connection: sqlite3.Connection) -> int:
    return (_pragma(connection, "page_count") - free_pages(connection)) * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _json(values: list[Any]) -> str:
    return msgspec.json.encode(values).decode()
