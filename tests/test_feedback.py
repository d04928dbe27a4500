"""Feedback: logged, read back on trace and span, listed, deleted, filtered, refused, redacted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.store.rows import simple, trace_id
from tests.store.sqlite.old_files import undo_version_9
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite.store import SqliteStore
from tracer.testing import FakeClock, isolated

NOWHERE = "f" * 32


def record(name: str = "work") -> tuple[str, str]:
    """Record a trace of one span and return its id and the span's."""
    with tracer.start_span(name) as span:
        pass
    return span.trace_id, span.span_id


async def found(filter_string: str) -> list[str | None]:
    page = await tracer.search_traces(filter_string=filter_string, order_by="start_time")
    return [trace.info.name for trace in page]


async def test_feedback_is_read_back_on_the_trace_and_on_its_span() -> None:
    trace, span = record()
    thumb = await tracer.log_feedback(trace, "helpful", True, comment="short and right", source="human:ann")
    score = await tracer.log_feedback(trace, "score", 0.5, span_id=span)
    label = await tracer.log_feedback(trace, "topic", "weather")
    read = await tracer.get_trace(trace)
    assert read.info.feedback == [thumb, score, label]
    assert read.data.spans[0].feedback == [score]
    assert (thumb.value, thumb.comment, thumb.source, thumb.span_id) == (True, "short and right", "human:ann", None)
    assert (score.source, len({thumb.id, score.id, label.id})) == ("code", 3)
    assert read.to_dict()["info"]["feedback"][1]["value"] == 0.5
    [listed] = await tracer.search_traces(include_spans=False)
    assert listed.info.feedback == [thumb, score, label]


@pytest.mark.parametrize("value", [True, False, 0, 1, -7, 2**62, 0.0, 1.5, "good", "true", "0.5", "é𝕏\n"])
async def test_a_value_keeps_its_type(value: Any) -> None:
    trace, _ = record()
    await tracer.log_feedback(trace, "x", value)
    [feedback] = (await tracer.get_trace(trace)).info.feedback
    assert feedback.value == value
    assert type(feedback.value) is type(value)


async def test_feedback_has_the_time_it_was_logged_at(tmp_path: Path) -> None:
    clock = FakeClock()
    with isolated(f"sqlite:///{tmp_path}/clock.db", clock=clock):
        trace, _ = record()
        clock.advance(5)
        assert (await tracer.log_feedback(trace, "x", 1)).created_ns == clock.time_ns()


async def test_feedback_is_listed_newest_first_and_deleted() -> None:
    (one, _), (two, _) = record(), record()
    first = await tracer.log_feedback(one, "helpful", True)
    second = await tracer.log_feedback(two, "helpful", False)
    third = await tracer.log_feedback(two, "score", 3)
    assert await tracer.list_feedback() == [third, second, first]
    assert await tracer.list_feedback(two, max_results=1) == [third]
    assert await tracer.list_feedback(name="helpful") == [second, first]
    assert await tracer.list_feedback(NOWHERE) == []
    assert await tracer.delete_feedback(second.id) is True
    assert await tracer.delete_feedback(second.id) is False
    assert await tracer.list_feedback(two) == [third]


async def test_feedback_goes_with_its_trace() -> None:
    trace, _ = record()
    await tracer.log_feedback(trace, "helpful", True)
    await tracer.delete_traces([trace])
    assert await tracer.list_feedback() == []


def test_plain_code_logs_feedback() -> None:
    trace, _ = record()
    feedback = tracer.sync.log_feedback(trace, "helpful", True)
    assert tracer.sync.get_trace(trace).info.feedback == [feedback] == tracer.sync.list_feedback(trace)
    assert tracer.sync.delete_feedback(feedback.id)


async def test_an_unknown_trace_or_span_is_not_found() -> None:
    trace, _ = record()
    with pytest.raises(tracer.TraceNotFoundError, match=NOWHERE):
        await tracer.log_feedback(NOWHERE, "helpful", True)
    with pytest.raises(tracer.TraceNotFoundError, match="has no span 'abcd'"):
        await tracer.log_feedback(trace, "helpful", True, span_id="abcd")
    assert await tracer.list_feedback() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"value": None}, "value must be True, False, a finite number or a non-empty string, got None"),
        ({"value": float("nan")}, "got nan"),
        ({"value": float("inf")}, "got inf"),
        ({"value": ""}, "got ''"),
        ({"value": [1]}, r"got \[1\]"),
        ({"value": 2**63}, "got 9223372036854775808"),
        ({"name": ""}, "name must be a non-empty string"),
        ({"name": 5}, "name must be a non-empty string, got 5"),
        ({"comment": 5}, "comment must be a non-empty string, got 5"),
        ({"span_id": 5}, "span_id must be"),
        ({"trace_id": None}, "trace_id must be"),
        ({"source": "robot"}, "source must be 'human', 'llm' or 'code'"),
        ({"source": "human:"}, "got 'human:'"),
        ({"source": 5}, "got 5"),
    ],
)
async def test_a_bad_argument_is_named(arguments: dict[str, Any], words: str) -> None:
    asked = {"trace_id": NOWHERE, "name": "helpful", "value": True, **arguments}
    with pytest.raises(tracer.ConfigurationError, match=words):
        await tracer.log_feedback(**asked)


