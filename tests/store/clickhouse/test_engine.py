"""What is ClickHouse's own: rows that are never changed, no transactions, and several writers of one trace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.clickhouse import ChdbEngine
from tests.store.rows import batch, patch, running, simple, span, span_id, started, trace_id
from tests.store.test_retention import AGE, aged, expire, left
from tracer._exceptions import ReadTimeoutError, StoreError, TraceNotFoundError
from tracer._models import Feedback
from tracer.store import Batch, TraceQuery
from tracer.store.base import Retention
from tracer.store.batch import LossRow, MediaRow
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._upkeep import delete_gone
from tracer.store.clickhouse.store import ClickHouseStore


@pytest.fixture
async def store(clickhouse_uri: str) -> AsyncIterator[ClickHouseStore]:
    store = ClickHouseStore(clickhouse_uri)
    await store.open()
    yield store
    await store.aclose()


def counted(*numbers: int) -> Batch:
    made = simple(*numbers, usage={"total_tokens": 5}, cost=0.5, counted=True, model="m", dropped={"chunks": 2})
    made.losses = [LossRow(reason="start", count=3, time_ns=7)]
    return made


# --- exactly once -------------------------------------------------------------------------------------------------
async def test_a_batch_that_is_sent_again_is_stored_once(store: ClickHouseStore) -> None:
    made = counted(1)
    for _ in range(3):
        await store.write(made)
    await assert_once(store)


@pytest.mark.parametrize("table", ["spans", "places", "traces", "loss", "taken_over"])
async def test_a_batch_that_failed_half_way_is_made_whole_by_the_next_try(
    store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The error comes before and behind each insert: nobody knows whether it was stored."""
    real, made = Connection.insert, counted(1)
    for stored in (False, True):

        def insert(self, into, rows, *, stored=stored):
            if into == table and stored:
                real(self, into, rows)
            if into == table:
                raise StoreError("cut off")
            real(self, into, rows)

        monkeypatch.setattr(Connection, "insert", insert)
        with pytest.raises(StoreError, match="cut off"):
            await store.write(made)
    monkeypatch.setattr(Connection, "insert", real)
    await store.write(made)
    await assert_once(store)


async def assert_once(store: ClickHouseStore) -> None:
    [trace] = await store.search_traces(TraceQuery())
    assert (trace.info.token_usage, trace.info.cost, trace.info.dropped) == ({"total_tokens": 5}, 0.5, {"chunks": 2})
    assert len(trace.data.spans) == 1
    held = (await store.storage()).rows
    assert (held["traces"], held["spans"]) == (1, 1)
    assert [(loss.reason, loss.count) for loss in await store.losses()] == [("start", 3)]


# --- several writers ----------------------------------------------------------------------------------------------
async def test_writers_of_the_same_traces_lose_nothing(clickhouse_uri: str) -> None:
    stores = [ClickHouseStore(clickhouse_uri) for _ in range(3)]
    await stores[0].open()

    async def write(store: ClickHouseStore, seed: int) -> None:
        rng = random.Random(seed)
        for at in range(5):
            numbers = rng.sample(range(12), 8)
            rows = [
                span(n, span_id=span_id(1_000 * seed + at), counted=True, usage={"total_tokens": 1}) for n in numbers
            ]
            await store.write(batch(rows, [patch(n, tags={f"by{seed}": str(at)}, dropped={"x": 1}) for n in numbers]))

    await asyncio.gather(*(write(store, seed) for seed, store in enumerate(stores, 1)))
    page = await stores[0].search_traces(TraceQuery(max_results=100))
    assert len(page) == len({trace.info.trace_id for trace in page}) == 12
    assert sum(len(trace.data.spans) for trace in page) == 3 * 5 * 8
    assert sum((trace.info.token_usage or {}).get("total_tokens", 0) for trace in page) == 3 * 5 * 8
    assert sum(trace.info.dropped["x"] for trace in page) == 3 * 5 * 8
    for store in stores:
        await store.aclose()


# --- rows that are gone -------------------------------------------------------------------------------------------
async def test_what_is_gone_is_deleted_from_the_disk_and_nothing_else(
    store: ClickHouseStore, chdb_engine: ChdbEngine
) -> None:
    await store.write(batch([started(1, inputs=b'"in"')], [running(1)]))
    await store.write(simple(1, 2, 3, text="word"))
    await store.write(simple(2, text="other"))
    await store.delete_traces(trace_ids=[trace_id(3)])
    before = [await store.get_trace(trace_id(n)) for n in (1, 2)]
    assert await store._connections.change("tidy", delete_gone, at_once=True)
    database = store.uri.rpartition("=")[2]
    rows = {
        t: chdb_engine.execute(f"SELECT count() FROM {database}.{t}")[0][0]
        for t in ("traces", "spans", "running", "gone")
    }
    assert rows == {"traces": 2, "spans": 2, "running": 0, "gone": 0}
    assert [await store.get_trace(trace_id(n)) for n in (1, 2)] == before
    assert [trace.info.trace_id for trace in await store.search_traces(TraceQuery(text="word"))] == [trace_id(1)]


