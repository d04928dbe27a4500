"""Deletes traces, with all that belongs to them: on request, and those that are kept no longer (`Retention`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.store.base import Retention
from tracer.store.postgres._media import delete_unused_media, lock_media
from tracer.store.postgres._partitions import days_over, drop_day
from tracer.store.postgres._sessions import TABLES_SIZE
from tracer.store.postgres._sql import Clause, fetch, fetch_value, joined

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["delete_old", "delete_traces", "drop_days", "live_bytes", "tables_bytes"]

_TRACES = 200  # so many traces are deleted in a step of retention
_TRACES_OF_DAY = 2_000  # … where their spans go with the partition of a day
_CONDITIONS = {
    "trace_ids": "traces.trace_id = ANY(?::text[])",
    "experiment": "traces.experiment = ?::text",
    "max_timestamp_ms": "traces.start_time_ns <= ?::bigint * 1000000",
}
_ENDED = "traces.state <> 'IN_PROGRESS'"
_OVER_AGE = "traces.start_time_ns < ?::bigint AND coalesce(traces.end_time_ns, traces.start_time_ns) < ?::bigint"
_CHOOSE = "SELECT key FROM traces WHERE {where} ORDER BY start_time_ns LIMIT ?::bigint"
# Locked in the order in which batches lock them.
_LOCK = """
SELECT key, day, trace_id FROM traces WHERE key = ANY(?::bigint[]) AND {where} ORDER BY trace_id FOR UPDATE {waiting}
"""
_DELETE_SPANS = """
DELETE FROM spans USING unnest(?::int[], ?::bigint[]) AS given (day, trace_key)
WHERE spans.day = given.day AND spans.trace_key = given.trace_key
"""
_COLUMNS = ("inputs", "outputs", "attributes", "events", "chunks", "text", "words")
_SIZE = " + ".join(f"coalesce(pg_column_size({column}), 0)" for column in _COLUMNS)
_ROW_BYTES = 600  # that a span takes beside its contents, about, with its trace and its entries in indexes
_LIVE_BYTES = f"""
SELECT (SELECT coalesce(sum({_SIZE} + {_ROW_BYTES}), 0) FROM spans) + (SELECT coalesce(sum(size), 0) FROM media)
"""
_OLDEST = f"""
SELECT traces.key, (
    SELECT coalesce(sum({_SIZE} + {_ROW_BYTES}), 0) FROM spans WHERE spans.day = traces.day AND trace_key = traces.key
) FROM traces WHERE {_ENDED} ORDER BY start_time_ns LIMIT {_TRACES}
"""


async def delete_traces(connection: Connection[Any], given: dict[str, Any], limit: int | None) -> int:
    """Delete up to `limit` traces that meet all conditions, oldest first; return how many."""
    where = joined([Clause(_CONDITIONS[name], (value,)) for name, value in given.items()])
    return await _delete(connection, where, limit, "")


async def delete_old(connection: Connection[Any], retention: Retention, now_ns: int, excess: float) -> tuple[int, int]:
    """Delete some of the oldest traces that have ended and are kept no longer.

    Traces that somebody else writes to just now are left for later.

    Args:
        connection: In a transaction.
        retention: Its age counts here, and its bytes by `excess`.
        now_ns: The time from which an age counts.
        excess: How many bytes there are too many.

    Returns:
        How many traces were deleted, and about how many bytes.
    """
    if retention.max_age is not None:
        since = now_ns - int(retention.max_age * 1e9)
        if deleted := await _delete_over_age(connection, since):
            return deleted, 0
    if excess <= 0:
        return 0, 0
    chosen, freed = [], 0
    for key, size in await fetch(connection, _OLDEST):
        chosen.append(key)
        freed += int(size)
        if freed >= excess:
            break
    where = joined([Clause("traces.key = ANY(?::bigint[])", (chosen,)), Clause(_ENDED)])
    return await _delete(connection, where, None, "SKIP LOCKED"), freed


async def _delete_over_age(connection: Connection[Any], since: int) -> int:
    over = joined([Clause(_OVER_AGE, (since, since)), Clause(_ENDED)])
    kept = f"SELECT EXISTS (SELECT 1 FROM traces WHERE day = ?::int AND ({over.sql}) IS NOT TRUE)"
    for day in await days_over(connection, since):
        if not await fetch_value(connection, kept, (day, *over.parameters)):
            of_day = joined([over, Clause("traces.day = ?::int", (day,))])
            if deleted := await _delete(connection, of_day, _TRACES_OF_DAY, "SKIP LOCKED", spans=False):
                return deleted
    return await _delete(connection, over, _TRACES, "SKIP LOCKED")


async def drop_days(connection: Connection[Any], since_ns: int) -> None:
    """Drop the oldest day's partition, if nothing in it is kept."""
    for day in await days_over(connection, since_ns):
        if await drop_day(connection, day):
            return


async def tables_bytes(connection: Connection[Any]) -> int:
    """Return how much room our tables take, with what deleting has freed in them."""
    return int(await fetch_value(connection, TABLES_SIZE))


async def live_bytes(connection: Connection[Any]) -> int:
    """Return about how many bytes our tables hold. Reads all rows, without long texts, which are stored elsewhere."""
    return int(await fetch_value(connection, _LIVE_BYTES))


async def _delete(
    connection: Connection[Any], where: Clause, limit: int | None, waiting: str, *, spans: bool = True
) -> int:
    """Delete in the open transaction. Foreign keys delete tags, links, feedback and what refers to media.

    Without `spans`, these stay for `drop_days`: nothing is found in them any more.
    """
    await lock_media(connection, alone=True)
    chosen = [row[0] for row in await fetch(connection, _CHOOSE.format(where=where.sql), (*where.parameters, limit))]
    if not chosen:
        return 0
    locked = _LOCK.format(where=where.sql, waiting=waiting)
    doomed = await fetch(connection, locked, (chosen, *where.parameters))
    if not doomed:
        return 0
    keys, days, ids = (list(column) for column in zip(*doomed, strict=True))
    used = "SELECT DISTINCT media_key FROM span_media WHERE trace_key = ANY(?::bigint[])"
    media = [row[0] for row in await fetch(connection, used, (keys,))]
    if spans:
        await fetch(connection, _DELETE_SPANS, (days, keys))
    await fetch(connection, "DELETE FROM live_chunks WHERE trace_id = ANY(?::text[])", (ids,))
    await fetch(connection, "DELETE FROM traces WHERE key = ANY(?::bigint[])", (keys,))
    if media:
        await delete_unused_media(connection, media)
    return len(keys)
