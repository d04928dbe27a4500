"""Writes a batch: rows to SQL, in as few steps of SQLite as possible.

sqlite3 gives the GIL away and takes it back at each step of a statement. Beside a thread that computes, taking it back
costs up to 5 ms, so ``executemany``, with one step per row, wrote 260 rows/s. A statement with the values of some 250
rows takes one step and wrote 10,700 rows/s beside the same thread. Without such a thread it took 25 µs a row,
``executemany`` 34 µs (one run of a trial with one table and no index; Python 3.11, SQLite 3.40).
"""

from __future__ import annotations

import functools
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from tracer._models import USAGE_KEYS, SpanStatusCode
from tracer.store.batch import Batch, ChunkRow, MediaRow, SpanRow, TracePatch
from tracer.store.sqlite._schema import FIRST_TOKEN
from tracer.store.totals import first_token, sole_spans

__all__ = ["write_batch"]

_MAX_ROWS = 256  # x 30 values stays below SQLite's 32,766 variables
_UNSET = SpanStatusCode.UNSET

Row = tuple[Any, ...]

# --- spans: (column, expression) ----------------------------------------------------------------------------------
_SPAN_COLUMNS = {
    "trace_key": "?",
    "span_id": "?",
    "parent_id": "?",
    "name": "?",
    "span_type": "?",
    "operation": "?",
    "start_time_ns": "?",
    "end_time_ns": "?",
    "status_code": "?",
    "status_description": "?",
    "finish": "?",
    "model": "?",
    "inputs": "?",
    "outputs": "?",
    "attributes": "?",
    "events": "?",
    "chunks": "?",
    "chunk_encoding": "?",
    "cost": "?",
    "counted": "?",
    "text": "?",
    **dict.fromkeys(USAGE_KEYS, "?"),
}


def _merged_span_column(column: str) -> str:
    """The later row completes the earlier one; the start of a span whose end is here already only fills gaps."""
    if column == "counted":
        return "counted = max(counted, excluded.counted)"
    return (
        f"{column} = CASE WHEN excluded.end_time_ns IS NULL AND end_time_ns IS NOT NULL "
        f"THEN ifnull({column}, excluded.{column}) ELSE ifnull(excluded.{column}, {column}) END"
    )


_SPAN_CONFLICT = "ON CONFLICT (trace_key, span_id) DO UPDATE SET " + ", ".join(
    _merged_span_column(column) for column in _SPAN_COLUMNS if column not in ("trace_key", "span_id")
)

# --- traces -------------------------------------------------------------------------------------------------------
_TRACE_COLUMNS = dict.fromkeys(
    (
        "trace_id",
        "process_id",
        "start_time_ns",
        "experiment",
        "root_span_id",
        "root_rank",
        "root_name",
        "name_override",
        "state",
        "end_time_ns",
        "request_preview",
        "response_preview",
        "metadata",
        "session_id",
        "user_id",
        *USAGE_KEYS,
        "cost",
        "models",
        "time_to_first_token",
    ),
    "?",
)
# A better root replaces what an earlier root wrote; a patch with the same root, or without one, completes it.
_TAKES_OVER = "excluded.root_rank > root_rank"
_SAME_ROOT = "(excluded.root_span_id IS NULL OR excluded.root_span_id = root_span_id)"
_TRACE_MERGE = {
    "process_id": f"CASE WHEN {_TAKES_OVER} OR root_rank = 0 OR state = 'INTERRUPTED' "
    "THEN excluded.process_id ELSE process_id END",
    "start_time_ns": f"CASE WHEN {_TAKES_OVER} THEN excluded.start_time_ns "
    "WHEN root_rank = 0 THEN min(start_time_ns, excluded.start_time_ns) ELSE start_time_ns END",
    "experiment": "CASE WHEN excluded.experiment = 'Default' THEN experiment ELSE excluded.experiment END",
    "root_span_id": f"CASE WHEN {_TAKES_OVER} THEN excluded.root_span_id ELSE root_span_id END",
    "root_rank": "max(root_rank, excluded.root_rank)",
    "name_override": "ifnull(excluded.name_override, name_override)",
    # A process that writes is alive, so its trace was not interrupted, even if it is marked so.
    "state": f"CASE WHEN {_TAKES_OVER} THEN excluded.state "
    f"WHEN {_SAME_ROOT} AND excluded.state <> 'IN_PROGRESS' THEN excluded.state "
    "WHEN state = 'INTERRUPTED' THEN 'IN_PROGRESS' ELSE state END",
    "metadata": "CASE WHEN excluded.metadata IS NULL THEN metadata "
    "ELSE json_patch(ifnull(metadata, '{}'), excluded.metadata) END",
    "session_id": "ifnull(excluded.session_id, session_id)",
    "user_id": "ifnull(excluded.user_id, user_id)",
    **{
        column: f"CASE WHEN {_TAKES_OVER} AND root_rank > 0 THEN excluded.{column} "
        f"WHEN {_TAKES_OVER} OR {_SAME_ROOT} THEN ifnull(excluded.{column}, {column}) ELSE {column} END"
        for column in ("root_name", "end_time_ns", "request_preview", "response_preview")
    },
}
_TRACE_CONFLICT = "ON CONFLICT (trace_id) DO UPDATE SET " + ", ".join(f"{c} = {e}" for c, e in _TRACE_MERGE.items())

