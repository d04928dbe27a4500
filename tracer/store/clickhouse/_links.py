"""Which traces continue one another, through ids in ``links`` (see `tracer.store.sqlite._links`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._rows import current_traces, places_of, trace_key
from tracer.store.clickhouse._sql import live

__all__ = ["chains", "linked_keys"]

_MAX_CHAIN = 1_000
# One step leads from a trace to those that its calls continue, to those that continue its calls, to those that share
# their conversation, and to those that read the same response again (polls of a background response, a resumed stream).
_OTHER_KINDS = {
    "previous_response": ("response",),
    "response": ("previous_response", "response"),
    "conversation": ("conversation",),
}
_OF_TRACES = f"SELECT trace_key, kind, id FROM links WHERE {live('link')} AND trace_key IN ?:Array(Int64)"
_OF_IDS = f"SELECT id, kind, trace_key FROM links WHERE {live('link')} AND id IN ?:Array(String)"


def linked_keys(connection: Connection, trace_id: str) -> list[int]:
    """Return the keys of the traces that are linked to the trace with this id, and of that trace itself."""
    key = trace_key(trace_id)
    return sorted(_reached([key], _neighbours(connection, [key])))[:_MAX_CHAIN]


def chains(connection: Connection, keys: Collection[int]) -> dict[int, list[str]]:
    """Return the chain of each trace that is linked to others: the ids of all its traces, the oldest first."""
    beside = _neighbours(connection, keys)
    groups = {key: _reached([key], beside) for key in keys if beside.get(key)}
    linked = {key for group in groups.values() if len(group) > 1 for key in group}
    rows = [found.row for found in current_traces(connection, places_of(connection, linked)).values()]
    rows.sort(key=lambda row: (row["start_time_ns"], row["born"]))
    chained = {}
    for key, group in groups.items():
        chain = [row["trace_id"] for row in rows if row["trace_key"] in group][:_MAX_CHAIN]
        if len(chain) > 1:
            chained[key] = chain
    return chained


def _neighbours(connection: Connection, keys: Iterable[int]) -> dict[int, set[int]]:
    """Return which traces are one step apart, of all that can be reached from some."""
    beside: dict[int, set[int]] = {}
    due = set(keys)
    most = len(due) * _MAX_CHAIN
    while due and len(beside) < most:
        mine = connection.fetch(_OF_TRACES, (list(due),))
        beside.update((key, set()) for key in due)
        by_id: dict[tuple[str, str], set[int]] = defaultdict(set)
        ids = {id_ for _, _, id_ in mine}
        for id_, kind, key in connection.fetch(_OF_IDS, (list(ids),)) if ids else ():
            by_id[id_, kind].add(key)
        for key, kind, id_ in mine:
            for other in _OTHER_KINDS.get(kind, ()):
                beside[key] |= by_id[id_, other] - {key}
        due = {other for key in due for other in beside[key]} - beside.keys()
    return beside


def _reached(start: Iterable[int], beside: dict[int, set[int]]) -> set[int]:
    found, due = set(start), list(start)
    while due and len(found) < _MAX_CHAIN:
        new = beside.get(due.pop(), set()) - found
        found |= new
        due += new
    return found
