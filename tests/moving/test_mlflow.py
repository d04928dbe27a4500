"""A database that MLflow 3.17.2 wrote is imported (`makers/mlflow_database.py` made it)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.moving.fixtures import load_sql
from tracer._exceptions import StoreError
from tracer._models import Trace, TraceState
from tracer.moving import Moved, Refusal, move, open_mlflow
from tracer.store import Store, TraceQuery, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return load_sql("mlflow.sql", tmp_path / "mlflow.db")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/tracer.db")
    yield store
    await store.aclose()


async def bring(database: Path, store: Store) -> Moved:
    with open_mlflow(database) as source:
        return await move(source, store)


async def named(store: Store, name: str) -> Trace:
    (trace,) = await store.search_traces(TraceQuery(name=name))
    return trace


def change(database: Path, sql: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, values)


async def test_an_mlflow_database_is_imported_once(database: Path, store: Store) -> None:
    with open_mlflow(database) as source:
        assert await source.count() == 9
    moved = await bring(database, store)
    assert (moved.copied, moved.spans, moved.feedback, moved.refused) == (9, 12, 6, [])
    again = await bring(database, store)
    assert (again.already_there, again.copied, again.completed) == (9, 0, 0)
    experiments = {each.name: each.traces for each in await store.experiments()}
    assert experiments == {"support desk": 8, "other": 1}


async def test_the_tree_of_an_agent_with_all_that_was_said_of_it(database: Path, store: Store) -> None:
    await bring(database, store)
    trace = await named(store, "weather agent")
    info = trace.info
    assert (info.state, info.experiment, info.session_id, info.user_id) == (
        TraceState.OK,
        "support desk",
        "session-7",
        "ann",
    )
    assert info.tags == {"env": "prod", "city": "Zürich"}
    assert info.metadata["release"] == "1.2"
    assert info.client_request_id == "req-1"
    assert info.request_preview == "What's the weather like in Paris today?"
    assert info.response_preview == "According to get_weather for Paris: rainy in Paris."
    assert (info.token_usage or {})["total_tokens"] == 28
    assert info.cost == pytest.approx(2.45e-05)
    agent, first, tool, second = trace.data.spans
    assert [(span.name, span.span_type) for span in trace.data.spans] == [
        ("weather agent", "AGENT"),
        ("Completions_1", "CHAT_MODEL"),
        ("get_weather", "TOOL"),
        ("Completions_2", "CHAT_MODEL"),
    ]
    assert {span.parent_id for span in (first, tool, second)} == {agent.span_id}
    assert (tool.inputs, tool.outputs) == ({"city": "Paris"}, "rainy in Paris")
    assert first.inputs["tools"][0]["function"]["name"] == "get_weather"
    assert first.outputs["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":"Paris"}'
    assert second.attributes["gen_ai.response.model"] == "gpt-5-mini"
    assert second.get_attribute("mlflow.spanInputs") == second.inputs
    assert not {"mlflow.spanInputs", "mlflow.spanOutputs"} & set(second.attributes)  # not a second time


async def test_assessments_are_feedback(database: Path, store: Store) -> None:
    await bring(database, store)
    trace = await named(store, "weather agent")
    told = [(each.name, each.value, each.source, each.comment) for each in trace.info.feedback]
    assert told == [
        ("helpful", True, "human:ann@example.com", "it rains"),
        ("score", 0.75, "llm:gpt-5", None),
        ("label", "good", "code", None),
        ("parts", '{"tone":3}', "code", None),
        ("expected.answer", "rainy", "human:ann@example.com", None),
        ("helpful", False, "human:ann@example.com", None),
    ]
    assert [len(span.feedback) for span in trace.data.spans] == [0, 1, 0, 0]


async def test_chunks_errors_and_other_kinds_of_calls(database: Path, store: Store) -> None:
    await bring(database, store)
    calls = await store.search_traces(TraceQuery(name="Completions", status="OK"))
    stream = next(trace for trace in calls if trace.data.spans[0].events)
    (span,) = stream.data.spans
    assert {event.name for event in span.events} == {"gen_ai.chunk"}
    assert [event.attributes["index"] for event in span.events] == list(range(len(span.events)))
    assert span.get_attribute("mlflow.chunk.item.1")["choices"][0]["delta"]["content"] == "You"
    (failed,) = await store.search_traces(TraceQuery(name="Completions", status="ERROR"))
    assert failed.data.spans[0].status.description.startswith("NotFoundError: Error code: 404")
    assert failed.data.spans[0].attributes["tracer.finish"] == "failed"
    broken = await named(store, "broken")
    assert broken.data.spans[0].status.description == "ValueError: no such city: Zürich"
    responses = await named(store, "Responses")
    assert (responses.info.request_preview, responses.info.response_preview) == (
        "What is a span?",
        "You said: What is a span?",
    )
    embedding = await named(store, "Embeddings")
    assert embedding.data.spans[0].span_type == "EMBEDDING"
    assert len(embedding.data.spans[0].outputs["data"][0]["embedding"]) == 8
    by_hand = await named(store, "by hand")
    assert by_hand.data.spans[0].span_type == "MY_OWN"
    assert by_hand.data.spans[0].attributes["k"] == {"deep": True}
    assert by_hand.data.spans[0].events[0].attributes == {"n": 3}


async def test_words_are_found(database: Path, store: Store) -> None:
    await bring(database, store)
    found = await store.search_traces(TraceQuery(text="rainy"))
    assert [trace.info.name for trace in found] == ["weather agent"]


async def test_an_attachment_becomes_a_medium(database: Path, store: Store, tmp_path: Path) -> None:
    """MLflow keeps images beside its database, in the artifact store of the trace."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        ((request_id, content),) = connection.execute(
            "SELECT trace_id, content FROM spans WHERE content LIKE '%mlflow-attachment://%'"
        ).fetchall()
    name = content.partition("mlflow-attachment://")[2].partition("?")[0]
    picture = b"\x89PNG\r\n\x1a\n" + b"pixel" * 500
    (tmp_path / "attachments").mkdir()
    (tmp_path / "attachments" / name).write_bytes(picture)
    sql = "UPDATE trace_tags SET value = ? WHERE request_id = ? AND key = 'mlflow.artifactLocation'"
    change(database, sql, f"file://{tmp_path}", request_id)
    moved = await bring(database, store)
    assert moved.media == 1
    medium = await store.get_media(hashlib.sha256(picture).hexdigest())
    assert (medium.content_type, medium.data) == ("image/png", picture)
    trace = await store.get_trace(request_id.removeprefix("tr-"))
    assert "media://" in json.dumps(trace.data.spans[0].inputs)


