"""Finds traces that will never end, because the process that wrote them is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracer.store.base import ProcessRow
from tracer.store.postgres._sql import fetch
from tracer.store.process import current_process, is_alive

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["find_gone_processes", "mark_interrupted"]

_SUSPECTS = """
SELECT process_id, host, pid, started, ended_ns
FROM (SELECT DISTINCT process_id FROM traces WHERE state = 'IN_PROGRESS') AS running JOIN processes USING (process_id)
"""
# What somebody else has locked is being written to, so it runs.
_MARK = """
WITH gone AS (
    SELECT key FROM traces WHERE state = 'IN_PROGRESS' AND process_id = ANY(?::text[]) FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE traces SET state = 'INTERRUPTED' WHERE key IN (SELECT key FROM gone)
"""


async def find_gone_processes(connection: Connection[Any]) -> list[str]:
    """Return the ids of processes that have running traces but no longer run, or have closed their store.

    Of a process on another machine only the latter is known.
    """
    own = current_process().process_id
    return [
        process_id
        for process_id, host, pid, started, ended_ns in await fetch(connection, _SUSPECTS)
        if ended_ns is not None
        or (process_id != own and not is_alive(ProcessRow(process_id=process_id, host=host, pid=pid, started=started)))
    ]


async def mark_interrupted(connection: Connection[Any], process_ids: list[str]) -> None:
    """Set the state of those processes' running traces. A later write of such a trace sets it right again."""
    await fetch(connection, _MARK, (process_ids,))
