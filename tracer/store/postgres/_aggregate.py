"""Facets, histograms and overviews of many traces. `tracer.store.summaries` describes the results.

Each question is a few statements over a sample (`_sample`): PostgreSQL groups and sums, and percentiles are computed
here. Errors are few, so they have a sample of their own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tracer._models import TraceInfo, TraceState
from tracer.store.base import TraceQuery
from tracer.store.figures import (
    MAX_BUCKETS,
    MAX_LIMIT,
    NARROWEST,
    bucket_of,
    check_whole,
    facets_of,
    percentile,
    points_of,
    round_width,
    summary_of,
)
from tracer.store.postgres._read import TRACE_COLUMNS, read_traces
from tracer.store.postgres._sample import Sample, choose
from tracer.store.postgres._sql import Clause, fetch, fetch_row
from tracer.store.summaries import Facets, Histogram, ModelSummary, NameSummary, Overview

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["facets", "histogram", "overview"]

S = TypeVar("S", bound=NameSummary)
_RANKED = 2_000  # so many of the slowest traces are tested for a match

# --- facets -----------------------------------------------------------------------------------------------------------
_FACETS = """
WITH sample AS MATERIALIZED (SELECT key, state, experiment, name, models FROM traces WHERE {where}),
found (field, value) AS (
    SELECT 'status', state FROM sample
    UNION ALL SELECT 'model', jsonb_array_elements_text(models) FROM sample
    UNION ALL SELECT 'experiment', experiment FROM sample
    UNION ALL SELECT 'name', name FROM sample
    UNION ALL SELECT 'tags.' || tags.key, tags.value FROM sample JOIN tags ON tags.trace_key = sample.key
    UNION ALL SELECT field, value FROM (
        SELECT DISTINCT sample.key, 'feedback.' || feedback.name AS field, feedback.value
        FROM sample JOIN feedback ON feedback.trace_key = sample.key
    ) AS judged
),
counted AS (SELECT field, value, count(*) AS traces FROM found WHERE value IS NOT NULL GROUP BY field, value),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY field ORDER BY traces DESC, value COLLATE "C") AS place FROM counted
)
SELECT field, value, traces FROM ranked WHERE place <= ?::bigint
UNION ALL SELECT NULL, NULL, count(*) FROM sample
"""


async def facets(connection: Connection[Any], query: TraceQuery, limit: int, case: str) -> Facets:
    """Count the values of each field among the traces that a query selects. Raises ConfigurationError."""
    check_whole("limit", limit, MAX_LIMIT)
    sample = await choose(connection, query, time.time_ns(), case)
    values = (*sample.chosen.parameters, limit + 1)
    *rows, (_, _, matched) = await fetch(connection, _FACETS.format(where=sample.chosen.sql), values)
    return Facets(scope=sample.scope(matched), facets=facets_of(rows, sample.told, limit))


# --- over time --------------------------------------------------------------------------------------------------------
_BUCKETS = """
SELECT start_time_ns / ?::bigint AS bucket, count(*), count(*) FILTER (WHERE state = 'ERROR'),
    coalesce(array_agg(duration_ns) FILTER (WHERE duration_ns IS NOT NULL), '{{}}')
FROM traces WHERE {where} GROUP BY bucket
"""
_COUNTS = "SELECT start_time_ns / ?::bigint AS bucket, count(*) FROM traces WHERE {where} GROUP BY bucket"


async def histogram(connection: Connection[Any], query: TraceQuery, buckets: int, case: str) -> Histogram:
    """Count the traces that a query selects, and their errors and durations, over time. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    now_ns = time.time_ns()
    sample = await (await choose(connection, query, now_ns, case)).fixed(connection)
    return await _histogram(connection, query, sample, now_ns, buckets, case)


