"""The law of the package: no bytes whatsoever raise, and what comes back can be stored."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.interpret.wire import OPERATIONS, reads, records, sse
from tracer import _semconv as sc
from tracer.interpret import plain_text, stream_events
from tracer.interpret.dispatch import OPERATIONS as READERS
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream
from tracer.interpret.previews import PREVIEW_CHARS

OPERATION = st.sampled_from([*(key for key in READERS if not key.endswith(".session")), "unknown"])
KEYS = [
    "choices", "delta", "message", "content", "role", "tool_calls", "function", "name", "arguments", "index", "id",
    "object", "model", "usage", "finish_reason", "logprobs", "error", "input", "prompt", "messages", "tools",
    "type", "text", "output", "item", "output_index", "content_index", "part", "summary", "annotation", "response",
    "status", "data", "embedding", "action", "call_id", "stop", "n", "conversation", "reasoning", "response_format",
    "x_groq",
]  # fmt: skip
KINDS = [
    "message", "function_call", "response.completed", "response.output_item.added", "response.output_text.delta",
    "response.content_part.added", "web_search_call", "shell_call", "mcp_call", "error", "json_schema", "namespace",
    "response.function_call_arguments.done", "response.output_text.annotation.added",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=30,
)


def storable(view):
    """What the pipeline does with a view: JSON columns and attributes, all strict UTF-8."""
    for data in (getattr(view, "inputs", None), getattr(view, "outputs", None)):
        if data is not None:
            json.loads(data.decode())
    json.loads(msgspec.json.encode(view))
    assert "could not be interpreted" not in view.attributes.get(sc.NOTE, "")
    assert len(view.preview or "") <= PREVIEW_CHARS
    assert len(view.text) <= 16_000


@given(OPERATION, st.binary(), st.integers(0, 5))
def test_any_bytes(operation, data, truncated):
    storable(interpret_request(operation, data, truncated=truncated))
    storable(interpret_response(operation, data, truncated=truncated))
    for encoding in (None, "gzip", "deflate", "br", "zstd", "x"):
        storable(interpret_stream(operation, [(1, data)], content_encoding=encoding))
        stream_events([(1, data)], content_encoding=encoding)


@settings(max_examples=300)
@given(OPERATION, VALUES, st.integers(0, 60))
def test_any_json_of_familiar_names(operation, value, missing):
    data = json.dumps(value).encode()
    storable(interpret_request(operation, data))
    storable(interpret_response(operation, data))
    cut = data[: max(0, len(data) - missing)]
    storable(interpret_request(operation, cut, truncated=missing))
    storable(interpret_response(operation, cut, truncated=missing))
    plain_text(value)


@settings(max_examples=300)
@given(OPERATION, st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), max_size=5), st.booleans())
def test_any_stream_of_familiar_names(operation, events, done):
    events = [{"type": "response.output_text.delta", **event} for event in events]
    for names in (True, False):
        storable(interpret_stream(operation, sse(events, done=done, names=names), content_type="text/event-stream"))


@pytest.mark.parametrize("operation", OPERATIONS.values())
def test_recorded_bodies_cut_anywhere(operation):
    for record in records(operation)[:60]:
        data = record["response_body"].encode()
        for part in (3, 7):
            cut = data[: len(data) * part // 9]
            storable(interpret_response(operation, cut, truncated=len(data) - len(cut)))
            storable(interpret_stream(operation, [(1, cut)], content_type=record["response_content_type"]))


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_recorded_streams_say_the_same_however_the_reads_were_cut(size):
    for record in records("chat", stream=True)[:25]:
        content_type = record["response_content_type"]
        whole = interpret_stream("chat", reads(record, 10**9), content_type=content_type)
        parts = interpret_stream("chat", reads(record, size), content_type=content_type)
        parts.first_chunk_ns, parts.first_token_ns = whole.first_chunk_ns, whole.first_token_ns
        assert parts == whole


@pytest.mark.parametrize("depth", [150, 500, 2000, 100_000])
def test_deep_nesting(depth):
    data = b'{"model":"m","x":' + b"[" * depth + b"]" * depth + b"}"
    storable(interpret_request("chat", data))
    storable(interpret_response("chat", data))
    storable(interpret_response("chat", data[:-depth], truncated=depth))
    storable(interpret_stream("chat", [(1, b"data: " + data + b"\n\n")]))
