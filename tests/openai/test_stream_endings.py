"""How streams end: the word, what had arrived, and when."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pydantic
import pytest

import tracer
from tests.openai.calling import CHAT, Caller, collect, finish, only_span, only_trace, said, traces
from tests.openai.test_endings import described
from tests.sdk import READ_FAILED, READ_TIMED_OUT, httpx2
from tracer import _semconv as sc
from tracer.testing import FakeOpenAI, Reply, reply
from tracer.testing._wire import Payload

WORDS = reply.text("one two three four")


async def read_all(caller: Caller) -> None:
    await caller.items(await caller.chat(stream=True))


BREAKS: dict[str, tuple[Reply, Any, str]] = {
    "error event": (WORDS.failing(after_events=3, message="Overloaded."), openai.APIError, "Overloaded."),
    "connection cut": (WORDS.cut(after_events=3), READ_FAILED, "Connection error|peer closed"),
}


@pytest.mark.parametrize(("scripted", "kind", "message"), BREAKS.values(), ids=BREAKS)
async def test_a_stream_that_breaks_keeps_what_had_come(
    caller: Caller, scripted: Reply, kind: Any, message: str
) -> None:
    caller.server.enqueue(scripted, scripted)
    with pytest.raises(kind, match=message) as caught:
        await read_all(caller)
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "failed"
    assert trace.info.state == "ERROR"
    assert span.status.status_code == "ERROR"
    assert span.status.description
    assert said(span).startswith("one")
    tracer.autolog(disable=True)
    with pytest.raises(kind) as untraced:
        await read_all(caller)
    assert described(caught.value) == described(untraced.value)


BROKEN = reply.sse(
    [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "one"}}]}, b"data: {broken\n\n"]
)


async def test_a_stream_that_the_sdk_can_not_decode_is_a_failure(caller: Caller) -> None:
    """The SDK decodes above the tap. So the tap only sees that the body is closed, as if the reader had stopped."""
    caller.server.enqueue(BROKEN)
    with pytest.raises(json.JSONDecodeError) as caught:
        await read_all(caller)
    span = await only_span()
    assert (finish(span), span.status.status_code) == ("failed", "ERROR")
    assert said(span) == "one"
    [event] = [event for event in span.events if event.name == sc.EVENT_EXCEPTION]
    assert event.attributes[sc.EXCEPTION_TYPE] == "JSONDecodeError"
    assert event.attributes[sc.EXCEPTION_MESSAGE] == str(caught.value)


class Answer(pydantic.BaseModel):
    number: int


async def test_a_stream_that_is_not_what_was_asked_for_is_a_failure(caller: Caller) -> None:
    caller.server.enqueue(reply.text("no JSON at all"))
    with pytest.raises(ValueError, match=r".") as caught:
        async with caller.entered(caller.client.chat.completions.stream(**CHAT, response_format=Answer)) as stream:
            await caller.items(stream)
    span = await only_span()
    assert (finish(span), span.status.status_code) == ("failed", "ERROR")
    assert type(caught.value).__name__ in span.status.description


async def test_an_error_of_the_readers_own_is_not_the_streams(caller: Caller) -> None:
    caller.server.enqueue(WORDS)
    with pytest.raises(LookupError):
        async with caller.entered(await caller.chat(stream=True)):
            raise LookupError("mine")
    assert finish(await only_span()) == "abandoned"


async def test_an_error_in_another_stream_is_not_this_ones(caller: Caller) -> None:
    caller.server.enqueue(WORDS, BROKEN)
    with pytest.raises(json.JSONDecodeError):
        async with caller.entered(await caller.chat(stream=True)):
            await read_all(caller)
    assert [finish(trace.data.spans[0]) for trace in await traces()] == ["abandoned", "failed"]


async def test_a_read_that_times_out_fails_the_stream(caller: Caller) -> None:
    caller.server.enqueue(WORDS.held(after_events=2))
    stream = await caller.chat(stream=True, timeout=openai.Timeout(30, read=1))
    with pytest.raises(READ_TIMED_OUT):
        await caller.items(stream)
    span = await only_span()
    assert finish(span) == "failed"
    assert "ReadTimeout" in span.status.description
    last = max(event.timestamp_ns for event in span.events if event.name == sc.EVENT_CHUNK)
    assert span.end_time_ns is not None
    assert span.end_time_ns > last


async def test_an_error_in_a_responses_stream_is_a_failure(caller: Caller) -> None:
    caller.server.enqueue(WORDS.failing(after_events=3, message="Overloaded."))
    stream = await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=True)
    with suppress(openai.APIError):
        await caller.items(stream)
    assert finish(await only_span()) == "failed"


async def broken_off_and_closed(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    await caller.first(stream, 3)
    await caller.settle(stream.close)


async def left_by_a_with_block(caller: Caller) -> None:
    async with caller.entered(await caller.chat(stream=True)) as stream:
        await caller.first(stream, 3)


async def left_by_an_exception(caller: Caller) -> None:
    with suppress(ZeroDivisionError):
        async with caller.entered(await caller.chat(stream=True)) as stream:
            await caller.first(stream, 3)
            raise ZeroDivisionError


async def dropped_half_read(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    await caller.first(stream, 3)
    del stream
    await collect()


async def lines_broken_off(caller: Caller) -> None:
    manager = caller.client.chat.completions.with_streaming_response.create(**CHAT, stream=True)
    async with caller.entered(manager) as response:
        await caller.first(response.iter_lines(), 6)


HALF_READ = [broken_off_and_closed, left_by_a_with_block, left_by_an_exception, dropped_half_read, lines_broken_off]


@pytest.mark.parametrize("leave", HALF_READ, ids=lambda leave: leave.__name__)
async def test_a_stream_left_half_way_is_abandoned(caller: Caller, leave: Callable[[Caller], Any]) -> None:
    caller.server.enqueue(WORDS.held(after_events=4))
    await leave(caller)
    await collect()
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "abandoned"
    assert (trace.info.state, span.status.status_code) == ("OK", "OK")
    assert said(span).startswith("one")
    assert span.end_time_ns == max(event.timestamp_ns for event in span.events)


async def closed_unread(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    await caller.settle(stream.close)


async def dropped_unread(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    if caller.is_async:  # nobody else closes it, traced or not: the pool would complain at its end
        response = stream.response
        del stream
        await collect()
        stream_below = response.stream
        del response
        await collect()
        await stream_below._stream.aclose()
        del stream_below
    else:
        del stream
    await collect()


async def entered_and_left(caller: Caller) -> None:
    async with caller.entered(caller.client.chat.completions.with_streaming_response.create(**CHAT)):
        pass


UNREAD = [closed_unread, dropped_unread, entered_and_left]


@pytest.mark.parametrize("leave", UNREAD, ids=lambda leave: leave.__name__)
async def test_a_body_that_nobody_reads_is_abandoned(caller: Caller, leave: Callable[[Caller], Any]) -> None:
    await leave(caller)
    await collect()
    span = await only_span()
    assert finish(span) == "abandoned"
    assert span.status.status_code == "OK"
    assert span.outputs is None
    assert span.inputs["messages"] == CHAT["messages"]
    assert span.end_time_ns is not None


async def test_a_stream_closed_after_its_end_mark_is_complete(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Hey"))
    async with caller.entered(await caller.chat(stream=True)) as stream:
        iterator = aiter(stream) if caller.is_async else iter(stream)
        chunks = await caller.first(iterator)
        while chunks[-1].choices[0].finish_reason is None:
            chunks += await caller.first(iterator)
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "Hey")


async def test_a_stream_without_the_end_mark_is_complete_if_the_model_said_so(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Hey").without_done())
    await read_all(caller)
    span = await only_span()
    assert (finish(span), said(span)) == ("completed", "Hey")


CUT = [{"id": "c", "choices": [{**chunk["choices"][0], "finish_reason": None}]} for chunk in (
    {"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("one ", "two "))]  # fmt: skip


async def test_a_stream_that_ends_without_the_finish_reason_that_it_promised_is_incomplete(caller: Caller) -> None:
    caller.server.enqueue(reply.sse(CUT))
    await read_all(caller)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), said(span), trace.info.state) == ("incomplete", "one two ", "OK")
    assert span.status.description == "the stream ended without a finish reason"


async def test_a_stream_that_never_said_how_it_ends_is_complete(caller: Caller) -> None:
    caller.server.enqueue(reply.sse([{"id": "c", "choices": [{"index": 0, "delta": {"content": "Hey"}}]}]))
    await read_all(caller)
    assert finish(await only_span()) == "completed"


async def test_a_stream_left_before_its_end_mark_is_abandoned_and_after_it_complete(caller: Caller) -> None:
    ended = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    caller.server.enqueue(reply.sse(CUT).held(after_events=2), reply.sse([*CUT, ended, "[DONE]"]))
    for count in (1, 3):
        async with caller.entered(await caller.chat(stream=True)) as stream:
            await caller.first(aiter(stream) if caller.is_async else iter(stream), count)
    caller.server.release()
    assert [finish(trace.data.spans[0]) for trace in await traces()] == ["abandoned", "completed"]


async def test_a_streamed_answer_cut_at_the_token_limit_is_incomplete(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Once upon", truncated=True))
    await read_all(caller)
    assert finish(await only_span()) == "incomplete"


def compressed(*events: Any, rest: bytes = b"") -> Reply:
    """A compressed stream, in which each event is a piece of its own, and then the rest as it is."""
    packer = zlib.compressobj(wbits=31)
    lines = [b"data: %b\n\n" % (event if isinstance(event, bytes) else json.dumps(event).encode()) for event in events]
    pieces = [packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH) for line in lines]
    content = Payload((*pieces, *([rest] if rest else [])), "text/event-stream", streamed=True)
    return Reply(content=content).with_headers({"content-encoding": "gzip"})


PIECES = [{"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("one ", "two ", "three")]
TEXT_PIECES = [{"id": "c", "choices": [{"index": 0, "text": word}]} for word in ("one ", "two ", "three")]
DELTAS = [
    {"type": "response.output_text.delta", "output_index": 0, "delta": word} for word in ("one ", "two ", "three")
]
GARBAGE = b"\xff" * 200


async def read_chat(caller: Caller) -> None:
    await read_all(caller)


async def read_completion(caller: Caller) -> None:
    await caller.items(await caller.settle(caller.client.completions.create, model="m", prompt="Hi", stream=True))


async def read_response(caller: Caller) -> None:
    await caller.items(await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=True))


@pytest.mark.parametrize(
    ("read", "events"),
    [(read_chat, PIECES), (read_completion, TEXT_PIECES), (read_response, DELTAS)],
    ids=["chat", "completions", "responses"],
)
async def test_a_compressed_stream_that_is_damaged_is_a_failure(caller: Caller, read: Any, events: list[Any]) -> None:
    caller.server.enqueue(compressed(*events, rest=GARBAGE))
    with pytest.raises((openai.APIConnectionError, httpx2.DecodingError, *READ_FAILED)):
        await read(caller)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), trace.info.state) == ("failed", "ERROR")
    assert span.status.description.startswith("DecodingError: ")
    assert span.attributes[sc.ERROR_TYPE] == "DecodingError"
    [raised] = [event for event in span.events if event.name == sc.EVENT_EXCEPTION]
    assert raised.attributes[sc.EXCEPTION_TYPE] == "DecodingError"
    assert "decompress" in raised.attributes[sc.EXCEPTION_MESSAGE]
    assert "one two three" in json.dumps(span.outputs)


async def test_a_stream_that_only_claims_to_be_compressed_is_a_failure(caller: Caller) -> None:
    plain = WORDS.with_headers({"content-encoding": "gzip"})
    caller.server.enqueue(plain)
    with pytest.raises((openai.APIConnectionError, httpx2.DecodingError, *READ_FAILED)):
        await read_all(caller)
    assert finish(await only_span()) == "failed"


async def test_damage_after_the_end_mark_was_not_read(caller: Caller) -> None:
    ended = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    caller.server.enqueue(compressed(*PIECES, ended, b"[DONE]", rest=GARBAGE))
    wanted = "completed"
    try:
        await read_all(caller)
    except httpx2.DecodingError:  # openai 1.40 reads on after the mark, and its caller gets this
        wanted = "failed"
    assert (finish(await only_span()), said(await only_span())) == (wanted, "one two three")


def lines(*events: Any) -> bytes:
    """A stream of chat chunks, with characters of several bytes."""
    shown = (event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode() for event in events)
    return b"".join(b"data: %b\n\n" % event for event in shown)


def as_sent(*reads: bytes, encoding: str | None = None, kind: str = "text/event-stream") -> Reply:
    scripted = Reply(content=Payload(reads, kind, streamed=True))
    return scripted if encoding is None else scripted.with_headers({"content-encoding": encoding})


SUSHI = {"id": "c", "choices": [{"index": 0, "delta": {"content": "寿司"}}]}
ENDED = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
CUT_IN_CHARACTER = lines(SUSHI).rpartition("司".encode())[0] + "司".encode()[:1]
UNREADABLE: dict[str, Reply] = {
    "cut within a character": as_sent(lines(PIECES[0]), CUT_IN_CHARACTER),
    "cut within a character, in one read": as_sent(lines(PIECES[0]) + CUT_IN_CHARACTER),
    "cut within a character, after CR LF": as_sent((lines(PIECES[0]) + CUT_IN_CHARACTER).replace(b"\n", b"\r\n")),
    "cut within a character after the finish reason": as_sent(lines(PIECES[0], ENDED), CUT_IN_CHARACTER),
    "cut within a character of a comment": as_sent(lines(PIECES[0], ENDED), b": \xe5"),
    "no UTF-8 in between": as_sent(lines(PIECES[0]), b"data: \xff\n\n", lines(ENDED, b"[DONE]")),
    "x-gzip": as_sent(gzip.compress(lines(PIECES[0], ENDED, b"[DONE]")), encoding="x-gzip"),
    "an encoding that nobody knows": as_sent(gzip.compress(lines(PIECES[0], ENDED, b"[DONE]")), encoding="snappy"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_stream_that_is_no_utf8_is_a_failure(caller: Caller, name: str) -> None:
    caller.server.enqueue(UNREADABLE[name])
    with pytest.raises(UnicodeDecodeError) as caught:
        await read_all(caller)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), trace.info.state) == ("failed", "ERROR")
    assert span.status.description == f"UnicodeDecodeError: {caught.value}"
    assert span.attributes[sc.ERROR_TYPE] == "UnicodeDecodeError"
    [raised] = [event for event in span.events if event.name == sc.EVENT_EXCEPTION]
    assert raised.attributes[sc.EXCEPTION_TYPE] == "UnicodeDecodeError"
    if "gzip" in name or "encoding" in name:
        assert "no decoder is installed" in span.attributes[sc.NOTE]
        assert "one" not in json.dumps(span.outputs)
    else:
        assert said(span).startswith("one")


async def test_a_reader_who_leaves_amid_a_character_has_left(caller: Caller) -> None:
    caller.server.enqueue(as_sent(lines(PIECES[0]), CUT_IN_CHARACTER, lines(ENDED)).held(after_events=2))
    stream = await caller.chat(stream=True)
    async with caller.entered(stream):
        await caller.first(aiter(stream) if caller.is_async else iter(stream), 1)
    caller.server.release()
    assert finish(await only_span()) == "abandoned"


async def test_what_comes_after_the_end_mark_need_not_be_utf8(caller: Caller) -> None:
    caller.server.enqueue(as_sent(lines(PIECES[0], ENDED, b"[DONE]"), b": \xff\n\n"))
    wanted = "completed"
    try:
        await read_all(caller)
    except UnicodeDecodeError:  # openai 1.40 reads on after the mark
        wanted = "failed"
    assert finish(await only_span()) == wanted


@pytest.mark.parametrize("encoding", ["utf-8", "none", "aws-chunked"])
async def test_an_encoding_that_is_none_hides_nothing(caller: Caller, encoding: str) -> None:
    caller.server.enqueue(WORDS.with_headers({"content-encoding": encoding}))
    await read_all(caller)
    assert (finish(await only_span()), said(await only_span())) == ("completed", "one two three four")


async def test_a_zstd_stream_without_its_end_is_a_failure(caller: Caller) -> None:
    zstd: Any = pytest.importorskip("backports.zstd")
    packer = zstd.ZstdCompressor()
    packed = packer.compress(lines(PIECES[0], ENDED), mode=zstd.ZstdCompressor.FLUSH_BLOCK)
    caller.server.enqueue(as_sent(packed, encoding="zstd"))
    with pytest.raises((openai.APIConnectionError, httpx2.DecodingError)):
        await read_all(caller)
    span = await only_span()
    assert (finish(span), said(span)) == ("failed", "one ")
    assert span.status.description == "DecodingError: Zstandard data is incomplete"


WHOLE = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "寿司"}}]}
PACKED = {
    "cut within a character": (
        json.dumps(WHOLE, ensure_ascii=False).encode().partition("司".encode())[0] + b"\xe5",
        None,
    ),
    "latin-1": ('{"object": "chat.completion", "choices": [{"message": {"content": "é"}}]}'.encode("latin-1"), None),
    "x-gzip": (gzip.compress(json.dumps(WHOLE).encode()), "x-gzip"),
}


async def ask_plain(caller: Caller) -> None:
    await caller.chat()


async def ask_raw(caller: Caller) -> None:
    (await caller.settle(caller.client.chat.completions.with_raw_response.create, **CHAT)).parse()


async def ask_streaming(caller: Caller) -> None:
    async with caller.entered(caller.client.chat.completions.with_streaming_response.create(**CHAT)) as response:
        await caller.settle(response.parse)


@pytest.mark.parametrize("ask", [ask_plain, ask_raw, ask_streaming])
@pytest.mark.parametrize(("sent", "encoding"), PACKED.values(), ids=PACKED)
async def test_a_plain_answer_that_can_not_be_read_is_a_failure(
    caller: Caller, sent: bytes, encoding: str | None, ask: Any
) -> None:
    caller.server.enqueue(as_sent(sent, encoding=encoding, kind="application/json"))
    with pytest.raises((UnicodeDecodeError, openai.APIError)):
        await ask(caller)
    span = await only_span()
    assert (finish(span), span.status.status_code) == ("failed", "ERROR")
    assert "can't" in span.status.description
    assert "no JSON" in span.attributes[sc.NOTE]


async def test_a_compressed_stream_left_half_way_is_abandoned(caller: Caller) -> None:
    caller.server.enqueue(compressed(*PIECES, rest=GARBAGE).held(after_events=2))
    stream = await caller.chat(stream=True)
    async with caller.entered(stream):
        await caller.first(aiter(stream) if caller.is_async else iter(stream), 2)
    caller.server.release()
    assert finish(await only_span()) == "abandoned"


async def test_a_responses_stream_whose_body_ends_early_is_incomplete(caller: Caller) -> None:
    created = {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "output": []}}
    caller.server.enqueue(reply.sse([created]))
    await caller.items(await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=True))
    assert finish(await only_span()) == "incomplete"


class TestCancelled:
    @pytest.fixture(params=["asyncio", "trio"])
    def mode(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    async def test_a_reader_cancelled_between_chunks(self, caller: Caller, server: FakeOpenAI) -> None:
        server.enqueue(WORDS.held(after_events=3))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all, caller)
            await server.async_wait_for_held()
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        trace = await only_trace()
        [span] = trace.data.spans
        assert finish(span) == "cancelled"
        assert (span.status.status_code, span.status.description) == ("ERROR", "cancelled")
        assert trace.info.state == "ERROR"

    async def test_the_answer_so_far_is_kept_and_the_time_of_waiting_counts(self, caller: Caller) -> None:
        caller.server.enqueue(WORDS.held(after_events=3))
        stream = await caller.chat(stream=True)
        await caller.first(stream, 3)
        with anyio.move_on_after(0.05):
            await caller.items(stream)
        span = await only_span()
        assert finish(span) == "cancelled"
        assert said(span).startswith("one")
        assert span.end_time_ns is not None
        assert span.end_time_ns > max(event.timestamp_ns for event in span.events)

    async def test_a_task_cancelled_while_it_works_on_a_chunk(self, caller: Caller) -> None:
        caller.server.enqueue(WORDS.held(after_events=3))
        with anyio.CancelScope() as scope:
            async with await caller.chat(stream=True) as stream:
                async for _ in stream:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
        assert finish(await only_span()) == "cancelled"


async def test_streams_that_run_when_tracing_is_switched_off_are_recorded_to_their_end(caller: Caller) -> None:
    stream = await caller.chat(stream=True)
    await caller.first(stream)
    tracer.autolog(disable=True)
    await caller.items(stream)
    await caller.chat()
    [trace] = await traces()
    assert finish(trace.data.spans[0]) == "completed"
    assert said(trace.data.spans[0]) == "You said: Hi"