@pytest.mark.parametrize(
    ("source", "stored"),
    [("human", "human"), ("HUMAN:Ann", "human:Ann"), ("LLM_JUDGE:gpt-5", "llm:gpt-5"), (None, "code")],
)
async def test_sources_are_three_words_with_a_name_behind(source: str | None, stored: str) -> None:
    trace, _ = record()
    assert (await tracer.log_feedback(trace, "x", 1, source=source)).source == stored


async def test_what_people_write_is_redacted(tmp_path: Path) -> None:
    tracer.configure(redact=lambda text: text.replace("secret", "[…]"))
    trace, _ = record()
    returned = await tracer.log_feedback(trace, "x", "a secret", comment="the secret")
    [stored] = await tracer.list_feedback(trace)
    assert stored == returned
    assert (stored.value, stored.comment) == ("a […]", "the […]")


@pytest.mark.parametrize(
    ("filter_string", "names"),
    [
        ("feedback.helpful = true", ["a"]),
        ("feedback.helpful = 'true'", ["a"]),
        ("feedback.helpful = false", ["b"]),
        ("feedback.helpful != true", ["b"]),
        ("feedback.helpful IS NULL", ["c", "d"]),
        ("feedback.helpful IS NOT NULL", ["a", "b"]),
        ("feedback.score > 0.5", ["b"]),
        ("feedback.score >= 0.5 AND status = 'OK'", ["a", "b"]),
        ("feedback.score < 1", ["a"]),
        ("feedback.score = 4", ["b"]),
        ("feedback.score IN (0.5, 4)", ["a", "b"]),
        ("feedback.score = 'high'", ["c"]),
        ("feedback.score LIKE 'hi%'", ["c"]),
        ("feedback.`how good` = 'very'", ["d"]),
        ("NOT feedback.score > 0.5", ["a", "c", "d"]),
        ("feedback.helpful = 1", []),
        ("feedback.nothing = true", []),
    ],
)
async def test_traces_are_found_by_their_feedback(filter_string: str, names: list[str]) -> None:
    said: dict[str, dict[str, Any]] = {
        "a": {"helpful": True, "score": 0.5},
        "b": {"helpful": False, "score": 4},
        "c": {"score": "high"},
        "d": {"how good": "very"},
    }
    for name, values in said.items():
        trace, span = record(name)
        for key, value in values.items():
            await tracer.log_feedback(trace, key, value, span_id=span if key == "score" else None)
    assert await found(filter_string) == names


async def test_a_filter_by_feedback_that_can_not_be_is_refused() -> None:
    with pytest.raises(tracer.ConfigurationError, match=r"feedback needs a name behind it: feedback\.<key>"):
        await tracer.search_traces(filter_string="feedback = true")
    with pytest.raises(tracer.ConfigurationError, match="true has no order"):
        await tracer.search_traces(filter_string="feedback.helpful > true")


async def test_a_database_of_the_version_before_feedback_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(1))
    await store.aclose()
    with closing(sqlite3.connect(path)) as old:
        undo_version_9(old)
        old.executescript(
            "DROP TABLE feedback; DROP TABLE taken_over; DROP TABLE loss; DROP TABLE outbox;"
            "DROP INDEX traces_in_sessions; DROP INDEX traces_with_losses;"
            "DROP INDEX traces_numbers; ALTER TABLE traces DROP COLUMN time_to_first_token;"
            "PRAGMA user_version = 3;"
        )
    tracer.set_tracking_uri(f"sqlite:///{path}")
    feedback = await tracer.log_feedback(trace_id(1), "helpful", True)
    assert (await tracer.get_trace(trace_id(1))).info.feedback == [feedback]


async def test_a_store_in_memory_keeps_feedback_too() -> None:
    store = open_store("memory://")
    assert isinstance(store, SqliteStore)
    await store.open()
    await store.write(simple(1))
    feedback = tracer.Feedback(id="1", trace_id=trace_id(1), name="helpful", value=True, created_ns=1)
    await store.add_feedback(feedback)
    assert (await store.search_traces(TraceQuery()))[0].info.feedback == [feedback]
    await store.aclose()
