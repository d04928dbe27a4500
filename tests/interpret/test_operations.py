"""Images, audio, moderations, decisions, searches, videos and runs, on wire data built from the SDK's own types."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from openai.types import (
    Decision,
    Image,
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
    Video,
)
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
    TranscriptionVerbose,
)
from openai.types.beta.threads import Run
from openai.types.vector_store_search_response import VectorStoreSearchResponse
from pydantic import BaseModel

from tests.interpret.wire import Chunks, body, loads, sse
from tracer import _semconv as sc
from tracer.interpret import ResponseView
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream

LOOK = {"background": "opaque", "created_at": 1, "output_format": "png", "quality": "low", "size": "1024x1024"}
IMAGE_USAGE = {
    "input_tokens": 50,
    "output_tokens": 1056,
    "total_tokens": 1106,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}


def wire(kind: type[BaseModel], **fields: Any) -> dict[str, Any]:
    """Build one of the SDK's objects (which checks the fields) and return its JSON."""
    return kind.model_validate(fields).model_dump(mode="json", exclude_unset=True, by_alias=True)


def plain(operation: str, kind: type[BaseModel], **fields: Any) -> ResponseView:
    view = interpret_response(operation, body(wire(kind, **fields)), content_type="application/json")
    assert loads(view.outputs) == wire(kind, **fields)
    assert sc.NOTE not in view.attributes
    return view


def streamed(operation: str, events: list[Any], *, done: bool = True, names: bool = False) -> ResponseView:
    chunks = sse(events, done=done, names=names)
    return interpret_stream(operation, chunks, content_type="text/event-stream")


# --- images -----------------------------------------------------------------------------------------------------------


def test_images_response_built_from_sdk_types() -> None:
    images = [Image(b64_json="aGk="), Image(b64_json="aG8=")]
    usage = IMAGE_USAGE | {"output_tokens_details": {"text_tokens": 0, "image_tokens": 1056}}
    view = plain("images", ImagesResponse, created=1, data=images, size="1024x1024", usage=usage)
    assert view.usage == {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106}
    assert view.attributes[sc.INPUT_IMAGE_TOKENS] == 40
    assert view.attributes[sc.OUTPUT_IMAGE_TOKENS] == 1056
    assert (view.preview, view.finish) == ("2 images 1024x1024", "completed")
    assert "aGk" not in view.text


def test_vectors_usage_is_kept_apart_built_from_sdk_types() -> None:
    svg = {"input_tokens": 5, "model": "m", "output_tokens": 7, "reasoning_tokens": 1, "total_tokens": 12}
    view = plain("images", ImagesResponse, created=1, data=[Image(b64_json="aGk=")], svg_usage=svg)
    assert view.usage is None
    assert view.attributes[sc.SVG_USAGE] == svg


EDITED = (ImageEditPartialImageEvent, ImageEditCompletedEvent, "image_edit")
GENERATED = (ImageGenPartialImageEvent, ImageGenCompletedEvent, "image_generation")


def image_events(kinds: Any, partial: int) -> list[Any]:
    part, whole, name = kinds
    events = [
        wire(part, type=f"{name}.partial_image", b64_json=f"part{n}", partial_image_index=n, **LOOK)
        for n in range(partial)
    ]
    return [*events, wire(whole, type=f"{name}.completed", b64_json="whole", usage=IMAGE_USAGE, **LOOK)]


@pytest.mark.parametrize("kinds", [EDITED, GENERATED], ids=["edit", "generate"])
@pytest.mark.parametrize("partial", [0, 3])
def test_image_stream_built_from_sdk_types_has_the_plain_shape(kinds: Any, partial: int) -> None:
    view = streamed("images", image_events(kinds, partial), done=False, names=True)
    outputs = loads(view.outputs)
    assert ImagesResponse.model_validate(outputs).data == [Image(b64_json="whole")]
    assert outputs["created"] == 1
    assert view.usage is not None
    assert view.usage["total_tokens"] == 1106
    assert view.finish == "completed"
    assert view.first_token_ns == 100


