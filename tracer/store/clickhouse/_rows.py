"""Rows of traces as they are stored now: found by their ids, replaced, and noted as gone."""

from __future__ import annotations

import functools
import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from tracer._exceptions import TraceNotFoundError
from tracer._models import USAGE_KEYS
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._merge import Row, add_totals, is_same, joined_traces
from tracer.store.clickhouse._sql import live
from tracer.store.clickhouse._tables import TABLES

__all__ = [
    "Clock",
    "Current",
    "change_trace",
    "current_traces",
    "fixed_row",
    "forget",
    "note_change",
    "places_of",
    "replace_traces",
    "sum_up",
    "trace_key",
    "trace_rows",
]

Place = tuple[int, int]
"""When a trace was born, and its key: with both, all that belongs to it is found at once."""
_COLUMNS = tuple(TABLES["traces"])
_TRACES = f"SELECT {', '.join(_COLUMNS)} FROM traces WHERE {live('trace')} AND "
_TRIES = 5
_SPAN_TABLES = {"spans": "span", "running": "running"}
_TOTAL_COLUMNS = ("trace_key", "span_id", "written", "counted", "model", "start_time_ns", "first_token", "cost")


class Clock:
    """Gives moments (ns) that grow with each call, also if the system's clock does not."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Return the next moment."""
        self._last = max(self._last + 1, time.time_ns())
        return self._last


def trace_key(trace_id: str) -> int:
    """Return the number that stands for a trace id: 63 bits of a hash, as ids of others need not be random."""
    return _hash(trace_id)


def fixed_row(*parts: Any) -> int:
    """Return a row's number that is the same whenever the same is written again."""
    return _hash(repr(parts))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


class Current(NamedTuple):
    """What is stored of a trace: several rows if processes wrote it at the same time.

    Attributes:
        row: What they say together.
        numbers: Of all its rows.
    """

    row: Row
    numbers: list[int]


def places_of(connection: Connection, keys: Collection[int]) -> list[Place]:
    """Return where these traces are, as far as they were ever stored."""
    sql = "SELECT DISTINCT born, trace_key FROM places WHERE trace_key IN ?:Array(Int64)"
    return [(born, key) for born, key in connection.fetch(sql, (list(keys),))] if keys else []


def current_traces(connection: Connection, places: Collection[Place]) -> dict[int, Current]:
    """Return the rows of the traces at these places that are stored and not deleted, by their keys."""
    if not places:
        return {}
    rows = trace_rows(connection, "(born, trace_key) IN ?:Array(Tuple(Int64, Int64))", (list(places),))
    by_key: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row["trace_key"]].append(row)
    return {key: Current(joined_traces(some), [row["row"] for row in some]) for key, some in by_key.items()}


def trace_rows(connection: Connection, where: str, parameters: Iterable[Any] = ()) -> list[Row]:
    """Return live rows of ``traces``, whole."""
    return [dict(zip(_COLUMNS, row, strict=True)) for row in connection.fetch(_TRACES + where, tuple(parameters))]


def replace_traces(
    connection: Connection,
    clock: Clock,
    found: dict[int, Current],
    rows: dict[int, Row],
    sum_up: Callable[[dict[int, Row]], None],
) -> None:
    """Write new rows of traces in place of those that are stored.

    ClickHouse has no lock. So it is looked afterwards whether another process wrote the same trace meanwhile; if so,
    what both wrote is joined. Whoever comes last has both.

    Args:
        connection: Where.
        clock: Of this store.
        found: What is stored of these traces, by key.
        rows: The new rows by key.
        sum_up: Puts the totals of all stored spans into rows.
    """
    gone = [number for key in rows if key in found for number in found[key].numbers]
    connection.insert("places", [{"trace_key": key, "born": row["born"]} for key, row in rows.items()])
    due = rows
    for _ in range(_TRIES):
        for key, row in due.items():
            base = found[key].row["version"] if key in found else 0
            row.update(base=base, version=max(clock.next(), base + 1), row=random.getrandbits(63), trace_key=key)
        connection.insert("traces", list(due.values()))
        due = _joined_with_others(connection, due, set(gone), gone, sum_up)
        if not due:
            break
    forget(connection, "trace", gone)


