"""`/images/*` and `/audio/*`: pictures of one pixel, a moment of noise for each word, transcripts."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator

from tracer.testing._answer import Answer, Json, count_words, deltas
from tracer.testing._wire import Payload, json_payload, stream_payload

__all__ = ["AUDIO_BYTES_PER_WORD", "images", "speech", "transcription"]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
AUDIO_BYTES_PER_WORD = 1_000
_AUDIO_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm", "aac": "audio/aac", "flac": "audio/flac"}
_IMAGE_TOKENS = 100


# --- images -----------------------------------------------------------------------------------------------------------


def images(path: str, body: Json, answer: Answer | None) -> Payload:
    """As many pictures as requested; with `stream` one, after its partial images. A scripted text revises the prompt.

    `gpt-image` models send base64 and usage, others a URL unless asked for base64.
    """
    count = int(body.get("n") or 1)
    modern = "gpt-image" in str(body.get("model"))
    if modern and str(body.get("stream")).lower() == "true":
        kind = "image_edit" if path.endswith("edits") else "image_generation"
        return stream_payload(_image_events(kind, body), named=True)
    image: Json = {"b64_json": PIXEL}
    if not modern and body.get("response_format") != "b64_json":
        image = {"url": "https://images.example.com/1.png"}
    if answer is not None and answer.text:
        image["revised_prompt"] = answer.text
    made: Json = {"created": int(time.time()), "data": [image] * count}
    if modern:
        made |= {**_look(body), "usage": _image_usage(body, count, details=True)}
    return json_payload(made)


def _look(body: Json) -> Json:
    given = {"background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"}
    return {key: body.get(key) or default for key, default in given.items()}


def _image_usage(body: Json, count: int, *, details: bool) -> Json:
    words = count_words(body.get("prompt"))
    seen = 0 if "image" not in body and "image[]" not in body else _IMAGE_TOKENS
    made = count * _IMAGE_TOKENS
    usage: Json = {
        "input_tokens": words + seen,
        "output_tokens": made,
        "total_tokens": words + seen + made,
        "input_tokens_details": {"text_tokens": words, "image_tokens": seen},
    }
    return usage | ({"output_tokens_details": {"text_tokens": 0, "image_tokens": made}} if details else {})


def _image_events(kind: str, body: Json) -> Iterator[Json]:
    frame = {"b64_json": PIXEL, "created_at": int(time.time()), **_look(body)}
    for number in range(int(body.get("partial_images") or 0)):
        yield {"type": f"{kind}.partial_image", "partial_image_index": number, **frame}
    yield {"type": f"{kind}.completed", **frame, "usage": _image_usage(body, 1, details=False)}


# --- audio ------------------------------------------------------------------------------------------------------------


def speech(body: Json) -> Payload:
    """Bytes that are not text, more for a longer input; as events with usage if `stream_format` is `sse`."""
    words = count_words(body.get("input"))
    audio = hashlib.shake_128(str(body.get("input")).encode()).digest(max(1, words) * AUDIO_BYTES_PER_WORD)
    if body.get("stream_format") == "sse":
        return stream_payload(_speech_events(audio, words), named=False)
    return Payload((audio,), _AUDIO_TYPES.get(str(body.get("response_format") or "mp3"), "audio/mpeg"))


def _speech_events(audio: bytes, words: int) -> Iterator[Json]:
    for start in range(0, len(audio), AUDIO_BYTES_PER_WORD):
        piece = base64.b64encode(audio[start : start + AUDIO_BYTES_PER_WORD]).decode()
        yield {"type": "speech.audio.delta", "audio": piece}
    usage = {"input_tokens": words, "output_tokens": 10 * words, "total_tokens": 11 * words}
    yield {"type": "speech.audio.done", "usage": usage}


def transcription(path: str, form: Json, answer: Answer | None) -> Payload:
    """The scripted text, or the file's name, in the requested format. `whisper` is billed by duration."""
    file = form.get("file") or {}
    text = (answer.text if answer is not None else None) or f"This is {file.get('filename')}."
    usage = _audio_usage(form, text)
    if form.get("stream") == "true":
        return stream_payload(_transcript_events(text, usage), named=False)
    kind = form.get("response_format") or "json"
    if kind in _PLAIN:
        return Payload((_PLAIN[kind].format(text).encode(),), "text/plain; charset=utf-8")
    made: Json = {"text": text, "usage": usage}
    if kind == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": 2.0, "text": text}
        task = "translate" if path.endswith("translations") else "transcribe"
        made = {"task": task, "language": "english", "duration": 2.0, **made, "segments": [segment]}
    return json_payload(made)


_PLAIN = {
    "srt": "1\n00:00:00,000 --> 00:00:02,000\n{}\n\n",
    "text": "{}\n",
    "vtt": "WEBVTT\n\n00:00.000 --> 00:02.000\n{}\n",
}


def _audio_usage(form: Json, text: str) -> Json:
    if "whisper" in str(form.get("model")):
        return {"type": "duration", "seconds": 2}
    made = count_words(text)
    details = {"text_tokens": 0, "audio_tokens": 20}
    return {
        "type": "tokens",
        "input_tokens": 20,
        "input_token_details": details,
        "output_tokens": made,
        "total_tokens": 20 + made,
    }


def _transcript_events(text: str, usage: Json) -> Iterator[Json]:
    for piece in deltas(text):
        yield {"type": "transcript.text.delta", "delta": piece}
    yield {"type": "transcript.text.done", "text": text, "usage": usage}
