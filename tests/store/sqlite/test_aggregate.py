from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.store.rows import SECOND, START, query_plan, simple
from tests.store.test_aggregate import by_field, fill
from tracer.store import TraceQuery
from tracer.store.sqlite import _aggregate, _sample
from tracer.store.sqlite.store import SqliteStore


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> int:
    """If more than 200 traces would have to be looked at, the result is estimated."""
    monkeypatch.setattr(_sample, "SIZE", 200)
    monkeypatch.setattr(_sample, "FEW", 200)
    monkeypatch.setattr(_aggregate, "_RANKED", 50)
    return 200


@pytest.mark.parametrize(
    "query",
    [{}, {"experiment": "E"}, {"since": START / 1e9 + 1_000}, {"tags": {"env": "prod"}}, {"name": "bad"}],
)
async def test_many_traces_are_estimated_from_an_even_sample(
    store: SqliteStore, small_samples: int, query: dict[str, Any]
) -> None:
    await fill(store, 4_000)
    matching = len(await store.search_traces(TraceQuery(**query, max_results=10_000, include_spans=False)))
    facets = await store.facets(TraceQuery(**query))
    assert not facets.scope.exact
    assert facets.scope.examined <= small_samples
    assert facets.scope.traces == pytest.approx(matching, rel=0.25)
    models = by_field(facets)["model"]
    assert sum(models.values()) == pytest.approx(matching, rel=0.25)
    for count in models.values():
        assert count == pytest.approx(matching / 3, rel=0.5)
    assert await store.facets(TraceQuery(**query)) == facets


async def test_what_few_traces_have_is_counted_exactly_among_many(store: SqliteStore, small_samples: int) -> None:
    await fill(store, 2_000)
    for n in (5_000, 5_001):
        await store.write(simple(n, tags={"rare": "x"}))
    facets = await store.facets(TraceQuery(tags={"rare": "x"}))
    assert (facets.scope.traces, facets.scope.exact) == (2, True)


async def test_the_calls_and_errors_of_many_traces_are_counted_not_estimated(
    store: SqliteStore, small_samples: int
) -> None:
    await fill(store, 1_500)
    histogram = await store.histogram(TraceQuery())
    assert not histogram.scope.exact
    assert histogram.scope.traces == 1_500
    calls: dict[int, int] = {}
    for n in range(1_500):
        start = (START + n * SECOND) // histogram.width_ns * histogram.width_ns
        calls[start] = calls.get(start, 0) + 1
    assert {each.start_ns: each.calls for each in histogram.buckets} == calls
    assert sum(each.errors for each in histogram.buckets) == 150
    assert any(each.p50_ns for each in histogram.buckets)


async def test_a_chosen_time_is_counted_to_its_edges_and_costs_no_more(store: SqliteStore, small_samples: int) -> None:
    await fill(store, 3_000)

    async def steps(query: TraceQuery) -> int:
        """How often SQLite has run a hundred instructions."""
        done: list[None] = []
        await store._database.read(lambda raw: raw.set_progress_handler(lambda: done.append(None), 100))
        histogram = await store.histogram(query)
        await store._database.read(lambda raw: raw.set_progress_handler(None, 0))
        assert not histogram.scope.exact
        assert sum(each.calls for each in histogram.buckets) == histogram.scope.traces
        return len(done)

    everything = await steps(TraceQuery())
    most = TraceQuery(since=START / 1e9 + 10.5, until=START / 1e9 + 2_990.5)
    assert (await store.histogram(most)).scope.traces == 2_980
    assert await steps(most) < 2 * everything


async def test_the_slowest_of_many_traces_are_the_true_ones(store: SqliteStore, small_samples: int) -> None:
    await fill(store, 1_500)
    await store.write(simple(9_000, name="slow", end_time_ns=START + 99_000 * SECOND, cost=99.0, counted=True))
    overview = await store.overview(TraceQuery())
    assert (overview.slowest[0].name, overview.costliest[0].cost) == ("slow", 99.0)
    assert overview.ranked_exactly
    assert overview.total_tokens == pytest.approx(sum(range(1_500)) + 1_500, rel=0.4)
    narrow = await store.overview(TraceQuery(until=START / 1e9 + 300))
    assert len(narrow.costliest) == 10
    assert not narrow.ranked_exactly


@pytest.mark.parametrize("query", [{}, {"experiment": "E"}, {"status": "ERROR"}, {"since": START / 1e9 + 100}])
@pytest.mark.parametrize("method", ["facets", "histogram", "overview"])
async def test_no_question_reads_the_whole_table(
    store: SqliteStore, small_samples: int, method: str, query: dict[str, Any]
) -> None:
    await fill(store, 3_000)
    seen: list[str] = []
    await store._database.read(sqlite3.Connection.set_trace_callback, seen.append)
    await getattr(store, method)(TraceQuery(**query))
    await store._database.read(sqlite3.Connection.set_trace_callback, None)
    for statement in (sql for sql in seen if "FROM traces" in sql):
        plan = [row[3] for row in await store._database.read(query_plan, statement)]
        scans = [step for step in plan if step.startswith("SCAN traces") and not _is_bounded(step)]
        assert scans == [], statement[:300]


def _is_bounded(step: str) -> bool:
    """It touches no row, reads an index in its order until its LIMIT, or only the traces that run."""
    return "COVERING" in step or step.endswith(("traces_by_duration", "traces_by_cost", "traces_running"))
