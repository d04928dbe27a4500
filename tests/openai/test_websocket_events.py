"""Events as the caller's thread reads them: heads, and audio that is measured without being decoded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.openai._websocket_events import NO_HEAD, as_bytes, heard, measured, read_head, spoken, without_audio

AUDIO_TYPES = {
    "response.output_audio.delta": "delta",
    "response.audio.delta": "delta",
    "session.output_audio.delta": "delta",
    "input_audio_buffer.append": "audio",
    "session.input_audio_buffer.append": "audio",
    "session.input_audio.append": "audio",
}
PLACE = {"event_id": "event_1", "response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}


@pytest.mark.parametrize("kind", AUDIO_TYPES)
@given(
    audio=st.binary(max_size=2000),
    keys=st.permutations(["type", "payload", "event_id", "response_id"]),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
)
def test_audio_is_measured_wherever_its_keys_stand(
    kind: str, audio: bytes, keys: list[str], separators: tuple[str, str]
) -> None:
    payload = base64.b64encode(audio).decode()
    values = {"type": kind, "payload": payload, "event_id": "e", "response_id": "resp_1"}
    event = {AUDIO_TYPES[kind] if key == "payload" else key: values[key] for key in keys}
    data = json.dumps(event, separators=separators).encode()
    at_a_glance = heard(data) if AUDIO_TYPES[kind] == "delta" else spoken(data)
    assert at_a_glance in (len(audio), None if len(audio) > 100 else len(audio))
    assert measured(read_head(data), data) == len(audio)


@given(st.text(max_size=300))
def test_words_about_audio_are_no_audio(text: str) -> None:
    for kind in ("response.output_audio_transcript.delta", "response.output_text.delta", "response.output_audio.done"):
        for event in (
            {"type": kind, **PLACE, "delta": f'"type":"response.output_audio.delta" {text}'},
            {"type": kind, "delta": "response.audio.delta"},
        ):
            data = json.dumps(event).encode()
            assert heard(data) is spoken(data) is measured(read_head(data), data) is None


def test_head_tells_where_an_event_belongs() -> None:
    event: dict[str, Any] = {**PLACE, "type": "response.done", "response": {"id": "resp_1", "output": [{"id": "no"}]}}
    head = read_head(json.dumps(event).encode())
    assert (head.type, head.response_id, head.event_id, head.item_id) == (
        "response.done",
        "resp_1",
        "event_1",
        "item_1",
    )
    assert head.response is not None
    assert head.response.id == "resp_1"
    assert head.stream_id is None


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_anything_can_be_looked_at(data: bytes) -> None:
    assert read_head(data).response_id is None
    assert heard(data) is spoken(data) is None
    assert without_audio(data) == data or b"audio" in data


@pytest.mark.parametrize("event", [b'{"type":1}', b'{"response":[]}', b"[]", b"", b"{", b"\xff", b"[" * 100_000])
def test_event_of_an_odd_shape_has_no_head(event: bytes) -> None:
    assert read_head(event) is NO_HEAD


def test_long_audio_is_replaced_and_short_text_left() -> None:
    audio = base64.b64encode(bytes(1000)).decode()
    event = {"item": {"content": [{"audio": audio, "transcript": "audio"}, {"audio": "short"}]}}
    [long, short] = json.loads(without_audio(json.dumps(event).encode()))["item"]["content"]
    assert long == {"audio": "[1000 bytes of audio]", "transcript": "audio"}
    assert short == {"audio": "short"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [("é", "é".encode()), (b"x", b"x"), (bytearray(b"x"), b"x"), (["frag", "ments"], None), ("\ud800", b"\\ud800")],
)
def test_message_of_any_kind_is_bytes_or_nothing(message: object, expected: bytes | None) -> None:
    assert as_bytes(message) == expected
