"""From what other instrumentations really sent (``tests/otlp/received``) to traces in a store."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tracer._models import Trace
from tracer.assembly.foreign_spans import make_batch
from tracer.otlp.received import JSON, ReceivedSpan, read_spans
from tracer.store import Store, TraceQuery, current_process, open_store

pytest.importorskip("opentelemetry.proto")

RECEIVED = Path(__file__).parent.parent / "otlp" / "received"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
NAMES = ("genai", "logfire", "openinference", "openllmetry")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = open_store("memory://")
    await store.open()
    yield store
    await store.aclose()


async def taken_in(store: Store, name: str) -> Trace:
    for request in json.loads((RECEIVED / f"{name}.json").read_text("utf-8")):
        received = read_spans(json.dumps(request).encode(), JSON)
        assert not received.refused
        await store.write(make_batch(received.spans, current_process()))
    [trace] = await store.search_traces(TraceQuery())
    return trace


@pytest.mark.parametrize("name", NAMES)
async def test_a_strangers_trace_is_read_as_our_own(store: Store, name: str) -> None:
    trace = await taken_in(store, name)
    assert (trace.info.name, trace.info.state, trace.info.experiment) == ("handle question", "OK", f"by {name}")
    assert trace.info.session_id == "session-1"
    assert trace.info.request_preview == "What is the capital of France?"
    assert trace.info.response_preview == "You said: Name a river."
    assert set(trace.info.models) == {"gpt-4o-mini", "overloaded", "text-embedding-3-small"}
    usage: Any = trace.info.token_usage
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (32, 23, 55)
    root, *calls = trace.data.spans
    assert (root.name, {span.parent_id for span in calls}) == ("handle question", {root.span_id})
    chat, tools, *_, failed = [span for span in calls if span.span_type == "CHAT_MODEL"]
    assert chat.inputs["messages"][-1] == {"role": "user", "content": "What is the capital of France?"}
    assert chat.outputs["choices"][0]["message"]["content"] == "You said: What is the capital of France?"
    assert chat.get_attribute("gen_ai.request.model") == "gpt-4o-mini"
    assert chat.get_attribute("gen_ai.request.temperature") == 0.5
    [call] = tools.outputs["choices"][0]["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", {"city": "Paris"})
    assert (failed.status.status_code, failed.get_attribute("tracer.finish")) == ("ERROR", "failed")
    assert [span.span_type for span in calls].count("EMBEDDING") == 1


@pytest.mark.parametrize("name", NAMES)
async def test_sending_a_request_once_more_changes_nothing(store: Store, name: str) -> None:
    once = (await taken_in(store, name)).to_dict()
    assert (await taken_in(store, name)).to_dict() == once


@pytest.mark.parametrize("name", NAMES)
async def test_spans_may_come_in_any_order_and_one_by_one(store: Store, name: str) -> None:
    whole = (await taken_in(store, name)).to_dict()
    [trace_id] = [trace.info.trace_id for trace in await store.search_traces(TraceQuery())]
    await store.delete_traces(trace_ids=[trace_id])
    spans = [
        span
        for request in json.loads((RECEIVED / f"{name}.json").read_text("utf-8"))
        for span in read_spans(json.dumps(request).encode(), JSON).spans
    ]
    for span in spans[::-1]:
        await store.write(make_batch([span], current_process()))
    [trace] = await store.search_traces(TraceQuery())
    apart = trace.to_dict()
    for each in (whole, apart):  # which call was asked first is not known before all are there
        for preview in ("request_preview", "response_preview"):
            del each["info"][preview]
        each["info"]["models"].sort()
    assert apart == whole


@pytest.mark.parametrize("name", NAMES)
async def test_attributes_are_kept_as_they_were_sent(store: Store, name: str) -> None:
    trace = await taken_in(store, name)
    kept = {span.span_id: span.attributes for span in trace.data.spans}
    for request in json.loads((RECEIVED / f"{name}.json").read_text("utf-8")):
        for sent in read_spans(json.dumps(request).encode(), JSON).spans:
            assert sent.attributes.items() <= kept[sent.span_id].items()


async def test_of_calls_within_one_another_the_innermost_counts(store: Store) -> None:
    def span(number: int, parent: int | None, **attributes: Any) -> dict[str, Any]:
        told = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 10, **attributes}
        return {
            "traceId": "1" * 32,
            "spanId": f"{number:016x}",
            "parentSpanId": f"{parent:016x}" if parent else "",
            "name": f"n{number}",
            "startTimeUnixNano": str(10**18 + number),
            "endTimeUnixNano": str(10**18 + 100),
            "attributes": [
                {"key": key, "value": {"intValue": value} if isinstance(value, int) else {"stringValue": value}}
                for key, value in told.items()
            ],
        }

    agent = {"gen_ai.operation.name": "invoke_agent"}
    spans = [span(1, None, **agent), span(2, 1), span(3, 2), span(4, 1)]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    await store.write(make_batch(read_spans(body, JSON).spans, current_process()))
    [trace] = await store.search_traces(TraceQuery())
    assert trace.info.token_usage == {"input_tokens": 20, "total_tokens": 20}
    assert trace.info.experiment == "Default"


def received(**changes: Any) -> ReceivedSpan:
    told: dict[str, Any] = {
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "parent_id": None,
        "name": "chat",
        "start_ns": 10**18,
        "end_ns": 10**18 + 1,
        "begins_here": True,
    }
    return ReceivedSpan(**{**told, **changes})


async def test_a_cost_metadata_and_media_of_a_span_are_stored(store: Store) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [picture]}]}
    attributes = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps(body),
        "llm.cost.total": 0.5,
        "metadata": '{"team": "a"}',
    }
    await store.write(make_batch([received(attributes=attributes)], current_process()))
    trace = await store.get_trace("1" * 32)
    assert (trace.info.cost, trace.info.metadata) == (0.5, {"team": "a"})
    assert (await store.get_media(hashlib.sha256(PNG).hexdigest())).data == PNG


async def test_what_only_a_log_record_told_is_an_open_span(store: Store) -> None:
    told = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3}
    await store.write(make_batch([received(end_ns=None, attributes=told, begins_here=False)], current_process()))
    trace = await store.get_trace("1" * 32)
    [span] = trace.data.spans
    assert (trace.info.state, span.status.status_code, span.end_time_ns) == ("IN_PROGRESS", "UNSET", None)
    assert trace.info.token_usage is None
