"""Spans as they are sent; and a trace that tracer sends to tracer is the same trace there."""

from __future__ import annotations

import json
from typing import Any

import anyio
import openai
import pytest

import tracer
from tracer._models import Span, SpanEvent, SpanStatus, SpanStatusCode, Trace
from tracer.assembly.foreign_spans import make_batch
from tracer.otlp.outgoing import Outgoing, encode_span, make_request
from tracer.otlp.received import PROTOBUF, read_spans
from tracer.store import TraceQuery, current_process, open_store
from tracer.testing import FakeOpenAI, reply

pytest.importorskip("opentelemetry.proto")

BOTH = ("mlflow", "openinference")
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def span(**fields: Any) -> Span:
    given = {"trace_id": "0" * 31 + "a", "span_id": "0" * 15 + "b", "name": "work", "start_time_ns": 1_000}
    return Span(**{**given, "end_time_ns": 2_000, **fields})


def request_of(outgoing: list[Outgoing], keys: tuple[str, ...]) -> Any:
    return make_request([(each, encode_span(each, keys)) for each in outgoing], keys)


def sent(*keys: str, session_id: str | None = None, stands_for_trace: bool = False, **fields: Any) -> Any:
    """The span as a receiver of OTLP reads it."""
    outgoing = Outgoing(span=span(**fields), experiment="e", session_id=session_id, stands_for_trace=stands_for_trace)
    received = read_spans(request_of([outgoing], keys).SerializeToString(), PROTOBUF)
    assert not received.refused
    [read] = received.spans
    return read


def chat(messages: list[Any], **answer: Any) -> dict[str, Any]:
    """The fields of a span of a chat completion."""
    return {
        "span_type": "CHAT_MODEL",
        "attributes": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "tracer.operation": "chat"},
        "inputs": {"model": "m", "messages": messages},
        "outputs": {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **answer}}]},
    }


def test_a_model_call_is_named_and_typed_as_the_conventions_say() -> None:
    read = sent(name="Completions", **chat([{"role": "user", "content": "hi"}], content="hello"))
    assert (read.name, read.attributes["tracer.span.name"]) == ("chat m", "Completions")
    assert json.loads(read.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]
    assert json.loads(read.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "hello"}], "finish_reason": "stop"}
    ]
    assert encode_span(Outgoing(span=span(**chat([])), experiment="e")).kind == 3


def test_tool_calls_and_their_answers_are_parts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
    read = sent(**chat([{"role": "assistant", "content": None, "tool_calls": [call]}, answer], tool_calls=[call]))
    part = {"type": "tool_call", "id": "c1", "name": "f", "arguments": {"a": 1}}
    assert json.loads(read.attributes["gen_ai.input.messages"]) == [
        {"role": "assistant", "parts": [part]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
    ]
    assert json.loads(read.attributes["gen_ai.output.messages"])[0]["parts"] == [part]


def test_responses_have_their_instructions_apart() -> None:
    read = sent(
        span_type="CHAT_MODEL",
        attributes={"gen_ai.operation.name": "chat", "tracer.operation": "responses"},
        inputs={
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "[1]"},
            ],
        },
        outputs={
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
                {"type": "web_search_call", "id": "w1", "action": {"query": "q"}},
            ],
        },
    )
    assert json.loads(read.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    assert [message["parts"][0]["type"] for message in json.loads(read.attributes["gen_ai.input.messages"])] == [
        "text", "tool_call", "tool_call_response",
    ]  # fmt: skip
    [answer] = json.loads(read.attributes["gen_ai.output.messages"])
    assert [part["type"] for part in answer["parts"]] == ["reasoning", "text", "web_search_call"]
    assert answer["finish_reason"] == "length"


def test_an_image_is_a_uri() -> None:
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "media://abc"}}]
    read = sent("openinference", **chat([{"role": "user", "content": content}]))
    assert json.loads(read.attributes["gen_ai.input.messages"])[0]["parts"] == [
        {"type": "text", "content": "what?"},
        {"type": "uri", "modality": "image", "uri": "media://abc"},
    ]
    place = "llm.input_messages.0.message.contents"
    assert read.attributes[f"{place}.1.message_content.image.image.url"] == "media://abc"


def test_a_tool_says_what_it_got_and_gave() -> None:
    read = sent(name="weather", span_type="TOOL", inputs={"city": "Paris"}, outputs="sunny")
    assert (read.name, read.attributes["gen_ai.tool.name"]) == ("weather", "weather")
    assert read.attributes["gen_ai.operation.name"] == "execute_tool"
    assert json.loads(read.attributes["gen_ai.tool.call.arguments"]) == {"city": "Paris"}
    assert read.attributes["gen_ai.tool.call.result"] == "sunny"