async def _histogram(
    connection: Connection[Any], query: TraceQuery, sample: Sample, now_ns: int, buckets: int, case: str
) -> Histogram:
    # The traces are the chosen ones if these are all that match, otherwise the candidates.
    where = sample.chosen if sample.exact else sample.candidates
    ends = f"SELECT min(start_time_ns), max(start_time_ns) FROM traces WHERE {where.sql}"
    first, last = await fetch_row(connection, ends, where.parameters) or (None, None)
    if first is None:
        return Histogram(scope=sample.scope(0), width_ns=NARROWEST, buckets=[])
    width = round_width(last - first, buckets)
    found = await _bucketed(connection, sample, width)
    starts = range(first // width, last // width + 1)
    calls = await _calls(connection, sample, width, found)
    errors = await _errors(connection, query, sample, now_ns, width, found, case)
    made = [
        bucket_of(number * width, calls[number], errors[number], list(found[number][3]) if number in found else [])
        for number in starts
    ]
    return Histogram(scope=sample.scope(sum(row[1] for row in found.values())), width_ns=width, buckets=made)


async def _bucketed(connection: Connection[Any], sample: Sample, width: int) -> dict[int, tuple[Any, ...]]:
    """Return ``(number, calls, errors, durations)`` of the chosen traces, by the bucket's number."""
    sql = _BUCKETS.format(where=sample.chosen.sql)
    return {row[0]: row for row in await fetch(connection, sql, (width, *sample.chosen.parameters))}


async def _calls(
    connection: Connection[Any], sample: Sample, width: int, found: dict[int, tuple[Any, ...]]
) -> dict[int, int]:
    """Count each bucket's traces: all of them if an index answers the whole query, otherwise those in the sample."""
    if sample.exact or sample.counted is None:
        return defaultdict(int, {number: sample.told.scaled(row[1]) for number, row in found.items()})
    sql = _COUNTS.format(where=sample.candidates.sql)
    return defaultdict(int, dict(await fetch(connection, sql, (width, *sample.candidates.parameters))))


async def _errors(
    connection: Connection[Any],
    query: TraceQuery,
    sample: Sample,
    now_ns: int,
    width: int,
    found: dict[int, tuple[Any, ...]],
    case: str,
) -> dict[int, int]:
    """Count each bucket's errors, in a sample of errors only, unless the first sample has all traces."""
    if not sample.exact and query.status is None:
        sample = await choose(connection, msgspec.structs.replace(query, status=TraceState.ERROR.value), now_ns, case)
        found = await _bucketed(connection, sample, width)
    return defaultdict(int, {number: sample.told.scaled(row[2]) for number, row in found.items()})


# --- overview ---------------------------------------------------------------------------------------------------------
_CALLS_OF_NAMES = """
SELECT coalesce(name, '') AS label, start_time_ns / ?::bigint AS bucket, state = 'ERROR' AS failed,
    state = 'IN_PROGRESS' AS runs, duration_ns, input_tokens, output_tokens, total_tokens, cost
FROM traces WHERE {where}
"""
# Leaves out spans that repeat what another span reports. A span that reports nothing, because it failed, counts too.
_CALLS_OF_MODELS = """
SELECT model AS label, spans.start_time_ns / ?::bigint AS bucket, coalesce(status_code = 'ERROR', FALSE) AS failed,
    spans.end_time_ns IS NULL AS runs, spans.end_time_ns - spans.start_time_ns AS duration_ns,
    spans.input_tokens, spans.output_tokens, spans.total_tokens, spans.cost
FROM (SELECT key, day FROM traces WHERE {where}) AS sample
JOIN spans ON spans.trace_key = sample.key AND spans.day = sample.day
WHERE model IS NOT NULL AND (counted OR coalesce(spans.input_tokens, spans.total_tokens) IS NULL AND spans.cost IS NULL)
"""
_SUMS = """
count(*), count(*) FILTER (WHERE failed), coalesce(sum(input_tokens), 0)::float8,
coalesce(sum(output_tokens), 0)::float8, coalesce(sum(total_tokens), 0)::float8, sum(cost),
coalesce(array_agg(duration_ns) FILTER (WHERE duration_ns IS NOT NULL), '{{}}')
"""
_TOTALS = f"WITH calls AS ({{calls}}) SELECT {_SUMS}, count(*) FILTER (WHERE runs) FROM calls"
_LABELS = (
    f"WITH calls AS ({{calls}}) SELECT label, {_SUMS} FROM calls GROUP BY label "
    'ORDER BY count(*) DESC, label COLLATE "C" LIMIT ?::bigint'
)
_POINTS = """
WITH calls AS ({calls})
SELECT label, bucket, count(*), count(*) FILTER (WHERE failed), coalesce(sum(total_tokens), 0)::float8, sum(cost)
FROM calls WHERE label = ANY(?::text[]) GROUP BY label, bucket ORDER BY label, bucket
"""


async def overview(connection: Connection[Any], query: TraceQuery, buckets: int, limit: int, case: str) -> Overview:
    """Sum up the traces that a query selects, over time, by model and by name. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    check_whole("limit", limit, MAX_LIMIT)
    now_ns = time.time_ns()
    sample = await (await choose(connection, query, now_ns, case)).fixed(connection)
    over_time = await _histogram(connection, query, sample, now_ns, buckets, case)
    calls = _CALLS_OF_NAMES.format(where=sample.chosen.sql)
    totals = await fetch_row(connection, _TOTALS.format(calls=calls), (over_time.width_ns, *sample.chosen.parameters))
    assert totals is not None
    names = await _summaries(connection, _CALLS_OF_NAMES, sample, over_time.width_ns, limit, NameSummary)
    models = await _summaries(connection, _CALLS_OF_MODELS, sample, over_time.width_ns, limit, ModelSummary)
    slowest, slow_exact = await _top(connection, sample, "duration_ns", limit)
    costliest, cost_exact = await _top(connection, sample, "cost", limit)
    _, _, inputs, outputs, tokens, cost, times, runs = totals
    times = sorted(times)
    return Overview(
        scope=over_time.scope,
        errors=sum(bucket.errors for bucket in over_time.buckets),
        running=sample.told.scaled(runs or 0),
        p50_ns=percentile(times, 0.5),
        p95_ns=percentile(times, 0.95),
        p99_ns=percentile(times, 0.99),
        input_tokens=sample.told.scaled(inputs),
        output_tokens=sample.told.scaled(outputs),
        total_tokens=sample.told.scaled(tokens),
        cost=sample.told.scaled_cost(cost),
        histogram=over_time,
        models=models,
        names=names,
        slowest=slowest,
        costliest=costliest,
        ranked_exactly=slow_exact and cost_exact,
    )


async def _summaries(
    connection: Connection[Any], calls: str, sample: Sample, width: int, limit: int, kind: type[S]
) -> list[S]:
    """Return the summaries of the most frequent labels."""
    written, values = calls.format(where=sample.chosen.sql), (width, *sample.chosen.parameters)
    labels = await fetch(connection, _LABELS.format(calls=written), (*values, limit))
    rows = await fetch(connection, _POINTS.format(calls=written), (*values, [label[0] for label in labels]))
    points = points_of(rows, width, sample.told)
    return [summary_of([*label[:-1], list(label[-1])], points[label[0]], sample.told, kind) for label in labels]


async def _top(connection: Connection[Any], sample: Sample, column: str, limit: int) -> tuple[list[TraceInfo], bool]:
    """Return the traces with the highest values of a column, and whether they surely are the highest.

    If only a sample was looked at, the highest of all traces are tested for a match. If too few of them match, the
    highest of the sample follow.
    """
    if sample.exact:
        return await _highest(connection, sample.chosen, column, limit), True
    ranked = f"SELECT key FROM traces ORDER BY coalesce({column}, -1) DESC LIMIT {_RANKED}"
    tested = Clause(f"traces.key IN ({ranked}) AND ({sample.matching.sql})", sample.matching.parameters)
    found = await _highest(connection, tested, column, limit)
    if len(found) == limit:
        return found, True
    known = {info.trace_id for info in found}
    rest = await _highest(connection, sample.chosen, column, limit)
    return [*found, *(info for info in rest if info.trace_id not in known)][:limit], False


async def _highest(connection: Connection[Any], where: Clause, column: str, limit: int) -> list[TraceInfo]:
    sql = (
        f"SELECT {TRACE_COLUMNS} FROM traces WHERE {where.sql} AND {column} IS NOT NULL "
        f"ORDER BY {column} DESC, key DESC LIMIT ?::bigint"
    )
    rows = await fetch(connection, sql, (*where.parameters, limit))
    return [trace.info for trace in await read_traces(connection, rows, spans=False)]