def test_image_stream_built_from_sdk_types_that_stops_keeps_the_last_part() -> None:
    view = streamed("images", image_events(GENERATED, 2)[:2], done=False)
    assert loads(view.outputs)["data"] == [{"b64_json": "part1", "partial_image_index": 1}]
    assert (view.finish, view.usage) == (None, None)


# --- audio ------------------------------------------------------------------------------------------------------------

TOKENS = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}


def test_transcription_built_from_sdk_types_counts_audio_tokens() -> None:
    usage = TOKENS | {"input_token_details": {"text_tokens": 4, "audio_tokens": 10}}
    view = plain("audio_text", Transcription, text="Hello", usage=usage)
    assert view.usage == {"input_tokens": 14, "output_tokens": 45, "total_tokens": 59, "input_audio_tokens": 10}
    assert (view.preview, view.text, view.finish) == ("Hello", "Hello", "completed")


def test_duration_built_from_sdk_types_is_no_token_usage() -> None:
    usage = {"type": "duration", "seconds": 9.5}
    view = plain("audio_text", TranscriptionVerbose, text="Hello", language="english", duration=9.4, usage=usage)
    assert view.usage is None
    assert view.attributes[sc.AUDIO_SECONDS] == 9.5


def transcript_events() -> list[Any]:
    delta = TranscriptionTextDeltaEvent
    logprobs = [{"token": "Hel", "logprob": -0.1, "bytes": [72]}]
    return [
        wire(delta, type="transcript.text.delta", delta="Hel", logprobs=logprobs),
        wire(delta, type="transcript.text.delta", delta="lo"),
        wire(TranscriptionTextDoneEvent, type="transcript.text.done", text="Hello", usage=TOKENS),
    ]


def test_transcript_stream_built_from_sdk_types_has_the_plain_shape() -> None:
    view = streamed("audio_text", transcript_events())
    assert loads(view.outputs) == {"text": "Hello", "usage": TOKENS}
    assert view.finish == "completed"


def test_transcript_stream_built_from_sdk_types_that_stops_has_the_words_so_far() -> None:
    view = streamed("audio_text", transcript_events()[:2], done=False)
    logprobs = [{"token": "Hel", "logprob": -0.1, "bytes": [72]}]
    assert loads(view.outputs) == {"text": "Hello", "logprobs": logprobs}
    assert (view.finish, view.usage, view.preview) == (None, None, "Hello")


def test_speakers_built_from_sdk_types_are_kept_beside_the_text() -> None:
    kind = "transcript.text.segment"
    segment = wire(TranscriptionTextSegmentEvent, type=kind, id="seg_0", start=0, end=1.5, speaker="A", text=" Hi.")
    done = wire(TranscriptionTextDoneEvent, type="transcript.text.done", text="Hi.")
    assert loads(streamed("audio_text", [segment, done]).outputs) == {"text": "Hi.", "segments": [segment]}
    assert loads(streamed("audio_text", [segment], done=False).outputs) == {"text": " Hi.", "segments": [segment]}


@pytest.mark.parametrize("text", ["Hi\n", "42", '{"a": 1}', "", "1\n00:00 --> 00:01\nHi\n"])
def test_plain_text_is_a_text_whatever_it_looks_like(text: str) -> None:
    view = interpret_response("audio_text", text.encode(), content_type="text/plain; charset=utf-8")
    assert (None if view.outputs is None else loads(view.outputs)) == (text or None)
    assert sc.NOTE not in view.attributes