# All spans are summed again each time, so that a row that is written twice counts once.
_TOTALS = f"""
UPDATE traces SET ({", ".join(USAGE_KEYS)}, cost, models, time_to_first_token) = (
    SELECT {", ".join(f"sum({key}) FILTER (WHERE counted)" for key in USAGE_KEYS)}, sum(cost) FILTER (WHERE counted),
        nullif(json_group_array(DISTINCT model) FILTER (WHERE model IS NOT NULL), '[]'),
        {FIRST_TOKEN} FILTER (WHERE model IS NOT NULL)
    FROM spans WHERE trace_key = traces.key
) WHERE key IN (SELECT value FROM json_each(?))
"""
_NEW_KEYS = "SELECT trace_id, key FROM traces WHERE key > ?"
_KEYS = "SELECT trace_id, key FROM traces WHERE trace_id IN (SELECT value FROM json_each(?))"
_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = 'traces'"
_TAG_COLUMNS = dict.fromkeys(("trace_key", "key", "value"), "?")
_TAG_CONFLICT = "ON CONFLICT (trace_key, key) DO UPDATE SET value = excluded.value"
_LINK_COLUMNS = dict.fromkeys(("kind", "id", "trace_key"), "?")
_OUTBOX_COLUMNS = dict.fromkeys(("trace_key", "span_id"), "?")
_CHUNK_COLUMNS = dict.fromkeys(("trace_id", "span_id", "chunks"), "?")
_PROCESS = """
INSERT INTO processes (process_id, host, pid, started) VALUES (?, ?, ?, ?)
ON CONFLICT (process_id) DO UPDATE SET ended_ns = NULL WHERE ended_ns IS NOT NULL
"""
_LOSS = """
INSERT INTO loss (process_id, reason, count, first_ns, last_ns) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (process_id, reason) DO UPDATE SET count = count + excluded.count, last_ns = excluded.last_ns
"""
_DROP = """
UPDATE traces
SET dropped = json_set(ifnull(dropped, '{}'), '$.' || :kind, ifnull(json_extract(dropped, '$.' || :kind), 0) + :count)
WHERE trace_id = :trace_id
"""
_TAKE_OVER = """
INSERT INTO taken_over VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET batches = max(batches, excluded.batches)
"""
_FORGET_CHUNKS = """
DELETE FROM live_chunks WHERE (trace_id, span_id) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
)
"""
_LINK = """
INSERT OR IGNORE INTO span_media (span_key, media_key)
SELECT spans.key, media.key FROM spans, media
WHERE trace_key = ? AND span_id = ? AND hash = ?
"""


