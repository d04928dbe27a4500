"""Every way of making a call leaves exactly one right span, and gives the caller what the SDK gives."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.openai.calling import CHAT, Caller, finish, only_span, said, traces
from tracer.testing import reply


class City(BaseModel):
    name: str


async def chat_plain(c: Caller) -> str:
    answer = await c.chat()
    assert type(answer).__name__ == "ChatCompletion"
    return str(answer.choices[0].message.content)


def texts(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def chat_stream(c: Caller) -> str:
    stream = await c.chat(stream=True)
    assert isinstance(stream, openai.AsyncStream if c.is_async else openai.Stream)
    text = texts(await c.items(stream))
    assert stream.response.elapsed.total_seconds() > 0
    assert stream.response.http_version == "HTTP/1.1"
    return text


async def chat_stream_in_a_with_block(c: Caller) -> str:
    async with c.entered(await c.chat(stream=True)) as stream:
        return texts(await c.items(stream))


async def chat_stream_helper(c: Caller) -> str:
    async with c.entered(c.client.chat.completions.stream(**CHAT)) as stream:
        events = await c.items(stream)
        assert events[-1].type == "content.done"
        final = await c.settle(stream.get_final_completion)
    return str(final.choices[0].message.content)


async def chat_stream_helper_final_only(c: Caller) -> str:
    async with c.entered(c.client.chat.completions.stream(**CHAT)) as stream:
        final = await c.settle(stream.get_final_completion)
    return str(final.choices[0].message.content)


async def chat_raw(c: Caller) -> str:
    raw = await c.settle(c.client.chat.completions.with_raw_response.create, **CHAT)
    assert raw.headers["x-request-id"]
    assert raw.http_response.elapsed.total_seconds() > 0
    parsed = raw.parse()
    assert raw.parse() is parsed
    return str(parsed.choices[0].message.content)


async def chat_raw_stream(c: Caller) -> str:
    raw = await c.settle(c.client.chat.completions.with_raw_response.create, stream=True, **CHAT)
    stream = raw.parse()
    assert raw.parse() is stream
    assert isinstance(stream, openai.AsyncStream if c.is_async else openai.Stream)
    return texts(await c.items(stream))


def streaming(c: Caller, **options: Any) -> Any:
    return c.entered(c.client.chat.completions.with_streaming_response.create(**CHAT, **options))


async def streaming_read(c: Caller) -> str:
    async with streaming(c) as response:
        return str(json.loads(await c.settle(response.read))["choices"][0]["message"]["content"])


async def streaming_json(c: Caller) -> str:
    async with streaming(c) as response:
        return str((await c.settle(response.json))["choices"][0]["message"]["content"])


async def streaming_parse(c: Caller) -> str:
    async with streaming(c) as response:
        return str((await c.settle(response.parse)).choices[0].message.content)


async def streaming_parse_events(c: Caller) -> str:
    async with streaming(c, stream=True) as response:
        return texts(await c.items(await c.settle(response.parse)))


def from_lines(lines: list[str]) -> str:
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


async def streaming_lines(c: Caller) -> str:
    async with streaming(c, stream=True) as response:
        return from_lines(await c.items(response.iter_lines()))


async def streaming_bytes(c: Caller) -> str:
    async with streaming(c, stream=True) as response:
        return from_lines(b"".join(await c.items(response.iter_bytes())).decode().splitlines())


async def streaming_small_bytes(c: Caller) -> str:
    async with streaming(c, stream=True) as response:
        return from_lines(b"".join(await c.items(response.iter_bytes(3))).decode().splitlines())


async def streaming_text(c: Caller) -> str:
    async with streaming(c, stream=True) as response:
        return from_lines("".join(await c.items(response.iter_text())).splitlines())


async def posted_by_hand(c: Caller) -> str:
    answer = await c.settle(c.client.post, "/chat/completions", cast_to=object, body=dict(CHAT))
    return str(answer["choices"][0]["message"]["content"])


CHAT_VARIANTS: list[Callable[[Caller], Awaitable[str]]] = [
    chat_plain,
    chat_stream,
    chat_stream_in_a_with_block,
    chat_stream_helper,
    chat_stream_helper_final_only,
    chat_raw,
    chat_raw_stream,
    streaming_read,
    streaming_json,
    streaming_parse,
    streaming_parse_events,
    streaming_lines,
    streaming_bytes,
    streaming_small_bytes,
    streaming_text,
    posted_by_hand,
]


@pytest.mark.parametrize("variant", CHAT_VARIANTS, ids=lambda variant: variant.__name__)
async def test_each_chat_variant_leaves_one_span(caller: Caller, variant: Callable[[Caller], Awaitable[str]]) -> None:
    caller.server.enqueue(reply.text("Grüße, naïve 🌍 world"))
    assert await variant(caller) == "Grüße, naïve 🌍 world"
    span = await only_span()
    assert span.name == f"{caller.prefix}Completions"
    assert span.span_type == "CHAT_MODEL"
    assert span.inputs == caller.server.requests[-1].json
    assert said(span) == "Grüße, naïve 🌍 world"
    assert finish(span) == "completed"
    assert span.status.status_code == "OK"


async def test_parse_gives_the_parsed_object_and_leaves_one_span(caller: Caller) -> None:
    caller.server.enqueue(reply.text('{"name": "Paris"}'))
    answer = await caller.settle(caller.client.chat.completions.parse, **CHAT, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Paris")
    span = await only_span()
    assert said(span) == '{"name": "Paris"}'
    assert span.inputs["response_format"]["type"] == "json_schema"


async def responses_plain(c: Caller) -> Any:
    return await c.settle(c.client.responses.create, model="gpt-5", input="Hi")


async def responses_parse(c: Caller) -> Any:
    return await c.settle(c.client.responses.parse, model="gpt-5", input="Hi")


async def responses_stream(c: Caller) -> Any:
    return (await c.items(await c.settle(c.client.responses.create, model="gpt-5", input="Hi", stream=True)))[
        -1
    ].response


async def responses_stream_helper(c: Caller) -> Any:
    async with c.entered(c.client.responses.stream(model="gpt-5", input="Hi")) as stream:
        return await c.settle(stream.get_final_response)


async def responses_as_the_agents_sdk_streams(c: Caller) -> Any:
    manager = c.client.responses.with_streaming_response.create(model="gpt-5", input="Hi", stream=True)
    async with c.entered(manager) as response:
        return (await c.items(await c.settle(response.parse)))[-1].response


RESPONSES_VARIANTS = [
    responses_plain,
    responses_parse,
    responses_stream,
    responses_stream_helper,
    responses_as_the_agents_sdk_streams,
]


@pytest.mark.parametrize("variant", RESPONSES_VARIANTS, ids=lambda variant: variant.__name__)
async def test_each_responses_variant_leaves_one_span(caller: Caller, variant: Callable[[Caller], Any]) -> None:
    response = await variant(caller)
    span = await only_span()
    assert span.name == f"{caller.prefix}Responses"
    assert span.outputs["id"] == response.id
    assert span.outputs["output"][0]["content"][0]["text"] == response.output_text
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == response.usage.total_tokens
    assert finish(span) == "completed"


async def test_resuming_a_response_as_a_stream_is_a_call_and_polling_it_is_not(caller: Caller) -> None:
    first = await responses_plain(caller)
    await caller.settle(caller.client.responses.retrieve, first.id)
    await caller.items(await caller.settle(caller.client.responses.retrieve, first.id, stream=True))
    spans = [span for trace in await traces() for span in trace.data.spans]
    assert [span.name for span in spans] == [f"{caller.prefix}Responses"] * 2
    assert [span.outputs["id"] for span in spans] == [first.id] * 2


async def test_compacting_responses_is_a_call(caller: Caller) -> None:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    body = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": usage}
    caller.server.enqueue(reply.json_body(200, body))
    await caller.settle(caller.client.responses.compact, model="gpt-5", input="Hi")
    span = await only_span()
    assert span.name == f"{caller.prefix}Responses"
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == 13


async def test_embeddings_are_recorded_with_their_usage(caller: Caller) -> None:
    answer = await caller.settle(caller.client.embeddings.create, model="text-embedding-3-small", input=["a", "b"])
    assert len(answer.data) == 2
    assert isinstance(answer.data[0].embedding[0], float)
    span = await only_span()
    assert (span.name, span.span_type) == (f"{caller.prefix}Embeddings", "EMBEDDING")
    assert span.token_usage is not None
    assert span.token_usage["input_tokens"] == answer.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_legacy_completions_are_recorded(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.text("Once upon"))
    answer = await caller.settle(caller.client.completions.create, model="m", prompt="Tell", stream=stream)
    if stream:
        assert "".join(chunk.choices[0].text for chunk in await caller.items(answer)) == "Once upon"
    span = await only_span()
    assert (span.name, span.span_type) == (f"{caller.prefix}Completions", "LLM")
    assert span.outputs["choices"][0]["text"] == "Once upon"


async def test_management_calls_are_not_traced(caller: Caller) -> None:
    caller.server.enqueue(reply.json_body(200, {"object": "list", "data": []}))
    await caller.items(await caller.settle(caller.client.models.list))
    assert await traces() == []