@pytest.mark.parametrize("kind", ["text/plain", "text/vtt", "application/x-subrip", "application/octet-stream"])
@pytest.mark.parametrize(
    ("codec", "charset"),
    [
        ("latin-1", "iso-8859-1"),
        ("cp1252", '"Windows-1252"'),
        ("utf-16", "utf-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-8", "utf-8"),
        ("utf-8", "nonsense"),
        ("utf-8", "hex"),
        ("utf-8", "idna"),
        ("utf-8", ""),
    ],
    ids=str,
)
def test_a_text_is_read_as_its_charset_says(kind: str, codec: str, charset: str) -> None:
    sent = "Zürich: schön\n".encode(codec)
    view = interpret_response("audio_text", sent, content_type=f"{kind}; charset={charset}")
    assert (loads(view.outputs), view.preview, view.finish) == ("Zürich: schön\n", "Zürich: schön", "completed")
    assert sc.NOTE not in view.attributes


@pytest.mark.parametrize("charset", ["zlib", "bz2", "hex", "rot13", "punycode", "idna", "no-charset"])
def test_what_is_no_charset_or_slow_to_read_is_taken_for_utf_8(charset: str) -> None:
    sent = zlib.compress(b"x" * 10_000_000) if charset == "zlib" else "Zürich".encode()
    view = interpret_response("audio_text", sent, content_type=f"text/plain; charset={charset}")
    read = json.loads(view.outputs or b"")
    assert len(read) < 20_000 if charset == "zlib" else read == "Zürich"


def test_what_of_a_text_is_not_of_its_charset_is_noted() -> None:
    view = interpret_response("audio_text", b"Z\xfcrich", content_type="text/plain; charset=utf-8")
    assert (loads(view.outputs), view.finish) == ("Z\ufffdrich", "completed")
    assert view.attributes[sc.NOTE] == "not all of it is utf-8: invalid start byte at byte 1"
    cut = interpret_response("audio_text", "Zür".encode()[:2], content_type="text/plain; charset=utf-8", truncated=9)
    assert loads(cut.outputs) == "Z"
    assert sc.NOTE not in cut.attributes


def test_a_page_instead_of_an_answer_is_read_as_its_charset_says() -> None:
    view = interpret_response("chat", "<html>忙</html>".encode("gb2312"), content_type="text/html; charset=gb2312")
    assert (loads(view.outputs), view.finish) == ("<html>忙</html>", "failed")


def test_page_of_a_gateway_is_no_transcript() -> None:
    view = interpret_response("audio_text", b"<html>busy</html>", content_type="text/html")
    assert "text/html" in view.attributes[sc.NOTE]
    assert (loads(view.outputs), view.finish) == ("<html>busy</html>", "failed")


def test_form_parameters_are_what_they_would_be_in_json() -> None:
    file = {"filename": "a.mp3", "content_type": "audio/mpeg", "size": 3}
    view = interpret_request("audio_text", body({"model": "m", "temperature": "0.5", "stream": "true", "file": file}))
    assert view.attributes[sc.REQUEST_TEMPERATURE] == 0.5
    assert view.attributes[sc.STREAM] is True
    assert (view.preview, view.model) == ("a.mp3", "m")


def test_speech_events_say_how_much_audio_came() -> None:
    events = [{"type": "speech.audio.delta", "audio": "aGVsbG8="}, {"type": "speech.audio.delta", "audio": "aGVs"}]
    view = streamed("speech", [*events, {"type": "speech.audio.done", "usage": TOKENS}])
    assert loads(view.outputs)["size"] == view.attributes[sc.OUTPUT_BYTES] == 8
    assert view.usage is not None
    assert view.first_token_ns == 100
    assert streamed("speech", events, done=False).finish is None


# --- judges and retrievers --------------------------------------------------------------------------------------------


def test_decision_built_from_sdk_types() -> None:
    answers = [
        {"type": "predicate", "name": "spam", "probability": 0.25},
        {"type": "choice", "choice": "red", "confidence": 0.9, "probabilities": []},
        {"type": "refusal", "name": "age"},
    ]
    details = {"input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}}
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12, **details}
    usage["output_tokens_details"] = {"reasoning_tokens": 1}
    view = plain("decisions", Decision, answers=answers, model="gpt-6-luna", usage=usage)
    assert view.preview == "spam: 0.25, 2: red, age: refusal"
    assert view.usage is not None
    assert view.usage["cache_read_input_tokens"] == 2
    assert (view.model, view.finish) == ("gpt-6-luna", "completed")


