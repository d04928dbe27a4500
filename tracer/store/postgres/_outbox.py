"""Spans that ended and are still to be sent: ``outbox``. What one process takes, no other waits for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracer.store import base
from tracer.store.batch import Export
from tracer.store.postgres._sql import fetch
from tracer.store.rows import EXPORT_COLUMNS, EXPORT_SIZE, export_of, export_prefix

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["end_exports", "return_exports", "take_exports"]

_SPANS = (
    "LEFT JOIN spans ON spans.day = outbox.day AND spans.trace_key = outbox.trace_key "
    "AND spans.span_id = outbox.span_id"
)
_SIZES = f"""
SELECT outbox.key, {EXPORT_SIZE} FROM outbox {_SPANS} WHERE (taken_until_ns <= ?::bigint OR taken_by = ?::text)
ORDER BY outbox.key LIMIT ?::bigint FOR UPDATE OF outbox SKIP LOCKED
"""
_TAKE = "UPDATE outbox SET taken_by = ?::text, taken_until_ns = ?::bigint WHERE key = ANY(?::bigint[])"
_READ = f"""
SELECT {EXPORT_COLUMNS} FROM outbox {_SPANS} LEFT JOIN traces ON traces.key = outbox.trace_key
WHERE outbox.key = ANY(?::bigint[]) ORDER BY outbox.key
"""


async def take_exports(connection: Connection[Any], taker: str, most: int) -> list[Export]:
    """Take what nobody else has taken, and return it."""
    now = time.time_ns()
    keys = export_prefix([(key, size) for key, size in await fetch(connection, _SIZES, (now, taker, most))])
    if not keys:
        return []
    await fetch(connection, _TAKE, (taker, now + int(base.TAKEN_SECONDS * 1e9), keys))
    return [export_of(row) for row in await fetch(connection, _READ, (keys,))]


async def end_exports(connection: Connection[Any], keys: list[int]) -> None:
    """Forget them."""
    await fetch(connection, "DELETE FROM outbox WHERE key = ANY(?::bigint[])", (keys,))


async def return_exports(connection: Connection[Any], taker: str) -> None:
    """Let others have what a process has taken."""
    back = "UPDATE outbox SET taken_by = NULL, taken_until_ns = 0 WHERE taken_by = ?::text"
    await fetch(connection, back, (taker,))
