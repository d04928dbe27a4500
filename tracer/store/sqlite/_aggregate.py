"""Facets, histograms and overviews of many traces. `tracer.store.summaries` describes the results.

Each question is one or two statements over a sample (`_sample`). Each statement answers with one row of
JSON: SQLite groups and sums, and only percentiles are computed here. Errors are few, so they have a sample of their
own.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import TraceInfo, TraceState
from tracer.store.base import TraceQuery
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._query import clauses
from tracer.store.sqlite._read import TRACE_COLUMNS, read_traces
from tracer.store.sqlite._sample import Sample, Where, choose, in_one_index, one_row
from tracer.store.summaries import (
    Facet,
    Facets,
    FacetValue,
    Histogram,
    HistogramBucket,
    ModelSummary,
    NameSummary,
    Overview,
    OverviewPoint,
)

__all__ = ["facets", "histogram", "overview"]

S = TypeVar("S", bound=NameSummary)
MAX_BUCKETS = 1_000
MAX_LIMIT = 1_000
_COUNTABLE = 2_000_000  # up to so many entries of an index are counted, at some 60 ns each
_RANKED = 2_000  # so many of the slowest traces are tested for a match
_MAX_KEYS = 50  # so many tag keys and feedback names become facets
_SECOND, _MINUTE, _HOUR, _DAY = 10**9, 60 * 10**9, 3_600 * 10**9, 86_400 * 10**9
_WIDTHS: tuple[int, ...] = (
    *(10**power for power in range(6, 9)),  # 1 ms to 100 ms
    *(count * _SECOND for count in (1, 2, 5, 10, 15, 30)),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14, 28, 91, 364, 3_640, 36_400)),
)

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
_FACET_ORDER = ("status", "model", "experiment", "name")


def facets(connection: sqlite3.Connection, query: TraceQuery, limit: int) -> Facets:
    """Count the values of each field among the traces that a query selects. Raises ConfigurationError."""
    _check_whole("limit", limit, MAX_LIMIT)
    with transaction(connection, "DEFERRED"):
        sample = choose(connection, query, time.time_ns())
        sql = _FACETS.format(where=sample.chosen.sql)
        matched, rows = one_row(connection, sql, (*sample.chosen.parameters, limit + 1))
    found: dict[str, list[FacetValue]] = defaultdict(list)
    for field, value, traces in rows:
        found[field].append(FacetValue(str(value), sample.scaled(traces)))
    fields = [*(field for field in _FACET_ORDER if field in found), *_frequent(found)]
    return Facets(scope=sample.scope(matched), facets=[_facet(field, found[field], limit) for field in fields])


def _frequent(found: dict[str, list[FacetValue]]) -> list[str]:
    """Return the tags and feedback names that occur in the most traces, sorted by name."""
    others = sorted(
        (field for field in found if field not in _FACET_ORDER), key=lambda field: -sum(v.traces for v in found[field])
    )
    return sorted(others[:_MAX_KEYS])


def _facet(field: str, values: list[FacetValue], limit: int) -> Facet:
    values.sort(key=lambda each: (-each.traces, each.value))
    prefix, dot, key = field.partition(".")
    return Facet(f"{prefix}{dot}{_quoted(key)}", values[:limit], more=len(values) > limit)


def _quoted(key: str) -> str:
    """Write a key in the form that ``filter_string`` accepts."""
    if not key or re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        return key
    return f"`{key}`" if "`" not in key else '"{}"'.format(re.sub(r'(["\\])', r"\\\1", key))


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
    _check_whole("buckets", buckets, MAX_BUCKETS)
    now_ns = time.time_ns()
    with transaction(connection, "DEFERRED"):
        sample = choose(connection, query, now_ns).fixed(connection)
        return _histogram(connection, query, sample, now_ns, buckets)


def _histogram(
    connection: sqlite3.Connection, query: TraceQuery, sample: Sample, now_ns: int, buckets: int
) -> Histogram:
    if (span := _span(connection, sample)) is None:
        return Histogram(scope=sample.scope(0), width_ns=_WIDTHS[0], buckets=[])
    width = _round_width(span[1] - span[0], buckets)
    found = _bucketed(connection, sample, width)
    starts = range(span[0] // width, span[1] // width + 1)
    calls = _calls(connection, query, sample, span, starts, width, found)
    errors = _errors(connection, query, sample, now_ns, width, found)
    made = [_bucket(number * width, calls[number], errors[number], found.get(number)) for number in starts]
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


def _bucket(start_ns: int, calls: int, errors: int, row: list[Any] | None) -> HistogramBucket:
    times = sorted(row[3]) if row else []
    return HistogramBucket(
        start_ns=start_ns,
        calls=calls,
        errors=min(errors, calls),
        p50_ns=_percentile(times, 0.5),
        p95_ns=_percentile(times, 0.95),
    )


def _round_width(span_ns: int, buckets: int) -> int:
    widths = (width for width in _WIDTHS if span_ns <= width * buckets)
    return next(widths, _WIDTHS[-1])


def _percentile(ordered: list[int], share: float) -> int | None:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


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
    _check_whole("buckets", buckets, MAX_BUCKETS)
    _check_whole("limit", limit, MAX_LIMIT)
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
        p50_ns=_percentile(times, 0.5),
        p95_ns=_percentile(times, 0.95),
        p99_ns=_percentile(times, 0.99),
        input_tokens=sample.scaled(inputs),
        output_tokens=sample.scaled(outputs),
        total_tokens=sample.scaled(tokens),
        cost=_scaled_cost(sample, cost),
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
    points: dict[str, list[OverviewPoint]] = defaultdict(list)
    for label, bucket, count, errors, tokens, cost in rows:
        points[label].append(
            OverviewPoint(
                start_ns=bucket * width,
                calls=sample.scaled(count),
                errors=sample.scaled(errors),
                total_tokens=sample.scaled(tokens),
                cost=_scaled_cost(sample, cost),
            )
        )
    return totals, [_summary(sample, label, points[label[0]], kind) for label in labels]


def _summary(sample: Sample, row: list[Any], points: list[OverviewPoint], kind: type[S]) -> S:
    label, calls, errors, inputs, outputs, tokens, cost, times = row
    times.sort()
    return kind(
        name=label,
        calls=sample.scaled(calls),
        errors=sample.scaled(errors),
        p50_ns=_percentile(times, 0.5),
        p95_ns=_percentile(times, 0.95),
        input_tokens=sample.scaled(inputs),
        output_tokens=sample.scaled(outputs),
        total_tokens=sample.scaled(tokens),
        cost=_scaled_cost(sample, cost),
        points=points,
    )


def _scaled_cost(sample: Sample, cost: float | None) -> float | None:
    return None if cost is None else cost / sample.share


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


def _check_whole(parameter: str, value: Any, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise ConfigurationError(f"{parameter} must be a whole number from 1 to {maximum}, got {value!r}")