def write_batch(connection: sqlite3.Connection, batch: Batch, *, exports: bool = False) -> None:
    """Write all rows of the batch into the open transaction. With `exports`, note what ended for `take_exports`."""
    process = batch.process
    connection.execute(_PROCESS, (process.process_id, process.host, process.pid, process.started))
    sole = sole_spans(batch.spans)
    keys, newest = _write_traces(connection, batch, sole)
    _insert(connection, "live_chunks", _CHUNK_COLUMNS, "", [_chunk_values(row) for row in batch.chunks])
    spans = [_span_values(row, keys.get(row.trace_id)) for row in batch.spans]
    _insert(connection, "spans", _SPAN_COLUMNS, _SPAN_CONFLICT, spans)
    if exports:
        ended = [(keys.get(row.trace_id), row.span_id) for row in batch.spans if row.end_time_ns is not None]
        _insert(connection, "outbox", _OUTBOX_COLUMNS, "", ended)
    _write_media(connection, batch.media, keys)
    _insert(connection, "tags", _TAG_COLUMNS, _TAG_CONFLICT, list(_tag_rows(batch.traces, keys)))
    _insert(connection, "links", _LINK_COLUMNS, "ON CONFLICT DO NOTHING", list(_link_rows(batch.spans, keys)))
    _sum_up(connection, batch.spans, sole, keys, newest)
    _forget_live_chunks(connection, batch.spans)
    for source in batch.sources.items():
        connection.execute(_TAKE_OVER, source)
    for patch in batch.traces:
        for kind, count in patch.dropped.items():
            connection.execute(_DROP, {"trace_id": patch.trace_id, "kind": f'"{kind}"', "count": count})
    for loss in batch.losses:
        connection.execute(_LOSS, (process.process_id, loss.reason, loss.count, loss.time_ns, loss.time_ns))


def _write_traces(connection: sqlite3.Connection, batch: Batch, sole: dict[str, SpanRow]) -> tuple[dict[str, int], int]:
    """Write the rows of traces; return the keys of all that the batch names, and the greatest key before it.

    Keys of traces that were stored already are looked up. The keys of new ones follow one another and are read at once.
    """
    (newest,) = connection.execute(_SEQUENCE).fetchone() or (0,)
    rows = [_trace_values(patch, sole.get(patch.trace_id)) for patch in batch.traces]
    _insert(connection, "traces", _TRACE_COLUMNS, _TRACE_CONFLICT, rows)
    keys: dict[str, int] = dict(connection.execute(_NEW_KEYS, (newest,)))
    named = {patch.trace_id for patch in batch.traces} | {row.trace_id for row in batch.spans}
    known = named - keys.keys()
    if known:
        keys.update(connection.execute(_KEYS, (_json(list(known)),)))
    return keys, newest


def _write_media(connection: sqlite3.Connection, media: list[MediaRow], keys: dict[str, int]) -> None:
    """Write media that are not stored yet, one per statement (each may have megabytes), then which spans use them."""
    if not media:
        return
    missing = {row.hash: row for row in media}
    known = connection.execute(
        "SELECT hash FROM media WHERE hash IN (SELECT value FROM json_each(?))", (_json([*missing]),)
    )
    for (stored,) in known.fetchall():
        del missing[stored]
    for row in missing.values():
        values = (row.hash, row.content_type, len(row.data), row.data)
        connection.execute("INSERT INTO media (hash, content_type, size, data) VALUES (?, ?, ?, ?)", values)
    for link in {(row.trace_id, row.span_id, row.hash) for row in media}:
        connection.execute(_LINK, (keys.get(link[0]), *link[1:]))


def _sum_up(
    connection: sqlite3.Connection, spans: list[SpanRow], sole: dict[str, SpanRow], keys: dict[str, int], newest: int
) -> None:
    """Set the totals of the traces of these spans. A new trace with one span was inserted with its totals already."""
    touched = {row.trace_id for row in spans if row.counted or row.model is not None}
    due = [key for id_, key in keys.items() if id_ in touched and (key <= newest or id_ not in sole)]
    if due:
        connection.execute(_TOTALS, (_json(due),))


def _forget_live_chunks(connection: sqlite3.Connection, spans: list[SpanRow]) -> None:
    """Delete the chunks of all ended spans: a span may have had some while it ran, but bring none at its end."""
    ended = [
        (row.trace_id, row.span_id)
        for row in spans
        if row.chunks is not None or (row.end_time_ns is not None and row.operation is not None)
    ]
    if ended and connection.execute("SELECT EXISTS (SELECT 1 FROM live_chunks)").fetchone()[0]:
        connection.execute(_FORGET_CHUNKS, (msgspec.json.encode(ended).decode(),))