def test_search_results_built_from_sdk_types() -> None:
    content = [{"type": "text", "text": "Tea"}, {"type": "text", "text": "x" * 2000}]
    found = wire(VectorStoreSearchResponse, file_id="file-1", filename="a.txt", score=0.5, content=content)
    view = interpret_response("retrieval", body({"object": "vector_store.search_results.page", "data": [found]}))
    [document] = view.attributes[sc.RETRIEVAL_DOCUMENTS]
    assert (document["id"], document["score"]) == ("file-1", 0.5)
    assert document["text"].startswith("Tea\nxxx")
    assert len(document["text"]) == 1000
    assert view.preview == "a.txt"
    empty = interpret_response("retrieval", body({"data": []}))
    assert (empty.preview, empty.finish) == ("nothing found", "completed")


# --- jobs -------------------------------------------------------------------------------------------------------------

VIDEO = {"id": "video_1", "object": "video", "created_at": 10, "model": "sora-2", "progress": 0, "seconds": "4"}


@pytest.mark.parametrize(
    ("fields", "finish", "error"),
    [
        ({"status": "queued"}, "completed", None),
        ({"status": "completed", "completed_at": 42}, "completed", None),
        ({"status": "failed", "error": {"code": "moderated", "message": "No cats"}}, "failed", "No cats"),
    ],
    ids=lambda value: value.get("status") if isinstance(value, dict) else None,
)
def test_video_built_from_sdk_types(fields: dict[str, Any], finish: str, error: str | None) -> None:
    view = plain("videos", Video, **VIDEO, size="720x1280", **fields)
    assert (view.finish, view.error) == (finish, error)
    assert view.attributes[sc.RESPONSE_STATUS] == fields["status"]
    assert view.attributes.get(sc.JOB_SERVER_TIME) == (32 if "completed_at" in fields else None)


RUN = {
    "id": "run_1",
    "object": "thread.run",
    "created_at": 1,
    "assistant_id": "asst_1",
    "thread_id": "thread_1",
    "instructions": "",
    "model": "gpt-4o",
    "parallel_tool_calls": True,
    "tools": [],
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("fields", "finish", "error"),
    [
        ({"status": "queued"}, "completed", None),
        ({"status": "cancelled"}, "cancelled", "the run was cancelled"),
        ({"status": "expired"}, "failed", "the run expired"),
        ({"status": "failed", "last_error": {"code": "server_error", "message": "Sorry"}}, "failed", "Sorry"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_prompt_tokens"}},
            "incomplete",
            "the run is incomplete: max_prompt_tokens",
        ),
    ],
    ids=lambda value: value.get("status") if isinstance(value, dict) else None,
)
def test_run_built_from_sdk_types(fields: dict[str, Any], finish: str, error: str | None) -> None:
    view = plain("runs", Run, **RUN, **fields)
    assert (view.finish, view.error) == (finish, error)
    assert view.attributes[sc.AGENT_ID] == "asst_1"
    assert view.attributes[sc.CONVERSATION_ID] == "thread_1"


def test_run_built_from_sdk_types_that_waits_shows_the_calls_it_asks_for() -> None:
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}}
    view = plain("runs", Run, **RUN, status="requires_action", required_action=action)
    assert view.attributes[sc.TOOL_CALLS] == [{"id": "call_1", "name": "add", "arguments": "{}"}]
    assert (view.preview, view.finish) == ("add({})", "completed")