def test_what_other_spans_got_and_gave_is_sent_by_the_optional_keys_only() -> None:
    fields: dict[str, Any] = {"span_type": "CHAIN", "inputs": {"a": 1}, "outputs": "done"}
    assert set(sent(**fields).attributes) == {"tracer.span.type"}
    read = sent(*BOTH, **fields)
    assert (read.attributes["mlflow.spanInputs"], read.attributes["mlflow.spanOutputs"]) == ('{"a":1}', '"done"')
    assert (read.attributes["input.value"], read.attributes["output.value"]) == ('{"a":1}', "done")
    assert read.attributes["openinference.span.kind"] == "CHAIN"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, True), (7, 7), (2**70, str(2**70)), (0.5, 0.5), ("é", "é"), ("\ud800", "?"), (["a"], ["a"]),
        ([1, 2], "[1,2]"), ({"k": ["v"]}, '{"k":["v"]}'),
    ],
    ids=["bool", "int", "large", "float", "text", "half-pair", "texts", "numbers", "nested"],
)  # fmt: skip
def test_values_of_attributes(value: Any, read: Any) -> None:
    assert sent(attributes={"k": value}).attributes["k"] == read


def test_attributes_that_are_no_object_are_left_out() -> None:
    assert set(sent(attributes="what is this").attributes) == {"tracer.span.type"}


def test_a_failure_is_sent_with_its_event() -> None:
    event = SpanEvent("exception", 1_500, {"exception.type": "ValueError", "exception.message": "no"})
    read = sent(status=SpanStatus(SpanStatusCode.ERROR, "ValueError: no"), events=[event])
    assert (read.status, read.message) == ("ERROR", "ValueError: no")
    assert read.events == [("exception", 1_500, {"exception.type": "ValueError", "exception.message": "no"})]


def test_a_parent_in_another_process_is_marked() -> None:
    parent = "00f067aa0ba902b7"
    assert sent(parent_id=parent, stands_for_trace=True).begins_here
    assert not sent(parent_id=parent).begins_here


def test_the_experiment_is_the_service_unless_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert sent("openinference").resource["openinference.project.name"] == "e"
    assert sent().resource["service.name"] == "e"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    assert sent().resource["service.name"] == "shop"


def recorded(server: FakeOpenAI) -> Trace:
    """A trace with calls of several kinds, a tool, a failure, and a stream."""
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    tracer.set_experiment("shop")
    tracer.autolog()

    @tracer.trace(span_type="TOOL")
    def weather(city: str) -> dict[str, Any]:
        return {"city": city, "degrees": 3}

    @tracer.trace(span_type="AGENT")
    def answer(question: str) -> str:
        tracer.update_current_trace(session_id="s-1", user_id="ann")
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS)
        weather("Paris")
        client.responses.create(model="gpt-4o-mini", instructions="Be brief.", input="Name a river.")
        with client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True) as stream:
            next(iter(stream))
        client.embeddings.create(model="text-embedding-3-small", input="words", dimensions=4)
        server.enqueue(reply.error(503))
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="overloaded", messages=messages)
        return "done"

    answer("What is the weather in Paris?")
    [trace] = tracer.sync.search_traces()
    return trace


async def sent_to_tracer(trace: Trace, keys: tuple[str, ...]) -> Trace:
    """Send a trace by OTLP, and return what tracer makes of it."""
    info = trace.info
    outgoing = [
        Outgoing(
            span=span,
            experiment=info.experiment,
            session_id=info.session_id,
            user_id=info.user_id,
            stands_for_trace=number == 0,
        )
        for number, span in enumerate(trace.data.spans)
    ]
    received = read_spans(request_of(outgoing, keys).SerializeToString(), PROTOBUF)
    assert not received.refused
    store = open_store("memory://")
    await store.write(make_batch(received.spans, current_process()))
    [again] = await store.search_traces(TraceQuery())
    await store.aclose()
    return again


def tree(trace: Trace) -> list[Any]:
    return [
        (span.name, span.span_id, span.parent_id, span.span_type, str(span.status), span.status.description,
         span.start_time_ns, span.end_time_ns, span.token_usage and span.token_usage["total_tokens"], span.cost,
         span.attributes["tracer.finish"])
        for span in trace.data.spans
    ]  # fmt: skip


def test_a_trace_that_tracer_sends_to_tracer_is_the_same_there(server: FakeOpenAI) -> None:
    trace = recorded(server)
    again = anyio.run(sent_to_tracer, trace, BOTH)
    assert tree(again) == tree(trace)
    assert [(span.inputs, span.outputs) for span in again.data.spans] == [
        (span.inputs, span.outputs) for span in trace.data.spans
    ]
    for field in ("trace_id", "experiment", "name", "state", "session_id", "user_id", "models", "request_preview",
                  "response_preview", "cost"):  # fmt: skip
        assert getattr(again.info, field) == getattr(trace.info, field), field
    usage: Any = again.info.token_usage
    assert usage["total_tokens"] == (trace.info.token_usage or {})["total_tokens"]


def test_without_the_optional_keys_messages_arrive_all_the_same(server: FakeOpenAI) -> None:
    trace = recorded(server)
    again = anyio.run(sent_to_tracer, trace, ())
    assert tree(again) == tree(trace)
    chat, responses = again.data.spans[1], next(s for s in again.data.spans if s.name.startswith("Responses"))
    assert chat.inputs["messages"][0] == {"role": "system", "content": "Be brief."}
    assert responses.inputs["messages"][0] == {"role": "system", "content": "Be brief."}
    assert responses.outputs["choices"][0]["message"]["content"] == "You said: Name a river."
