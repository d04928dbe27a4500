"""Deletes traces, with all that belongs to them: on request, and those that are kept no longer (`Retention`).

Nobody finds a deleted trace any more from then on. Its rows are on the disk until the next upkeep
(`tracer.store.clickhouse._upkeep`), or until the whole day's partition is dropped.
"""

from __future__ import annotations

import time
from typing import Any

from tracer.store.base import Retention
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._rows import Clock, Place, note_change
from tracer.store.clickhouse._sql import Clause, joined, live
from tracer.store.clickhouse._tables import TRACE_TABLES

__all__ = ["delete_old", "delete_traces", "drop_days", "tables_bytes"]

_TRACES = 2_000  # so many traces are deleted in a step of retention
_CONDITIONS = {
    "trace_ids": "trace_id IN ?:Array(String)",
    "experiment": "experiment = ?:String",
    "max_timestamp_ms": "start_time_ns <= ?:Int64 * 1000000",
}
_ENDED = Clause("state != 'IN_PROGRESS'")
_OVER_AGE = "start_time_ns < ?:Int64 AND ifNull(end_time_ns, start_time_ns) < ?:Int64"
_AT = "(born, trace_key) IN ?:Array(Tuple(Int64, Int64))"
_WITH_BORN = ("traces", "spans", "running")
_DAY_TABLES = ("spans", "running", "traces")
_BYTES = """
SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase() AND table != 'gone'
"""
_SHARE = f"SELECT countIf({live('trace')}) / greatest(count(), 1), countIf({live('trace')}) FROM traces"


def delete_traces(connection: Connection, given: dict[str, Any], limit: int | None, clock: Clock) -> int:
    """Delete up to `limit` traces that meet all conditions, oldest first; return how many."""
    return _delete(
        connection, joined([Clause(_CONDITIONS[name], (value,)) for name, value in given.items()]), limit, clock
    )


def delete_old(connection: Connection, retention: Retention, now_ns: int, excess: float, clock: Clock) -> int:
    """Delete some of the oldest traces that have ended and are kept no longer.

    Args:
        connection: Where.
        retention: Its age counts here, and its bytes by `excess`.
        now_ns: The time from which an age counts.
        excess: Which share of what is stored there is too much, 0 to 1.
        clock: Of this store.

    Returns:
        How many traces were deleted.
    """
    if retention.max_age is not None:
        since = now_ns - int(retention.max_age * 1e9)
        over = joined([Clause(_OVER_AGE, (since, since)), _ENDED])
        if deleted := _delete(connection, over, _TRACES, clock):
            return deleted
    if excess <= 0:
        return 0
    traces = int((connection.row(_SHARE) or (0, 0))[1])
    return _delete(connection, _ENDED, min(_TRACES, max(1, round(traces * excess))), clock)


def tables_bytes(connection: Connection) -> tuple[int, float]:
    """Return how much room the tables take, and which share of it is of traces that are not deleted, about."""
    return int(connection.value(_BYTES) or 0), float(connection.value(_SHARE) or 0.0)


def drop_days(connection: Connection, since_ns: int) -> None:
    """Drop the partitions of days of which nothing is kept."""
    latest = time.strftime("%Y%m%d", time.gmtime(since_ns / 1e9 - 86_400))
    parts = "SELECT DISTINCT partition FROM system.parts WHERE active AND database = currentDatabase() AND table = "
    for table in _DAY_TABLES:
        for (day,) in connection.fetch(parts + f"'{table}' AND partition < ?:String", (latest,)):
            kept = f"SELECT 1 FROM traces WHERE {live('trace')} AND toYYYYMMDD(fromUnixTimestamp64Nano(born, 'UTC')) = "
            if str(day).isdigit() and not connection.fetch(kept + "?:Int64 LIMIT 1", (int(day),)):
                connection.execute(f"ALTER TABLE {table} DROP PARTITION {int(day)}")


def _delete(connection: Connection, where: Clause, limit: int | None, clock: Clock) -> int:
    sql = f"SELECT born, trace_key FROM traces WHERE {live('trace')} AND ({where.sql}) ORDER BY start_time_ns, born"
    most = "" if limit is None else " LIMIT ?:Int64"
    rows = connection.fetch(sql + most, (*where.parameters, *([] if limit is None else [limit])))
    places: list[Place] = [(born, key) for born, key in rows]
    for at in range(0, len(places), _TRACES):
        _forget(connection, places[at : at + _TRACES], clock)
    if places:
        note_change(connection, clock)
    return len({key for _, key in places})


def _forget(connection: Connection, places: list[Place], clock: Clock) -> None:
    """Note all rows of some traces as gone, those of the traces themselves last."""
    keys = [key for _, key in places]
    for table, kind in reversed(TRACE_TABLES.items()):
        where, values = (_AT, places) if table in _WITH_BORN else ("trace_key IN ?:Array(Int64)", keys)
        insert = (
            f"INSERT INTO gone (kind, row, made) SELECT '{kind}', row, ?:Int64 FROM {table} WHERE {live(kind)} AND "
        )
        connection.execute(insert + where, (clock.next(), values))
