"""Deletes the rows that are noted as gone, so that the notes stay few.

ClickHouse rewrites the marks of all parts for a DELETE, which takes seconds. So it is done when there are many notes,
or when the oldest is a day old.
"""

from __future__ import annotations

import time

from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._sql import live
from tracer.store.clickhouse._tables import TRACE_TABLES

__all__ = ["delete_gone"]

_MANY = 50_000
_OLD_NS = 86_400 * 10**9
_YOUNG_NS = 10 * 60 * 10**9  # what was replaced just now may still be read
_MUTATION = "SETTINGS lightweight_deletes_sync = 2, allow_nondeterministic_mutations = 1"
_UNUSED_MEDIA = (
    f"hash NOT IN (SELECT hash FROM span_media WHERE {live('medium')}) "
    "AND hash IN (SELECT hash FROM span_media WHERE row IN (SELECT row FROM gone WHERE kind = 'medium'))"
)


def delete_gone(connection: Connection, *, at_once: bool = False) -> bool:
    """Delete the rows that are gone, if that is due; return whether it was done."""
    count, oldest = connection.row("SELECT count(), min(made) FROM gone") or (0, 0)
    now = time.time_ns()
    if not count or not (at_once or count > _MANY or oldest < now - _OLD_NS):
        return False
    until = now if at_once else now - _YOUNG_NS
    connection.execute(f"DELETE FROM media WHERE {_UNUSED_MEDIA} {_MUTATION}")
    for table, kind in TRACE_TABLES.items():
        some = f"SELECT row FROM gone WHERE kind = '{kind}' AND made < {until}"
        if connection.fetch(f"{some} LIMIT 1"):
            connection.execute(f"DELETE FROM {table} WHERE row IN ({some}) {_MUTATION}")
    connection.execute(f"DELETE FROM gone WHERE made < {until} {_MUTATION}")
    return True
