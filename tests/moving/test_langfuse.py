"""Langfuse's exports are imported.

No Langfuse server was at hand: the files in `fixtures` were written by hand, after the sources that
`tracer.moving.langfuse` names.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.moving.fixtures import HERE
from tracer._exceptions import StoreError
from tracer._models import TraceState
from tracer.moving import Moved, move, read_langfuse
from tracer.store import Store, TraceQuery, open_store

DOWNLOAD, ROWS = HERE / "langfuse_download.json", HERE / "langfuse_observations.jsonl"
TRACE = "5f0d1c8a9b7e4c3d8e2f1a0b9c8d7e6f"
OF_ROWS = "9d8e3c2b11114222833344445555" + "6666"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/tracer.db")
    yield store
    await store.aclose()


async def bring(store: Store, *files: Path, experiment: str | None = None) -> Moved:
    return await move(read_langfuse(files, experiment), store)


async def test_exports_are_imported_once(store: Store) -> None:
    moved = await bring(store, DOWNLOAD, ROWS)
    assert (moved.copied, moved.spans, moved.feedback, moved.refused) == (2, 7, 3, [])
    again = await bring(store, DOWNLOAD, ROWS)
    assert (again.already_there, again.copied, again.completed) == (2, 0, 0)


async def test_a_downloaded_trace_has_all_that_was_said_of_it(store: Store) -> None:
    await bring(store, DOWNLOAD, experiment="support desk")
    trace = await store.get_trace(TRACE)
    info = trace.info
    assert (info.name, info.session_id, info.user_id, info.experiment, info.state) == (
        "weather agent",
        "session-7",
        "ann",
        "support desk",
        TraceState.OK,
    )
    assert info.tags == {"prod": "true", "Zürich": "true", "environment": "production"}
    assert info.metadata == {"build": "3", "langfuse.release": "1.2"}
    assert info.token_usage == {
        "input_tokens": 10,
        "output_tokens": 3,
        "total_tokens": 13,
        "cache_read_input_tokens": 3,
        "reasoning_tokens": 1,
    }
    assert info.cost == pytest.approx(0.000006)
    agent, call, tool, noted = trace.data.spans
    assert [span.span_type for span in trace.data.spans] == ["AGENT", "CHAT_MODEL", "TOOL", "UNKNOWN"]
    assert {span.parent_id for span in (call, tool, noted)} == {agent.span_id}
    assert call.inputs["messages"][0]["content"] == "What's the weather like in Paris today?"
    assert call.inputs["model"] == "gpt-5-mini"
    assert call.outputs["choices"][0]["message"]["tool_calls"][0]["id"] == "call_1"
    assert call.attributes["langfuse.model.parameters"] == {"temperature": 0.5}
    assert info.time_to_first_token == pytest.approx(0.25)
    assert (tool.inputs, tool.outputs) == ({"city": "Paris"}, "rainy in Paris")
    assert (tool.status.status_code, tool.status.description) == ("ERROR", "the sensor is wet")
    assert (noted.duration_ns, noted.attributes["langfuse.observation.level"]) == (0, "WARNING")
    assert agent.attributes["langfuse.observation.metadata.scope"] == {"name": "langfuse-sdk"}
    told = [(each.name, each.value, each.source, each.comment, each.span_id) for each in info.feedback]
    assert told == [
        ("helpful", True, "human:clx123", "it rains", None),
        ("correctness", 0.75, "llm", None, call.span_id),
        ("tone", "friendly", "code", None, None),
    ]


async def test_rows_of_observations_become_a_trace_with_a_root(store: Store) -> None:
    await bring(store, ROWS)
    trace = await store.get_trace(OF_ROWS)
    root, ask, respond = trace.data.spans
    assert (root.name, root.parent_id) == ("chat", None)
    assert {ask.parent_id, respond.parent_id} == {root.span_id}
    assert (root.duration_ns, ask.duration_ns) == (3_000_000_000, 1_500_000_000)
    assert ask.inputs == {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
    assert ask.outputs["choices"][0]["message"]["content"] == "Hello!"
    assert ask.attributes["langfuse.observation.id"] == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert respond.outputs["output"][0]["content"][0]["text"] == "Fine."
    info = trace.info
    assert (info.request_preview, info.response_preview, info.user_id) == ("Hi", "Fine.", "bob")
    assert info.metadata["langfuse.trace.id"] == "9d8e3c2b-1111-4222-8333-444455556666"


def of_api() -> dict[str, Any]:
    """The same trace as the API answers it."""
    given = json.loads(DOWNLOAD.read_text())
    return {**given["trace"], "observations": given["observations"], "htmlPath": "/project/x"}


@pytest.mark.parametrize(
    "form", ["api", "array", "lines", "data"], ids=["api answer", "array", "JSON Lines", "page of the API"]
)
async def test_each_form_reads_the_same(store: Store, tmp_path: Path, form: str) -> None:
    given: Any = of_api()
    forms = {
        "api": json.dumps(given),
        "array": json.dumps([json.loads(DOWNLOAD.read_text())]),
        "lines": json.dumps(given) + "\n" + ROWS.read_text(),
        "data": json.dumps({"data": [given], "meta": {}}),
    }
    path = tmp_path / "export.json"
    path.write_text(forms[form])
    await bring(store, path)
    trace = await store.get_trace(TRACE)
    assert [span.name for span in trace.data.spans] == ["weather agent", "OpenAI-generation", "get_weather", "noted"]
    assert len(trace.info.feedback) == 3
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    await bring(other, DOWNLOAD)
    assert await other.get_trace(TRACE) == trace
    await other.aclose()


async def test_what_can_not_be_read_is_told_and_the_rest_comes(store: Store, tmp_path: Path) -> None:
    broken = of_api()
    broken["id"], broken["observations"][0]["startTime"] = "0" * 31 + "1", "yesterday"
    path = tmp_path / "two.json"
    path.write_text(json.dumps([broken, of_api()]))
    moved = await bring(store, path)
    assert (moved.copied, [each.trace_id for each in moved.refused]) == (1, ["0" * 31 + "1"])
    found = await store.search_traces(TraceQuery())
    assert [trace.info.trace_id for trace in found] == [TRACE]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("not json", "neither JSON nor JSON Lines"), ('{"a": 1}', "no export of Langfuse's")],
    ids=["no JSON", "something else"],
)
def test_another_file_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "export.json"
    with pytest.raises(StoreError, match="can't be read"):
        read_langfuse([path])
    path.write_text(text)
    with pytest.raises(StoreError, match=problem):
        read_langfuse([path])
