"""Writes a batch: one insert a table.

ClickHouse has no transactions over tables. So that a batch is stored whole or not at all, as far as readers see:

- The rows of traces come after all that belongs to them: what has no trace is never shown.
- All rows have keys of their own. A batch that is written again after an error gives the same trace.
- Its number (`Batch.once`) comes last, so a batch that has its number is whole.
"""

from __future__ import annotations

import functools
import random
import time
from collections import defaultdict
from typing import Any

import msgspec

from tracer._exceptions import StoreError
from tracer.store.base import SEEN
from tracer.store.batch import Batch, SpanRow, TracePatch
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._media import write_media
from tracer.store.clickhouse._merge import (
    SPAN_VALUES,
    Row,
    add_dropped,
    add_totals,
    derive,
    merged_span,
    merged_trace,
    span_values,
)
from tracer.store.clickhouse._rows import (
    Clock,
    Current,
    Place,
    current_traces,
    fixed_row,
    forget,
    places_of,
    replace_traces,
    sum_up,
    trace_key,
)
from tracer.store.clickhouse._sql import live

__all__ = ["end_process", "stored_sources", "write_batch", "write_sources"]

SpanKey = tuple[int, str]
_KINDS = {"spans": "span", "running": "running"}
_END = """
INSERT INTO processes (process_id, version, host, pid, started, ended_ns)
SELECT process_id, ?:Int64, argMax(host, version), argMax(pid, version), argMax(started, version), ?:Int64
FROM processes WHERE process_id = ?:String GROUP BY process_id
"""
_AT = "(born, trace_key) IN ?:Array(Tuple(Int64, Int64))"


def write_batch(connection: Connection, batch: Batch, clock: Clock) -> None:
    """Write all rows of the batch, unless its number says that it is stored."""
    once = {name: batch.sources[name] for name in batch.once}
    if once:
        known = stored_sources(connection, list(once))
        if any(known.get(name, -1) >= place for name, place in once.items()):
            return
    ids = [patch.trace_id for patch in batch.traces] + [row.trace_id for row in batch.spans]
    keys = {id_: trace_key(id_) for id_ in dict.fromkeys(ids)}
    places = places_of(connection, list(keys.values()))
    found = current_traces(connection, places)
    told = {keys[patch.trace_id] for patch in batch.traces}
    for row in batch.spans:
        if keys[row.trace_id] not in told and keys[row.trace_id] not in found:
            raise StoreError(f"the trace {row.trace_id!r} of a span is neither in its batch nor stored")
    born = {key: found[key].row["born"] if key in found else clock.next() for key in dict.fromkeys(keys.values())}
    _note_process(connection, batch, clock)
    spans = _write_spans(connection, batch.spans, keys, born, [p for p in places if p[1] in found], clock)
    _write_chunks(connection, batch, keys, clock, may_have_some=bool(found))
    _write_links(connection, batch.spans, keys, born)
    write_media(connection, [row for row in batch.media if row.trace_id in keys], keys, born)
    _write_traces(connection, batch, once, keys, born, found, spans, clock)
    losses = [(batch.process.process_id, loss.reason, loss.time_ns, loss.count) for loss in batch.losses]
    names = ("process_id", "reason", "time_ns", "count")
    connection.insert("loss", [dict(zip(names, loss, strict=True)) for loss in losses])
    write_sources(connection, {"": 0, **batch.sources}, clock)


# --- traces -----------------------------------------------------------------------------------------------------------
def _write_traces(
    connection: Connection,
    batch: Batch,
    once: dict[str, int],
    keys: dict[str, int],
    born: dict[int, int],
    found: dict[int, Current],
    spans: dict[SpanKey, Row],
    clock: Clock,
) -> None:
    patches: dict[int, list[TracePatch]] = defaultdict(list)
    for patch in batch.traces:
        patches[keys[patch.trace_id]].append(patch)
    of_trace: dict[int, list[Row]] = defaultdict(list)
    for (key, _), span in spans.items():
        of_trace[key].append(span)
    touched = {key for key, some in of_trace.items() if any(row["counted"] or row["model"] is not None for row in some)}

    rows: dict[int, Row] = {}
    for key in dict.fromkeys((*patches, *touched)):
        row = dict(found[key].row) if key in found else None
        for patch in patches[key]:
            row = merged_trace(row, patch)
        assert row is not None  # a span without a trace was refused
        add_dropped(row, patches[key], once)
        row.setdefault("born", born[key])
        row["trace_key"] = key
        rows[key] = row
    for key in touched - found.keys():
        add_totals(rows[key], of_trace[key])
    sum_up(connection, {key: rows[key] for key in touched & found.keys()})
    replace_traces(connection, clock, found, rows, functools.partial(sum_up, connection))