def _joined_with_others(
    connection: Connection,
    rows: dict[int, Row],
    replaced: set[int],
    gone: list[int],
    sum_up: Callable[[dict[int, Row]], None],
) -> dict[int, Row]:
    """Return rows that say what others wrote of the same traces as well; note in `gone` what they replace."""
    places = places_of(connection, rows.keys())
    sql = "SELECT row, trace_key FROM traces WHERE (born, trace_key) IN ?:Array(Tuple(Int64, Int64)) AND "
    there = connection.fetch(sql + live("trace"), (places,))
    own = {row["row"] for row in rows.values()}
    others = [number for number, _ in there if number not in own | replaced]
    if not others:
        return {}
    by_key: dict[int, list[Row]] = defaultdict(list)
    for row in trace_rows(connection, "row IN ?:Array(UInt64)", (others,)):
        by_key[row["trace_key"]].append(row)
    joined = {key: joined_traces([rows[key], *some]) for key, some in by_key.items()}
    sum_up(joined)
    due = {}
    for key, row in joined.items():
        latest = max([rows[key], *by_key[key]], key=lambda each: (each["version"], each["row"]))
        if not is_same(row, latest):  # otherwise the latest says it all
            due[key] = row
        gone += [each["row"] for each in (rows[key], *by_key[key]) if key in due or each is not latest]
    return due


def sum_up(connection: Connection, rows: dict[int, Row]) -> None:
    """Put the totals of all stored spans into rows of traces, given by key."""
    if rows:
        stored = _stored_spans(connection, places_of(connection, rows.keys()))
        for key, row in rows.items():
            add_totals(row, stored[key])


def _stored_spans(connection: Connection, places: Iterable[Place]) -> dict[int, list[Row]]:
    """Return what totals are made of, of all spans of some traces, by the trace's key."""
    names = (*_TOTAL_COLUMNS, *USAGE_KEYS)
    latest: dict[tuple[int, str], Row] = {}
    given = list(places)
    for table, kind in _SPAN_TABLES.items() if given else ():
        where = f"(born, trace_key) IN ?:Array(Tuple(Int64, Int64)) AND {live(kind)}"
        sql = f"SELECT {', '.join(names)} FROM {table} WHERE {where}"
        for values in connection.fetch(sql, (given,)):
            row = dict(zip(names, values, strict=True))
            at = (row["trace_key"], row["span_id"])
            if at not in latest or latest[at]["written"] < row["written"]:
                latest[at] = row
    found: dict[int, list[Row]] = defaultdict(list)
    for (key, _), row in latest.items():
        found[key].append(row)
    return found


def change_trace(connection: Connection, clock: Clock, trace_id: str, change: Callable[[Row], None]) -> None:
    """Change the row of one trace. Raises TraceNotFoundError."""
    key = trace_key(trace_id)
    found = current_traces(connection, places_of(connection, [key]))
    if key not in found:
        raise TraceNotFoundError(f"no trace {trace_id!r} is stored")

    row = dict(found[key].row)
    change(row)
    replace_traces(connection, clock, found, {key: row}, functools.partial(sum_up, connection))
    note_change(connection, clock)


def forget(connection: Connection, kind: str, rows: Iterable[int]) -> None:
    """Note that rows count no longer (`tracer.store.clickhouse._sql.live`)."""
    made = time.time_ns()
    connection.insert("gone", [{"kind": kind, "row": row, "made": made} for row in dict.fromkeys(rows)])


def note_change(connection: Connection, clock: Clock) -> None:
    """Let those notice who ask whether something new is stored (`Store.change_marker`)."""
    connection.insert("taken_over", [{"source": "", "version": clock.next(), "batches": 0}])
