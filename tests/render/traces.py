"""Traces for the tests of the page, made without a pipeline: what they hold is what the page is to show."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from tracer import _semconv as sc
from tracer._models import (
    Media,
    Span,
    SpanEvent,
    SpanStatus,
    SpanStatusCode,
    SpanType,
    Trace,
    TraceData,
    TraceInfo,
    TraceState,
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
START = 1_790_000_000_000_000_000
MS = 1_000_000
PICTURE = "5" * 64
SOUND = "6" * 64


def span_id(number: int) -> str:
    return f"{number:016x}"


def make_span(
    number: int, *, start: float = 0, end: float | None = 1000, parent: int | None = 1, **fields: Any
) -> Span:
    """Make a span; times in milliseconds from the trace's start. Number 1 is the root."""
    fields.setdefault("name", f"span {number}")
    if fields.pop("failed", False):
        fields.setdefault("status", SpanStatus(SpanStatusCode.ERROR, "failed"))
    return Span(
        trace_id=TRACE_ID,
        span_id=span_id(number),
        parent_id=None if number == 1 or parent is None else span_id(parent),
        start_time_ns=START + int(start * MS),
        end_time_ns=None if end is None else START + int(end * MS),
        **{"status": SpanStatus(SpanStatusCode.OK), **fields},
    )


def make_trace(*spans: Span, state: TraceState = TraceState.OK, **info: Any) -> Trace:
    ends = [span.end_time_ns for span in spans]
    last = max((end for end in ends if end is not None), default=START)
    fields = {"name": "answer", "duration_ns": None if None in ends else last - START, **info}
    found = TraceInfo(trace_id=TRACE_ID, state=state, start_time_ns=START, **fields)
    return Trace(found, TraceData(list(spans)))


def chat_span(number: int, *, inputs: Any = None, outputs: Any = None, **fields: Any) -> Span:
    """A chat call: by default a question and its answer."""
    inputs = inputs or {"model": "gpt-5", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    if outputs is None:
        outputs = chat_answer({"content": "The capital of France is **Paris**."})
    attributes = {sc.OPERATION: "chat", sc.REQUEST_MODEL: "gpt-5", **fields.pop("attributes", {})}
    fields.setdefault("name", "Completions")
    return make_span(
        number, inputs=inputs, outputs=outputs, attributes=attributes, span_type=SpanType.CHAT_MODEL, **fields
    )


def chat_answer(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": {"role": "assistant", **message}}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-5", "choices": [choice], **fields}


def chunks(texts: list[str], gaps_ms: list[float], *, start: float = 0) -> list[SpanEvent]:
    """The events of a chat stream, so long after one another."""
    at, events = START + int(start * MS), []
    for index, (text, gap) in enumerate(zip(texts, gaps_ms, strict=True)):
        at += int(gap * MS)
        data = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
        events.append(SpanEvent(sc.EVENT_CHUNK, at, {"data": data, "index": index}))
    return events


def png(width: int = 120, height: int = 80) -> bytes:
    """A picture with a gradient."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(
        b"\0" + bytes(v for x in range(width) for v in (x * 2 % 256, y * 3 % 256, 160)) for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines)) + part(b"IEND", b"")


def reference(media_hash: str, kind: str, size: int, form: str = "") -> str:
    return f"media://sha256/{media_hash}?type={kind}&bytes={size}{form}"


MEDIA = [
    Media(hash=PICTURE, content_type="image/png", data=png()),
    Media(hash=SOUND, content_type="audio/pcm", data=b"\0\1" * 12_000),
]

STACK = """Traceback (most recent call last):
  File "/srv/shop/app.py", line 12, in main
    asyncio.run(answer())
  File "/srv/shop/orders.py", line 41, in refund
    order = ORDERS[order_id]
  File "/usr/lib/python3.11/site-packages/openai/_base_client.py", line 1500, in request
    raise self._make_status_error_from_response(err.response) from None
KeyError: 'A-1009\'"""


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_order",
            "description": "Look up an order",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
        },
    }
]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_order", "arguments": '{"order_id": "A-1009", "fields": ["status", "total"]}'},
}
RESULT = {"status": "shipped", "total": 41.5}
SCHEMA = {"type": "object", "properties": {"sentiment": {"enum": ["good", "bad"]}, "score": {"type": "number"}}}
QUESTION: list[dict[str, Any]] = [
    {"role": "system", "content": "You are the assistant of a shop. " * 20},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Where is my order A-1009?\nHere is the receipt."},
            {"type": "image_url", "image_url": {"url": reference(PICTURE, "image/png", 900, "&form=data")}},
            {"type": "input_audio", "input_audio": {"data": reference(SOUND, "audio/pcm", 24_000), "format": "pcm16"}},
        ],
    },
]
WORDS = ["Your", " order", " **A-1009**", " has", " been", " shipped", ":\n\n"]
WORDS += ["| item | price |\n|---|---|\n", "| tea | 41.50 |\n\n", "```python\n", "print('thanks')\n", "```\n"]
WORDS += ["Anything", " else?"]
GAPS = [400.0] + [20.0] * 6 + [700.0] + [25.0] * 6