async def test_a_deleted_trace_that_is_written_again_is_a_new_one(store: ClickHouseStore) -> None:
    first = simple(1, tags={"a": "1"}, links={"response": "r"}, usage={"total_tokens": 5}, counted=True)
    first.spans.append(span(1, span_id=span_id(9)))
    await store.write(first)
    await store.delete_traces(trace_ids=[trace_id(1)])
    with pytest.raises(TraceNotFoundError):
        await store.get_trace(trace_id(1))
    await store.write(simple(1, links={"response": "r"}))
    trace = await store.get_trace(trace_id(1))
    assert (trace.info.tags, len(trace.data.spans), trace.info.token_usage) == ({}, 1, None)
    assert (await store.storage()).rows["links"] == 1


async def test_what_is_kept_no_longer_goes_with_all_that_belongs_to_it(store: ClickHouseStore) -> None:
    for number, age in ((1, 300), (2, 0)):
        rows = aged(number, age, text=f"word{number}", tags={"t": "v"}, links={"response": f"r{number}"})
        rows.media = [
            MediaRow(trace_id=trace_id(number), span_id=span_id(number), hash=hash_, content_type="a/b", data=b"d")
            for hash_ in (f"{number:064x}", "f" * 64)
        ]
        await store.write(rows)
        await store.add_feedback(
            Feedback(id=f"f{number}", trace_id=trace_id(number), name="n", value=True, created_ns=1)
        )
    await store.write(batch([span(3, start_time_ns=1, end_time_ns=None)], [running(3, start_time_ns=1)]))
    assert await expire(store, AGE) == 1
    assert await left(store) == [2, 3]
    held = (await store.storage()).rows
    assert {name: held[name] for name in ("traces", "spans", "tags", "links", "feedback", "media")} == {
        "traces": 2, "spans": 2, "tags": 1, "links": 1, "feedback": 1, "media": 2,
    }  # fmt: skip


async def test_a_limit_of_bytes_keeps_the_newest(store: ClickHouseStore) -> None:
    for number in range(1, 6):
        await store.write(
            aged(number, 100 - number, inputs=b'"%s"' % random.Random(number).randbytes(500_000).hex().encode())
        )
    await expire(store, Retention(max_bytes=1_500_000))
    kept = await left(store)
    assert kept
    assert kept == list(range(6 - len(kept), 6))
    assert len(kept) < 5


# --- reading ------------------------------------------------------------------------------------------------------
def sleep(connection: Connection) -> object:
    return connection.fetch("SELECT sleepEachRow(1) FROM numbers(20) SETTINGS max_block_size = 1")


async def test_a_read_ends_at_its_time_limit(store: ClickHouseStore) -> None:
    await store.write(simple(1))
    store.options.time_limit = 0.3
    with pytest.raises(ReadTimeoutError, match=r"took longer than 0\.3 s and was stopped"):
        await store._connections.read("search", sleep)
    store.options.time_limit = None
    assert len(await store.search_traces(TraceQuery())) == 1


async def test_who_is_cancelled_does_not_wait(store: ClickHouseStore) -> None:
    with anyio.move_on_after(0.2) as scope:
        await store._connections.read("search", sleep)
    assert scope.cancelled_caught
    await store.write(simple(1))
    assert len(await store.search_traces(TraceQuery())) == 1


async def test_a_change_moves_the_marker_and_a_read_does_not(store: ClickHouseStore) -> None:
    await store.write(simple(1))
    marks = [await store.change_marker(), await store.change_marker()]
    await store.get_trace(trace_id(1))
    assert await store.change_marker() == marks[0] == marks[1]
    for change in (
        store.write(simple(2)),
        store.set_trace_tag(trace_id(1), "k", "v"),
        store.add_feedback(Feedback(id="f", trace_id=trace_id(1), name="n", value=1, created_ns=1)),
        store.delete_feedback("f"),
        store.delete_traces(trace_ids=[trace_id(2)]),
    ):
        await change
        marks.append(await store.change_marker())
    assert len(set(marks)) == 6


# --- the database ---------------------------------------------------------------------------------------------------
async def test_another_programs_tables_and_a_newer_schema_are_left_alone(
    chdb_engine: ChdbEngine, clickhouse_uri: str
) -> None:
    database = clickhouse_uri.rpartition("=")[2]
    chdb_engine.execute(f"CREATE DATABASE {database}")
    chdb_engine.execute(f"CREATE TABLE {database}.traces (x Int64) ENGINE = MergeTree ORDER BY x")
    store = ClickHouseStore(clickhouse_uri)
    with pytest.raises(StoreError, match="has a table 'traces' of another program"):
        await store.open()
    chdb_engine.execute(f"DROP TABLE {database}.traces SYNC")
    await store.open()
    chdb_engine.execute(f"INSERT INTO {database}.tracer_schema VALUES (99)")
    await store.aclose()
    with pytest.raises(StoreError, match="has schema version 99, this tracer knows up to"):
        await store.write(simple(1))
    await store.aclose()


async def test_a_second_directory_in_one_process_is_refused(store: ClickHouseStore, tmp_path: Path) -> None:
    other = ClickHouseStore(f"chdb://{tmp_path}/other")
    with pytest.raises(StoreError, match="one process uses one directory"):
        await other.open()
    await other.aclose()
    await store.write(simple(1))


async def test_durable_writes_wait_for_the_disk(store: ClickHouseStore, chdb_engine: ChdbEngine) -> None:
    store.options.durable = True
    await store.write(simple(1))
    database = store.uri.rpartition("=")[2]
    made = chdb_engine.execute(f"SHOW CREATE TABLE {database}.spans")[0][0]
    assert "fsync_after_insert = 1" in made
