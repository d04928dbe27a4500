"""Base64 media in JSON: what is taken out comes back as it was, and what only looks like it stays."""

from __future__ import annotations

import base64
import hashlib
import json
import string
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tracer.interpret.media import (
    MEDIA_BYTES,
    MEDIA_CHARS,
    extract_from_reads,
    extract_media,
    media_hash,
    restore_media,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(2000)
WAV = b"RIFF\x00\x10\x00\x00WAVEfmt " + bytes(range(256)) * 8
PDF = b"%PDF-1.7\n" + bytes(2000)
DOCX = b"PK\x03\x04" + bytes(range(256)) * 8
NOISE = bytes((7 * i * i + i) % 251 for i in range(3000))  # begins like no file


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


def reference(data: bytes, kind: str, form: str = "") -> str:
    return f"media://sha256/{hashlib.sha256(data).hexdigest()}?type={kind}&bytes={len(data)}{form}"


def extracted(value: Any) -> tuple[Any, list[str]]:
    """Return what is left of a value, and the content types of the media that were taken out; check their bytes."""
    body = json.dumps(value).encode()
    rest, media = extract_media(body)
    assert all(hashlib.sha256(one.data).hexdigest() == one.hash for one in media)
    assert restore_media(rest, {one.hash: one.data for one in media}.get) == body
    return json.loads(rest), [one.content_type for one in media]


CASES: dict[str, tuple[Any, Any, str]] = {
    "chat image": (
        {"type": "image_url", "image_url": {"url": url(PNG)}},
        {"type": "image_url", "image_url": {"url": reference(PNG, "image/png", "&form=data")}},
        "image/png",
    ),
    "data URL with parameters": (
        {"url": url(NOISE, "audio/x-y+z;codecs=1")},
        {"url": reference(NOISE, "audio/x-y+z;codecs=1", "&form=data")},
        "audio/x-y+z;codecs=1",
    ),
    "declared wrongly": (
        {"image_url": url(PNG, "image/jpeg")},
        {"image_url": reference(PNG, "image/jpeg", "&form=data")},
        "image/png",
    ),
    "chat audio input": (
        {"input_audio": {"data": b64(WAV), "format": "wav"}},
        {"input_audio": {"data": reference(WAV, "audio/wav"), "format": "wav"}},
        "audio/wav",
    ),
    "audio whose first bytes say nothing": (
        {"input_audio": {"format": "mp3", "data": b64(NOISE)}},
        {"input_audio": {"format": "mp3", "data": reference(NOISE, "audio/mpeg")}},
        "audio/mpeg",
    ),
    "chat audio output behind a long transcript": (
        {"audio": {"id": "a", "transcript": 'He said: {"no}"} ' * 999, "data": b64(NOISE), "n": 1}},
        {"audio": {"id": "a", "transcript": 'He said: {"no}"} ' * 999, "data": reference(NOISE, "audio/pcm"), "n": 1}},
        "audio/pcm",
    ),
    "generated image": (
        {"data": [{"b64_json": b64(JPEG)}]},
        {"data": [{"b64_json": reference(JPEG, "image/jpeg")}]},
        "image/jpeg",
    ),
    "generated image of another kind": (
        {"b64_json": b64(NOISE), "output_format": "svg"},
        {"b64_json": reference(NOISE, "image/svg+xml"), "output_format": "svg"},
        "image/svg+xml",
    ),
    "image generation call": (
        {"type": "image_generation_call", "result": b64(PNG)},
        {"type": "image_generation_call", "result": reference(PNG, "image/png")},
        "image/png",
    ),
    "partial image": (
        {"type": "response.image_generation_call.partial_image", "partial_image_b64": b64(PNG)},
        {
            "type": "response.image_generation_call.partial_image",
            "partial_image_b64": reference(PNG, "image/png"),
        },
        "image/png",
    ),
    "file": (
        {"filename": "notes.docx", "file_data": b64(DOCX)},
        {
            "filename": "notes.docx",
            "file_data": reference(DOCX, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        },
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "file as a data URL": (
        {"file_data": url(PDF, "application/pdf")},
        {"file_data": reference(PDF, "application/pdf", "&form=data")},
        "application/pdf",
    ),
    "spoken piece": (
        {"type": "speech.audio.delta", "audio": b64(NOISE)},
        {"type": "speech.audio.delta", "audio": reference(NOISE, "audio/pcm")},
        "audio/pcm",
    ),
    "Realtime piece": (
        {"type": "response.output_audio.delta", "item_id": "i", "delta": b64(NOISE)},
        {"type": "response.output_audio.delta", "item_id": "i", "delta": reference(NOISE, "audio/pcm")},
        "audio/pcm",
    ),
    "MCP content": (
        {"type": "audio", "data": b64(NOISE), "mimeType": "audio/x-raw"},
        {"type": "audio", "data": reference(NOISE, "audio/x-raw"), "mimeType": "audio/x-raw"},
        "audio/x-raw",
    ),
    "a user's bytes under any key": (
        [{"picture": b64(JPEG)}],
        [{"picture": reference(JPEG, "image/jpeg")}],
        "image/jpeg",
    ),
    "data URL inside a text": (
        {"content": f"Look, ![cat]({url(PNG)}), how nice"},
        {"content": f"Look, ![cat]({reference(PNG, 'image/png', '&form=data')}), how nice"},
        "image/png",
    ),
    "data URL in JSON in a text": (
        {"output": json.dumps({"image": url(PNG), "n": 1})},
        {"output": json.dumps({"image": reference(PNG, "image/png", "&form=data"), "n": 1})},
        "image/png",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_media_become_references_and_come_back(name: str) -> None:
    value, wanted, content_type = CASES[name]
    assert extracted(value) == (wanted, [content_type])
    assert extracted({"before": ["x" * 5000], "it": value, "after": value}) == (
        {"before": ["x" * 5000], "it": wanted, "after": wanted},
        [content_type] * 2,
    )


LOOKS = {
    "letters": "A" * 4000,
    "hex digits": "0123456789abcdef" * 500,
    "base64 under a key of the user's": {"payload": b64(NOISE)},
    "base64 as a result": {"result": b64(NOISE)},
    "base64 as data": {"data": b64(NOISE)},
    "base64 beside audio": {"audio": {"id": "a"}, "data": b64(NOISE)},
    "base64 beside an object with a format": {"input_audio": {}, "x": {"format": "wav"}, "data": b64(NOISE)},
    "base64 deeper in audio": {"audio": {"data": {"data": b64(NOISE)}}},
    "base64 as a text delta": {"type": "response.output_text.delta", "delta": b64(NOISE)},
    "embeddings": {"object": "embedding", "embedding": b64(NOISE)},
    "encrypted reasoning": {"type": "reasoning", "encrypted_content": b64(NOISE)},
    "URL-safe base64": {"b64_json": base64.urlsafe_b64encode(b"\xff" * 3000).decode()},
    "base64 in lines": {"b64_json": base64.encodebytes(PNG).decode()},
    "base64 with something behind": {"b64_json": b64(PNG) + "!"},
    "base64 without its padding": {"b64_json": b64(PNG[:2048]).rstrip("=")},
    "base64 with bits behind its last byte": {"b64_json": b64(PNG[:2047] + b"\0")[:-2] + "F="},
    "base64 with escapes": {"b64_json": b64(b"\xff" * 3000)[:-1] + "\\"},
    "a key that is said in a text": {"text": f'"input_audio":{{"data":"{b64(NOISE)}"}}'},
    "a data URL that is no base64": {"url": "data:text/plain," + "A" * 4000},
    "a small image": {"url": url(PNG[: MEDIA_BYTES - 1])},
    "a reference": {"url": reference(PNG, "image/png")},
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_only_looks_like_media_is_left_alone(name: str) -> None:
    body = json.dumps([LOOKS[name]] * 3).encode()
    assert extract_media(body)[0] is body


@pytest.mark.parametrize("size", [MEDIA_BYTES, MEDIA_BYTES + 1, MEDIA_BYTES + 2, 70_000])
@pytest.mark.parametrize("offset", [0, 1, 63, 64, 65, 1303, 1304, 1305, 1368, 5000])
def test_media_are_found_wherever_they_begin(size: int, offset: int) -> None:
    data = PNG[:8] + bytes(size - 8)
    value = {"p": "-" * offset, "b64_json": b64(data), "q": url(data), "r": [b64(data)]}
    rest, kinds = extracted(value)
    assert kinds == ["image/png"] * 3
    assert b64(data) not in json.dumps(rest)


BASE64ISH = string.ascii_letters + string.digits + '+/= ,"\\:{}\n-'
TEXTS = st.text(st.sampled_from(BASE64ISH), max_size=200) | st.text(max_size=50)


@st.composite
def long_texts(draw: st.DrawFn) -> str:
    """Words without an end, and texts with such words in them."""
    word = draw(st.text(st.sampled_from(string.ascii_letters + string.digits + "+/"), min_size=1, max_size=60))
    return draw(TEXTS) + word * draw(st.integers(1, 3 * MEDIA_CHARS // len(word))) + draw(TEXTS)


KEYS = st.sampled_from(["text", "content", "data", "result", "audio", "delta", "url", "type", "x"])


@given(st.dictionaries(KEYS, long_texts() | TEXTS, max_size=5))
@example({"data": "A" * 4000, "type": "input_text"})
def test_no_text_is_taken_for_media(value: dict[str, str]) -> None:
    assume("base64" not in str(value) and "/9j/" not in str(value))
    body = json.dumps([value, {"nested": value}]).encode()
    assert extract_media(body) == (body, [])


@st.composite
def media(draw: st.DrawFn) -> Any:
    """An object with media in it."""
    head = draw(st.sampled_from([PNG[:8], JPEG[:6], WAV[:12], PDF[:5], b"GIF89a", b"OggS", b"ID3\4\0"]))
    data = head + draw(st.binary(max_size=50)) * draw(st.integers(30, 90))
    return draw(
        st.sampled_from([{"url": url(data)}, {"b64_json": b64(data)}, {"audio": {"data": b64(data)}}, [b64(data)]])
    )


@given(st.lists(media() | st.builds(lambda text: {"text": text}, long_texts()), max_size=6))
def test_what_was_taken_out_comes_back_byte_for_byte(parts: list[Any]) -> None:
    body = json.dumps(parts).encode()
    rest, found = extract_media(body)
    assert json.loads(rest) is not None
    assert restore_media(rest, {one.hash: one.data for one in found}.get) == body
    assert extract_media(rest) == (rest, [])


@given(st.lists(media(), min_size=1, max_size=4), st.integers(1, 9000))
def test_reads_keep_their_times_and_other_bytes_however_they_were_cut(parts: list[Any], size: int) -> None:
    stream = b"".join(b"data: %b\n\n" % json.dumps(part).encode() for part in parts)
    reads = [(at, stream[at : at + size]) for at in range(0, len(stream), size)]
    kept, found = extract_from_reads(reads)
    assert [time for time, _ in kept] == [time for time, _ in reads]
    whole = b"".join(data for _, data in kept)
    assert whole == extract_media(stream)[0]
    assert restore_media(whole, {one.hash: one.data for one in found}.get) == stream


def test_reads_without_media_are_the_same_object() -> None:
    reads = [(1, b'data: {"text": "Hi"}\n\n')] * 500
    assert extract_from_reads(reads)[0] is reads


def test_what_was_cut_is_no_medium_and_what_stands_before_it_is() -> None:
    parts = [{"url": url(PNG)}, {"url": url(JPEG)}]
    body = json.dumps({"content": parts}).encode()
    assert len(extract_media(body, cut=True)[1]) == 1
    assert len(extract_media(body, cut=True, at_end=False)[1]) == 1
    more = json.dumps({"content": [*parts, {"text": "and"}]}).encode()
    assert len(extract_media(more, cut=True)[1]) == 2
    assert len(extract_media(more, cut=True, at_end=False)[1]) == 1


def test_audio_put_together_from_padded_pieces_is_one_recording() -> None:
    pieces = [NOISE[:1000], NOISE[1000:2001], NOISE[2001:]]
    body = json.dumps({"audio": {"data": "".join(map(b64, pieces))}}).encode()
    rest, [recording] = extract_media(body)
    assert recording.data == NOISE
    assert json.loads(rest) == {"audio": {"data": reference(NOISE, "audio/pcm")}}


@pytest.mark.parametrize("text", [reference(PNG, "image/png"), reference(PNG, "image/png", "&form=data")])
def test_hash_of_a_reference(text: str) -> None:
    digest = hashlib.sha256(PNG).hexdigest()
    assert media_hash(text) == media_hash(digest) == media_hash(f"media://sha256/{digest}") == digest


@pytest.mark.parametrize("text", ["", "x", "0" * 63, "0" * 65, "F" * 64, "media://md5/" + "0" * 64, "media://sha256/"])
def test_what_is_no_reference(text: str) -> None:
    assert media_hash(text) is None


def test_references_to_unknown_media_stay() -> None:
    body = json.dumps({"url": reference(PNG, "image/png")}).encode()
    assert restore_media(body, lambda _: None) == body


@given(st.lists(media(), min_size=1, max_size=3), st.integers(0, 9000), st.integers(0, 9000), st.binary(max_size=20))
def test_any_bytes_come_back_whatever_was_cut_off_or_broken(
    parts: list[Any], start: int, end: int, junk: bytes
) -> None:
    whole = json.dumps(parts).encode()
    middle = start % len(whole)
    for body in (whole[start:], whole[: -end or None], whole[:middle] + junk + whole[middle:]):
        rest, found = extract_media(body)
        assert restore_media(rest, {one.hash: one.data for one in found}.get) == body
