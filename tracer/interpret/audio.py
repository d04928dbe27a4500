"""Audio: ``POST /audio/speech``, ``/audio/transcriptions``, ``/audio/translations``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._forms import file_names, read_form_params
from tracer.interpret._json import as_dict, as_text
from tracer.interpret._typed_events import TypedEvents
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.previews import join_texts, one_line
from tracer.interpret.sse import Event

__all__ = [
    "read_request",
    "read_response",
    "read_speech_request",
    "read_speech_response",
    "read_speech_stream",
    "read_stream",
    "read_text",
]

# --- speech --------------------------------------------------------------------------------------------------------


def read_speech_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a request for speech."""
    read_form_params(body, view)
    view.attributes[sc.OUTPUT_TYPE] = "speech"
    said = as_text(body.get("input"))
    view.attributes[sc.INPUT_CHARACTERS] = len(said or "")
    view.preview, view.text = one_line(said), join_texts([said, as_text(body.get("instructions"))])


def read_speech_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what is known of the audio: ``{"content_type", "size"}``, which `MediaCall` made, not the API."""
    read_head(body, view)
    size, kind = body.get("size"), as_text(body.get("content_type"))
    if type(size) is not int:
        return
    view.attributes[sc.OUTPUT_BYTES] = size
    if kind:
        view.attributes[sc.OUTPUT_CONTENT_TYPE] = kind
    view.preview = f"{size:,} bytes of {kind or 'audio'}"


def read_speech_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream (``stream_format="sse"``) to the form of a binary answer: how much audio; and also the usage."""
    stream = TypedEvents(events)
    audio = [text for event in stream.events if (text := as_text(event.body.get("audio")))]
    done = [event.body for event in stream.events if event.kind == "speech.audio.done"]
    body: dict[str, Any] = {"content_type": None, "size": sum(map(_decoded_size, audio))}
    body.update({"usage": done[-1].get("usage")} if done else {})
    if stream.events:
        read_speech_response(body, view)
    view.first_token_ns = stream.first(".delta")
    stream.conclude(view, ended=bool(done))
    if stream.error is not None:
        body["error"] = stream.error
    return body if stream.events or stream.error is not None else None


def _decoded_size(base64: str) -> int:
    return len(base64) * 3 // 4 - base64[-2:].count("=")


# --- transcriptions and translations -------------------------------------------------------------------------------


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a form with a recording."""
    read_form_params(body, view)
    view.attributes[sc.OUTPUT_TYPE] = "text"
    prompt, names = as_text(body.get("prompt")), file_names(body)
    view.preview = one_line(", ".join(names) or prompt)
    view.text = join_texts([*names, prompt])


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what a response of any JSON format says. A model that is billed by duration reports no tokens."""
    read_head(body, view)
    seconds = as_dict(body.get("usage")).get("seconds")
    if type(seconds) in (int, float):
        view.attributes[sc.AUDIO_SECONDS] = seconds
    if type(text := body.get("text")) is str:
        view.preview, view.text = one_line(text), join_texts([text])
        view.finish = view.finish or "completed"


def read_text(text: str, view: ResponseView) -> None:
    """Fill in what a response of the formats text, srt and vtt says."""
    view.preview, view.text = one_line(text), join_texts([text])
    view.finish = "completed"


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream to the plain response's shape: the last event has everything except the speakers' segments."""
    stream = TypedEvents(events)
    done = next((event.body for event in reversed(stream.events) if event.kind == "transcript.text.done"), None)
    segments = [event.body for event in stream.events if event.kind == "transcript.text.segment"]
    body = _so_far(stream, segments) if done is None else {key: done[key] for key in done if key != "type"}
    if segments:
        body["segments"] = segments
    if body:
        read_response(body, view)
    view.first_token_ns = stream.events[0].time_ns if stream.events else None
    stream.conclude(view, ended=done is not None)
    if stream.error is not None:
        body["error"] = stream.error
    return body or None


def _so_far(stream: TypedEvents, segments: list[dict[str, Any]]) -> dict[str, Any]:
    """Put together what came of a stream whose last event is missing."""
    deltas = [event.body for event in stream.events if event.kind == "transcript.text.delta"]
    texts = [text for piece in deltas if (text := as_text(piece.get("delta")))]
    texts = texts or [text for segment in segments if (text := as_text(segment.get("text")))]
    body: dict[str, Any] = {"text": "".join(texts)} if texts else {}
    if logprobs := [entry for piece in deltas if type(some := piece.get("logprobs")) is list for entry in some]:
        body["logprobs"] = logprobs
    return body
