"""``tracer traces tail``: what starts and ends while somebody looks."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import ESCAPE, fails, record, start
from tracer.cli._tail import Follower
from tracer.store import Store, TraceQuery, open_store


def told(traces: list[tracer.Trace]) -> list[tuple[str | None, str]]:
    return [(trace.info.name, str(trace.info.state)) for trace in traces]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    tracer.sync.search_traces()  # makes the database
    store = open_store(tracer.get_tracking_uri())
    await store.open()
    yield store
    await store.aclose()


async def test_starts_and_ends_are_told_once(store: Store) -> None:
    record("before")
    await tracer.flush()
    follower = Follower(store, TraceQuery(include_spans=False), last=10)
    assert told(await follower.begin()) == [("before", "OK")]
    assert await follower.news() == []
    with tracer.start_span("long"):
        record("quick")  # part of the same trace
        await tracer.flush()
        assert told(await follower.news()) == [("long", "IN_PROGRESS")]
        assert await follower.news() == []
    record("next")
    await tracer.flush()
    assert told(await follower.news()) == [("long", "OK"), ("next", "OK")]
    assert await follower.news() == []


async def test_a_trace_that_meets_the_query_only_at_its_end_is_told_then(store: Store) -> None:
    follower = Follower(store, TraceQuery(status="ERROR", include_spans=False))
    assert await follower.begin() == []
    with tracer.start_span("fails") as span:
        await tracer.flush()
        assert await follower.news() == []
        span.set_status("ERROR")
    record("fine")
    await tracer.flush()
    assert told(await follower.news()) == [("fails", "ERROR")]


async def test_a_trace_that_ran_for_long_is_told_at_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.cli._tail._OVERLAP", timedelta(0))
    with tracer.start_span("long"):
        await tracer.flush()
        follower = Follower(store, TraceQuery(include_spans=False), last=1)
        assert told(await follower.begin()) == [("long", "IN_PROGRESS")]
    for index in range(3):
        record(f"n{index}")
    await tracer.flush()
    assert ("long", "OK") in told(await follower.news())


async def test_only_the_last_are_shown_at_first(store: Store) -> None:
    for index in range(5):
        record(f"n{index}")
    await tracer.flush()
    follower = Follower(store, TraceQuery(include_spans=False), last=2)
    assert told(await follower.begin()) == [("n3", "OK"), ("n4", "OK")]
    assert await follower.news() == []


async def test_a_deleted_trace_is_no_news(store: Store) -> None:
    follower = Follower(store, TraceQuery(include_spans=False))
    await follower.begin()
    with tracer.start_span("long") as span:
        await tracer.flush()
        assert len(await follower.news()) == 1
        await tracer.delete_traces([span.trace_id])
        assert await follower.news() == []


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_ctrl_c_ends_the_command_cleanly(uri: str, tmp_path: Path, as_json: bool) -> None:
    record("before")
    tracer.sync.flush()
    options = ["--json"] if as_json else ["--columns", "status,name"]
    process = start(tmp_path, "traces", "tail", "--interval", "0.1", "--uri", uri, *options)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    if not as_json:
        assert next(lines) == "status\tname\n"
    assert "before" in next(lines)
    with tracer.start_span("live"):
        tracer.sync.flush()
        started = next(lines)
    tracer.sync.flush()
    ended = next(lines)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "", "")
    if as_json:
        assert [json.loads(line)["event"] for line in (started, ended)] == ["started", "ended"]
        assert json.loads(ended)["trace"]["info"]["name"] == "live"
    else:
        assert (started, ended) == ("IN_PROGRESS\tlive\n", "OK\tlive\n")
        assert ESCAPE not in started


def test_bad_interval_is_told(uri: str) -> None:
    assert "'--interval': 0.0 is not in the range" in fails(2, "traces", "tail", "--interval", "0")
