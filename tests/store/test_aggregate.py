"""Facets, histograms and overviews: exact for few traces, even samples for many, bounded for any number."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tracer._exceptions import ConfigurationError
from tracer._models import Feedback, SpanStatusCode, TraceState
from tracer.store import TraceQuery
from tracer.store.base import Store
from tracer.store.figures import percentile
from tracer.store.summaries import Facets, Overview

from .rows import SECOND, START, batch, patch, simple, span, span_id, trace_id

MODELS = ["gpt-5", "gpt-4o", "o4-mini"]


async def fill(any_store: Store, count: int, seed: int = 1) -> None:
    """Traces a second apart, each of one model call; every tenth fails, and is of the name ``bad``."""
    rng = random.Random(seed)
    spans, traces = [], []
    for n in range(count):
        bad = n % 10 == 0
        end = START + n * SECOND + rng.randrange(1, 100) * SECOND // 10
        spans.append(
            span(
                n,
                end_time_ns=end,
                model=MODELS[n % 3],
                usage={"input_tokens": n, "output_tokens": 1, "total_tokens": n + 1},
                cost=n / 1000,
                counted=True,
                status_code=SpanStatusCode.ERROR if bad else SpanStatusCode.OK,
            )
        )
        traces.append(
            patch(
                n,
                end_time_ns=end,
                name="bad" if bad else "good",
                state=TraceState.ERROR if bad else TraceState.OK,
                experiment="E" if n % 4 == 0 else None,
                tags={"env": "prod" if n % 2 else "dev", "odd key": "x"} if n % 5 else {},
                session_id=f"s{n % 7}",
            )
        )
    for begin in range(0, count, 500):
        await any_store.write(batch(spans[begin : begin + 500], traces[begin : begin + 500]))


def by_field(facets: Facets) -> dict[str, dict[str, int]]:
    return {facet.field: {value.value: value.traces for value in facet.values} for facet in facets.facets}


# --- facets -----------------------------------------------------------------------------------------------------------


async def test_facets_count_each_value_of_each_field(any_store: Store) -> None:
    await fill(any_store, 60)
    facets = await any_store.facets(TraceQuery())
    assert (facets.scope.traces, facets.scope.examined, facets.scope.exact) == (60, 60, True)
    assert by_field(facets) == {
        "status": {"OK": 54, "ERROR": 6},
        "model": {"gpt-4o": 20, "gpt-5": 20, "o4-mini": 20},
        "experiment": {"Default": 45, "E": 15},
        "name": {"good": 54, "bad": 6},
        "tags.env": {"dev": 24, "prod": 24},
        "tags.`odd key`": {"x": 48},
    }
    assert [value.value for value in facets.facets[0].values] == ["OK", "ERROR"]


async def test_facets_are_of_the_traces_that_a_query_selects(any_store: Store) -> None:
    pytest.importorskip("lark")
    await fill(any_store, 60)
    facets = await any_store.facets(TraceQuery(status="ERROR", filter_string="total_tokens > 20"))
    assert facets.scope.traces == 4
    assert by_field(facets)["name"] == {"bad": 4}
    assert by_field(await any_store.facets(TraceQuery(tags={"env": "prod"})))["tags.env"] == {"prod": 24}
    assert (await any_store.facets(TraceQuery(name="nothing"))).facets == []


async def test_every_facet_is_a_filter_that_finds_as_many(any_store: Store) -> None:
    pytest.importorskip("lark")
    await fill(any_store, 40)
    await any_store.write(simple(100, tags={"a`b": "1", 'c"d': "2", "a.b-c": "3", "9": "4"}))
    await any_store.add_feedback(Feedback(id="1", trace_id=trace_id(3), name="how good", value=True, created_ns=1))
    facets = await any_store.facets(TraceQuery())
    assert len(facets.facets) == 11
    for facet in facets.facets:
        for value in facet.values:
            query = TraceQuery(filter_string=f"{facet.field} = '{value.value}'")
            assert len(await any_store.search_traces(query)) == value.traces, facet


async def test_feedback_is_counted_once_a_trace(any_store: Store) -> None:
    await any_store.write(simple(1, 2))
    for number, value in enumerate([True, True, False, 0.5]):
        feedback = Feedback(id=str(number), trace_id=trace_id(1), name="x", value=value, created_ns=1)
        await any_store.add_feedback(feedback)
    assert by_field(await any_store.facets(TraceQuery()))["feedback.x"] == {"true": 1, "false": 1, "0.5": 1}


async def test_a_facet_has_the_most_frequent_values_and_says_that_there_are_more(any_store: Store) -> None:
    for n in range(30):
        await any_store.write(simple(n, name=f"n{n % 8}"))
    [name] = [facet for facet in (await any_store.facets(TraceQuery(), limit=3)).facets if facet.field == "name"]
    assert [(value.value, value.traces) for value in name.values] == [("n0", 4), ("n1", 4), ("n2", 4)]
    assert name.more
    [name] = [facet for facet in (await any_store.facets(TraceQuery(), limit=8)).facets if facet.field == "name"]
    assert not name.more


# --- over time --------------------------------------------------------------------------------------------------------


async def test_a_histogram_counts_calls_errors_and_durations(any_store: Store) -> None:
    for n, seconds in enumerate([1, 2, 3, 10]):
        start = START + n * SECOND
        await any_store.write(simple(n, start_time_ns=start, end_time_ns=start + seconds * SECOND))
    await any_store.write(simple(9, state=TraceState.ERROR))
    await any_store.write(batch([], [patch(10, state=TraceState.IN_PROGRESS, end_time_ns=None)]))
    histogram = await any_store.histogram(TraceQuery(), buckets=2)
    assert histogram.width_ns == 5 * SECOND
    assert [(each.start_ns - START) // SECOND for each in histogram.buckets] == [0, 5, 10]
    assert [(each.calls, each.errors) for each in histogram.buckets] == [(4, 0), (1, 1), (1, 0)]
    assert [(each.p50_ns, each.p95_ns) for each in histogram.buckets] == [
        (2 * SECOND, 10 * SECOND),
        (SECOND // 2, SECOND // 2),
        (None, None),
    ]


async def test_a_histogram_has_no_gaps_and_no_more_buckets_than_asked_for(any_store: Store) -> None:
    for n in (0, 1, 5_000, 100_000):
        await any_store.write(simple(n))
    for buckets in (1, 7, 60, 1_000):
        histogram = await any_store.histogram(TraceQuery(), buckets=buckets)
        starts = [each.start_ns for each in histogram.buckets]
        assert len(starts) <= buckets + 1
        assert {second - first for first, second in itertools.pairwise(starts)} <= {histogram.width_ns}
        assert all(start % histogram.width_ns == 0 for start in starts)
        assert sum(each.calls for each in histogram.buckets) == 4
    assert (await any_store.histogram(TraceQuery(name="nothing"))).buckets == []


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.95, 10), (0.99, 10), (0.1, 1), (0.11, 2), (1.0, 10)])
def test_a_percentile_is_the_nearest_rank(share: float, value: int) -> None:
    assert percentile(list(range(1, 11)), share) == value
    assert percentile([], share) is None
    assert percentile([7], share) == 7


# --- overview ---------------------------------------------------------------------------------------------------------


async def test_an_overview_sums_up_by_model_and_by_name(any_store: Store) -> None:
    await fill(any_store, 60)
    overview = await any_store.overview(TraceQuery())
    page = await any_store.search_traces(TraceQuery())
    durations = sorted(trace.info.duration_ns or 0 for trace in page)
    assert (overview.scope.traces, overview.errors, overview.running) == (60, 6, 0)
    assert (overview.p50_ns, overview.p99_ns) == (durations[29], durations[59])
    assert overview.total_tokens == sum(range(60)) + 60 == overview.input_tokens + overview.output_tokens
    assert overview.cost == pytest.approx(sum(range(60)) / 1000)
    assert [(name.name, name.calls, name.errors) for name in overview.names] == [("good", 54, 0), ("bad", 6, 6)]
    assert {model.name: (model.calls, model.errors) for model in overview.models} == dict.fromkeys(MODELS, (20, 2))
    for summary in (*overview.names, *overview.models):
        assert sum(point.calls for point in summary.points) == summary.calls
        assert sum(point.total_tokens for point in summary.points) == summary.total_tokens
    assert sum(model.cost or 0 for model in overview.models) == pytest.approx(overview.cost)
    assert [info.duration_ns for info in overview.slowest] == durations[:-11:-1]
    assert [info.cost for info in overview.costliest] == [n / 1000 for n in range(59, 49, -1)]
    assert overview.ranked_exactly
    assert msgspec.json.decode(msgspec.json.encode(overview), type=Overview) == overview


async def test_a_call_that_failed_counts_and_one_told_twice_does_not(any_store: Store) -> None:
    rows = [
        span(1, model="gpt-5", usage={"total_tokens": 5}, cost=1.0, counted=True),
        span(1, span_id=span_id(2), model="gpt-5", usage={"total_tokens": 5}, cost=1.0, counted=False),
        span(1, span_id=span_id(3), model="gpt-5", status_code=SpanStatusCode.ERROR),
    ]
    await any_store.write(batch(rows, [patch(1)]))
    [model] = (await any_store.overview(TraceQuery())).models
    assert (model.calls, model.errors, model.total_tokens, model.cost) == (2, 1, 5, 1.0)


async def test_an_overview_of_nothing_is_empty(any_store: Store) -> None:
    overview = await any_store.overview(TraceQuery(since=timedelta(hours=1)))
    assert (overview.scope.traces, overview.p50_ns, overview.cost, overview.total_tokens) == (0, None, None, 0)
    assert (overview.histogram.buckets, overview.models, overview.slowest) == ([], [], [])


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("facets", {"limit": 0}, "limit must be a whole number from 1 to 1000, got 0"),
        ("facets", {"limit": "5"}, "got '5'"),
        ("histogram", {"buckets": 0}, "buckets must be a whole number from 1 to 1000"),
        ("histogram", {"buckets": True}, "got True"),
        ("overview", {"buckets": 10_000}, "got 10000"),
        ("overview", {"limit": -1}, "limit must be"),
    ],
)
async def test_a_wrong_number_is_named(any_store: Store, method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        await getattr(any_store, method)(TraceQuery(), **options)


@pytest.mark.parametrize("method", ["facets", "histogram", "overview"])
async def test_a_bad_query_is_refused_and_leaves_the_connection_usable(any_store: Store, method: str) -> None:
    await fill(any_store, 3)
    with pytest.raises(ConfigurationError, match="status must be one of"):
        await getattr(any_store, method)(TraceQuery(status="BAD"))
    await getattr(any_store, method)(TraceQuery())
