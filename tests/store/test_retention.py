"""Retention: what is deleted, in which steps, and what stays."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tracer._models import Feedback
from tracer.store import Store, TraceQuery, open_store
from tracer.store.base import Batch, MediaRow, ProcessRow, Retention
from tracer.store.sqlite._deletion import choose_expired
from tracer.store.sqlite.store import SqliteStore

from .rows import SECOND, batch, patch, running, simple, span, span_id, trace_id

MIB = 1024 * 1024
AGE = Retention(max_age=60.0)


def aged(number: int, seconds: float, **changes: Any) -> Batch:
    """A trace that ended so many seconds ago."""
    ended = time.time_ns() - int(seconds * SECOND)
    return simple(number, start_time_ns=ended - SECOND, end_time_ns=ended, **changes)


async def left(store: Store) -> list[int]:
    page = await store.search_traces(TraceQuery(max_results=1_000, include_spans=False))
    return sorted(int(trace.info.trace_id, 16) for trace in page)


async def expire(store: Store, retention: Retention, *, steps: int = 2_000) -> int:
    """Delete until nothing is due, and return the number of steps that deleted."""
    store.options.retention = retention
    for step in range(steps):
        if not await store.expire():
            return step
    raise AssertionError("it never ends")


async def ask(store: SqliteStore, sql: str) -> list[Any]:
    return await store._database.write(lambda connection: connection.execute(sql).fetchall())


async def used(store: SqliteStore) -> int:
    pages, free, size = [(await ask(store, f"PRAGMA {p}"))[0][0] for p in ("page_count", "freelist_count", "page_size")]
    return int((pages - free) * size)


async def test_without_a_limit_nothing_is_deleted(any_store: Store) -> None:
    await any_store.write(aged(1, 1e9))
    assert await expire(any_store, Retention()) == 0
    assert await left(any_store) == [1]


@pytest.mark.parametrize("any_store", ["file", "memory"], indirect=True)
async def test_what_ended_too_long_ago_is_deleted_and_counted(any_store: Store) -> None:
    for number, age in enumerate((300, 61, 50, 0), 1):
        await any_store.write(aged(number, age))
    assert await expire(any_store, AGE) == 1
    assert await left(any_store) == [3, 4]
    assert any_store.expired == 2


async def test_the_age_of_a_long_trace_counts_from_its_end(store: SqliteStore) -> None:
    now = time.time_ns()
    await store.write(simple(1, start_time_ns=now - 3_600 * SECOND, end_time_ns=now - 10 * SECOND))
    assert await expire(store, AGE) == 0


@pytest.mark.parametrize("retention", [AGE, Retention(max_bytes=MIB)], ids=["age", "bytes"])
async def test_a_running_trace_is_never_deleted(retention: Retention, store: SqliteStore) -> None:
    await store.write(
        batch([span(1, inputs=b'"' + b"x" * 2 * MIB + b'"', start_time_ns=1)], [running(1, start_time_ns=1)])
    )
    await store.write(aged(2, 300))
    await expire(store, retention)
    assert await left(store) == [1]
    await store.write(batch([], [patch(1, start_time_ns=1, end_time_ns=2)]))
    await expire(store, retention)
    assert await left(store) == []


async def test_the_traces_of_a_process_that_is_gone_do_not_run(store: SqliteStore) -> None:
    gone = ProcessRow(process_id="here:0:0", host="here", pid=0, started="0")
    await store.write(batch([span(1)], [running(1, process_id="here:0:0")], process=gone))
    await ask(store, "UPDATE processes SET ended_ns = 1 WHERE process_id = 'here:0:0'")
    store._next_sweep = 0.0
    await expire(store, AGE)
    assert await left(store) == []


async def test_all_that_belongs_to_a_trace_goes_with_it(store: SqliteStore) -> None:
    for number, age in ((1, 300), (2, 0)):
        rows = aged(number, age, text=f"word{number}", tags={"t": "v"}, links={"response": f"r{number}"})
        own, shared = (
            MediaRow(trace_id=trace_id(number), span_id=span_id(number), hash=hash_, content_type="a/b", data=b"d")
            for hash_ in (f"{number:064x}", "f" * 64)
        )
        rows.media = [own, shared]
        await store.write(rows)
        await store.add_feedback(
            Feedback(id=f"f{number}", trace_id=trace_id(number), name="n", value=True, source="s", created_ns=1)
        )
    assert len(await store.search_traces(TraceQuery(text="word1"))) == 1
    await expire(store, AGE)
    for table in ("traces", "spans", "tags", "links", "feedback"):
        assert await ask(store, f"SELECT count(*) FROM {table}") == [(1,)], table
    assert await ask(store, "SELECT hash FROM media ORDER BY hash") == [(f"{2:064x}",), ("f" * 64,)]
    assert await ask(store, "SELECT count(*) FROM text_changes") == [(0,)]
    await ask(store, "INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")


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


async def test_much_free_room_is_given_back_before_it_is_idle(store: SqliteStore) -> None:
    await store.write(simple(*range(100), inputs=b'"' + b"x" * 50_000 + b'"'))
    await expire(store, Retention(max_bytes=MIB))
    pages, free = [(await ask(store, f"PRAGMA {p}"))[0][0] for p in ("page_count", "freelist_count")]
    assert free <= pages // 8
