from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.store.rows import batch, patch, running, simple, span, span_id
from tests.store.test_retention import AGE, MIB, aged, expire, left
from tracer.store import open_store
from tracer.store.base import Retention
from tracer.store.batch import ProcessRow
from tracer.store.sqlite._deletion import choose_expired
from tracer.store.sqlite.store import SqliteStore


async def used(store: SqliteStore) -> int:
    pages, free, size = [(await ask(store, f"PRAGMA {p}"))[0][0] for p in ("page_count", "freelist_count", "page_size")]
    return int((pages - free) * size)


async def test_the_database_shrinks_to_its_size_limit_oldest_first(store: SqliteStore, path: Path) -> None:
    for first in range(0, 400, 100):
        await store.write(simple(*range(first, first + 100), inputs=b'"' + b"x" * 10_000 + b'"'))
    await expire(store, Retention(max_bytes=2 * MIB))
    kept = await left(store)
    assert kept == list(range(kept[0], 400))
    assert 1.8 * MIB < await used(store) <= 2 * MIB
    while await store.tidy():
        pass
    assert os.stat(path).st_size <= 2 * MIB
    await store.write(simple(500))
    assert await expire(store, Retention(max_bytes=2 * MIB)) <= 1


async def test_a_step_waits_for_no_lock(store: SqliteStore, path: Path) -> None:
    await store.write(aged(1, 300))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await expire(store, AGE) == 0
    assert await expire(store, AGE) == 1


async def test_two_stores_that_chose_the_same_traces_delete_them_once(store: SqliteStore, path: Path) -> None:
    await store.write(aged(1, 300))
    chosen = await store._database.read(choose_expired, AGE, time.time_ns())
    assert chosen is not None
    other = open_store(f"sqlite:///{path}")
    assert isinstance(other, SqliteStore)
    await other.open()
    assert await expire(other, AGE) == 1
    assert not await store._database.write(store._expire, chosen)
    assert (store.expired, other.expired) == (0, 1)
    await other.aclose()


async def test_a_trace_that_runs_again_since_it_was_chosen_stays(store: SqliteStore) -> None:
    await store.write(aged(1, 300))
    chosen = await store._database.read(choose_expired, AGE, time.time_ns())
    assert chosen is not None
    await ask(store, "UPDATE traces SET state = 'IN_PROGRESS'")
    assert not await store._database.write(store._expire, chosen)
    assert await left(store) == [1]


async def test_a_file_that_was_moved_away_keeps_its_traces(store: SqliteStore, path: Path) -> None:
    await store.write(aged(1, 300))
    os.rename(path, path.with_suffix(".kept"))
    assert await expire(store, AGE) == 0
    assert (await ask(store, "SELECT count(*) FROM traces")) == [(1,)]


async def ask(store: SqliteStore, sql: str) -> list[Any]:
    return await store._database.write(lambda connection: connection.execute(sql).fetchall())


async def test_the_traces_of_a_process_that_is_gone_do_not_run(store: SqliteStore) -> None:
    gone = ProcessRow(process_id="here:0:0", host="here", pid=0, started="0")
    await store.write(batch([span(1)], [running(1, process_id="here:0:0")], process=gone))
    await ask(store, "UPDATE processes SET ended_ns = 1 WHERE process_id = 'here:0:0'")
    store._next_sweep = 0.0
    await expire(store, AGE)
    assert await left(store) == []


async def test_a_trace_that_alone_is_too_large_ends_the_deletion(store: SqliteStore) -> None:
    await store.write(simple(1, inputs=b'"' + b"x" * 3 * MIB + b'"'))
    await expire(store, Retention(max_bytes=MIB))
    assert await left(store) == []
    await ask(store, "CREATE TABLE other AS SELECT zeroblob(3000000) AS data")  # nothing of ours to delete is left
    assert await expire(store, Retention(max_bytes=MIB)) == 0


async def test_a_large_trace_goes_in_small_steps_and_counts_once(store: SqliteStore) -> None:
    spans = [span(1, span_id=span_id(number), start_time_ns=1) for number in range(1, 1_001)]
    await store.write(batch(spans, [patch(1, start_time_ns=1, end_time_ns=2)]))
    store.options.retention = AGE
    counts = []
    while await store.expire():
        counts.append((await ask(store, "SELECT count(*) FROM spans"))[0][0])
    assert max(before - after for before, after in zip([1_000, *counts], counts, strict=False)) <= 50
    assert (counts[-1], store.expired, await left(store)) == (0, 1, [])


@pytest.mark.parametrize(
    ("field", "size", "most"), [("inputs", 300_000, 3), ("text", 20_000, 3)], ids=["contents", "texts"]
)
async def test_a_step_has_few_large_spans(field: str, size: int, most: int, store: SqliteStore) -> None:
    value: Any = "x" * size if field == "text" else b'"' + b"x" * size + b'"'
    for number in range(20):
        await store.write(aged(number, 300, **{field: value}))
    store.options.retention = AGE
    before = 20
    while await store.expire():
        assert before - (before := len(await left(store))) <= most
    assert before == 0


async def test_much_free_room_is_given_back_before_it_is_idle(store: SqliteStore) -> None:
    await store.write(simple(*range(100), inputs=b'"' + b"x" * 50_000 + b'"'))
    await expire(store, Retention(max_bytes=MIB))
    pages, free = [(await ask(store, f"PRAGMA {p}"))[0][0] for p in ("page_count", "freelist_count")]
    assert free <= pages // 8
