"""Realtime events read without a connection: what a response says, however its events come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import _semconv as sc
from tracer.interpret._views import ResponseView
from tracer.interpret.dispatch import interpret_request, interpret_stream

Json = dict[str, Any]


def framed(*events: Json) -> list[tuple[int, bytes]]:
    return [(n * 1000, b"data: %s\n\n" % json.dumps(event).encode()) for n, event in enumerate(events, 1)]


def read(*events: Json, operation: str = "realtime") -> tuple[Any, ResponseView]:
    view = interpret_stream(operation, framed(*events))
    return None if view.outputs is None else json.loads(view.outputs), view


CREATED: Json = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}}
PLACE: Json = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("output_text", {"type": "output_text", "text": "Hello"}),
        ("output_audio_transcript", {"type": "output_audio", "transcript": "Hello"}),
        ("text", {"type": "text", "text": "Hello"}),
        ("audio_transcript", {"type": "audio", "transcript": "Hello"}),
    ],
)
def test_response_without_its_end_is_rebuilt_from_deltas(kind: str, part: Json) -> None:
    pieces = [{"type": f"response.{kind}.delta", **PLACE, "delta": text} for text in ("Hel", "lo")]
    body, view = read(CREATED, *pieces)
    [item] = body["output"]
    assert (item["role"], item["content"]) == ("assistant", [part])
    assert view.finish is None
    assert view.preview == "Hello"
    assert (view.first_chunk_ns, view.first_token_ns) == (1000, 2000)


def test_function_call_is_rebuilt_from_deltas() -> None:
    item = {"id": "item_1", "type": "function_call", "name": "get_weather", "call_id": "call_1", "arguments": ""}
    pieces = [{"type": "response.function_call_arguments.delta", **PLACE, "delta": text} for text in ('{"a"', ":1}")]
    added = {"type": "response.output_item.added", "response_id": "resp_1", "output_index": 0, "item": item}
    _, view = read(CREATED, added, *pieces)
    assert view.attributes[sc.TOOL_CALLS] == [{"id": "call_1", "name": "get_weather", "arguments": '{"a":1}'}]


def test_usage_tells_audio_and_cached_tokens() -> None:
    usage = {
        "total_tokens": 100,
        "input_tokens": 60,
        "output_tokens": 40,
        "input_token_details": {"text_tokens": 20, "audio_tokens": 30, "image_tokens": 10, "cached_tokens": 16},
        "output_token_details": {"text_tokens": 10, "audio_tokens": 30},
    }
    _, view = read({"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": usage}})
    assert view.usage is not None
    expected = {"input_tokens": 60, "output_tokens": 40, "total_tokens": 100, "cache_read_input_tokens": 16}
    expected |= {"input_audio_tokens": 30, "output_audio_tokens": 30}
    assert {key: view.usage.get(key) for key in expected} == expected
    assert view.finish == "completed"


def test_request_is_put_together_from_what_was_said() -> None:
    said = [
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": "Hm"}},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.committed", "item_id": "item_a"},
        {"type": "conversation.item.input_audio_transcription.completed", "item_id": "item_a", "transcript": "Hi"},
        {"type": "input_audio_buffer.committed", "item_id": "item_b"},
    ]
    create = {"type": "response.create", "response": {"instructions": "Be brief", "max_output_tokens": "inf"}}
    view = interpret_request("realtime", json.dumps({"model": "m", "create": create, "events": said}).encode())
    inputs = json.loads(view.inputs)
    assert inputs["instructions"] == "Be brief"
    assert [item.get("id") for item in inputs["input"]] == [None, "item_a", "item_b"]
    assert inputs["input"][1]["content"] == [{"type": "input_audio", "transcript": "Hi"}]
    assert view.model == "m"
    assert view.preview == "Hi"


def test_session_tells_its_configuration_and_errors() -> None:
    body, view = read(
        {"type": "session.created", "session": {"id": "sess_1", "model": "gpt-realtime"}},
        {"type": "session.updated", "session": {"id": "sess_1", "model": "gpt-realtime", "instructions": "Be kind"}},
        {"type": "error", "error": {"message": "No"}},
        operation="realtime.session",
    )
    assert body == {
        "session": {"id": "sess_1", "model": "gpt-realtime", "instructions": "Be kind"},
        "errors": [{"message": "No"}],
    }
    assert view.model == "gpt-realtime"
    assert view.finish is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TYPES = st.sampled_from(
    [
        *("response.created", "response.done", "response.output_item.added", "response.output_item.done", "error"),
        *("response.output_audio.delta", "response.audio_transcript.delta", "conversation.item.create"),
        *("session.created", "input_audio_buffer.committed"),
        "conversation.item.input_audio_transcription.completed",
    ]
)
_KEYS = st.sampled_from(["response", "item", "delta", "item_id", "output_index", "content_index", "session", "error"])
_EVENTS = st.lists(st.builds(lambda kind, rest: {**rest, "type": kind}, _TYPES, st.dictionaries(_KEYS, _JSON)))


@given(_EVENTS)
def test_no_events_whatsoever_raise(events: list[Json]) -> None:
    for operation in ("realtime", "realtime.session"):
        view = interpret_stream(operation, framed(*events))
        assert view.outputs is None or json.loads(view.outputs) is not None
        assert "could not be interpreted" not in str(view.attributes.get(sc.NOTE))
    body = json.dumps({"model": None, "create": events[:1], "events": events}).encode()
    assert "could not be interpreted" not in str(interpret_request("realtime", body).attributes.get(sc.NOTE))
