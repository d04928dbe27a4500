"""Writes a batch: one statement a table, whatever the number of rows (arrays, unnested in the database).

What a batch means is the same as in SQLite's store (`tracer.store.sqlite._write`); only how it is said differs:

- Rows are sorted by their keys, so that several writers lock them in one order. Otherwise they would wait for one
  another in a circle, which PostgreSQL ends by failing one of them.
- ``ON CONFLICT`` takes each row once in a statement. If a batch has a row twice, the second comes in a statement of its
  own (`_rounds`).
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tracer import _semconv as sc
from tracer._exceptions import StoreError
from tracer._models import USAGE_KEYS, SpanStatusCode
from tracer.store.batch import Batch, ChunkRow, SpanRow, TracePatch
from tracer.store.postgres._media import lock_media, write_media
from tracer.store.postgres._sql import hashed, storable
from tracer.store.postgres._words import span_words
from tracer.store.totals import first_token, sole_spans

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["DAY_NS", "day_of", "write_batch"]

T = TypeVar("T")
DAY_NS = 86_400 * 10**9
_UNSET = SpanStatusCode.UNSET

# --- traces -------------------------------------------------------------------------------------------------------
_TRACE_TYPES = {
    "trace_id": "text",
    "day": "int",
    "process_id": "text",
    "start_time_ns": "bigint",
    "experiment": "text",
    "root_span_id": "text",
    "root_rank": "int",
    "root_name": "text",
    "name_override": "text",
    "state": "text",
    "end_time_ns": "bigint",
    "request_preview": "text",
    "response_preview": "text",
    "metadata": "jsonb",
    "dropped": "jsonb",
    "session_id": "text",
    "user_id": "text",
    **dict.fromkeys(USAGE_KEYS, "bigint"),
    "cost": "float8",
    "models": "jsonb",
    "time_to_first_token": "float8",
}
# A better root replaces what an earlier root wrote; a patch with the same root, or without one, completes it.
_TAKES_OVER = "excluded.root_rank > stored.root_rank"
_SAME_ROOT = "(excluded.root_span_id IS NULL OR excluded.root_span_id = stored.root_span_id)"
_TRACE_MERGE = {
    "process_id": f"CASE WHEN {_TAKES_OVER} OR stored.root_rank = 0 OR stored.state = 'INTERRUPTED' "
    "THEN excluded.process_id ELSE stored.process_id END",
    "start_time_ns": f"CASE WHEN {_TAKES_OVER} THEN excluded.start_time_ns "
    "WHEN stored.root_rank = 0 THEN least(stored.start_time_ns, excluded.start_time_ns) ELSE stored.start_time_ns END",
    "experiment": "CASE WHEN excluded.experiment = 'Default' THEN stored.experiment ELSE excluded.experiment END",
    "root_span_id": f"CASE WHEN {_TAKES_OVER} THEN excluded.root_span_id ELSE stored.root_span_id END",
    "root_rank": "greatest(stored.root_rank, excluded.root_rank)",
    "name_override": "coalesce(excluded.name_override, stored.name_override)",
    # A process that writes is alive, so its trace was not interrupted, even if it is marked so.
    "state": f"CASE WHEN {_TAKES_OVER} THEN excluded.state "
    f"WHEN {_SAME_ROOT} AND excluded.state <> 'IN_PROGRESS' THEN excluded.state "
    "WHEN stored.state = 'INTERRUPTED' THEN 'IN_PROGRESS' ELSE stored.state END",
    "metadata": "CASE WHEN excluded.metadata IS NULL THEN stored.metadata "
    "ELSE coalesce(stored.metadata, '{}') || excluded.metadata END",
    "dropped": """CASE WHEN excluded.dropped IS NULL THEN stored.dropped ELSE (
        SELECT jsonb_object_agg(kind, total) FROM (
            SELECT kind, sum(count::bigint) AS total FROM (
                SELECT * FROM jsonb_each_text(coalesce(stored.dropped, '{}'))
                UNION ALL SELECT * FROM jsonb_each_text(excluded.dropped)
            ) AS told (kind, count) GROUP BY kind
        ) AS summed
    ) END""",
    "session_id": "coalesce(excluded.session_id, stored.session_id)",
    "user_id": "coalesce(excluded.user_id, stored.user_id)",
    **{
        column: f"CASE WHEN {_TAKES_OVER} AND stored.root_rank > 0 THEN excluded.{column} "
        f"WHEN {_TAKES_OVER} OR {_SAME_ROOT} THEN coalesce(excluded.{column}, stored.{column}) ELSE stored.{column} END"
        for column in ("root_name", "end_time_ns", "request_preview", "response_preview")
    },
}

# --- spans --------------------------------------------------------------------------------------------------------
_SPAN_TYPES = {
    "day": "int",
    "trace_key": "bigint",
    "span_id": "text",
    "written": "bigint",
    "parent_id": "text",
    "name": "text",
    "span_type": "text",
    "operation": "text",
    "start_time_ns": "bigint",
    "end_time_ns": "bigint",
    "status_code": "text",
    "status_description": "text",
    "finish": "text",
    "model": "text",
    "inputs": "text",
    "outputs": "text",
    "attributes": "text",
    "events": "text",
    "chunks": "bytea",
    "chunk_encoding": "text",
    "cost": "float8",
    "counted": "bool",
    "text": "text",
    **dict.fromkeys(USAGE_KEYS, "bigint"),
    "words": "text",
}
_SPAN_KEY = ("day", "trace_key", "span_id")
_COMES_LATE = "excluded.end_time_ns IS NULL AND stored.end_time_ns IS NOT NULL"
_SOURCES_OF_WORDS = ("text", "status_description", "attributes")


def _merged_span_column(column: str) -> str:
    """The later row completes the earlier one; the start of a span whose end is here already only fills gaps."""
    if column == "counted":
        return "counted = stored.counted OR excluded.counted"
    if column == "words":
        return f"words = CASE WHEN {_COMES_LATE} THEN {_words_of('stored')} ELSE {_words_of('excluded')} END"
    return (
        f"{column} = CASE WHEN {_COMES_LATE} THEN coalesce(stored.{column}, excluded.{column}) "
        f"ELSE coalesce(excluded.{column}, stored.{column}) END"
    )


def _words_of(row: str) -> str:
    """Take the words of this row if it has all that they are made of; otherwise NULL: they are made anew."""
    other = "excluded" if row == "stored" else "stored"
    whole = " AND ".join(f"({row}.{name} IS NOT NULL OR {other}.{name} IS NULL)" for name in _SOURCES_OF_WORDS)
    return f"CASE WHEN {whole} THEN {row}.words END"


def _unnested(types: dict[str, str]) -> str:
    arrays = ", ".join(f"${at}::{type_}[]" for at, type_ in enumerate(types.values(), 1))
    return f"unnest({arrays}) AS given ({', '.join(types)})"


def _insert(table: str, types: dict[str, str], conflict: str, casts: dict[str, str] | None = None) -> str:
    values = ", ".join(f"{name}::{casts[name]}" if casts and name in casts else name for name in types)
    return f"INSERT INTO {table} AS stored ({', '.join(types)}) SELECT {values} FROM {_unnested(types)} {conflict}"


_WRITE_TRACES = (
    _insert(
        "traces",
        _TRACE_TYPES,
        "ON CONFLICT (trace_id) DO UPDATE SET " + ", ".join(f"{c} = {e}" for c, e in _TRACE_MERGE.items()),
    )
    + " RETURNING trace_id, key, day, xmax = 0"
)
_WRITE_SPANS = (
    "WITH written AS ("
    + _insert(
        "spans",
        _SPAN_TYPES,
        f"ON CONFLICT ({', '.join(_SPAN_KEY)}) DO UPDATE SET "
        + ", ".join(_merged_span_column(c) for c in _SPAN_TYPES if c not in (*_SPAN_KEY, "written")),
        {"words": "tsvector"},
    )
    + " RETURNING day, trace_key, span_id, text, name, status_description, attributes, words) "
    "SELECT day, trace_key, span_id, text, name, status_description, attributes FROM written WHERE words IS NULL"
)
_WORD_TYPES = {"day": "int", "trace_key": "bigint", "span_id": "text", "words": "text"}
_SET_WORDS = (
    f"UPDATE spans SET words = given.words::tsvector FROM {_unnested(_WORD_TYPES)} "
    "WHERE spans.day = given.day AND spans.trace_key = given.trace_key AND spans.span_id = given.span_id"
)
_FIRST_TOKEN = f"tracer_json(attributes) -> '{sc.TIME_TO_FIRST_TOKEN}'"
FIRST_TOKEN = (
    f"min((spans.start_time_ns - traces.start_time_ns) / 1e9::float8 + CASE WHEN "
    f"position('{sc.TIME_TO_FIRST_TOKEN}' IN attributes) > 0 AND json_typeof({_FIRST_TOKEN}) = 'number' "
    f"THEN ({_FIRST_TOKEN} #>> '{{}}')::float8 END)"
)


def _sum_of(key: str) -> str:
    """Sum a column, of counted spans; NULL without any. Larger than 64 bits is as large as they allow."""
    total = f"sum({key}) FILTER (WHERE counted)"
    return f"CASE WHEN {total} < 9223372036854775807 THEN {total} WHEN {total} > 0 THEN 9223372036854775807 END::bigint"


# All spans are summed again each time, so that a row that is written twice counts once.
_TOTALS = f"""
UPDATE traces SET ({", ".join(USAGE_KEYS)}, cost, models, time_to_first_token) = (
    SELECT {", ".join(map(_sum_of, USAGE_KEYS))},
        sum(spans.cost) FILTER (WHERE counted), jsonb_agg(DISTINCT model) FILTER (WHERE model IS NOT NULL),
        {FIRST_TOKEN} FILTER (WHERE model IS NOT NULL)
    FROM spans WHERE spans.day = traces.day AND spans.trace_key = traces.key
) WHERE key = ANY($1)
"""
_KEYS = "SELECT trace_id, key, day FROM traces WHERE trace_id = ANY($1)"
_TAG_TYPES = {"trace_key": "bigint", "key": "text", "value": "text"}
_WRITE_TAGS = _insert(
    "tags", _TAG_TYPES, f"ON CONFLICT (trace_key, {hashed('key')}) DO UPDATE SET value = excluded.value"
)
_WRITE_LINKS = _insert("links", {"kind": "text", "id": "text", "trace_key": "bigint"}, "ON CONFLICT DO NOTHING")
_WRITE_OUTBOX = _insert("outbox", {"trace_key": "bigint", "day": "int", "span_id": "text"}, "")
_WRITE_CHUNKS = _insert("live_chunks", {"trace_id": "text", "span_id": "text", "chunks": "bytea"}, "")
_PROCESS = """
INSERT INTO processes AS stored (process_id, host, pid, started) VALUES ($1, $2, $3, $4)
ON CONFLICT (process_id) DO UPDATE SET ended_ns = NULL WHERE stored.ended_ns IS NOT NULL
"""
_LOSS = """
INSERT INTO loss AS stored (process_id, reason, count, first_ns, last_ns) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (process_id, reason) DO UPDATE
SET count = stored.count + excluded.count, last_ns = excluded.last_ns
"""
_TAKE_OVER = _insert(
    "taken_over",
    {"source": "text", "batches": "bigint"},
    "ON CONFLICT (source) DO UPDATE SET batches = greatest(stored.batches, excluded.batches)",
)
_CLAIM = f"{_TAKE_OVER} WHERE stored.batches < excluded.batches RETURNING source"
_FORGET_CHUNKS = """
DELETE FROM live_chunks USING unnest($1::text[], $2::text[]) AS ended (trace_id, span_id)
WHERE live_chunks.trace_id = ended.trace_id AND live_chunks.span_id = ended.span_id
"""

Keys = dict[str, tuple[int, int]]
"""The key and the day of each trace, by its id."""


def day_of(time_ns: int) -> int:
    """Return the day since 1970 (UTC)."""
    return max(-(2**31), min(2**31 - 1, time_ns // DAY_NS))


async def write_batch(connection: Connection[Any], batch: Batch, *, exports: bool = False) -> None:
    """Write all rows of the batch into the open transaction. With `exports`, note what ended for `take_exports`."""
    if batch.media:
        await lock_media(connection, alone=False)
    once = {name: batch.sources[name] for name in batch.once}
    if once and len(await claim_sources(connection, once)) < len(once):
        return  # it is stored already
    process = batch.process
    told = (process.process_id, process.host, process.pid, process.started)
    await connection.execute(_PROCESS, *map(storable, told))
    sole = sole_spans(batch.spans)
    keys, new = await _write_traces(connection, batch, sole)
    if batch.chunks:
        await _run(connection, _WRITE_CHUNKS, [_chunk_values(row) for row in batch.chunks])
    await _write_spans(connection, batch.spans, keys)
    if exports and (ended := [row for row in batch.spans if row.end_time_ns is not None]):
        await _run(connection, _WRITE_OUTBOX, [(*keys[row.trace_id], row.span_id) for row in ended])
    if batch.media:
        await write_media(connection, batch.media, {id_: key for id_, (key, _) in keys.items()})
    tags = {(keys[patch.trace_id][0], key): value for patch in batch.traces for key, value in patch.tags.items()}
    if tags:
        await write_tags(connection, tags)
    links = {(kind, id_, keys[row.trace_id][0]) for row in batch.spans for kind, id_ in (row.links or {}).items()}
    if links:
        await _run(connection, _WRITE_LINKS, sorted(links))
    await _sum_up(connection, batch.spans, sole, keys, new)
    await _forget_live_chunks(connection, batch.spans)
    if batch.sources:
        await _run(connection, _TAKE_OVER, sorted(batch.sources.items()))
    for loss in batch.losses:
        lost = (process.process_id, loss.reason, loss.count, loss.time_ns)
        await connection.execute(_LOSS, *map(storable, lost))


async def claim_sources(connection: Connection[Any], sources: dict[str, int]) -> list[str]:
    """Note how far sources have come; return those that had not come as far. Others wait for the transaction's end."""
    return [row[0] for row in await _run(connection, _CLAIM, sorted(sources.items()))]


