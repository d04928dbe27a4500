"""Model calls as MLflow shows them: what its own tests of the OpenAI integration look at."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

import tracer
import tracer.mlflow as mlflow
from tests.openai.calling import Caller
from tracer.mlflow.entities import SpanEvent, SpanLogLevel, SpanType
from tracer.mlflow.tracing.constant import STREAM_CHUNK_EVENT_VALUE_KEY, SpanAttributeKey
from tracer.testing import reply

ASK: list[Any] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "description": "Add", "parameters": {"type": "object", "properties": {}}},
}


def last() -> mlflow.entities.Trace:
    trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
    assert trace is not None
    return trace


def answer(**usage: Any) -> reply.Reply:
    message = {"role": "assistant", "content": "Hello"}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21, **usage},
    }
    return reply.json_body(200, body)


@pytest.fixture(autouse=True)
def switched_on() -> None:
    mlflow.openai.autolog()


async def test_a_chat_call(caller: Caller) -> None:
    caller.server.enqueue(answer(prompt_tokens_details={"cached_tokens": 0}))
    await caller.settle(
        caller.client.chat.completions.create, model="gpt-4o-mini", messages=ASK, temperature=0, tools=[TOOL]
    )
    [trace] = mlflow.search_traces(return_type="list")
    usage = {"input_tokens": 9, "output_tokens": 12, "total_tokens": 21, "cache_read_input_tokens": 0}
    assert trace.info.status == trace.info.state == "OK"
    assert trace.info.token_usage == usage
    assert json.loads(trace.info.trace_metadata["mlflow.trace.tokenUsage"]) == usage
    assert trace.info.experiment_id == "Default"
    assert trace.info.tags["mlflow.traceName"] == f"{caller.prefix}Completions"
    [span] = trace.data.spans
    assert (span.name, span.span_type, span.log_level) == (
        f"{caller.prefix}Completions",
        "CHAT_MODEL",
        SpanLogLevel.INFO,
    )
    assert span.inputs == {"messages": ASK, "model": "gpt-4o-mini", "temperature": 0, "tools": [TOOL]}
    assert span.outputs["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello",
        **dict.fromkeys(span.outputs["choices"][0]["message"].keys() - {"role", "content"}),
    }
    assert span.outputs["choices"][0]["message"]["tool_calls"] is None  # as the SDK's object has it
    assert (span.attributes["model"], span.attributes["temperature"]) == ("gpt-4o-mini", 0)
    assert "messages" not in span.attributes
    assert span.get_attribute(SpanAttributeKey.CHAT_USAGE) == span.attributes["mlflow.chat.tokenUsage"] == usage
    assert span.attributes[SpanAttributeKey.CHAT_TOOLS] == [TOOL]
    assert span.model_name == span.get_attribute(SpanAttributeKey.MODEL) == "gpt-4o-mini-2024-07-18"
    assert span.get_attribute(SpanAttributeKey.MESSAGE_FORMAT) == "openai"
    assert span.get_attribute("gen_ai.operation.name") == "chat"
    assert span.get_attribute("unheard.of") is None
    assert json.loads(trace.data.request or "") == span.inputs
    assert json.loads(trace.data.response or "") == span.outputs
    assert json.loads(trace.info.request_preview or "") == span.inputs


async def test_costs_have_mlflows_keys(caller: Caller) -> None:
    pytest.importorskip("genai_prices")
    caller.server.enqueue(answer(), answer())
    with mlflow.start_span("both"):
        for _ in range(2):
            await caller.settle(caller.client.chat.completions.create, model="gpt-4o-mini", messages=ASK)
    trace = last()
    cost = trace.data.spans[1].llm_cost
    assert cost is not None
    assert cost.keys() == {"input_cost", "output_cost", "total_cost"}
    assert cost["total_cost"] == pytest.approx(cost["input_cost"] + cost["output_cost"])
    assert trace.info.cost == pytest.approx({key: 2 * value for key, value in cost.items()})
    assert trace.data.spans[0].llm_cost is None


async def test_calls_of_a_trace_are_not_numbered(caller: Caller) -> None:
    with mlflow.start_span("Run_1"):
        for _ in range(2):
            await caller.settle(caller.client.chat.completions.create, model="m", messages=ASK)
    name = f"{caller.prefix}Completions"
    assert [span.name for span in last().data.spans] == ["Run_1", name, name]
    assert [span.name for span in last().stored.data.spans] == ["Run_1", f"{name}_1", f"{name}_2"]


async def test_a_stream(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Hello world"))
    sent: dict[str, Any] = {"model": "m", "messages": ASK, "stream": True}
    chunks = await caller.items(await caller.settle(caller.client.chat.completions.create, **sent))
    [span] = last().data.spans
    assert span.inputs == sent
    assert span.attributes["stream"] is True
    assert span.outputs["choices"][0]["message"]["content"] == "Hello world"
    assert [event.name for event in span.events] == [f"mlflow.chunk.item.{index}" for index in range(len(chunks))]
    first = json.loads(span.events[0].attributes[STREAM_CHUNK_EVENT_VALUE_KEY])
    assert first["id"] == chunks[0].id


async def test_a_stream_of_legacy_completions_is_a_text(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Once upon"))
    await caller.items(await caller.settle(caller.client.completions.create, model="m", prompt="Tell", stream=True))
    [span] = last().data.spans
    assert (span.span_type, span.outputs) == (SpanType.LLM, "Once upon")
    assert span.events[0].name == "mlflow.chunk.item.0"


async def test_a_refused_call_has_no_outputs(caller: Caller) -> None:
    caller.server.enqueue(reply.error(400, message="Invalid question"))
    with pytest.raises(openai.BadRequestError):
        await caller.settle(caller.client.chat.completions.create, model="m", messages=ASK)
    trace = last()
    [span] = trace.data.spans
    assert (trace.info.status, span.status.status_code, span.outputs) == ("ERROR", "ERROR", None)
    assert (span.events[0].name, span.events[0].attributes["exception.type"]) == ("exception", "BadRequestError")


async def test_embeddings_show_what_the_caller_gave_and_got(caller: Caller) -> None:
    got = await caller.settle(caller.client.embeddings.create, model="m", input="a", dimensions=4)
    [span] = last().data.spans
    assert span.inputs == {"model": "m", "input": "a", "dimensions": 4}
    assert span.outputs["data"][0]["embedding"] == got.data[0].embedding
    assert span.get_attribute(SpanAttributeKey.MESSAGE_FORMAT) is None
    await caller.settle(caller.client.embeddings.create, model="m", input="a", encoding_format="base64")
    assert last().data.spans[0].inputs["encoding_format"] == "base64"


async def test_tools_that_openai_ran_are_no_spans_in_mlflow(caller: Caller) -> None:
    output = [{"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}]
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "output": output,
    }
    caller.server.enqueue(reply.json_body(200, body))
    tools = [{"type": "web_search_preview"}, {"type": "function", "name": "f", "parameters": {}, "strict": False}]
    await caller.settle(caller.client.responses.create, model="m", input="Hi", tools=tools)
    trace = last()
    [span] = trace.data.spans
    assert span.attributes["mlflow.chat.tools"] == [
        {"type": "function", "function": {"name": "web_search_preview"}},
        {"type": "function", "function": {"name": "f", "parameters": {}, "strict": False}},
    ]
    assert [one.name for one in trace.stored.data.spans] == [span.name, "web_search"]


async def test_a_traceparent_is_sent_as_mlflow_does(caller: Caller) -> None:
    await caller.settle(
        caller.client.chat.completions.create, model="m", messages=ASK, extra_headers={"x-custom": "mine"}
    )
    headers = caller.server.requests[-1].headers
    [span] = last().data.spans
    assert headers["x-custom"] == "mine"
    assert headers["traceparent"].startswith(f"00-{span.trace_id}-{span.span_id}-")
    ids = span._span.get_span_context()
    assert (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") == (span.trace_id, span.span_id)


@pytest.mark.parametrize("off", [{"disable": True}, {"log_traces": False}], ids=str)
async def test_switched_off(caller: Caller, off: dict[str, bool]) -> None:
    mlflow.openai.autolog(**off)
    await caller.settle(caller.client.chat.completions.create, model="m", messages=ASK)
    assert mlflow.search_traces(return_type="list") == []
    mlflow.autolog()
    await caller.settle(caller.client.chat.completions.create, model="m", messages=ASK)
    assert len(mlflow.search_traces(return_type="list")) == 1
    mlflow.autolog(disable=True)


def test_silent_leaves_only_errors(tracer_log: list[Any]) -> None:
    mlflow.openai.autolog(silent=True)
    mlflow.update_current_trace(tags={"a": "b"})
    assert tracer_log == []
    mlflow.openai.autolog()
    mlflow.update_current_trace(tags={"a": "b"})
    assert len(tracer_log) == 1
    tracer_log.clear()


def test_an_event_may_be_mlflows() -> None:
    with mlflow.start_span("x") as span:
        span.add_event(SpanEvent("noted", 7, {"a": 1}))  # type: ignore[arg-type]
        span.add_event("plain")
    events = last().data.spans[0].events
    assert [(event.name, event.attributes) for event in events] == [("noted", {"a": 1}), ("plain", {})]
    assert events[0].timestamp == 7
    with tracer.start_span() as span, pytest.raises(tracer.ConfigurationError, match="name must be"):
        span.add_event(7)  # type: ignore[arg-type]
