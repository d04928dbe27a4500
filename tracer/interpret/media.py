"""Media in JSON: base64 that is taken out of a body and stored once, and the reference that replaces it.

A reference is a text, so the JSON keeps its shape, and it says what it stands for without a look at the store::

    media://sha256/<64 hex digits>?type=image/png&bytes=12345              was base64
    media://sha256/<64 hex digits>?type=image/png&bytes=12345&form=data    was data:image/png;base64,…

The definition of media is narrow, because a text that is mistaken for media could no longer be searched. Media is
standard base64, padded, of at least `MEDIA_BYTES`, that is

- a data URL, also inside a longer text (a page, a tool's JSON in a text), or
- a whole string that begins like a PNG, JPEG, PDF, WAV, …, or
- a whole string under a key that the API uses for base64, or next to fields that say that it is audio (raw samples and
  pieces of a stream have no recognisable beginning).

Everything here works on bytes and knows no storage. Bodies without media are not decoded: a few points of the body are
enough to check, spaced so that a run of base64 of that length must lie across one of them.
"""

from __future__ import annotations

import binascii
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from tracer.interpret._content_types import HEAD_BYTES, declared_type, is_container, sniff
from tracer.interpret._json import as_text

__all__ = ["MEDIA_BYTES", "MEDIA_CHARS", "Medium", "extract_from_reads", "extract_media", "media_hash", "restore_media"]

MEDIA_BYTES = 1024
"""Smaller media stay in the body."""

MEDIA_CHARS = (MEDIA_BYTES + 2) // 3 * 4
"""… and as base64."""

_GLANCE = 64  # characters of base64 without a break: words and JSON don't have them
_STRIDE = MEDIA_CHARS - _GLANCE
_PIECE = 64 * 1024  # characters decoded in one call, which keeps the GIL: some 0.2 ms
_NEAR = 64 * 1024  # bytes before and after a string that are searched for the object that contains it

_run_at = re.compile(rb"[A-Za-z0-9+/=]{%d}" % _GLANCE).match
_whole_run_at = re.compile(rb"[A-Za-z0-9+/]+={0,2}").match
_joined_runs = re.compile(rb"[A-Za-z0-9+/]+={0,2}").findall
_HEAD = re.compile(rb"data:([\w.+-]+/[\w.+-]+(?:;[\w.-]+=[\w.+-]+)*);base64,\Z")
_HEAD_BYTES = 128
_TRIES = 64  # opening braces before it that are tried, the nearest first: most belong to objects that have ended
_from_base64 = msgspec.json.Decoder(bytes).decode  # takes half as long as binascii, and accepts no other alphabet
_KEY = re.compile(rb'"(\w{1,40})"\s*:\s*"\Z')
_KEY_BYTES = 64
_opening_braces = re.compile(rb'\{\s*"').finditer  # inside a string the quote would have a backslash
_decode_first = json.JSONDecoder().raw_decode
_OUTER_KEY = re.compile(rb'"(\w{1,40})"\s*:\s*\Z')
_CLOSING = re.compile(rb'"?[\]}\s]*\Z')
_CLOSING_BYTES = 512
_TYPE = re.compile(r"[\w.+-]+/[\w.+;=-]+", re.ASCII)
_REFERENCE = re.compile(rb"media://sha256/([0-9a-f]{64})\?type=([\w.+/;=-]+)&bytes=\d+(&form=data)?")
_HASH = re.compile(r"(?:media://sha256/)?([0-9a-f]{64})(?:\?.*)?")

# Keys that only ever hold base64: images, partial images, files.
_ALWAYS = frozenset({b"b64_json", b"file_data", b"partial_image_b64"})
# Keys that may hold audio: in an object under an audio key (messages, deltas), or in one whose type says audio.
_AUDIO_KEYS = frozenset({b"audio", b"data", b"delta"})
_AUDIO_OBJECTS = frozenset({b"audio", b"input_audio"})
_AUDIO_TYPES = frozenset(
    {
        "input_audio",
        "input_audio_buffer.append",
        "output_audio",
        "response.audio.delta",
        "response.output_audio.delta",
        "speech.audio.delta",
    }
)
_TYPE_KEYS = ("mime_type", "mimeType", "media_type", "content_type", "format", "output_format")
_OCTETS = "application/octet-stream"
_PCM = "audio/pcm"  # what chat streams and Realtime send, where nothing says otherwise