# --- spans ------------------------------------------------------------------------------------------------------------
def _write_spans(
    connection: Connection,
    spans: list[SpanRow],
    keys: dict[str, int],
    born: dict[int, int],
    places: list[Place],
    clock: Clock,
) -> dict[SpanKey, Row]:
    """Write spans, completed by what is stored of them; return the new rows."""
    told = {key for _, key in places}
    again = [row.span_id for row in spans if keys[row.trace_id] in told]
    stored, replaced = _current_spans(connection, places, again) if again else ({}, {})
    rows: dict[SpanKey, Row] = {}
    for row in spans:
        key = (keys[row.trace_id], row.span_id)
        given = span_values(row)
        before = rows.get(key) or stored.get(key)
        rows[key] = merged_span(before, given) if before else given
        rows[key]["trace_id"] = row.trace_id
    for (trace, _), made in rows.items():
        derive(made)
        made.update(trace_key=trace, born=born[trace], written=clock.next(), row=random.getrandbits(63))
    connection.insert("spans", [row for row in rows.values() if row["end_time_ns"] is not None])
    connection.insert("running", [row for row in rows.values() if row["end_time_ns"] is None])
    for kind, gone in replaced.items():
        forget(connection, kind, [number for key, numbers in gone.items() if key in rows for number in numbers])
    return rows


def _current_spans(
    connection: Connection, places: list[Place], span_ids: list[str]
) -> tuple[dict[SpanKey, Row], dict[str, dict[SpanKey, list[int]]]]:
    """Return the rows of spans that are stored, and the numbers of all rows of each, by kind."""
    names = ("trace_key", "written", "row", *SPAN_VALUES)
    latest: dict[SpanKey, Row] = {}
    numbers: dict[str, dict[SpanKey, list[int]]] = {}
    for table, kind in _KINDS.items():
        numbers[kind] = defaultdict(list)
        where = f"{_AT} AND span_id IN ?:Array(String) AND {live(kind)}"
        sql = f"SELECT {', '.join(names)} FROM {table} WHERE {where}"
        for values in connection.fetch(sql, (places, span_ids), raw=("chunks",)):
            row = dict(zip(names, values, strict=True))
            key = (row["trace_key"], row["span_id"])
            numbers[kind][key].append(row["row"])
            if key not in latest or latest[key]["written"] < row["written"]:
                latest[key] = row
    return latest, numbers


# --- what belongs to spans --------------------------------------------------------------------------------------------
def _write_chunks(
    connection: Connection, batch: Batch, keys: dict[str, int], clock: Clock, *, may_have_some: bool
) -> None:
    """Write the chunks of running spans, and forget those of ended ones."""
    ended = {
        (keys[row.trace_id], row.span_id)
        for row in batch.spans
        if row.chunks is not None or (row.end_time_ns is not None and row.operation is not None)
    }
    rows = []
    for row in batch.chunks:
        key = (trace_key(row.trace_id), row.span_id)
        if key not in ended:
            packed = msgspec.msgpack.encode(row.chunks)
            made = {"trace_key": key[0], "span_id": key[1], "written": clock.next(), "row": fixed_row(*key, packed)}
            rows.append({**made, "chunks": packed})
    connection.insert("live_chunks", rows)
    if ended and may_have_some:
        sql = "SELECT row FROM live_chunks WHERE (trace_key, span_id) IN ?:Array(Tuple(Int64, String)) AND "
        forget(connection, "chunk", [row for (row,) in connection.fetch(sql + live("chunk"), (list(ended),))])


def _write_links(connection: Connection, spans: list[SpanRow], keys: dict[str, int], born: dict[int, int]) -> None:
    links = {(id_, kind, keys[row.trace_id]) for row in spans for kind, id_ in (row.links or {}).items()}
    rows = [
        {"id": id_, "kind": kind, "trace_key": key, "row": fixed_row(id_, kind, key, born[key])}
        for id_, kind, key in sorted(links)
    ]
    connection.insert("links", rows)


# --- what belongs to processes ----------------------------------------------------------------------------------------
def _note_process(connection: Connection, batch: Batch, clock: Clock) -> None:
    """Note which process writes: it runs."""
    process = batch.process
    told: dict[str, Any] = {"process_id": process.process_id, "host": process.host, "pid": process.pid}
    connection.insert("processes", [{**told, "started": process.started, "ended_ns": None, "version": clock.next()}])


def end_process(connection: Connection, process_id: str | None, sources: list[str], clock: Clock) -> None:
    """Note that a process has ended, if one is given, and forget sources.

    Also what is noted of these while their batches come in pieces (`tracer.store.http.pieces`).
    """
    if process_id is not None:
        connection.execute(_END, (clock.next(), time.time_ns(), process_id))
        sources = [*sources, SEEN + process_id]
    names = [name for source in sources for name in (source, f"{source}#")]
    connection.insert("taken_over", [{"source": name, "version": clock.next(), "batches": 0} for name in ("", *names)])


def stored_sources(connection: Connection, names: list[str]) -> dict[str, int]:
    """Return how far sources have come."""
    sql = "SELECT source, argMax(batches, version) FROM taken_over WHERE source IN ?:Array(String) GROUP BY source"
    return dict(connection.fetch(sql, (names,)))


def write_sources(connection: Connection, sources: dict[str, int], clock: Clock) -> None:
    """Note how far sources have come; none goes back. The empty name stands for any change."""
    known = stored_sources(connection, [name for name in sources if name])
    rows = [
        {"source": name, "version": clock.next(), "batches": max(place, known.get(name, 0))}
        for name, place in sources.items()
    ]
    connection.insert("taken_over", rows)
