"""What people read first: one line for a list of traces, and plain text for full-text search."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tracer.interpret._json import encode_value
from tracer.interpret.base64_in_text import SHORTEST, find_base64

__all__ = [
    "PREVIEW_CHARS",
    "TEXT_CHARS",
    "content_text",
    "join_texts",
    "media_label",
    "one_line",
    "part_text",
    "plain_text",
    "without_media",
    "words_of",
]

PREVIEW_CHARS = 300  # more than a line of a list shows; each trace stores two previews
TEXT_CHARS = 16_000

_LONGEST_FOUND = 8_192  # nobody looks for a single word above it, and the index would hold it twice once it is deleted

# Fields that hold the words of a message's parts: text, input_text, output_text, summary_text, refusal, audio, file, …
_PART_TEXTS = ("text", "refusal", "transcript", "content", "filename")
_PART_FIELDS = frozenset(
    {*_PART_TEXTS, "annotations", "audio", "cache_control", "file", "image", "image_url", "input_audio", "logprobs"}
)

# What the APIs and their compatible servers call the parts of a message.
_is_kind = re.compile(
    r"(?:\w+_)?(?:text|image|audio|video|file|refusal|screenshot|document|thinking|reasoning)(?:_url|_file|_data)?"
    r"|tool_(?:use|call|result)|output_transcript"
).fullmatch


def one_line(text: str | None) -> str | None:
    """Return `text` on one line of at most `PREVIEW_CHARS` characters, without media; None if there is none."""
    if not text:
        return None
    # White space is collapsed, so a few times the length is enough to look at; a whole megabyte would be too slow.
    shown = without_media(text, 4 * PREVIEW_CHARS)
    start = shown[: PREVIEW_CHARS + 1]
    if not start.isprintable() or "  " in start:
        start = shown[: 4 * PREVIEW_CHARS]
        line = " ".join(start.split())
    else:  # one line already, as most are
        line = start.strip()
    if len(line) > PREVIEW_CHARS or (len(shown) > len(start) and line):
        line = line[: PREVIEW_CHARS - 1] + "…"
    return line or None


def content_text(content: Any) -> str:
    """Return the words of a message's content: a text, or a list of parts. The media in it are left out.

    Some servers send structured output as the JSON object itself, not as its text, or a number; then the words are
    that text.
    """
    if type(content) is str:
        if len(content) < SHORTEST and ";base64," not in content:  # nearly every message: nothing to look for
            return content
        return words_of(content)
    if type(content) is dict and not _is_part(content):
        return _json_text(content)
    return "\n".join(text for part in _parts(content) if (text := part_text(part)))


def media_label(content: Any) -> str:
    """Return a label for content without words: ``[image_url]``, ``[input_image] [input_file]``, ``[media]``, …."""
    if type(content) is str:
        return "[media]" if content and not words_of(content) else ""
    return " ".join(label for part in _parts(content) if (label := _part_label(part)))


def _part_label(part: Any) -> str:
    if type(part) is not dict:
        return media_label(part) if type(part) is str else ""
    if type(part.get("text")) is str and (label := media_label(part["text"])):
        return label
    return f"[{kind}]" if type(kind := part.get("type")) is str else ""


def _parts(content: Any) -> list[Any]:
    return content if type(content) is list else [] if content is None else [content]


def part_text(part: Any) -> str:
    """Return the words of one part of a message's content, which may be a text or an object."""
    if type(part) is str:
        return words_of(part)
    if type(part) is not dict:
        return "" if part is None else _json_text(part)
    for key in _PART_TEXTS:
        if type(value := part.get(key)) is str and value:
            return content_text(value)
    if type(text := part.get("text")) is dict:
        return _json_text(text)
    return "" if _is_part(part) else _json_text(part)


def _is_part(content: dict[str, Any]) -> bool:
    """Tell whether an object is a part of a message, and not a JSON object that is the answer itself."""
    if "type" in content:
        return type(kind := content["type"]) is str and _is_kind(kind) is not None
    return content.keys() <= _PART_FIELDS


def _json_text(value: Any) -> str:
    return without_media(encode_value(value).decode())


def words_of(text: str) -> str:
    """Return a text without media; nothing if it is nothing else, such as a data URL."""
    shown = without_media(text)
    return "" if shown is not text and not shown.strip("… \t\r\n") else shown


def without_media(text: str, limit: int = TEXT_CHARS) -> str:
    """Return a text, or JSON text, for people: with an ellipsis for the base64 that may stand in it.

    Args:
        text: Of any length.
        limit: Where there are media, what lies beyond so many characters of the rest may be left out.
    """
    if (len(text) < SHORTEST and ";base64," not in text) or not (media := find_base64(text, limit)):
        return text
    pieces, past, room = [], 0, limit
    for start, end in media:
        pieces.append(text[past:start])
        room, past = room - (start - past), end
    return "…".join([*pieces, text[past : past + max(0, room)]])


def plain_text(value: Any) -> str:
    """Return the texts in any JSON-like value for full-text search: no keys, no media, at most `TEXT_CHARS`."""
    texts: list[str] = []
    room, pending = TEXT_CHARS, [value]
    while pending and room > 0:
        node = pending.pop()
        if isinstance(node, str):
            if (text := words_of(node)) and not (len(text) > _LONGEST_FOUND and text.isascii() and text.isalnum()):
                texts.append(text)
                room -= len(text) + 1
        elif isinstance(node, dict):
            pending.extend(reversed(node.values()))
        elif isinstance(node, (list, tuple)):
            pending.extend(reversed(node))
    return join_texts(texts)


def join_texts(texts: Iterable[str | None], *, newest_last: bool = False) -> str:
    """Join texts for full-text search, at most `TEXT_CHARS` characters.

    Args:
        texts: In reading order.
        newest_last: If they don't all fit, keep the last ones: a conversation's earlier turns can be found in earlier
            calls.
    """
    kept = [text for text in texts if text]
    if len(kept) == 1:
        return kept[0][:TEXT_CHARS]
    if newest_last and len(kept) + sum(map(len, kept)) > TEXT_CHARS:
        kept = _last_within_limit(kept)
    return "\n".join(kept)[:TEXT_CHARS]


def _last_within_limit(texts: list[str]) -> list[str]:
    room, start = TEXT_CHARS, len(texts)
    while start > 0 and room > 0:
        start -= 1
        room -= len(texts[start]) + 1
    return texts[start:]
