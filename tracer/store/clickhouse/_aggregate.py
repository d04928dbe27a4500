"""Facets, histograms and overviews of many traces. `tracer.store.summaries` describes the results.

Each question is a few statements over a sample (`_sample`): ClickHouse groups and sums, and percentiles are computed
here. Errors are few, so they have a sample of their own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any, TypeVar

import msgspec

from tracer._models import TraceInfo, TraceState
from tracer.store.base import TraceQuery
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._read import TRACE_COLUMNS, read_traces
from tracer.store.clickhouse._sample import Sample, choose
from tracer.store.clickhouse._sql import Clause, live
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
from tracer.store.summaries import Facets, Histogram, ModelSummary, NameSummary, Overview

__all__ = ["facets", "histogram", "overview"]

S = TypeVar("S", bound=NameSummary)

# --- facets -----------------------------------------------------------------------------------------------------------
_FACETS = """
SELECT field, value, count() AS traces FROM (
    SELECT arrayJoin(arrayConcat(
        [('status', toString(state)), ('experiment', toString(experiment))],
        if(name IS NULL, [], [('name', toString(assumeNotNull(name)))]),
        arrayMap(model -> ('model', toString(model)), models),
        arrayMap(tag -> (concat('tags.', tag.1), tag.2), CAST(tags, 'Array(Tuple(String, String))'))
    )) AS told, told.1 AS field, told.2 AS value FROM traces WHERE {where}
    UNION ALL SELECT DISTINCT ('', toString(trace_key)) AS told, concat('feedback.', name) AS field, value
    FROM feedback WHERE {live} AND trace_key IN (SELECT trace_key FROM traces WHERE {where})
) GROUP BY field, value ORDER BY field, traces DESC, value LIMIT ?:Int64 BY field
"""
_COUNT = "SELECT count() FROM traces WHERE {where}"


def facets(connection: Connection, query: TraceQuery, limit: int) -> Facets:
    """Count the values of each field among the traces that a query selects. Raises ConfigurationError."""
    check_whole("limit", limit, MAX_LIMIT)
    sample = choose(connection, query, time.time_ns())
    where, values = sample.chosen
    matched = int(connection.value(_COUNT.format(where=where), values))
    sql = _FACETS.format(where=where, live=live("feedback"))
    rows = connection.fetch(sql, (*values, *values, limit + 1)) if matched else []
    return Facets(scope=sample.scope(matched), facets=facets_of([(f, v, n) for f, v, n in rows], sample.told, limit))


# --- over time --------------------------------------------------------------------------------------------------------
_BUCKETS = """
SELECT intDiv(start_time_ns, ?:Int64) AS bucket, count(), countIf(state = 'ERROR'),
    groupArrayIf(assumeNotNull(duration_ns), duration_ns IS NOT NULL)
FROM traces WHERE {where} GROUP BY bucket
"""
_COUNTS = "SELECT intDiv(start_time_ns, ?:Int64) AS bucket, count() FROM traces WHERE {where} GROUP BY bucket"


def histogram(connection: Connection, query: TraceQuery, buckets: int) -> Histogram:
    """Count the traces that a query selects, and their errors and durations, over time. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    now_ns = time.time_ns()
    return _histogram(connection, query, choose(connection, query, now_ns), now_ns, buckets)


def _histogram(connection: Connection, query: TraceQuery, sample: Sample, now_ns: int, buckets: int) -> Histogram:
    where = sample.chosen if sample.exact else sample.matching
    ends = f"SELECT min(start_time_ns), max(start_time_ns), count() FROM traces WHERE {where.sql}"
    first, last, count = connection.row(ends, where.parameters) or (0, 0, 0)
    if not count:
        return Histogram(scope=sample.scope(0), width_ns=NARROWEST, buckets=[])
    width = round_width(last - first, buckets)
    found = _bucketed(connection, sample, width)
    calls = {number: row[1] for number, row in found.items()}
    if not sample.exact:
        calls = dict(connection.fetch(_COUNTS.format(where=where.sql), (width, *where.parameters)))
    errors = _errors(connection, query, sample, now_ns, width, found)
    made = [
        bucket_of(
            number * width,
            calls.get(number, 0),
            errors.get(number, 0),
            list(found[number][3]) if number in found else [],
        )
        for number in range(_quotient(first, width), _quotient(last, width) + 1)
    ]
    return Histogram(scope=sample.scope(sum(row[1] for row in found.values())), width_ns=width, buckets=made)


