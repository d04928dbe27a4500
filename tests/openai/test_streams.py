"""What a recorded stream holds, however it was read."""

from __future__ import annotations

import itertools
import json
from typing import Any

import anyio.to_thread
import openai
import pytest

import tracer
from tests.openai.calling import CHAT, Caller, finish, only_span, said
from tracer import _semconv as sc
from tracer.testing import FakeOpenAI, reply


def chunk_events(span: Any) -> list[Any]:
    return [event for event in span.events if event.name == sc.EVENT_CHUNK]


async def test_each_chunk_is_an_event_with_its_time_and_data(caller: Caller) -> None:
    caller.server.enqueue(reply.text("one two three"))
    chunks = await caller.items(await caller.chat(stream=True))
    span = await only_span()
    events = chunk_events(span)
    texts = [event.attributes["data"] for event in events]
    data = [json.loads(text) if isinstance(text, str) else text for text in texts if text != "[DONE]"]
    assert [item["choices"][0]["delta"] for item in data] == [
        chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in chunks
    ]
    times = [event.timestamp_ns for event in events]
    assert times == sorted(times)
    assert span.end_time_ns is not None
    assert span.start_time_ns < times[0] <= times[-1] <= span.end_time_ns


async def test_the_times_to_the_first_chunk_and_token_are_recorded(caller: Caller) -> None:
    caller.server.enqueue(reply.text("one").delayed(between=0.02))
    await caller.items(await caller.chat(stream=True))
    attributes = (await only_span()).attributes
    assert 0 < attributes[sc.TIME_TO_FIRST_CHUNK] < attributes[sc.TIME_TO_FIRST_TOKEN] < 5


async def test_each_choice_is_rebuilt(caller: Caller) -> None:
    await caller.items(await caller.chat(stream=True, n=3))
    span = await only_span()
    assert [said(span, index) for index in range(3)] == ["You said: Hi", "You said: Hi (2)", "You said: Hi (3)"]


async def test_tool_calls_are_rebuilt(caller: Caller) -> None:
    caller.server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})))
    await caller.items(await caller.chat(stream=True))
    calls = (await only_span()).attributes[sc.TOOL_CALLS]
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {"zone": "CET"}),
    ]


async def test_usage_in_the_last_chunk_counts(caller: Caller) -> None:
    chunks = await caller.items(await caller.chat(stream=True, stream_options={"include_usage": True}))
    span = await only_span()
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == chunks[-1].usage.total_tokens


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_reads_that_end_inside_a_character_are_put_together(caller: Caller, size: int) -> None:
    caller.server.enqueue(reply.text("Grüße 🌍").split(size))
    await caller.items(await caller.chat(stream=True))
    assert said(await only_span()) == "Grüße 🌍"


async def test_reading_step_by_step_is_recorded_like_a_loop(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    while (await anext(stream, None) if caller.is_async else next(stream, None)) is not None:
        pass
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "You said: Hi")


async def test_reading_on_in_a_second_loop_is_one_stream(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    await caller.first(stream, 2)
    await caller.items(stream)
    assert await caller.items(stream) == []
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "You said: Hi")


@pytest.mark.parametrize("mode", ["sync"])
async def test_a_stream_read_twice_through_tee_is_one_stream(caller: Caller) -> None:
    first, second = itertools.tee(caller.client.chat.completions.create(stream=True, **CHAT))
    assert [chunk.id for chunk in first] == [chunk.id for chunk in second]
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "You said: Hi")


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
async def test_what_comes_after_the_end_mark_is_not_recorded(caller: Caller) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said_it = {**chunk, "choices": [{"index": 0, "delta": {"content": "Hey"}, "finish_reason": "stop"}]}
    caller.server.enqueue(reply.sse([said_it, "[DONE]", b": trailer\n\n", b": trailer\n\n"]).split(400))
    await caller.items(await caller.chat(stream=True))
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "Hey")


