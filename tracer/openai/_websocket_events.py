"""Reading an event of a WebSocket session, only as far as the caller's thread needs it.

The thread needs to know which response an event belongs to, and how much audio it holds. No object of the whole event
is built: a parser that skips unknown fields decodes the head, and audio is found and measured without decoding anything
(openai-sdk-notes: the SDK itself takes 10 to 100 µs an event).
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["EDGE", "NO_HEAD", "Head", "as_bytes", "heard", "measured", "read_head", "spoken", "without_audio"]

EDGE = 400  # bytes at the start of an event in which it says what it is, unless its audio comes first
# GA and beta Realtime, Responses, Translations and Live.
_AUDIO_IN = re.compile(rb'"type"\s*:\s*"(?:response\.(?:output_)?audio|session\.output_audio)\.delta"')
_AUDIO_OUT = re.compile(rb'"type"\s*:\s*"(?:session\.)?input_audio(?:_buffer)?\.append"')
_AUDIO_TYPES = frozenset(
    {
        *("response.output_audio.delta", "response.audio.delta", "session.output_audio.delta"),
        *("input_audio_buffer.append", "session.input_audio_buffer.append", "session.input_audio.append"),
    }
)
_AUDIO_TEXT = re.compile(rb'("audio"\s*:\s*)"([A-Za-z0-9+/]{256,}={0,2})"')


class _Response(msgspec.Struct, gc=False):
    id: str | None = None


class _Session(msgspec.Struct, gc=False):
    model: str | None = None


class _Error(msgspec.Struct, gc=False):
    code: str | None = None
    event_id: str | None = None


class Head(msgspec.Struct, gc=False):
    """The fields of an event that say where it belongs.

    Attributes:
        type: ``response.created``, ….
        event_id: The sender's own id of the event.
        response_id: Realtime: the id of the response that the event is part of.
        stream_id: Responses: the lane, if the request named one.
        item_id: The id of the conversation item that the event is about.
        response: The response itself, where the event brings it.
        session: The session's configuration, where the event brings it.
        error: What an ``error`` event says.
    """

    type: str = ""
    event_id: str | None = None
    response_id: str | None = None
    stream_id: str | None = None
    item_id: str | None = None
    response: _Response | None = None
    session: _Session | None = None
    error: _Error | None = None


NO_HEAD = Head()
_decode = msgspec.json.Decoder(Head).decode


def read_head(data: bytes) -> Head:
    """Return the head of an event; `NO_HEAD` if it is not a JSON object, or not of a known shape."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NO_HEAD


def heard(data: bytes) -> int | None:
    """Return how many bytes of audio a server's event brings, from a quick look; None if it is not audio.

    Events that do not begin the way servers write them are left to `read_head` and `measured`.
    """
    if data.find(b'audio.delta"', 0, EDGE) < 0 or _AUDIO_IN.search(data, 0, EDGE) is None:
        return None
    return _audio_size(data, b'"delta"')


def spoken(data: bytes) -> int | None:
    """Return the same for a client's event."""
    if data.find(b'.append"', 0, EDGE) < 0 or _AUDIO_OUT.search(data, 0, EDGE) is None:
        return None
    return _audio_size(data, b'"audio"')


def measured(head: Head, data: bytes) -> int | None:
    """Return the same for any event whose head was read."""
    if head.type not in _AUDIO_TYPES:
        return None
    return _audio_size(data, b'"audio"' if head.type.endswith("append") else b'"delta"')


def _audio_size(data: bytes, key: bytes) -> int:
    """Return how many bytes the base64 under a key stands for, 0 if there is none. Base64 contains no JSON escapes."""
    found = data.find(key)
    start = data.find(b'"', found + len(key)) + 1 if found >= 0 else 0
    end = data.find(b'"', start) if start else -1
    if end <= start:
        return 0
    padding = (data[end - 1] == _PAD) + (data[end - 2] == _PAD)
    return (end - start - padding) * 3 // 4


_PAD = ord("=")


def without_audio(data: bytes) -> bytes:
    """Return an event with long base64 under ``audio`` replaced by its size; the same bytes if it has none."""
    if len(data) < 256 or b'"audio"' not in data:
        return data
    return _AUDIO_TEXT.sub(_name_size, data)


def _name_size(found: re.Match[bytes]) -> bytes:
    size = len(found[2].rstrip(b"=")) * 3 // 4
    return b'%s"[%d bytes of audio]"' % (found[1], size)


def as_bytes(data: object) -> bytes | None:
    """Return a message as bytes; None for what is neither bytes nor text (websockets also sends fragments)."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace")
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else None
