"""Finds traces that will never end, because the process that wrote them is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracer.store.base import SEEN, SILENCE_SECONDS
from tracer.store.batch import ProcessRow
from tracer.store.postgres._sql import fetch
from tracer.store.process import current_process, is_alive

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["find_gone_processes", "mark_interrupted"]

_SUSPECTS = f"""
SELECT processes.process_id, host, pid, started, ended_ns, batches AS seen
FROM (SELECT DISTINCT process_id FROM traces WHERE state = 'IN_PROGRESS') AS running JOIN processes USING (process_id)
LEFT JOIN taken_over ON source = '{SEEN}' || processes.process_id
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

    A process on another machine can't be seen: it is gone when it has been silent for long.
    """
    own, heard_since = current_process().process_id, time.time() - SILENCE_SECONDS
    return [
        process_id
        for process_id, host, pid, started, ended_ns, seen in await fetch(connection, _SUSPECTS)
        if ended_ns is not None
        or (seen is not None and seen < heard_since)
        or (process_id != own and not is_alive(ProcessRow(process_id=process_id, host=host, pid=pid, started=started)))
    ]


async def mark_interrupted(connection: Connection[Any], process_ids: list[str]) -> None:
    """Set the state of those processes' running traces. A later write of such a trace sets it right again."""
    await fetch(connection, _MARK, (process_ids,))
