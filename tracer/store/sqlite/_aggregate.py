"""Facets, histograms and overviews of many traces. `tracer.store.summaries` describes the results.

Each question is one or two statements over a sample (`_sample`). Each statement answers with one row of
JSON: SQLite groups and sums, and only percentiles are computed here. Errors are few, so they have a sample of their
own.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

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
from tracer.store.search import in_one_index
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._query import clauses
from tracer.store.sqlite._read import TRACE_COLUMNS, read_traces
from tracer.store.sqlite._sample import Sample, Where, choose, one_row
from tracer.store.summaries import Facets, Histogram, ModelSummary, NameSummary, Overview

__all__ = ["facets", "histogram", "overview"]

S = TypeVar("S", bound=NameSummary)
_COUNTABLE = 2_000_000  # up to so many entries of an index are counted, at some 60 ns each
_RANKED = 2_000  # so many of the slowest traces are tested for a match

# --- facets -----------------------------------------------------------------------------------------------------------
_FACETS = """
WITH sample AS (SELECT key, state, experiment, name, models FROM traces WHERE {where}),
found (field, value) AS (
    SELECT 'status', state FROM sample
    UNION ALL SELECT 'model', model.value FROM sample CROSS JOIN json_each(sample.models) AS model
    UNION ALL SELECT 'experiment', experiment FROM sample
    UNION ALL SELECT 'name', name FROM sample
    UNION ALL SELECT 'tags.' || tags.key, tags.value FROM sample CROSS JOIN tags ON tags.trace_key = sample.key
    UNION ALL SELECT field, value FROM (
        SELECT DISTINCT sample.key, 'feedback.' || feedback.name AS field, CAST(feedback.value AS TEXT) AS value
        FROM sample CROSS JOIN feedback ON feedback.trace_key = sample.key
    )
),
counted AS (SELECT field, value, count(*) AS traces FROM found WHERE value IS NOT NULL GROUP BY field, value),
ranked AS (SELECT *, row_number() OVER (PARTITION BY field ORDER BY traces DESC, value) AS place FROM counted)
SELECT (SELECT count(*) FROM sample),
    (SELECT json_group_array(json_array(field, value, traces)) FROM ranked WHERE place <= ?)
"""


def facets(connection: sqlite3.Connection, query: TraceQuery, limit: int) -> Facets:
    """Count the values of each field among the traces that a query selects. Raises ConfigurationError."""
    check_whole("limit", limit, MAX_LIMIT)
    with transaction(connection, "DEFERRED"):
        sample = choose(connection, query, time.time_ns())
        sql = _FACETS.format(where=sample.chosen.sql)
        matched, rows = one_row(connection, sql, (*sample.chosen.parameters, limit + 1))
    return Facets(scope=sample.scope(matched), facets=facets_of(rows, sample.told, limit))


# --- over time --------------------------------------------------------------------------------------------------------
_BUCKETS = """
SELECT json_group_array(json_array(bucket, calls, errors, json(times))) FROM (
    SELECT start_time_ns / ? AS bucket, count(*) AS calls, sum(state = 'ERROR') AS errors,
        json_group_array(duration_ns) FILTER (WHERE duration_ns IS NOT NULL) AS times
    FROM traces WHERE {where} GROUP BY bucket
)
"""
_COUNTS = """
SELECT json_group_array(
    (SELECT count(*) FROM traces WHERE {where}
        AND start_time_ns >= json_extract(edges.value, '$[0]') AND start_time_ns < json_extract(edges.value, '$[1]'))
) FROM json_each(?) AS edges
"""


def histogram(connection: sqlite3.Connection, query: TraceQuery, buckets: int) -> Histogram:
    """Count the traces that a query selects, and their errors and durations, over time. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    now_ns = time.time_ns()
    with transaction(connection, "DEFERRED"):
        sample = choose(connection, query, now_ns).fixed(connection)
        return _histogram(connection, query, sample, now_ns, buckets)