def _quotient(number: int, width: int) -> int:
    return -(-number // width) if number < 0 else number // width  # as intDiv, towards zero


def _bucketed(connection: Connection, sample: Sample, width: int) -> dict[int, tuple[Any, ...]]:
    """Return ``(number, calls, errors, durations)`` of the chosen traces, by the bucket's number."""
    sql = _BUCKETS.format(where=sample.chosen.sql)
    return {row[0]: row for row in connection.fetch(sql, (width, *sample.chosen.parameters))}


def _errors(
    connection: Connection,
    query: TraceQuery,
    sample: Sample,
    now_ns: int,
    width: int,
    found: dict[int, tuple[Any, ...]],
) -> dict[int, int]:
    """Count each bucket's errors, in a sample of errors only, unless the first sample has all traces."""
    if not sample.exact and query.status is None:
        sample = choose(connection, msgspec.structs.replace(query, status=TraceState.ERROR.value), now_ns)
        found = _bucketed(connection, sample, width)
    return {number: sample.told.scaled(row[2]) for number, row in found.items()}


# --- overview ---------------------------------------------------------------------------------------------------------
_CALLS_OF_NAMES = """
SELECT ifNull(toString(name), '') AS label, intDiv(start_time_ns, ?:Int64) AS bucket, state = 'ERROR' AS failed,
    state = 'IN_PROGRESS' AS runs, duration_ns, input_tokens, output_tokens, total_tokens, cost
FROM traces WHERE {where}
"""
# Leaves out spans that repeat what another span reports. A span that reports nothing, because it failed, counts too.
_COUNTS_AS_CALL = "model IS NOT NULL AND (counted OR coalesce(input_tokens, total_tokens) IS NULL AND cost IS NULL)"
_CALLS_OF_TABLE = """
SELECT toString(assumeNotNull(model)) AS label, intDiv(start_time_ns, ?:Int64) AS bucket,
    ifNull(status_code = 'ERROR', 0) AS failed, end_time_ns IS NULL AS runs, end_time_ns - start_time_ns AS duration_ns,
    input_tokens, output_tokens, total_tokens, cost
FROM {table} WHERE (born, trace_key) IN (SELECT born, trace_key FROM traces WHERE {where}) AND {live} AND {counts}
"""
_SUMS = """
count(), countIf(failed), ifNull(sum(toFloat64(input_tokens)), 0), ifNull(sum(toFloat64(output_tokens)), 0),
ifNull(sum(toFloat64(total_tokens)), 0), sum(cost), groupArrayIf(assumeNotNull(duration_ns), duration_ns IS NOT NULL)
"""
_TOTALS = f"SELECT {_SUMS}, countIf(runs) FROM ({{calls}})"
_LABELS = f"SELECT label, {_SUMS} FROM ({{calls}}) GROUP BY label ORDER BY count() DESC, label LIMIT ?:Int64"
_POINTS = """
SELECT label, bucket, count(), countIf(failed), ifNull(sum(toFloat64(total_tokens)), 0), sum(cost)
FROM ({calls}) WHERE label IN ?:Array(String) GROUP BY label, bucket ORDER BY label, bucket
"""


def overview(connection: Connection, query: TraceQuery, buckets: int, limit: int) -> Overview:
    """Sum up the traces that a query selects, over time, by model and by name. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    check_whole("limit", limit, MAX_LIMIT)
    now_ns = time.time_ns()
    sample = choose(connection, query, now_ns)
    over_time = _histogram(connection, query, sample, now_ns, buckets)
    width = over_time.width_ns
    calls = _calls_of_names(sample, width)
    totals = connection.row(_TOTALS.format(calls=calls.sql), calls.parameters)
    assert totals is not None
    names = _summaries(connection, calls, sample, width, limit, NameSummary)
    models = _summaries(connection, _calls_of_models(sample, width), sample, width, limit, ModelSummary)
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
        slowest=_highest(connection, sample.matching, "duration_ns", limit),
        costliest=_highest(connection, sample.matching, "cost", limit),
        ranked_exactly=True,
    )


def _calls_of_names(sample: Sample, width: int) -> Clause:
    return Clause(_CALLS_OF_NAMES.format(where=sample.chosen.sql), (width, *sample.chosen.parameters))


def _calls_of_models(sample: Sample, width: int) -> Clause:
    written = [
        _CALLS_OF_TABLE.format(table=table, where=sample.chosen.sql, live=live(kind), counts=_COUNTS_AS_CALL)
        for table, kind in (("spans", "span"), ("running", "running"))
    ]
    return Clause(" UNION ALL ".join(written), (width, *sample.chosen.parameters) * 2)


def _summaries(connection: Connection, calls: Clause, sample: Sample, width: int, limit: int, kind: type[S]) -> list[S]:
    """Return the summaries of the most frequent labels."""
    labels = connection.fetch(_LABELS.format(calls=calls.sql), (*calls.parameters, limit))
    names = [label[0] for label in labels]
    rows = connection.fetch(_POINTS.format(calls=calls.sql), (*calls.parameters, names)) if names else []
    points: dict[str, Any] = defaultdict(list, points_of(rows, width, sample.told))
    return [summary_of([*label[:-1], list(label[-1])], points[label[0]], sample.told, kind) for label in labels]


def _highest(connection: Connection, where: Clause, column: str, limit: int) -> list[TraceInfo]:
    """Return the traces with the highest values of a column."""
    sql = (
        f"SELECT {TRACE_COLUMNS} FROM traces WHERE {where.sql} AND {column} IS NOT NULL "
        f"ORDER BY {column} DESC, born DESC LIMIT ?:Int64"
    )
    rows = connection.fetch(sql, (*where.parameters, limit))
    return [trace.info for trace in read_traces(connection, rows, spans=False)]
