"""The days of ``spans``: a partition for each, made before it begins, and dropped when nothing in it is kept.

To drop a partition takes milliseconds, to delete its rows seconds, and only dropping gives room back to the system.
Where a partition can't be made (no right to, or no lock), its spans lie in ``spans_other``, and nothing else changes.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from tracer.store.postgres._sql import fetch, fetch_value
from tracer.store.postgres._write import DAY_NS, day_of

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["days_over", "drop_day", "make_days"]

_LOCK_PARTITIONS = 0x74726163_65720003
_AHEAD = 2  # days: today and tomorrow
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_KNOWN = """
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'spans'::regclass AND relname ~ '^spans_[0-9]{8}$'
"""


async def make_days(connection: Connection[Any]) -> None:
    """Make the partitions of today and tomorrow, in the open transaction, unless they are there."""
    today = day_of(time.time_ns())
    missing = {_name(day): day for day in range(today, today + _AHEAD)}
    if missing.keys() <= set(await _names(connection)):
        return
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_PARTITIONS)
    for name in await _names(connection):
        missing.pop(name, None)
    for name, day in missing.items():
        taken = "SELECT EXISTS (SELECT 1 FROM spans_other WHERE day = ?::int)"
        if not await fetch_value(connection, taken, (day,)):  # else they stay there
            await connection.execute(f"CREATE TABLE {name} PARTITION OF spans FOR VALUES FROM ({day}) TO ({day + 1})")


async def days_over(connection: Connection[Any], since_ns: int) -> list[int]:
    """Return the days before a moment that have a partition, the oldest first."""
    days = sorted(_day(name) for name in await _names(connection))
    return [day for day in days if (day + 1) * DAY_NS <= since_ns]


async def drop_day(connection: Connection[Any], day: int) -> bool:
    """Drop a day's partition, in the open transaction, if no trace has spans in it; return whether it was dropped."""
    used = "SELECT EXISTS (SELECT 1 FROM traces WHERE day = ?::int)"
    if await fetch_value(connection, used, (day,)):
        return False
    await connection.execute(f"LOCK TABLE {_name(day)} IN ACCESS EXCLUSIVE MODE")
    if await fetch_value(connection, used, (day,)):
        return False
    await connection.execute(f"DROP TABLE {_name(day)}")
    return True


async def _names(connection: Connection[Any]) -> list[str]:
    return [str(row[0]) for row in await fetch(connection, _KNOWN)]


def _name(day: int) -> str:
    return f"spans_{_EPOCH + timedelta(days=day):%Y%m%d}"


def _day(name: str) -> int:
    return (datetime.strptime(name, "spans_%Y%m%d").replace(tzinfo=timezone.utc) - _EPOCH).days
