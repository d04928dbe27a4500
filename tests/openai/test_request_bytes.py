"""The server gets what it would get without tracer, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import NOT_GIVEN
from openai._models import FinalRequestOptions
from pydantic import BaseModel

import tracer
from tests.openai.calling import CHAT, HELLO, Caller, finish, only_span, only_trace, traces
from tests.sdk import omit
from tracer import _semconv as sc
from tracer.testing import reply

CHANGES_EACH_TIME = {"idempotency-key", "x-stainless-retry-count"}


class City(BaseModel):
    name: str


def generated() -> Iterator[Any]:
    yield {"role": "system", "content": "Be brief."}
    yield {"role": "user", "content": "Hi"}


REQUESTS: dict[str, Any] = {
    "chat": lambda c: c.client.chat.completions.create(**CHAT),
    "chat stream": lambda c: c.client.chat.completions.create(stream=True, **CHAT),
    "generator": lambda c: c.client.chat.completions.create(model="m", messages=generated()),
    "sentinels": lambda c: c.client.chat.completions.create(**CHAT, temperature=omit, top_p=NOT_GIVEN),
    "extras": lambda c: c.client.chat.completions.create(
        **CHAT, extra_body={"top_k": 3}, extra_headers={"x-team": "search"}, extra_query={"v": "2"}
    ),
    "raw": lambda c: c.client.chat.completions.with_raw_response.create(**CHAT),
    "responses": lambda c: c.client.responses.create(model="m", input="Hi", stream=True),
    "embeddings": lambda c: c.client.embeddings.create(model="m", input="Hi"),
    "completions": lambda c: c.client.completions.create(model="m", prompt="Hi"),
    "posted": lambda c: c.client.post("/chat/completions", cast_to=object, body=dict(CHAT)),
}


async def sent(caller: Caller, make: Any) -> tuple[Any, dict[str, str]]:
    result = await caller.settle(make, caller)
    if hasattr(result, "close"):
        await caller.settle(result.close)
    request = caller.server.requests[-1]
    return request, {name: value for name, value in request.headers.items() if name not in CHANGES_EACH_TIME}


@pytest.mark.parametrize("make", REQUESTS.values(), ids=REQUESTS)
async def test_the_request_is_the_same_with_and_without_tracing(caller: Caller, make: Any) -> None:
    traced, traced_headers = await sent(caller, make)
    tracer.autolog(disable=True)
    plain, plain_headers = await sent(caller, make)
    assert traced.body == plain.body
    assert (traced.method, traced.path, traced.query) == (plain.method, plain.path, plain.query)
    assert traced_headers == plain_headers
    assert traced_headers.keys() == plain_headers.keys()


async def test_propagation_adds_the_header_and_nothing_else(caller: Caller) -> None:
    plain, plain_headers = await sent(caller, REQUESTS["chat"])
    tracer.openai.autolog(propagate=True)
    request, headers = await sent(caller, REQUESTS["chat"])
    traceparent = headers.pop("traceparent")
    assert headers == plain_headers
    assert request.body == plain.body
    trace = (await traces())[-1]
    assert traceparent == f"00-{trace.info.trace_id}-{trace.data.spans[0].span_id}-01"


async def test_propagation_keeps_the_header_of_the_caller(caller: Caller) -> None:
    tracer.openai.autolog(propagate=True)
    mine = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    await caller.chat(extra_headers={"Traceparent": mine})
    assert caller.server.requests[-1].headers["traceparent"] == mine


async def test_each_attempt_carries_the_same_traceparent(caller: Caller) -> None:
    tracer.openai.autolog(propagate=True)
    caller.server.enqueue(reply.error(500))
    await caller.settle(caller.make_client(max_retries=1).chat.completions.create, **CHAT)
    first, second = caller.server.requests
    assert first.headers["traceparent"] == second.headers["traceparent"]


async def test_an_unsampled_call_says_so_downstream(caller: Caller) -> None:
    tracer.configure(sample_rate=0.0)
    tracer.openai.autolog(propagate=True)
    await caller.chat()
    assert caller.server.requests[-1].headers["traceparent"].endswith("-00")
    assert await traces() == []


async def test_asking_for_usage_adds_stream_options_and_nothing_else(caller: Caller) -> None:
    tracer.openai.autolog(stream_usage=True)
    await caller.items(await caller.chat(stream=True))
    assert caller.server.requests[-1].json == {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    span = await only_span()
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] > 0


async def test_asking_for_usage_leaves_other_calls_and_the_wishes_of_the_caller_alone(caller: Caller) -> None:
    tracer.openai.autolog(stream_usage=True)
    await caller.chat()
    assert caller.server.requests[-1].json == CHAT
    await caller.items(await caller.chat(stream=True, stream_options={"include_usage": False}))
    assert caller.server.requests[-1].json["stream_options"] == {"include_usage": False}
    await caller.items(await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=True))
    assert "stream_options" not in caller.server.requests[-1].json


async def test_asking_for_usage_does_not_change_the_options_that_the_caller_passed(caller: Caller) -> None:
    tracer.openai.autolog(stream_usage=True)
    body = {**CHAT, "stream": True}
    options = FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=body)
    stream_class = openai.AsyncStream[Any] if caller.is_async else openai.Stream[Any]
    stream = await caller.settle(caller.client.request, dict, options, stream=True, stream_cls=stream_class)
    await caller.settle(stream.close)
    assert options.json_data == {**CHAT, "stream": True}
    assert body == {**CHAT, "stream": True}


async def test_inputs_are_what_was_sent(caller: Caller) -> None:
    await caller.settle(
        caller.client.chat.completions.create,
        model="m",
        messages=generated(),
        temperature=omit,
        top_p=NOT_GIVEN,
        extra_body={"top_k": 3},
        extra_headers={"x-team": "search"},
    )
    span = await only_span()
    assert span.inputs == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "top_k": 3,
    }
    assert span.inputs == caller.server.requests[-1].json


async def test_a_message_given_as_a_pydantic_model_is_recorded_as_sent(caller: Caller) -> None:
    answer = await caller.chat()
    await caller.chat(messages=[*HELLO, answer.choices[0].message, {"role": "user", "content": "More"}])
    span = (await traces())[-1].data.spans[0]
    assert span.inputs == caller.server.requests[-1].json
    assert [message["role"] for message in span.inputs["messages"]] == ["user", "assistant", "user"]


async def test_a_prompt_of_twenty_megabytes_is_cut_and_the_cut_is_counted(caller: Caller) -> None:
    tracer.configure(max_payload_bytes=1_000_000)
    prompt = "word " * 4_000_000
    caller.server.enqueue(reply.text("Long."))
    await caller.chat(messages=[{"role": "user", "content": prompt}])
    assert len(caller.server.requests[-1].body) > 20_000_000
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "completed"
    assert span.attributes["tracer.truncated"]["inputs"] == len(caller.server.requests[-1].body) - 1_000_000
    assert trace.info.dropped["truncated"] == 1
    assert tracer.stats()["truncated"] == 1


async def test_a_body_that_msgspec_can_not_read_is_kept_as_text(caller: Caller) -> None:
    caller.server.enqueue(reply.text("ok"))
    # json.dumps inside the SDK makes NaN of this, which is no JSON.
    await caller.chat(messages=[{"role": "user", "content": "Hi", "weight": 10**30}])
    span = await only_span()
    assert finish(span) == "completed"
    assert span.inputs is not None


async def test_a_body_that_the_sdk_refuses_is_kept_and_read(caller: Caller) -> None:
    with pytest.raises((ValueError, TypeError, openai.BadRequestError)):  # older SDKs send NaN
        await caller.chat(temperature=float("nan"), tools=[{"type": "function", "function": {"name": "f"}}])
    span = await only_span()
    assert span.inputs["temperature"] == "NaN"
    assert span.inputs["messages"] == HELLO
    assert span.attributes[sc.TOOL_DEFINITIONS], "it is interpreted as any other request"