async def write_tags(connection: Connection[Any], tags: dict[tuple[int, str], str]) -> None:
    """Set tags, by the key of the trace and their own."""
    made = {(trace_key, storable(key)): value for (trace_key, key), value in tags.items()}
    await _run(connection, _WRITE_TAGS, [(*key, value) for key, value in sorted(made.items())])


async def _write_traces(connection: Connection[Any], batch: Batch, sole: dict[str, SpanRow]) -> tuple[Keys, set[str]]:
    """Write the rows of traces; return the keys of all that the batch names, and the ids of those that are new."""
    keys: Keys = {}
    new: set[str] = set()
    for patches in _rounds(batch.traces, lambda patch: patch.trace_id):
        rows = sorted((_trace_values(patch, sole.get(patch.trace_id)) for patch in patches), key=lambda row: row[0])
        for trace_id, key, day, is_new in await _run(connection, _WRITE_TRACES, rows):
            keys[trace_id] = (key, day)
            if is_new:
                new.add(trace_id)
    unknown = {row.trace_id for row in batch.spans} - keys.keys()
    if unknown:
        found = await connection.fetch(_KEYS, sorted(unknown))
        keys.update((trace_id, (key, day)) for trace_id, key, day in found)
        if missing := unknown - keys.keys():
            raise StoreError(f"the trace {min(missing)!r} of a span is neither in its batch nor stored")
    return keys, new


