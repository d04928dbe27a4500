"""Images and recordings: where the page finds them, and which of them a browser is shown.

On a server a ``media://`` reference is ``/api/media/{hash}``; in a file of its own it is a data URL. Nothing is ever
loaded from elsewhere, and only kinds that can't hold scripts are shown (no SVG, no HTML, no PDF).
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tracer._models import Media, Trace
from tracer.interpret.media import media_hash

__all__ = ["MediaLinks", "Shown", "playable", "references"]

_IMAGES = frozenset({"image/avif", "image/gif", "image/jpeg", "image/png", "image/webp"})
_SOUNDS = frozenset(
    {"aac", "flac", "m4a", "mp4", "mpeg", "mp3", "ogg", "opus", "wav", "wave", "webm", "x-wav", "x-m4a"}
)
_RAW_SOUNDS = frozenset({"audio/pcm", "audio/pcm16", "audio/l16"})
_PCM_RATE = 24_000  # Realtime's and chat's pcm16: 24 kHz, mono, little-endian
_REFERENCE = re.compile(
    r"media://sha256/[0-9a-f]{64}\?type=([\w.+-]+/[\w.+-]+)[\w.+/;=-]*(?:&bytes=(\d+))?(?:&form=data)?"
)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.-]+=[\w.+-]+)*;base64,([A-Za-z0-9+/=\s]+)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MAX_BYTES = 32 * 1024 * 1024  # of media in one file


class Shown(NamedTuple):
    """One medium on the page.

    Attributes:
        kind: ``image``, ``audio``, or ``file`` for media that are only named.
        url: Where it is; None if it is not at hand or must not be shown.
    """

    kind: str
    content_type: str
    size: int | None
    url: str | None


class MediaLinks:
    """Turns a text that stands for a medium into what the page shows.

    Args:
        base: The path that a server's own addresses begin with.
        media: The media by hash, for a page without a server; others are only named. None for a server.
    """

    def __init__(self, base: str = "", media: Mapping[str, Media] | None = None) -> None:
        self._base = base
        self._media = media

    def find(self, text: object, declared: str | None = None) -> Shown | None:
        """Return what a text stands for: a reference, a data URL or, if a type is `declared`, base64; else None."""
        if not isinstance(text, str):
            return None
        if match := _REFERENCE.fullmatch(text):
            return self._stored(text, match)
        if match := _DATA_URL.fullmatch(text):
            return _inline(match[1].lower(), match[2])
        if declared and _BASE64.fullmatch(text):
            return _inline(declared, text)
        return None

    def _stored(self, reference: str, match: re.Match[str]) -> Shown:
        found, size = media_hash(reference) or "", int(match[2]) if match[2] else None
        if self._media is None:
            query = "?as=wav" if match[1] in _RAW_SOUNDS else ""
            return Shown(_kind(match[1]), match[1], size, f"{self._base}/api/media/{found}{query}")
        medium = self._media.get(found)
        if medium is None:
            return Shown(_kind(match[1]), match[1], size, None)
        medium = playable(medium)
        kind = _kind(medium.content_type)
        return Shown(kind, medium.content_type, size, None if kind == "file" else _data_url(medium))


def playable(medium: Media) -> Media:
    """Return raw 16-bit samples as a WAV file that browsers play; anything else as it is."""
    if medium.content_type.partition(";")[0] not in _RAW_SOUNDS:
        return medium
    size = len(medium.data)
    head = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, _PCM_RATE, _PCM_RATE * 2, 2, 16, b"data", size
    )
    return Media(hash=medium.hash, content_type="audio/wav", data=head + medium.data)


def references(trace: Trace, *, max_bytes: int = _MAX_BYTES) -> Iterator[str]:
    """Yield each ``media://`` reference of a trace that a page could show, once, as long as there is room for it."""
    seen: set[str] = set()
    try:
        text = trace.to_json()
    except (RecursionError, TypeError, ValueError):  # such a trace can't come from a store
        return
    for match in _REFERENCE.finditer(text):
        size, found = int(match[2] or 0), media_hash(match[0]) or ""
        if found in seen or _kind(match[1]) == "file" or size > max_bytes:
            continue
        seen.add(found)
        max_bytes -= size
        yield match[0]


def by_hash(media: Iterable[Media]) -> dict[str, Media]:
    """Index media for `MediaLinks`."""
    return {medium.hash: medium for medium in media}


def _kind(content_type: str) -> str:
    content_type = content_type.lower()
    if content_type in _IMAGES:
        return "image"
    major, _, minor = content_type.partition("/")
    return "audio" if major == "audio" and (minor in _SOUNDS or content_type in _RAW_SOUNDS) else "file"


def _inline(content_type: str, text: str) -> Shown:
    kind, size = _kind(content_type), len(text) * 3 // 4
    if content_type in _RAW_SOUNDS:
        try:
            data = base64.b64decode(text)
        except ValueError:
            return Shown("file", content_type, size, None)
        return Shown(
            "audio", "audio/wav", size, _data_url(playable(Media(hash="", content_type=content_type, data=data)))
        )
    return Shown(kind, content_type, size, None if kind == "file" else f"data:{content_type};base64,{text}")


def _data_url(medium: Media) -> str:
    return f"data:{medium.content_type};base64,{base64.b64encode(medium.data).decode()}"
