"""A database that Arize Phoenix 20.26.1 wrote is imported (`makers/phoenix_database.py` made it)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.moving.fixtures import load_sql
from tracer._exceptions import StoreError
from tracer._models import Trace, TraceState
from tracer.moving import Moved, move, open_phoenix
from tracer.store import Store, TraceQuery, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return load_sql("phoenix.sql", tmp_path / "phoenix.db")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/tracer.db")
    yield store
    await store.aclose()


async def bring(database: Path, store: Store) -> Moved:
    with open_phoenix(database) as source:
        return await move(source, store)


async def named(store: Store, name: str, **query: str) -> Trace:
    (trace,) = await store.search_traces(TraceQuery(name=name, **query))  # type: ignore[arg-type]
    return trace


async def test_a_phoenix_database_is_imported_once(database: Path, store: Store) -> None:
    moved = await bring(database, store)
    assert (moved.copied, moved.spans, moved.feedback, moved.refused) == (6, 9, 5, [])
    assert (await bring(database, store)).already_there == 6
    experiments = {each.name: each.traces for each in await store.experiments()}
    assert experiments == {"support desk": 5, "other": 1}


async def test_the_tree_of_an_agent_with_all_that_was_said_of_it(database: Path, store: Store) -> None:
    await bring(database, store)
    trace = await named(store, "weather agent")
    info = trace.info
    assert (info.session_id, info.user_id, info.experiment) == ("session-7", "ann", "support desk")
    assert info.tags == {"prod": "true", "Zürich": "true"}
    assert info.metadata == {"release": "1.2", "build": "3"}
    assert (info.token_usage or {})["total_tokens"] == 28
    assert info.cost == pytest.approx(2.45e-05)
    assert info.request_preview == "What's the weather like in Paris today?"
    assert info.response_preview == "According to get_weather for Paris: rainy in Paris."
    agent, first, tool, second = trace.data.spans
    assert [span.span_type for span in trace.data.spans] == ["AGENT", "CHAT_MODEL", "TOOL", "CHAT_MODEL"]
    assert {span.parent_id for span in (first, tool, second)} == {agent.span_id}
    assert (tool.inputs, tool.outputs) == ({"city": "Paris"}, "rainy in Paris")
    assert first.inputs["tools"][0]["function"]["name"] == "get_weather"
    assert first.attributes["llm.input_messages.0.message.role"] == "user"  # as OpenInference sent it
    assert second.cost == pytest.approx(1.875e-05)
    assert second.start_time_ns % 1_000_000_000 == 46_214_000
    told = {(each.name, each.value, each.source, each.comment, each.span_id) for each in info.feedback}
    assert told == {
        ("whole", 0.5, "human", None, None),
        ("helpful", "yes", "human", "it rains", agent.span_id),
        ("helpful.score", 1.0, "human", "it rains", agent.span_id),
        ("score", 0.75, "llm", None, agent.span_id),
        ("label", "good", "code", None, tool.span_id),
    }


async def test_streams_errors_and_other_kinds_of_calls(database: Path, store: Store) -> None:
    await bring(database, store)
    stream = await named(store, "ChatCompletion", status="OK")
    assert stream.info.time_to_first_token == pytest.approx(0.060473)
    failed = await named(store, "ChatCompletion", status="ERROR")
    assert failed.info.state is TraceState.ERROR
    assert failed.data.spans[0].status.description.startswith("NotFoundError: Error code: 404")
    assert failed.data.spans[0].events[0].attributes["exception.type"] == "openai.NotFoundError"
    response = await named(store, "Response")
    assert response.info.request_preview == "What is a span?"
    embedding = await named(store, "CreateEmbeddings")
    assert embedding.data.spans[0].span_type == "EMBEDDING"
    by_hand = await named(store, "by hand")
    assert by_hand.data.spans[0].attributes["k"] == [1, 2]
    assert by_hand.data.spans[0].events[0].attributes == {"n": 3}


async def test_what_can_not_be_read_is_told_and_the_rest_comes(database: Path, store: Store) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE spans SET span_id = 'of another kind' WHERE name = 'by hand'")
        connection.execute("UPDATE traces SET trace_id = 'short' WHERE id = 2")
    moved = await bring(database, store)
    assert moved.copied == 4
    assert ["no span id" in each.reason or "32 hex digits" in each.reason for each in moved.refused] == [True, True]


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    other = load_sql("mlflow.sql", tmp_path / "mlflow.db")
    with pytest.raises(StoreError, match="is no database of Phoenix: it has no table projects"), open_phoenix(other):
        pass