def agent_trace() -> Trace:
    """An agent: two model calls with a tool between them, a schema, media, a stream that stalls, a failure."""
    root = make_span(
        1,
        name="answer_customer",
        end=3000,
        span_type=SpanType.AGENT,
        failed=True,
        inputs={"question": "Where is my order A-1009?", "customer": {"id": 17, "name": "Ada"}},
    )
    return make_trace(
        root,
        _asks_for_a_tool(),
        make_span(3, name="get_order", start=905, end=990, span_type=SpanType.TOOL, inputs={"id": 1}, outputs=RESULT),
        _streams(),
        _judges(),
        _embeds(),
        make_span(7, name="check_refund", start=2795, end=2990, span_type=SpanType.CHAIN, failed=True),
        _crashes(),
        state=TraceState.ERROR,
        name="answer_customer",
        session_id="session-7",
        user_id="ada",
        tags={"env": "prod"},
        token_usage={"input_tokens": 2772, "output_tokens": 120, "total_tokens": 2892},
        cost=0.0025,
        request_preview="Where is my order A-1009?",
    )


def _asks_for_a_tool() -> Span:
    retry = {"tracer.retry.attempt": 1, "tracer.retry.delay": 0.41, sc.HTTP_STATUS_CODE: 429}
    return chat_span(
        2,
        name="AsyncCompletions_1",
        start=10,
        end=900,
        inputs={
            "model": "gpt-5",
            "messages": QUESTION,
            "tools": TOOLS,
            "temperature": 0.2,
            "stop": None,
            "metadata": {},
        },
        outputs=chat_answer({"content": None, "reasoning_content": "It has to be looked up.", "tool_calls": [CALL]}),
        token_usage={"input_tokens": 1250, "output_tokens": 48, "total_tokens": 1298, "cache_read_input_tokens": 1024},
        cost=0.000085,
        attributes={
            sc.TOOL_DEFINITIONS: TOOLS,
            sc.RESPONSE_FINISH_REASONS: ["tool_calls"],
            sc.REQUEST_ID: "req_8f1",
            sc.RETRIES: 1,
        },
        events=[SpanEvent(sc.EVENT_RETRY, START + 20 * MS, retry)],
    )


def _streams() -> Span:
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(RESULT)}
    return chat_span(
        4,
        name="AsyncCompletions_2",
        start=1000,
        end=1005 + sum(GAPS),
        inputs={"model": "gpt-5", "stream": True, "messages": [*QUESTION, asked, result]},
        outputs=chat_answer({"content": "".join(WORDS), "refusal": None}),
        token_usage={"input_tokens": 1310, "output_tokens": 60, "total_tokens": 1370},
        cost=0.0021,
        attributes={sc.TIME_TO_FIRST_TOKEN: 0.4, sc.STREAM: True, sc.RESPONSE_FINISH_REASONS: ["stop"]},
        events=chunks(WORDS, GAPS, start=1000),
    )


def _judges() -> Span:
    return chat_span(
        5,
        name="AsyncCompletions_3",
        start=2400,
        end=2700,
        outputs=chat_answer({"content": json.dumps({"sentiment": "good", "score": 0.93})}),
        attributes={sc.OUTPUT_SCHEMA: SCHEMA},
        token_usage={"input_tokens": 210, "output_tokens": 12, "total_tokens": 222},
        cost=0.00031,
    )


def _embeds() -> Span:
    vector = base64.b64encode(struct.pack("<1536f", *[0.25] * 1536)).decode()
    return make_span(
        6,
        name="AsyncEmbeddings",
        start=2710,
        end=2790,
        span_type=SpanType.EMBEDDING,
        inputs={"model": "text-embedding-3-small", "input": ["one", "two"]},
        outputs={"object": "list", "data": [{"embedding": vector, "index": at} for at in range(2)]},
        attributes={sc.OPERATION: "embeddings", sc.EMBEDDINGS_DIMENSION_COUNT: 1536},
        token_usage={"input_tokens": 2, "total_tokens": 2},
    )


def _crashes() -> Span:
    exception = {
        sc.EXCEPTION_TYPE: "KeyError",
        sc.EXCEPTION_MESSAGE: "'A-1009'",
        sc.EXCEPTION_STACKTRACE: STACK,
    }
    return make_span(
        8,
        name="refund",
        parent=7,
        start=2800,
        end=2980,
        span_type=SpanType.TOOL,
        status=SpanStatus(SpanStatusCode.ERROR, "KeyError: 'A-1009'"),
        inputs={"order_id": "A-1009"},
        events=[SpanEvent(sc.EVENT_EXCEPTION, START + 2980 * MS, exception)],
    )


def wide_trace(count: int) -> Trace:
    """A trace of many spans, five levels deep."""
    spans = [make_span(1, name="run", end=count, span_type=SpanType.AGENT)]
    for number in range(2, count + 1):
        parent = 1 if number % 5 == 2 else number - 1
        kind = SpanType.CHAT_MODEL if number % 5 == 0 else SpanType.TOOL
        usage = {"input_tokens": number, "output_tokens": 7, "total_tokens": number + 7} if number % 5 == 0 else None
        spans.append(
            make_span(
                number,
                name=f"step {number}",
                parent=parent,
                start=number - 1,
                end=number - 0.2,
                span_type=kind,
                inputs={"number": number},
                outputs=f"done with {number}",
                token_usage=usage,
            )
        )
    return make_trace(*spans, name="many steps")