async def _write_spans(connection: Connection[Any], spans: list[SpanRow], keys: Keys) -> None:
    now = time.time_ns()
    numbered = list(enumerate(spans))
    for some in _rounds(numbered, lambda each: (each[1].trace_id, each[1].span_id)):
        rows = sorted((_span_values(row, now + at, *keys[row.trace_id]) for at, row in some), key=lambda row: row[:3])
        stale = await _run(connection, _WRITE_SPANS, rows)
        if stale:
            made = [
                (day, trace_key, span_id, span_words(text, name, span_id, described, attributes))
                for day, trace_key, span_id, text, name, described, attributes in stale
            ]
            await _run(connection, _SET_WORDS, made)


async def _sum_up(
    connection: Connection[Any], spans: list[SpanRow], sole: dict[str, SpanRow], keys: Keys, new: set[str]
) -> None:
    """Set the totals of the traces of these spans. A new trace with one span was inserted with its totals already."""
    touched = {row.trace_id for row in spans if row.counted or row.model is not None}
    due = [keys[id_][0] for id_ in touched if id_ not in new or id_ not in sole]
    if due:
        await connection.execute(_TOTALS, due)


async def _forget_live_chunks(connection: Connection[Any], spans: list[SpanRow]) -> None:
    """Delete the chunks of all ended spans: a span may have had some while it ran, but bring none at its end."""
    ended = [
        (row.trace_id, row.span_id)
        for row in spans
        if row.chunks is not None or (row.end_time_ns is not None and row.operation is not None)
    ]
    if ended and await connection.fetchval("SELECT EXISTS (SELECT 1 FROM live_chunks)"):
        await _run(connection, _FORGET_CHUNKS, ended)