class Medium(NamedTuple):
    """An image, a recording, a file: its SHA-256 in hex, its content type, its bytes."""

    hash: str
    content_type: str
    data: bytes


class _Found(NamedTuple):
    """Where a medium is in a body, and what replaces it."""

    start: int
    end: int
    reference: bytes
    medium: Medium


Reads = Sequence[tuple[int, bytes]]


# --- taking out -----------------------------------------------------------------------------------------------------


def extract_media(body: bytes, *, cut: bool = False, at_end: bool = True) -> tuple[bytes, list[Medium]]:
    """Return a JSON text with references for its media, and the media; the same bytes if it has none.

    Args:
        body: UTF-8. It may be incomplete.
        cut: Part of it was cut off, and the text was closed again. A string that may have been cut is not a medium.
        at_end: The cut was at the end of the text, not at the end of some string inside it.
    """
    found = _find(body)
    if found and cut and (not at_end or _CLOSING.match(body[found[-1].end :][:_CLOSING_BYTES])):
        found.pop()
    if not found:
        return body, []
    return _replaced(body, found, [one.end for one in found], 0, len(body)), [one.medium for one in found]


def extract_from_reads(reads: Reads) -> tuple[Reads, list[Medium]]:
    """Do the same to the decompressed reads of a stream, wherever these were cut; the same reads if it has no media.

    Each read keeps its time. A reference is in the read in which its medium began. Reads that held only a part of a
    medium become empty.
    """
    body = b"".join([data for _, data in reads])
    found = _find(body)
    if not found:
        return reads, []
    ends = [one.end for one in found]
    kept, start = [], 0
    for time_ns, data in reads:
        end = start + len(data)
        kept.append((time_ns, _replaced(body, found, ends, start, end)))
        start = end
    return kept, [one.medium for one in found]


def _replaced(body: bytes, found: list[_Found], ends: list[int], start: int, end: int) -> bytes:
    """Return a part of a body. Media that begin in it become references; the rest of earlier media is removed."""
    pieces, at = [], start
    for one in found[bisect_right(ends, start) :]:
        if one.start >= end:
            break
        if one.start >= start:
            pieces += [body[at : one.start], one.reference]
        at = min(one.end, end)
    pieces.append(body[at:end])
    return b"".join(pieces)


# --- finding --------------------------------------------------------------------------------------------------------


def _find(body: bytes) -> list[_Found]:
    found: list[_Found] = []
    at, past, size = _STRIDE, 0, len(body)
    while at < size:
        if _run_at(body, at) is not None:
            one, past = _found_around(body, past, at)
            if one is not None:
                found.append(one)
            at = past
        at += _STRIDE
    return found


def _found_around(body: bytes, past: int, at: int) -> tuple[_Found | None, int]:
    """Return the medium that lies across `at` and begins at `past` or later, and where to continue the search."""
    window = max(past, at - _STRIDE - 1)
    start = max(window, body.rfind(b'"', window, at) + 1, body.rfind(b",", window, at) + 1)
    before = body[start - 1 : start]
    if before == b",":
        head = _HEAD.search(body[max(0, start - _HEAD_BYTES) : start])
        one = None if head is None else _data_url(body, start, head)
        return one, at if one is None else one.end
    end = body.find(b'"', at) if before == b'"' else -1
    if end < 0 or body.find(b",", start, end) >= 0:  # a text, which may still contain a data URL
        return None, at
    return _bare(body, start, end), end


def _bare(body: bytes, start: int, end: int) -> _Found | None:
    """Return a whole string as a medium, if it is one."""
    content_type = _content_type(body, start, end) if end - start >= MEDIA_CHARS else None
    if content_type is None or (data := _decode(body[start:end])) is None:
        return None
    return _make(start, end, data, content_type)


def _data_url(body: bytes, start: int, head: re.Match[bytes]) -> _Found | None:
    quote = body.find(b'"', start)
    if quote - start < MEDIA_CHARS:
        return None
    end, data = quote, _decode(body[start:quote])
    if data is None and (run := _whole_run_at(body, start, quote)):  # the data URL is inside a longer text
        end = run.end()
        data = _decode(body[start:end]) if end < quote and body[end] >= ord(" ") else None
    if data is None or len(data) < MEDIA_BYTES:
        return None
    return _make(start - len(head[0]), end, data, head[1].decode("ascii", "replace"), form="&form=data")


