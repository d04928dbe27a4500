"""The short way of reading usual answers and streams finds, byte for byte, what the long way finds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from tests.interpret.wire import OPERATIONS, Chunks, Json, all_records, body, chat_chunk, sse
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Codec, Ending, HttpFacts, Payload, SpanChunk, SpanEnded, SpanStarted
from tracer.interpret import dispatch, usual_chunks
from tracer.interpret.dispatch import interpret_response, interpret_stream
from tracer.interpret.sse import split_events
from tracer.store.batch import ProcessRow

SHORT_WAYS = {name: operation for name, operation in dispatch.OPERATIONS.items() if operation.read_usual is not None}

_encode = msgspec.msgpack.Encoder().encode


@contextmanager
def the_long_way() -> Iterator[None]:
    for name, operation in SHORT_WAYS.items():
        dispatch.OPERATIONS[name] = operation._replace(read_usual=None, split_stream=split_events)
    try:
        yield
    finally:
        dispatch.OPERATIONS.update(SHORT_WAYS)


def assert_same_view(operation: str, answer: bytes) -> None:
    short = interpret_response(operation, answer)
    with the_long_way():
        assert _encode(short) == _encode(interpret_response(operation, answer))


def assert_same_stream(chunks: Chunks) -> None:
    short = interpret_stream("chat", chunks, content_type="text/event-stream")
    with the_long_way():
        assert _encode(short) == _encode(interpret_stream("chat", chunks, content_type="text/event-stream"))


# --- the recorded exchanges -------------------------------------------------------------------------------------------


def rows_of(record: Json, answer: bytes, chunks: Chunks) -> bytes:
    """Return the batch that is made of a recorded call."""
    start, facts = 10**18, HttpFacts(200, [(b"content-type", (record["response_content_type"] or "").encode())])
    request, operation = Payload(Codec.WIRE, body(record["request_json"])), OPERATIONS[record["path"]]
    assembler = Assembler(ProcessRow(process_id="p", host="h", pid=1, started="1"))
    assembler.take(SpanStarted("a" * 32, "b" * 16, None, "n", "CHAT_MODEL", start, "e", operation, request), 1)
    for time_ns, data in chunks:
        assembler.take(SpanChunk("b" * 16, start + time_ns, data), 1)
    outputs = None if chunks else Payload(Codec.WIRE, answer)
    ending = Ending.EXHAUSTED if chunks else Ending.RETURNED
    assembler.take(SpanEnded("b" * 16, start + 10**9, ending, outputs, http=facts, streamed=bool(chunks)), 1)
    return _encode(assembler.take_batch())


def answers(seed: str) -> Iterator[tuple[Json, bytes, Chunks]]:
    """Yield the recorded answers of the APIs that have a short way, each with its reads if it is a stream.

    With a seed, something is changed in most of them.
    """
    rng = random.Random(seed)
    for record in all_records():
        text = record["response_body"]
        if OPERATIONS.get(record["path"]) not in SHORT_WAYS or record["method"] != "POST" or text is None:
            continue
        is_stream = record["stream"] and record["status"] == 200
        if seed:
            text = changed_stream(text, rng) if is_stream else changed_text(text, rng, 0.02)
        answer = text.encode("utf-8", "surrogatepass")
        yield record, answer, recut([(1, answer)], rng.choice((50, 1_000, 10**6))) if is_stream else []


def changed_text(text: str, rng: random.Random, often: float) -> str:
    try:
        return json.dumps(changed(json.loads(text), rng, often), separators=(",", ":"))
    except ValueError:
        return text


def changed_stream(text: str, rng: random.Random) -> str:
    events = []
    for event in text.split("\n\n"):
        changed_event = event if rng.random() < 0.9 else f"data: {changed_text(event[6:], rng, 0.1)}"
        events += [changed_event] * rng.choice((0, 2) if rng.random() < 0.02 else (1,))
    return rng.choice(("\n\n", "\n\n", "\n\n", "\r\n\r\n", "\n\n: ping\n\n")).join(events)


ODD_VALUES: list[Any] = [None, "", "x", "mcp", "stop", "length", "error", "\ud800", True, 0, -1, 1.5, 2**60, [], ["x"],
                         {}, {"message": "no"}]  # fmt: skip
FIELDS = ["audio", "choices", "content", "error", "finish_reason", "index", "object", "refusal", "role", "tool_calls",
          "type", "usage", "x_groq", "base_resp", "background", "cost", "reasoning", "text"]  # fmt: skip


def changed(value: Any, rng: random.Random, often: float) -> Any:
    """Return a JSON value with a few fields left out, added, or given other values."""
    if rng.random() < often:
        return rng.choice(ODD_VALUES)
    if isinstance(value, dict):
        kept = [(key, changed(inner, rng, often)) for key, inner in value.items() if rng.random() >= often]
        more = [(rng.choice(FIELDS), rng.choice(ODD_VALUES))] if rng.random() < often else []
        return dict(kept + more)
    return [changed(inner, rng, often) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", ["", "a", "b", "c"])
def test_both_ways_make_the_same_rows_of_recorded_calls(seed: str) -> None:
    calls = list(answers(seed))
    short = [rows_of(*call) for call in calls]
    with the_long_way():
        long = [rows_of(*call) for call in calls]
    for (record, answer, _), one, other in zip(calls, short, long, strict=True):
        assert one == other, (record["id"], answer[:500])


def test_many_recorded_calls_go_the_short_way() -> None:
    plain = short = chunks = events = 0
    for record, answer, streamed in answers(""):
        operation = SHORT_WAYS[OPERATIONS[record["path"]]]
        if streamed and operation.split_stream is not split_events:
            chunks += len(split_events(streamed))
            events += len(operation.split_stream(streamed))
        elif not streamed and record["status"] == 200:
            plain += 1
            assert operation.read_usual is not None
            short += operation.read_usual(answer) is not None
    assert short > plain / 3
    assert events < chunks * 0.8


# --- plain answers ----------------------------------------------------------------------------------------------------

CHAT: Json = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
    },
}
RESPONSE: Json = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hello.", "annotations": []}]},
    ],
    "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_details": {"cached_tokens": 8}},
}


def with_value(value: Any, path: str, new: Any) -> Any:
    """Return a copy of JSON with another value at a path (``choices.0.message.content``)."""
    copied = json.loads(json.dumps(value))
    *above, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    node = copied
    for step in above:
        node = node[step]
    node[last] = new
    return copied


@pytest.mark.parametrize("path", ["id", "model", "choices.0.finish_reason", "choices.0.message.content", "usage",
                                  "usage.prompt_tokens", "usage.total_tokens", "usage.prompt_tokens_details",
                                  "usage.prompt_tokens_details.cached_tokens", "choices.0", "choices", "object",
                                  "choices.0.message.tool_calls", "choices.0.message.refusal", "service_tier",
                                  "choices.0.message.annotations", "error", "choices.0.error", "x_groq", "anything",
                                  "choices.0.message.error", "usage.cost", "choices.0.logprobs"])  # fmt: skip
def test_any_value_of_a_chat_completion_is_read_the_same(path: str) -> None:
    assert dispatch.OPERATIONS["chat"].read_usual(body(CHAT)) is not None  # type: ignore[misc]
    for value in (*ODD_VALUES, 10.0, "max_tokens", "content_filter", "timeout", " \n", "a" * 20_000, "iVBORw0KGgo" * 90,
                  [{"id": "c", "function": {"name": "f", "arguments": "{}"}}], [[]], {"cached_tokens": 3}):  # fmt: skip
        assert_same_view("chat", body(with_value(CHAT, path, value)))


@pytest.mark.parametrize("path", ["id", "model", "status", "output", "output.0", "output.1", "output.0.summary",
                                  "output.0.content", "output.1.content", "output.1.content.0", "background",
                                  "output.1.content.0.text", "output.1.content.0.annotations", "object", "error",
                                  "usage", "usage.output_tokens", "usage.input_tokens_details", "conversation",
                                  "incomplete_details", "tool_usage", "tools", "output_text", "anything",
                                  "instructions", "output.1.content.0.refusal", "output.1.type",
                                  "service_tier"])  # fmt: skip
def test_any_value_of_a_response_is_read_the_same(path: str) -> None:
    assert dispatch.OPERATIONS["responses"].read_usual(body(RESPONSE)) is not None  # type: ignore[misc]
    for value in (*ODD_VALUES, 10.0, "queued", "incomplete", [{"type": "summary_text", "text": "I think."}], [[]],
                  [{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}], {"id": "conv_1"},
                  {"web_search": {"num_requests": 2}}):  # fmt: skip
        assert_same_view("responses", body(with_value(RESPONSE, path, value)))


@pytest.mark.parametrize(
    "answer",
    [
        body(CHAT).replace(b'"created": 1', b'"created": 1e999'),
        body(CHAT).replace(b'"created": 1', b'"created": NaN'),
        body(CHAT).replace(b'"created": 1', b'"created": ' + b"[" * 950 + b"]" * 950),
        body(CHAT).replace(b'"created": 1', b'"created": ' + b"[" * 100_000 + b"]" * 100_000),
        body(CHAT).replace(b"gpt-5", b"gpt-\xff"),
        body(CHAT).replace(b"gpt-5", b"gpt-\\ud800"),
        body(CHAT)[:-1],
        body(CHAT) + b"\n",
        body(CHAT) + b"{}",
        b'{"error": 1,' + body(CHAT)[1:],
        b'{"usage": {}, "choices": 1,' + body(CHAT)[1:],
        body(CHAT)[:-1] + b', "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}',
    ],
    ids=["too large", "NaN", "deep", "very deep", "no UTF-8", "half a character", "cut", "newline", "two values",
         "error first", "twice, odd first", "twice"],
)  # fmt: skip
def test_odd_json_is_read_the_same(answer: bytes) -> None:
    assert_same_view("chat", answer)


# --- streams ----------------------------------------------------------------------------------------------------------

TEXTS = ["", "Hel", "lo", "", ", wörld 🌍", "."]
STREAM = [
    chat_chunk({"role": "assistant", "content": "", "refusal": None}),
    *(chat_chunk({"content": text}, obfuscation="x" * len(text)) for text in TEXTS),
    chat_chunk({}, finish="stop"),
    chat_chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}),
]


CHOICE = STREAM[1]["choices"][0]


def recut(chunks: Chunks, size: int) -> Chunks:
    data = b"".join([data for _, data in chunks])
    return [(start + 1, data[start : start + size]) for start in range(0, len(data), size)]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("size", [1, 2, 7, 100, 10_000])
def test_a_stream_is_read_the_same_however_it_is_cut(size: int, done: bool) -> None:
    chunks = sse(STREAM, done=done)
    assert len(usual_chunks.split_chat(chunks)) == 4 + done
    assert_same_stream(chunks)
    assert_same_stream(recut(chunks, size))
    assert_same_stream([(0, b""), *recut(chunks, size), (10**6, b"")])


@pytest.mark.parametrize("place", range(len(STREAM)))
@pytest.mark.parametrize(
    "change",
    [
        lambda chunk: None,
        lambda chunk: [chunk, chunk],
        lambda chunk: {**chunk, "id": "another"},
        lambda chunk: {**chunk, "id": ""},
        lambda chunk: {**chunk, "more": 1},
        lambda chunk: {**chunk, "usage": None},
        lambda chunk: {**chunk, "usage": {}},
        lambda chunk: {**chunk, "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
        lambda chunk: {**chunk, "error": {"message": "overloaded"}},
        lambda chunk: {"choices": chunk["choices"]},
        lambda chunk: {**chunk, "choices": chunk["choices"] * 2},
        lambda chunk: {**chunk, "choices": None},
        lambda chunk: {**chunk, "choices": [{**choice, "index": 1} for choice in chunk["choices"]]},
        lambda chunk: {**chunk, "choices": [{**choice, "index": "1"} for choice in chunk["choices"]]},
        lambda chunk: {**chunk, "choices": [{**choice, "finish_reason": "length"} for choice in chunk["choices"]]},
        lambda chunk: {**chunk, "choices": [{**choice, "logprobs": {"content": [1]}} for choice in chunk["choices"]]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"content": "?"}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"content": None}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"content": ["?"]}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "?"}}]},
        lambda chunk: {**chunk, "choices": [{**CHOICE, "delta": {"role": "tool", "content": "?"}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"reasoning_content": "?"}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c"}]}}]},
        lambda chunk: {**chunk, "choices": [{"index": 0, "delta": None, "text": "?"}]},
    ],
    ids=["left out", "twice", "another id", "no id", "one more field", "null usage", "empty usage", "usage", "error",
         "only choices", "two choices", "null choices", "index 1", "index as text", "length", "logprobs", "no reason",
         "null content", "list", "role", "other role", "reasoning", "tool call", "text"],
)  # fmt: skip
def test_a_stream_with_one_odd_chunk_is_read_the_same(place: int, change: Any) -> None:
    new = change(STREAM[place])
    events = [*STREAM[:place], *(new if isinstance(new, list) else [new] if new else []), *STREAM[place + 1 :]]
    assert_same_stream(sse(events))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n\n", b"\r\n\r\n"),
        (b"\n\n", b"\n\n\n"),
        (b"\n\n", b"\n: ping\n\n"),
        (b"data: {", b"data:{"),
        (b"data: {", b"event: m\ndata: {"),
        (b"}\n\ndata: {", b"}\ndata: {"),
        (b"}\n\ndata: {", b'}{"choices": []}\n\ndata: {'),
        (b"}\n\ndata: {", b"\n\ndata: {"),
        (b"}]}", b"}], \n\ndata: }"),
        (b"data: [DONE]", b"data: [DONE] "),
        (b"data: [DONE]", b'data: [DONE]\n\ndata: {"choices": [{"delta": {"content": "more"}}]}'),
        (b"gpt-4o", b"gpt-\xff"),
        (b"gpt-4o", b"gpt-\\ud800"),
        (b"lo", b"l\\ud800"),
        (b"chat.completion.chunk", b""),
        (b'{"id"', b'{"choices": {"choices": 1}, "id"'),
        (b'{"id"', b'{"of": {"choices": [], "id"'),
        (b'"usage": {', b'"usage": {"of": {"choices": []}, '),
    ],
)
def test_odd_bytes_in_a_stream_are_read_the_same(old: bytes, new: bytes) -> None:
    data = b"".join([data for _, data in sse(STREAM)])
    assert old in data
    for count in (1, 2, -1):
        assert_same_stream([(1, data.replace(old, new, count))])
        assert_same_stream(recut([(1, data.replace(old, new, count))], 50))


@pytest.mark.parametrize(
    "second",
    [{"usage": None}, {"choices": [{**CHOICE, "delta": {"role": "tool", "content": "?"}}]}],
    ids=["usage", "role"],
)
def test_what_only_a_later_piece_has_is_kept(second: Json) -> None:
    assert_same_stream(sse([chat_chunk({"content": "a"}), {**chat_chunk({"content": "b"}), **second}]))


def test_as_many_values_as_events_need_not_be_one_each() -> None:
    def choices(text: str) -> str:
        return f'"choices": [{{"index": 0, "delta": {{"content": "{text}"}}}}]}}'

    head = '{"id": "c", "object": "chat.completion.chunk", '
    two_values = f"{choices('three')}{{{choices('four')}"
    events = [choices("one"), choices("two"), two_values, '"choices": [], "usage": {"of": ', '"choices": []}}}']
    assert_same_stream([(n, f"data: {head}{event}\n\n".encode()) for n, event in enumerate(events)])


def test_the_first_token_came_with_the_first_piece_that_is_not_empty() -> None:
    view = interpret_stream("chat", sse(STREAM), content_type="text/event-stream")
    assert view.first_token_ns == 100 * (2 + TEXTS.index("Hel"))