def _rounds(rows: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Return the rows in lists that follow one another, none of which has a key twice."""
    rounds: list[list[T]] = []
    seen: dict[Any, int] = defaultdict(int)
    for row in rows:
        at = seen[key(row)]
        seen[key(row)] += 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(row)
    return rounds


async def _run(connection: Connection[Any], sql: str, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Run a statement over rows, column by column."""
    columns = [[storable(value) for value in column] for column in zip(*rows, strict=True)]
    return [tuple(row) for row in await connection.fetch(sql, *columns)]


def _trace_values(patch: TracePatch, sole: SpanRow | None) -> tuple[Any, ...]:
    rank = 0 if patch.root_span_id is None else 1 + patch.true_root
    usage, cost = (sole.usage or {}, sole.cost) if sole and sole.counted else ({}, None)
    return (
        patch.trace_id,
        day_of(patch.start_time_ns),
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
        _json({storable(key): storable(value) for key, value in patch.metadata.items()}),
        _json({storable(key): value for key, value in patch.dropped.items()}),
        patch.session_id,
        patch.user_id,
        *map(usage.get, USAGE_KEYS),
        cost,
        _json([storable(sole.model)]) if sole and sole.model is not None else None,
        first_token(patch, sole) if sole and sole.model is not None else None,
    )


def _span_values(row: SpanRow, written: int, trace_key: int, day: int) -> tuple[Any, ...]:
    return (
        day,
        trace_key,
        row.span_id,
        written,
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
        row.counted,
        row.text,
        *map((row.usage or {}).get, USAGE_KEYS),
        span_words(storable(row.text), storable(row.name), row.span_id, row.status_description, row.attributes),
    )


def _text(payload: bytes | None) -> str | None:
    """Return JSON as text, so that SQL can read it; a byte that is no UTF-8 must not make the batch fail."""
    return None if payload is None else payload.decode(errors="replace")


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None


def _chunk_values(row: ChunkRow) -> tuple[Any, ...]:
    return row.trace_id, row.span_id, msgspec.msgpack.encode(row.chunks)
