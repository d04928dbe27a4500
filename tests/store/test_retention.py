"""Retention: what is deleted, in which steps, and what stays."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tracer._models import Feedback
from tracer.store import TraceQuery
from tracer.store.base import Retention, Store
from tracer.store.batch import Batch, MediaRow

from .rows import SECOND, batch, patch, running, simple, span, span_id, trace_id

MIB = 1024 * 1024
LARGE = random.Random(1).randbytes(2 * MIB).hex().encode()  # can't be compressed to less than MIB
AGE = Retention(max_age=60.0)


pytestmark = pytest.mark.parametrize("any_store", ["file", "memory"], indirect=True)  # a server keeps what it wants


def aged(number: int, seconds: float, **changes: Any) -> Batch:
    """A trace that ended so many seconds ago."""
    ended = time.time_ns() - int(seconds * SECOND)
    return simple(number, start_time_ns=ended - SECOND, end_time_ns=ended, **changes)


async def left(any_store: Store) -> list[int]:
    page = await any_store.search_traces(TraceQuery(max_results=1_000, include_spans=False))
    return sorted(int(trace.info.trace_id, 16) for trace in page)


async def expire(any_store: Store, retention: Retention, *, steps: int = 2_000) -> int:
    """Delete until nothing is due, and return the number of steps that deleted."""
    any_store.options.retention = retention
    for step in range(steps):
        if not await any_store.expire():
            return step
    raise AssertionError("it never ends")


async def test_without_a_limit_nothing_is_deleted(any_store: Store) -> None:
    await any_store.write(aged(1, 1e9))
    assert await expire(any_store, Retention()) == 0
    assert await left(any_store) == [1]


async def test_what_ended_too_long_ago_is_deleted_and_counted(any_store: Store) -> None:
    for number, age in enumerate((300, 61, 50, 0), 1):
        await any_store.write(aged(number, age))
    assert await expire(any_store, AGE) == 1
    assert await left(any_store) == [3, 4]
    assert any_store.expired == 2


async def test_the_age_of_a_long_trace_counts_from_its_end(any_store: Store) -> None:
    now = time.time_ns()
    await any_store.write(simple(1, start_time_ns=now - 3_600 * SECOND, end_time_ns=now - 10 * SECOND))
    assert await expire(any_store, AGE) == 0


@pytest.mark.parametrize("retention", [AGE, Retention(max_bytes=MIB)], ids=["age", "bytes"])
async def test_a_running_trace_is_never_deleted(retention: Retention, any_store: Store) -> None:
    await any_store.write(batch([span(1, inputs=b'"%s"' % LARGE, start_time_ns=1)], [running(1, start_time_ns=1)]))
    await any_store.write(aged(2, 300))
    await expire(any_store, retention)
    assert await left(any_store) == [1]
    await any_store.write(batch([], [patch(1, start_time_ns=1, end_time_ns=2)]))
    await expire(any_store, retention)
    assert await left(any_store) == []


async def test_all_that_belongs_to_a_trace_goes_with_it(any_store: Store) -> None:
    for number, age in ((1, 300), (2, 0)):
        rows = aged(number, age, text=f"word{number}", tags={"t": "v"}, links={"response": f"r{number}"})
        own, shared = (
            MediaRow(trace_id=trace_id(number), span_id=span_id(number), hash=hash_, content_type="a/b", data=b"d")
            for hash_ in (f"{number:064x}", "f" * 64)
        )
        rows.media = [own, shared]
        await any_store.write(rows)
        await any_store.add_feedback(
            Feedback(id=f"f{number}", trace_id=trace_id(number), name="n", value=True, source="s", created_ns=1)
        )
    assert len(await any_store.search_traces(TraceQuery(text="word1"))) == 1
    await expire(any_store, AGE)
    held = (await any_store.storage()).rows
    assert {name: held[name] for name in ("traces", "spans", "tags", "links", "feedback", "media")} == {
        "traces": 1, "spans": 1, "tags": 1, "links": 1, "feedback": 1, "media": 2,
    }  # fmt: skip