def _histogram(
    connection: sqlite3.Connection, query: TraceQuery, sample: Sample, now_ns: int, buckets: int
) -> Histogram:
    if (span := _span(connection, sample)) is None:
        return Histogram(scope=sample.scope(0), width_ns=NARROWEST, buckets=[])
    width = round_width(span[1] - span[0], buckets)
    found = _bucketed(connection, sample, width)
    starts = range(span[0] // width, span[1] // width + 1)
    calls = _calls(connection, query, sample, span, starts, width, found)
    errors = _errors(connection, query, sample, now_ns, width, found)
    made = [
        bucket_of(number * width, calls[number], errors[number], found[number][3] if number in found else [])
        for number in starts
    ]
    return Histogram(scope=sample.scope(sum(row[1] for row in found.values())), width_ns=width, buckets=made)


def _bucketed(connection: sqlite3.Connection, sample: Sample, width: int) -> dict[int, list[Any]]:
    """Return ``[number, calls, errors, durations]`` of the chosen traces, by the bucket's number."""
    sql = _BUCKETS.format(where=sample.chosen.sql)
    (rows,) = one_row(connection, sql, (width, *sample.chosen.parameters))
    return {row[0]: row for row in rows}


def _span(connection: sqlite3.Connection, sample: Sample) -> tuple[int, int] | None:
    """Return the first and the last start of the traces; None if there are none.

    The traces are the chosen ones if these are all that match, otherwise the candidates.
    """
    where = sample.chosen if sample.exact else sample.candidates
    # Two statements: SQLite finds one end of an index at once, but asked for both it scans.
    first, last = (
        connection.execute(f"SELECT {end}(start_time_ns) FROM traces WHERE {where.sql}", where.parameters).fetchone()[0]
        for end in ("min", "max")
    )
    return None if first is None else (first, last)


def _calls(
    connection: sqlite3.Connection,
    query: TraceQuery,
    sample: Sample,
    span: tuple[int, int],
    starts: Sequence[int],
    width: int,
    found: dict[int, list[Any]],
) -> dict[int, int]:
    """Count each bucket's traces: in the index if that answers the whole query, otherwise in the sample."""
    if sample.exact or sample.counted is None or sample.counted > _COUNTABLE:
        return defaultdict(int, {number: sample.scaled(row[1]) for number, row in found.items()})
    # The span replaces the query's times: given both, SQLite would search by the query's, again for each bucket.
    where = Where.of(clauses(in_one_index(msgspec.structs.replace(query, since=None, until=None)), 0))
    edges = [(max(number * width, span[0]), min((number + 1) * width, span[1] + 1)) for number in starts]
    (counts,) = one_row(connection, _COUNTS.format(where=where.sql), (*where.parameters, json.dumps(edges)))
    return dict(zip(starts, counts, strict=True))


def _errors(
    connection: sqlite3.Connection,
    query: TraceQuery,
    sample: Sample,
    now_ns: int,
    width: int,
    found: dict[int, list[Any]],
) -> dict[int, int]:
    """Count each bucket's errors, in a sample of errors only, unless the first sample has all traces."""
    if not sample.exact and query.status is None:
        sample = choose(connection, msgspec.structs.replace(query, status=TraceState.ERROR.value), now_ns)
        found = _bucketed(connection, sample, width)
    return defaultdict(int, {number: sample.scaled(row[2]) for number, row in found.items()})


# --- overview ---------------------------------------------------------------------------------------------------------
_CALLS_OF_NAMES = """
SELECT ifnull(name, '') AS label, start_time_ns / ? AS bucket, state = 'ERROR' AS failed, state = 'IN_PROGRESS' AS runs,
    duration_ns, input_tokens, output_tokens, total_tokens, cost
FROM traces WHERE {where}
"""
# Leaves out spans that repeat what another span reports. A span that reports nothing, because it failed, counts too.
_CALLS_OF_MODELS = """
SELECT model AS label, spans.start_time_ns / ? AS bucket, ifnull(status_code = 'ERROR', 0) AS failed,
    spans.end_time_ns IS NULL AS runs, spans.end_time_ns - spans.start_time_ns AS duration_ns,
    spans.input_tokens, spans.output_tokens, spans.total_tokens, spans.cost
FROM (SELECT key FROM traces WHERE {where}) AS sample CROSS JOIN spans ON spans.trace_key = sample.key
WHERE model IS NOT NULL AND (counted OR coalesce(input_tokens, total_tokens, cost) IS NULL)
"""
_SUMS = (
    "count(*), sum(failed), ifnull(sum(input_tokens), 0), ifnull(sum(output_tokens), 0), "
    "ifnull(sum(total_tokens), 0), sum(cost)"
)
_TIMES = "json(json_group_array(duration_ns) FILTER (WHERE duration_ns IS NOT NULL))"
_SUMMARY = f"""
WITH calls AS ({{calls}}),
labels AS (SELECT label, json_array(label, {_SUMS}, {_TIMES}) AS summed FROM calls GROUP BY label
    ORDER BY count(*) DESC, label LIMIT ?),
points AS (SELECT json_array(label, bucket, count(*), sum(failed), ifnull(sum(total_tokens), 0), sum(cost)) AS summed
    FROM calls WHERE label IN (SELECT label FROM labels) GROUP BY label, bucket ORDER BY label, bucket)
SELECT (SELECT json_array({_SUMS}, {_TIMES}, sum(runs)) FROM calls),
    (SELECT json_group_array(json(summed)) FROM labels), (SELECT json_group_array(json(summed)) FROM points)
"""


def overview(connection: sqlite3.Connection, query: TraceQuery, buckets: int, limit: int) -> Overview:
    """Sum up the traces that a query selects, over time, by model and by name. Raises ConfigurationError."""
    check_whole("buckets", buckets, MAX_BUCKETS)
    check_whole("limit", limit, MAX_LIMIT)
    now_ns = time.time_ns()
    with transaction(connection, "DEFERRED"):
        sample = choose(connection, query, now_ns).fixed(connection)
        over_time = _histogram(connection, query, sample, now_ns, buckets)
        totals, names = _summaries(connection, _CALLS_OF_NAMES, sample, over_time.width_ns, limit, NameSummary)
        _, models = _summaries(connection, _CALLS_OF_MODELS, sample, over_time.width_ns, limit, ModelSummary)
        slowest, slow_exact = _top(connection, sample, "duration_ns", limit)
        costliest, cost_exact = _top(connection, sample, "cost", limit)
    _, _, inputs, outputs, tokens, cost, times, runs = totals
    times.sort()
    return Overview(
        scope=over_time.scope,
        errors=sum(bucket.errors for bucket in over_time.buckets),
        running=sample.scaled(runs or 0),
        p50_ns=percentile(times, 0.5),
        p95_ns=percentile(times, 0.95),
        p99_ns=percentile(times, 0.99),
        input_tokens=sample.scaled(inputs),
        output_tokens=sample.scaled(outputs),
        total_tokens=sample.scaled(tokens),
        cost=sample.told.scaled_cost(cost),
        histogram=over_time,
        models=models,
        names=names,
        slowest=slowest,
        costliest=costliest,
        ranked_exactly=slow_exact and cost_exact,
    )


def _summaries(
    connection: sqlite3.Connection, calls: str, sample: Sample, width: int, limit: int, kind: type[S]
) -> tuple[list[Any], list[S]]:
    """Return the totals, and the summaries of the most frequent labels."""
    sql = _SUMMARY.format(calls=calls.format(where=sample.chosen.sql))
    totals, labels, rows = one_row(connection, sql, (width, *sample.chosen.parameters, limit))
    points = points_of(rows, width, sample.told)
    return totals, [summary_of(label, points[label[0]], sample.told, kind) for label in labels]


def _top(connection: sqlite3.Connection, sample: Sample, column: str, limit: int) -> tuple[list[TraceInfo], bool]:
    """Return the traces with the highest values of a column, and whether they surely are the highest.

    If only a sample was looked at, the highest of all traces are tested for a match. If too few of them match, the
    highest of the sample follow.
    """
    if sample.exact:
        return _highest(connection, sample.chosen, column, limit), True
    highest = f"key IN (SELECT key FROM traces ORDER BY ifnull({column}, -1) DESC LIMIT {_RANKED}) AND ({{}})"
    found = _highest(connection, Where(highest.format(sample.matching.sql), sample.matching.parameters), column, limit)
    if len(found) == limit:
        return found, True
    known = {info.trace_id for info in found}
    rest = [info for info in _highest(connection, sample.chosen, column, limit) if info.trace_id not in known]
    return [*found, *rest][:limit], False


def _highest(connection: sqlite3.Connection, where: Where, column: str, limit: int) -> list[TraceInfo]:
    sql = (
        f"SELECT {TRACE_COLUMNS} FROM traces WHERE {where.sql} AND {column} IS NOT NULL "
        f"ORDER BY +{column} DESC, key DESC LIMIT ?"
    )
    rows = connection.execute(sql, (*where.parameters, limit)).fetchall()
    return [trace.info for trace in read_traces(connection, rows, spans=False)]