def _insert(
    connection: sqlite3.Connection, table: str, columns: dict[str, str], conflict: str, rows: Sequence[Row]
) -> None:
    """Insert rows. A statement has a power of two of them, so that few different statements are ever prepared."""
    if not rows:
        return
    filled, values = _without_empty_columns(columns, rows)
    start = 0
    while start < len(rows):
        count = min(_MAX_ROWS, 1 << (len(rows) - start).bit_length() - 1)
        sql = _insert_sql(table, filled, conflict, count)
        some = values[start * len(filled) : (start + count) * len(filled)]
        try:
            connection.execute(sql, some)
        except (UnicodeEncodeError, OverflowError):  # raised while binding, before anything is written
            connection.execute(sql, [_storable(value) for value in some])
        start += count


def _without_empty_columns(
    columns: dict[str, str], rows: Sequence[Row]
) -> tuple[tuple[tuple[str, str], ...], list[Any]]:
    """Return the columns that any of the rows fills, and all their values, row by row.

    The other columns become NULL anyway. sqlite3 takes 0.4 µs to bind a None, because it looks for an adapter (Python
    3.11, ``Modules/_sqlite/statement.c``, need_adapt), and 24 of a usual span's 47 values are None.
    """
    filled = [
        (column, values)
        for column, values in zip(columns.items(), zip(*rows, strict=True), strict=True)
        if values[0] is not None or values.count(None) < len(values)
    ]
    by_row = zip(*[values for _, values in filled], strict=True)
    return tuple(column for column, _ in filled), list(itertools.chain.from_iterable(by_row))


def _storable(value: Any) -> Any:
    """Replace a value that would fail the batch: half a surrogate pair by ``?``, an integer over 64 bits by NULL."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, int) and value.bit_length() > 63 else value


@functools.lru_cache(maxsize=64)
def _insert_sql(table: str, columns: Iterable[tuple[str, str]], conflict: str, count: int) -> str:
    names, expressions = zip(*columns, strict=True)
    row = f"({', '.join(expressions)})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * count)} {conflict}"


def _trace_values(patch: TracePatch, sole: SpanRow | None) -> Row:
    rank = 0 if patch.root_span_id is None else 1 + patch.true_root
    usage, cost = (sole.usage or {}, sole.cost) if sole and sole.counted else ({}, None)
    return (
        patch.trace_id,
        patch.process_id,
        patch.start_time_ns,
        patch.experiment or "Default",
        patch.root_span_id,
        rank,
        patch.name,
        patch.name_override,
        patch.state.value if patch.state else "IN_PROGRESS",
        patch.end_time_ns,
        patch.request_preview,
        patch.response_preview,
        _json(patch.metadata) if patch.metadata else None,
        patch.session_id,
        patch.user_id,
        *map(usage.get, USAGE_KEYS),
        cost,
        _json([sole.model]) if sole and sole.model is not None else None,
        first_token(patch, sole) if sole and sole.model is not None else None,
    )


def _span_values(row: SpanRow, trace_key: int | None) -> Row:
    return (
        trace_key,
        row.span_id,
        row.parent_id,
        row.name,
        row.span_type,
        row.operation,
        row.start_time_ns,
        row.end_time_ns,
        None if row.status_code is _UNSET else row.status_code.value,
        row.status_description or None,
        row.finish,
        row.model,
        _text(row.inputs),
        _text(row.outputs),
        _text(row.attributes),
        _text(row.events),
        row.chunks,
        row.chunk_encoding,
        row.cost,
        int(row.counted),  # for a bool, sqlite3 would look for an adapter, as for None
        row.text,
        *map((row.usage or {}).get, USAGE_KEYS),
    )


def _text(payload: bytes | None) -> str | None:
    """Return JSON as text, so that SQL can read it; a byte that is no UTF-8 must not make the batch fail."""
    return None if payload is None else payload.decode(errors="replace")


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False)  # `_storable` deals with it


def _chunk_values(row: ChunkRow) -> Row:
    return row.trace_id, row.span_id, msgspec.msgpack.encode(row.chunks)


def _tag_rows(patches: list[TracePatch], keys: dict[str, int]) -> Iterator[Row]:
    return ((keys.get(patch.trace_id), key, value) for patch in patches for key, value in patch.tags.items())


def _link_rows(spans: list[SpanRow], keys: dict[str, int]) -> Iterator[Row]:
    return ((kind, id_, keys.get(row.trace_id)) for row in spans if row.links for kind, id_ in row.links.items())
