"""Finds traces that will never end, because the process that wrote them is gone."""

from __future__ import annotations

import functools
import time

from tracer.store.base import SEEN, SILENCE_SECONDS
from tracer.store.batch import ProcessRow
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._rows import Clock, current_traces, note_change, replace_traces, sum_up
from tracer.store.clickhouse._sql import live
from tracer.store.clickhouse._write import stored_sources
from tracer.store.process import current_process, is_alive

__all__ = ["find_gone_processes", "mark_interrupted"]

_RUNNING = f"state = 'IN_PROGRESS' AND {live('trace')}"
_SUSPECTS = f"""
SELECT process_id, argMax((host, pid, started, ended_ns), version)
FROM processes WHERE process_id IN (SELECT process_id FROM traces WHERE {_RUNNING}) GROUP BY process_id
"""
_OF_PROCESSES = f"SELECT born, trace_key FROM traces WHERE {_RUNNING} AND process_id IN ?:Array(String) LIMIT ?:Int64"
_AT_ONCE = 1_000


def find_gone_processes(connection: Connection) -> list[str]:
    """Return the ids of processes that have running traces but no longer run, or have closed their store.

    A process on another machine can't be seen: it is gone when it has been silent for long.
    """
    own, heard_since = current_process().process_id, time.time() - SILENCE_SECONDS
    suspects = dict(connection.fetch(_SUSPECTS))
    seen = stored_sources(connection, [SEEN + process_id for process_id in suspects]) if suspects else {}
    gone = []
    for process_id, (host, pid, started, ended_ns) in suspects.items():
        heard = seen.get(SEEN + process_id) or None
        process = ProcessRow(process_id=process_id, host=host, pid=pid, started=started)
        silent = heard is not None and heard < heard_since
        if ended_ns is not None or silent or (process_id != own and not is_alive(process)):
            gone.append(process_id)
    return gone


def mark_interrupted(connection: Connection, process_ids: list[str], clock: Clock) -> None:
    """Set the state of those processes' running traces. A later write of such a trace sets it right again."""
    while places := connection.fetch(_OF_PROCESSES, (process_ids, _AT_ONCE)):
        found = current_traces(connection, [(born, key) for born, key in places])
        rows = {
            key: {**current.row, "state": "INTERRUPTED"}
            for key, current in found.items()
            if current.row["state"] == "IN_PROGRESS" and current.row["process_id"] in process_ids
        }
        if not rows:
            break
        replace_traces(connection, clock, found, rows, functools.partial(sum_up, connection))
        note_change(connection, clock)