def _make(start: int, end: int, data: bytes, declared: str, form: str = "") -> _Found:
    digest = sha256(data).hexdigest()
    reference = f"media://sha256/{digest}?type={declared}&bytes={len(data)}{form}"
    seen = sniff(data[:HEAD_BYTES])
    content_type = declared if seen is None or is_container(seen) else seen
    return _Found(start, end, reference.encode(), Medium(digest, content_type, data))


def _decode(text: bytes) -> bytes | None:
    """Decode base64, a piece at a time; None if encoding the bytes again would not give `text`.

    Audio that was joined from the pieces of a stream may have padding in the middle: each piece was encoded by itself.
    """
    if b"\\" in text:
        return None
    parts = _joined_runs(text) if b"=" in text[:-2] else [text]
    if sum(map(len, parts)) != len(text) or not all(map(_ends_well, parts)):
        return None
    try:
        pieces = [part[at : at + _PIECE] for part in parts for at in range(0, len(part), _PIECE)]
        return b"".join([_from_base64(b'"%b"' % piece) for piece in pieces])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ends_well(part: bytes) -> bool:
    """Tell whether the unused bits behind the last byte are zero, as an encoder leaves them."""
    try:
        return binascii.b2a_base64(binascii.a2b_base64(part[-4:]), newline=False) == part[-4:]
    except binascii.Error:
        return False


# --- what it is -----------------------------------------------------------------------------------------------------


def _content_type(body: bytes, start: int, end: int) -> str | None:
    """Return the content type of a whole string; None if nothing shows that it is not plain text."""
    seen = _sniff_base64(body[start : start + 24])
    if seen is not None and not is_container(seen):
        return seen
    found = _KEY.search(body[max(0, start - _KEY_BYTES) : start])
    key = b"" if found is None else found[1]
    if key not in _ALWAYS and key not in _AUDIO_KEYS:
        return seen
    object_key, neighbours = _surroundings(body, start, end)
    kind = next((kind for name in _TYPE_KEYS if (kind := as_text(neighbours.get(name)))), None)
    declared = declared_type(kind, as_text(neighbours.get("filename")))
    if declared is not None and not _TYPE.fullmatch(declared):
        declared = None
    if key in _ALWAYS or seen is not None:
        return declared or seen or _OCTETS
    if as_text(neighbours.get("type")) in _AUDIO_TYPES or (key == b"data" and object_key in _AUDIO_OBJECTS):
        return declared or _PCM
    return declared if key == b"data" and kind is not None and "/" in kind else None


def _sniff_base64(text: bytes) -> str | None:
    try:
        return sniff(binascii.a2b_base64(text))
    except binascii.Error:
        return None


def _surroundings(body: bytes, start: int, end: int) -> tuple[bytes, dict[str, Any]]:
    """Return the key of the object that contains a string, and the object's other fields, as far as they are near."""
    near = body[max(0, start - _NEAR) : start]
    braces = [match.start() for match in _opening_braces(near)][-_TRIES:]
    for brace in reversed(braces):
        before, rest = _first_object(near[brace:] + b'"}')
        if before is not None and not rest:
            found = _OUTER_KEY.search(near[:brace][-_KEY_BYTES:])
            after, _ = _first_object(b'{"":"' + body[end : end + _NEAR])
            return (b"" if found is None else found[1]), {**before, **(after or {})}
    return b"", {}


def _first_object(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """Decode the object that `data` begins with, None if its end is missing; return also the text behind it."""
    text = data.decode("utf-8", "replace")
    try:
        value, end = _decode_first(text)
    except (ValueError, RecursionError):
        return None, text
    return (value if type(value) is dict else None), text[end:]


# --- putting back ---------------------------------------------------------------------------------------------------


def media_hash(reference: str) -> str | None:
    """Return the hash in a reference, or `reference` itself if it is a hash; None if it is neither."""
    match = _HASH.fullmatch(reference)
    return None if match is None else match[1]


def restore_media(body: bytes, find: Callable[[str], bytes | None]) -> bytes:
    """Return a body as it was before `extract_media`; if `find` does not know a medium, its reference stays."""

    def restore(match: re.Match[bytes]) -> bytes:
        data = find(match[1].decode())
        if data is None:
            return match[0]
        head = b"data:%b;base64," % match[2] if match[3] else b""
        return head + binascii.b2a_base64(data, newline=False)

    return _REFERENCE.sub(restore, body)
