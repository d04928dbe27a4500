from __future__ import annotations

import itertools
import math
import random
import sqlite3
import time
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.rows import SECOND, START, batch, patch, query_plan, simple, trace_id
from tests.store.test_search import found
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite.store import SqliteStore


async def test_many_and_few_matches_give_the_same_answer(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few matches are fetched and sorted, many are probed for: two plans, one result."""
    await store.write(simple(*range(30), tags={"k": "v"}, model="m", text="word"))
    await store.write(simple(*range(30, 60), tags={"k": "w"}))
    for few in (1_000, 5):
        monkeypatch.setattr("tracer.store.sqlite._query.FEW", few)
        cases: tuple[dict[str, Any], ...] = (
            {"tags": {"k": "v"}},
            {"model": "m"},
            {"text": "word"},
            {"min_duration": 0.5, "model": "m"},
        )
        for arguments in cases:
            assert await found(store, **arguments) == list(range(29, -1, -1))


@pytest.mark.parametrize(("few", "most_listed"), [(1_000, 1_000), (5, 1_000), (5, 10)])
async def test_text_in_few_in_many_and_in_most_traces_is_found_alike(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, few: int, most_listed: int
) -> None:
    """Fetched, listed, or probed for: three plans, one result."""
    await store.write(simple(*range(40), text="a common word"))
    await store.write(simple(*range(40, 60), text="another"))
    monkeypatch.setattr("tracer.store.sqlite._sql._FEW_SPANS", few)
    monkeypatch.setattr("tracer.store.sqlite._sql._MOST_LISTED", most_listed)
    for text in ("word", "wor*", "common word", '"a common"'):
        assert await found(store, text=text) == list(range(39, -1, -1))
        assert await found(store, text=text, order_by="duration asc", max_results=3) == [0, 1, 2]
        assert await found(store, text=text, until=START / 1e9 + 2) == [1, 0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    order=st.sampled_from(
        [
            "start_time desc",
            "start_time asc",
            "duration desc",
            "name asc",
            ["status desc", "name asc", "start_time desc"],
        ]
    ),
    seed=st.integers(0, 1_000),
)
async def test_pages_hold_still_while_traces_arrive_and_go(starts: list[int], order: Any, seed: int) -> None:
    """All traces that were there come once, in order, whatever is written between pages; none that came later does."""
    rng = random.Random(seed)
    asked: dict[str, Any] = {"order_by": order, "since": timedelta(days=20_000)}
    store = open_store("memory://")
    await store.open()
    try:
        await store.write(batch([], [patch(n, start_time_ns=START + s) for n, s in enumerate(starts)]))
        expected = [trace.info.trace_id for trace in await store.search_traces(TraceQuery(**asked))]
        seen: list[str] = []
        token = None
        for fresh in itertools.count(1_000, 3):
            query = TraceQuery(**asked, max_results=rng.randint(1, 4), page_token=token)
            page = await store.search_traces(query)
            seen += [trace.info.trace_id for trace in page]
            if (token := page.next_page_token) is None:
                break
            await store.write(batch([], [patch(fresh + n, start_time_ns=START + rng.randrange(6)) for n in range(3)]))
            await store.delete_traces(trace_ids=[trace_id(fresh + 2)])
        assert seen == expected
    finally:
        await store.aclose()


async def test_an_hour_ago_is_the_same_moment_on_each_page(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.write(batch([], [patch(n, start_time_ns=START + n * SECOND) for n in range(4)]))
    monkeypatch.setattr(time, "time_ns", lambda: START + 3600 * SECOND)
    asked: dict[str, Any] = {"since": timedelta(hours=1), "max_results": 2}
    token = (await store.search_traces(TraceQuery(**asked))).next_page_token
    monkeypatch.setattr(time, "time_ns", lambda: START + 7200 * SECOND)
    assert await found(store, **asked) == []
    assert await found(store, **asked, page_token=token) == [1, 0]


_NUMBERS = ("input_tokens", "cache_read_input_tokens", "time_to_first_token", "cost")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.sampled_from([None, None, -2, -1, 0, 1, 5]), min_size=1, max_size=12),
    column=st.sampled_from(_NUMBERS),
    descending=st.booleans(),
    size=st.integers(1, 13),
)
async def test_a_list_by_numbers_is_in_order_whatever_its_parts(
    values: list[int | None], column: str, descending: bool, size: int
) -> None:
    """Unknown values come last, in descending order with any -1 that another program wrote; neighbours agree."""
    store = open_store("memory://")
    await store.open()
    assert isinstance(store, SqliteStore)
    try:
        await store.write(batch([], [patch(number) for number in range(len(values))]))
        for number, value in enumerate(values):
            sql = f"UPDATE traces SET {column} = ? WHERE trace_id = ?"
            await store._database.write(sqlite3.Connection.execute, sql, (value, trace_id(number)))
        unknown = -1.0 if descending else math.inf
        places = [(unknown if value is None else value, number) for number, value in enumerate(values)]
        expected = [trace_id(number) for _, number in sorted(places, reverse=descending)]
        query = TraceQuery(order_by=f"{column} {'desc' if descending else 'asc'}", max_results=size)
        seen: list[str] = []
        token = None
        while token is not None or not seen:
            page = await store.search_traces(msgspec.structs.replace(query, page_token=token))
            seen += [trace.info.trace_id for trace in page]
            token = page.next_page_token
        assert seen == expected
        for before, here, after in zip([None, *expected], expected, [*expected[1:], None], strict=False):
            beside = await store.neighbours(query, here)
            assert (beside.previous, beside.next) == (before, after)
    finally:
        await store.aclose()


@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ({}, "traces_by_start"),
        ({"status": "ERROR"}, "traces_by_state"),
        ({"name": "x"}, "traces_by_name"),
        ({"session_id": "x"}, "traces_by_session"),
        ({"user_id": "x"}, "traces_by_user"),
        ({"experiment": "x"}, "traces_by_experiment"),
        ({"model": "x"}, "spans_by_model"),
        ({"tags": {"a": "b"}}, "tags_by_value"),
        ({"filter_string": "tags.a = 'b' AND status = 'OK'"}, "tags_by_value"),
        ({"filter_string": "feedback.helpful = true"}, "feedback_by_name"),
        ({"filter_string": "model IN ('x', 'y')"}, "spans_by_model"),
        ({"since": 0}, "traces_by_start"),
        ({"min_duration": 5}, "traces_by_duration"),
        ({"order_by": "duration desc"}, "traces_by_duration"),
        ({"order_by": "cost desc"}, "traces_by_cost"),
        ({"order_by": "total_tokens desc"}, "traces_by_tokens"),
        # not the table, of which a million rows are a gigabyte
        ({"order_by": "total_tokens asc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "duration asc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "cost asc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "input_tokens desc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "output_tokens asc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "cache_read_input_tokens desc"}, "COVERING INDEX traces_numbers"),
        ({"order_by": "time_to_first_token desc"}, "COVERING INDEX traces_numbers"),
    ],
)
async def test_searches_use_an_index(store: SqliteStore, arguments: dict[str, Any], index: str) -> None:
    await store.write(simple(*range(50)))
    seen: list[str] = []
    await store._database.read(sqlite3.Connection.set_trace_callback, seen.append)
    await found(store, **arguments)
    await store._database.read(sqlite3.Connection.set_trace_callback, None)
    statements = [sql for sql in seen if "FROM traces WHERE" in sql and "LIMIT" in sql]  # one for each part of the list
    assert statements
    for statement in statements:
        plan = [row[3] for row in await store._database.read(query_plan, statement)]
        assert any(index in step for step in plan), plan
        assert "SCAN traces" not in plan


@pytest.mark.parametrize("order", ["cache_read_input_tokens desc", "time_to_first_token asc"])
async def test_what_is_equally_unknown_is_read_by_its_key_and_not_sorted(store: SqliteStore, order: str) -> None:
    """Most traces have no cached tokens: with a million of them, a sorter would have to look at each."""
    await store.write(simple(*range(50)))
    seen: list[str] = []
    await store._database.read(sqlite3.Connection.set_trace_callback, seen.append)
    page = await store.search_traces(TraceQuery(order_by=order, max_results=5))
    await store.search_traces(TraceQuery(order_by=order, max_results=5, page_token=page.next_page_token))
    await store._database.read(sqlite3.Connection.set_trace_callback, None)
    known, unknown, rest = (sql for sql in seen if "FROM traces WHERE" in sql and "LIMIT" in sql)
    assert known != unknown
    for statement in (unknown, rest):  # the second page has no need to look for what is known
        plan = [row[3] for row in await store._database.read(query_plan, statement)]
        assert not any("TEMP B-TREE" in step for step in plan), plan