def test_steps_of_a_run_are_child_spans_with_the_streams_times() -> None:
    call = {"id": "c1", "type": "code_interpreter", "code_interpreter": {"input": "1+1", "outputs": [{"logs": "2"}]}}
    step = {"id": "step_1", "object": "thread.run.step", "status": "in_progress"}
    details = {"type": "tool_calls", "tool_calls": [call]}
    events: list[tuple[str, Any]] = [
        ("thread.run.in_progress", {**RUN, "status": "in_progress"}),
        ("thread.run.step.created", {**step, "step_details": {"type": "tool_calls", "tool_calls": []}}),
        ("thread.run.step.completed", {**step, "status": "completed", "step_details": details}),
        ("thread.run.completed", {**RUN, "status": "completed"}),
    ]
    chunks = [(100 * n, named(*event)) for n, event in enumerate(events, 1)]
    view = interpret_stream("runs", chunks, content_type="text/event-stream")
    [child] = view.children
    assert (child.name, child.inputs, child.outputs) == ("code_interpreter", {"input": "1+1"}, [{"logs": "2"}])
    assert (child.start_time_ns, child.end_time_ns) == (200, 300)
    assert view.finish == "completed"


def named(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def message_delta(index: int, value: str) -> bytes:
    part = {"index": index, "type": "text", "text": {"value": value}}
    return named("thread.message.delta", {"id": "m", "object": "thread.message.delta", "delta": {"content": [part]}})


def test_message_that_was_cut_off_is_put_together_part_by_part() -> None:
    pieces = [message_delta(0, "Hel"), message_delta(0, "lo"), message_delta(1, "you")]
    chunks: Chunks = [(1, named("thread.run.created", {**RUN, "status": "queued"})), *[(2, piece) for piece in pieces]]
    view = interpret_stream("runs", chunks, content_type="text/event-stream")
    [message] = loads(view.outputs)["messages"]
    assert [part["text"]["value"] for part in message["content"]] == ["Hello", "you"]
    assert (view.preview, view.finish) == ("Hello you", None)


def test_error_event_fails_a_run() -> None:
    started, failed = named("thread.run.created", {**RUN, "status": "queued"}), named("error", {"error": "Down"})
    view = interpret_stream("runs", [(1, started), (2, failed)], content_type="text/event-stream")
    assert (view.finish, view.error) == ("failed", "Down")


def test_queue_time_of_a_background_stream() -> None:
    def event(kind: str, **fields: Any) -> dict[str, Any]:
        response = {"id": "r", "background": True, "output": [], "status": kind, **fields}
        return {"type": f"response.{kind}", "response": response}

    events = [event("created"), event("queued"), event("in_progress"), event("completed", created_at=1, completed_at=3)]
    view = streamed("responses", events, done=False)
    assert view.attributes[sc.JOB_QUEUE_TIME] == pytest.approx(100e-9)
    assert view.attributes[sc.JOB_SERVER_TIME] == 2
    assert sc.JOB_QUEUE_TIME not in streamed("responses", events[2:], done=False).attributes


# --- what no API sends ------------------------------------------------------------------------------------------------

OPERATIONS = ["images", "speech", "audio_text", "moderations", "decisions", "retrieval", "videos", "runs"]
ODD: list[Any] = [
    {"data": "x", "results": 1, "answers": {}, "usage": 3, "text": 5, "status": [], "messages": {"a": 1}},
    {"data": [1, None], "results": [None], "answers": ["x"], "status": "failed", "error": 7, "steps": [{}]},
    {"prompt": ["a"], "input": 3, "query": {}, "file": [[]], "n": "x", "messages": [{"content": 4}], "thread": []},
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("odd", ODD, ids=["types", "elements", "request"])
def test_odd_shapes_are_kept_and_not_stumbled_over(operation: str, odd: Any) -> None:
    for view in (interpret_request(operation, body(odd)), interpret_response(operation, body(odd))):
        assert loads(view.inputs if hasattr(view, "inputs") else view.outputs) == odd
        assert "could not be interpreted" not in str(view.attributes.get(sc.NOTE))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_odd_events_leave_a_note(operation: str) -> None:
    chunks: Chunks = [(1, b"data: [1]\n\n"), (2, b"data: {oops\n\n"), (3, b'data: {"type": ["x"], "object": {}}\n\n')]
    view = interpret_stream(operation, chunks, content_type="text/event-stream")
    assert "could not be interpreted" not in str(view.attributes.get(sc.NOTE))
    assert view.finish is None