async def test_connections_are_used_again_as_without_tracing(caller: Caller) -> None:
    async def connections() -> int:
        addresses = set()
        for _ in range(3):
            stream = await caller.chat(stream=True)
            addresses.add(stream.response.extensions["network_stream"].get_extra_info("client_addr"))
            await caller.items(stream)
        return len(addresses)

    traced = await connections()
    tracer.autolog(disable=True)
    caller.client = caller.make_client()
    assert traced == await connections()  # how many they are depends on the SDK's version


async def test_the_response_of_a_stream_is_what_the_sdk_gives(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    traced = stream.response
    await caller.items(stream)
    with pytest.raises(RuntimeError):
        traced.content  # noqa: B018  the body was streamed away, as without tracing
    assert (traced.is_closed, traced.is_stream_consumed) == (True, True)
    assert traced.num_bytes_downloaded > 0
    assert traced.headers["content-type"].startswith("text/event-stream")


async def test_a_wrong_read_raises_what_it_would_without_tracing(caller: Caller) -> None:
    async def outcome() -> Any:
        stream = await caller.chat(stream=True)
        await caller.items(stream)
        try:
            await caller.items(stream.response.aiter_bytes() if caller.is_async else stream.response.iter_bytes())
        except Exception as error:
            return type(error), str(error)

    traced = await outcome()
    tracer.autolog(disable=True)
    assert await outcome() == traced


async def test_the_helper_and_its_raw_stream_are_one_call(caller: Caller) -> None:
    async with caller.entered(caller.client.chat.completions.stream(**CHAT)) as stream:
        await caller.first(stream, 2)
    span = await only_span()
    assert finish(span) in ("abandoned", "completed")
    assert span.outputs is not None


@pytest.mark.parametrize("mode", ["sync"])
async def test_a_stream_read_in_another_thread_is_recorded(caller: Caller, server: FakeOpenAI) -> None:
    stream = caller.client.chat.completions.create(stream=True, **CHAT)
    chunks: list[Any] = await anyio.to_thread.run_sync(lambda: list(stream))
    assert isinstance(stream, openai.Stream)
    assert chunks
    assert finish(await only_span()) == "completed"


async def test_a_stream_longer_than_max_payload_bytes_is_cut_and_counted(server: FakeOpenAI) -> None:
    tracer.autolog()
    tracer.configure(max_payload_bytes=2_000)
    server.enqueue(reply.text("word " * 400))
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.split() == ["word"] * 400
    trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
    kept = trace.data.spans[0].outputs["choices"][0]["message"]["content"]
    assert 0 < len(kept) < len(text)
    assert text.startswith(kept)
    assert trace.info.dropped["chunks"] > 0
    assert tracer.stats().truncated == 1
    assert finish(trace.data.spans[0]) == "completed", "the end was seen, whatever was left out before it"


async def test_a_response_stream_longer_than_max_payload_bytes_still_has_its_answer(server: FakeOpenAI) -> None:
    tracer.autolog()
    tracer.configure(max_payload_bytes=2_000)
    server.enqueue(reply.text("word " * 400))
    async with server.async_client() as client, client.responses.stream(model="gpt-5", input="Hi") as stream:
        await stream.until_done()
    trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
    [span] = trace.data.spans
    assert finish(span) == "completed"
    assert span.token_usage is not None, "the last event has the whole response"
    assert span.outputs["output"][0]["content"][0]["text"] == "word " * 400


@pytest.mark.parametrize("settings", [{"redact": str.upper}, {"capture_content": False}], ids=str)
async def test_chunks_keep_their_times_where_their_text_is_not_stored(
    server: FakeOpenAI, settings: dict[str, Any]
) -> None:
    tracer.autolog()
    tracer.configure(**settings)
    server.enqueue(reply.text("one two three"))
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        count = len([chunk async for chunk in stream])
    span = await only_span()
    events = chunk_events(span)
    assert [event.attributes for event in events] == [{"index": index} for index in range(count)]
    assert all(span.start_time_ns <= event.timestamp_ns <= (span.end_time_ns or 0) for event in events)
