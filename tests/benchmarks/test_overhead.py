from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest

from benchmarks import _statistics as statistics
from benchmarks import overhead
from benchmarks._environment import describe
from benchmarks._measure import fresh_store
from benchmarks._report import format_row, to_json
from benchmarks._results import Effort, Estimate, Goal
from benchmarks._storage import _push_spans
from benchmarks._transport import async_client, client
from tracer import sync

TINY = Effort(pairs=2, burst_calls=5, overload_spans=5)


def _run(name: str) -> Any:
    """Run one section and return its rows as they are in the JSON."""
    sections = [section for section in overhead.SECTIONS if section.name == name]
    results = list(overhead.run(sections, TINY))
    assert all(format_row(result).startswith(result.name) for result in results)
    return json.loads(to_json(describe(), results, None, ()))["results"]


def test_a_row_goes_through_to_the_json():
    caller, process = _run("chat-sync")
    assert caller["name"] == "sync chat: caller's CPU"
    assert caller["unit"] == process["unit"] == "% added"
    assert caller["goal"] == {"design": 2, "stage": 5, "at_most": True}
    assert caller["verdict"].rstrip("?") in {"pass", "miss"}
    assert caller["details"]["untraced_us"] > 0


def test_a_burst_is_accounted_for_in_full():
    loss = _run("burst")[0]
    assert (loss["estimate"]["value"], loss["verdict"]) == (0, "pass")
    assert loss["details"]["made"] == loss["details"]["written"] == 5


def test_spans_pushed_without_the_sdk_are_written_like_calls():
    with fresh_store() as path:
        _push_spans(3)
        assert sync.flush(5)
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT finish, input_tokens, model FROM spans").fetchall()
        connection.close()
    assert rows == [("completed", 187, "gpt-4o-mini-2024-07-18")] * 3


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        overhead.main(["--only", "nonsense"])
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_the_transport_streams_what_the_sdk_understands():
    with client() as sdk:
        stream = sdk.chat.completions.create(model="m", messages=[], stream=True)
        chunks = list(stream)
    assert len(chunks) == 200
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_the_transport_answers_all_endpoints():
    async with async_client(chunks=20) as sdk:
        response = await sdk.responses.create(model="m", input="hello")
        events = [event async for event in await sdk.responses.create(model="m", input="hello", stream=True)]
        embedding = await sdk.embeddings.create(model="m", input="hello")
    assert response.output_text
    assert (len(events), events[-1].type) == (20, "response.completed")
    assert len(embedding.data[0].embedding) == 1536


@pytest.mark.parametrize(("n", "low", "high"), [(5, 1, 5), (6, 1, 6), (20, 6, 15), (100, 40, 61)])
def test_the_interval_of_a_median_takes_the_binomial_ranks(n, low, high):
    estimate = statistics.median_interval(range(n, 0, -1))
    assert (estimate.low, estimate.high, estimate.n) == (low, high, n)
    assert estimate.value == (n + 1) / 2


def test_what_is_added_is_relative_to_the_neighbour():
    pairs = [(100, 102), (200, 204), (50, 51)]
    assert statistics.added_percent(pairs).value == pytest.approx(2)
    assert statistics.added(pairs).value == 2
    assert statistics.ratio(pairs).value == pytest.approx(1.02)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_percentile_is_the_nearest_rank(percent, value):
    assert statistics.percentile(range(100, 0, -1), percent) == value


@pytest.mark.parametrize(
    ("estimate", "verdict"),
    [
        (Estimate(1.5, 1.0, 1.9, 9), "pass"),
        (Estimate(1.5, 1.0, 2.5, 9), "pass?"),
        (Estimate(2.5, 1.0, 3.5, 9), "miss?"),
        (Estimate(2.5, 2.1, 3.5, 9), "miss"),
        (Estimate(1.5, 1.0, 1.9, 5), "pass?"),
        (Estimate(2.0), "pass"),
    ],
)
def test_a_verdict_says_when_the_interval_leaves_it_open(estimate, verdict):
    assert Goal(design=2, stage=5).judge(2, estimate) == verdict
