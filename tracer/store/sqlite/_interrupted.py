"""Finds traces that will never end, because the process that wrote them is gone."""

from __future__ import annotations

import sqlite3
import time

import msgspec

from tracer.store.base import SEEN, SILENCE_SECONDS
from tracer.store.batch import ProcessRow
from tracer.store.process import current_process, is_alive

__all__ = ["find_gone_processes", "mark_interrupted"]

_SUSPECTS = f"""
SELECT process_id, host, pid, started, ended_ns, batches AS seen
FROM (SELECT DISTINCT process_id FROM traces WHERE state = 'IN_PROGRESS') JOIN processes USING (process_id)
LEFT JOIN taken_over ON source = '{SEEN}' || process_id
"""
_MARK = """
UPDATE traces SET state = 'INTERRUPTED'
WHERE state = 'IN_PROGRESS' AND process_id IN (SELECT value FROM json_each(?))
"""


def find_gone_processes(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of processes that have running traces but no longer run, or have closed their store.

    A process that sends to a server from another machine can't be seen: it is gone when it has been silent for long.
    """
    own, heard_since = current_process().process_id, time.time() - SILENCE_SECONDS
    return [
        process_id
        for process_id, host, pid, started, ended_ns, seen in connection.execute(_SUSPECTS).fetchall()
        if ended_ns is not None
        or (seen is not None and seen < heard_since)
        or (process_id != own and not is_alive(ProcessRow(process_id=process_id, host=host, pid=pid, started=started)))
    ]


def mark_interrupted(connection: sqlite3.Connection, process_ids: list[str]) -> None:
    """Set the state of those processes' running traces. A later write of such a trace sets it right again."""
    connection.execute(_MARK, (msgspec.json.encode(process_ids).decode(),))