async def test_spans_of_older_versions_are_read_from_their_file(database: Path, store: Store, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        spans = [json.loads(row[0]) for row in connection.execute("SELECT content FROM spans WHERE name = 'by hand'")]
        ((request_id,),) = connection.execute("SELECT trace_id FROM spans WHERE name = 'by hand'").fetchall()
    change(database, "DELETE FROM spans WHERE trace_id = ?", request_id)
    sql = "UPDATE trace_tags SET value = ? WHERE request_id = ? AND key = 'mlflow.artifactLocation'"
    change(database, sql, str(tmp_path), request_id)
    moved = await bring(database, store)
    assert [each.trace_id for each in moved.refused] == [request_id.removeprefix("tr-")]
    assert "traces.json" in moved.refused[0].reason
    (tmp_path / "traces.json").write_text(json.dumps({"spans": spans}))
    moved = await bring(database, store)
    assert (moved.copied, moved.already_there, moved.refused) == (1, 8, [])
    assert (await named(store, "by hand")).data.spans[0].inputs == {"a": 1}
    change(database, sql, "s3://bucket/place", request_id)
    assert "artifact store 's3://bucket/place'" in (await bring(database, store)).refused[0].reason


async def test_what_can_not_be_read_is_told_and_the_rest_comes(database: Path, store: Store) -> None:
    change(database, "UPDATE spans SET content = '{\"name\": \"no more\"}' WHERE name = 'broken'")
    change(database, "UPDATE trace_info SET status = 'IN_PROGRESS' WHERE trace_name = 'by hand'")
    moved = await bring(database, store)
    assert (moved.copied, moved.running, len(moved.refused)) == (7, 1, 1)
    assert isinstance(moved.refused[0], Refusal)
    assert "spans can't be read" in moved.refused[0].reason


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with pytest.raises(StoreError, match="there is no"), open_mlflow(other):
        pass
    change(other, "CREATE TABLE t (a)")
    with pytest.raises(StoreError, match="is no database of MLflow: it has no table trace_info"), open_mlflow(other):
        pass
    other.write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(StoreError, match="can't be read"), open_mlflow(other):
        pass
