"""The content type of some bytes: by the first of them, by the API's name for the format, or by a file's name."""

from __future__ import annotations

import mimetypes

__all__ = ["HEAD_BYTES", "declared_type", "is_container", "sniff"]

HEAD_BYTES = 16
"""How many bytes `sniff` looks at."""

# (offset, bytes, content type). Each is long enough that no text begins with it by chance.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"PK\x03\x04", "application/zip"),
)
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif", b"M4A ": "audio/mp4"}
# Containers: the first bytes do not say what is inside. A .docx, for example, is a .zip.
_CONTAINERS = frozenset({"application/zip", "audio/ogg", "video/mp4", "video/webm"})
# Markers that follow a JPEG's first: application segments, tables (ISO/IEC 10918-1, table B.1).
_JPEG_MARKERS = frozenset({0xDB, 0xC0, 0xC2, 0xC4, 0xEE, *range(0xE0, 0xEE)})
# The API's names for formats, where they differ from the MIME type.
_FORMATS = {
    "aac": "audio/aac",
    "flac": "audio/flac",
    "g711_alaw": "audio/PCMA",
    "g711_ulaw": "audio/PCMU",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "pcm": "audio/pcm",
    "pcm16": "audio/pcm",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "wav": "audio/wav",
    "webp": "image/webp",
}


def sniff(head: bytes) -> str | None:
    """Return the content type of data that begins with these bytes; None if it is not certain."""
    for offset, signature, content_type in _SIGNATURES:
        if head.startswith(signature, offset):
            return content_type
    if head[:3] == b"\xff\xd8\xff" and head[3:4] and head[3] in _JPEG_MARKERS:
        return "image/jpeg"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    return "audio/mpeg" if head[:3] == b"ID3" and head[3:5] in (b"\2\0", b"\3\0", b"\4\0") else None


def is_container(content_type: str) -> bool:
    """Tell whether the declared type of a file says more than its first bytes do."""
    return content_type in _CONTAINERS


def declared_type(kind: str | None, file_name: str | None = None) -> str | None:
    """Return the content type for a format as the API names it or for a MIME type; otherwise for a file's name."""
    if kind:
        return kind.partition(";")[0].strip() if "/" in kind else _FORMATS.get(kind.lower())
    return mimetypes.guess_type(file_name)[0] if file_name else None
