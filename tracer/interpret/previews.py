"""What people read first: one line for a list of traces, and plain text for full-text search."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tracer.interpret._json import encode_value

__all__ = [
    "PREVIEW_CHARS",
    "TEXT_CHARS",
    "content_text",
    "join_texts",
    "media_label",
    "one_line",
    "plain_text",
    "without_media",
]

PREVIEW_CHARS = 300  # more than a line of a list shows; each trace stores two previews
TEXT_CHARS = 16_000

_LONGEST_WORD = 512  # a shorter text is never taken for base64
_LONGEST_FOUND = 8_192  # nobody looks for a single word above it, and the index would hold it twice once it is deleted

# Fields that hold the words of a message's parts: text, input_text, output_text, summary_text, refusal, audio, file, …
_PART_TEXTS = ("text", "refusal", "transcript", "content", "filename")
_PART_FIELDS = frozenset(
    {*_PART_TEXTS, "annotations", "audio", "cache_control", "file", "image", "image_url", "input_audio", "logprobs"}
)

_ALPHABET = re.compile(r"[A-Za-z0-9+/_=-]+").fullmatch  # standard, or safe in URLs; pieces of audio end in =
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])").match
_SHORTEST_LINE = 60
_BASE64 = re.compile(r"[A-Za-z0-9+/]{256,}={0,2}")


def one_line(text: str | None) -> str | None:
    """Return `text` on one line of at most `PREVIEW_CHARS` characters; None if there is none."""
    if not text:
        return None
    start = text[: PREVIEW_CHARS + 1]
    if not start.isprintable() or "  " in start or text.find(";base64,", 0, 4 * PREVIEW_CHARS) >= 0:
        # White space is collapsed, so a few times the length is enough to look at; a whole megabyte would be too slow.
        start = text[: 4 * PREVIEW_CHARS]
        line = " ".join(without_media(start).split())
    else:  # one line already, as most are
        line = start.strip()
    if len(line) > PREVIEW_CHARS or (len(text) > len(start) and line):
        line = line[: PREVIEW_CHARS - 1] + "…"
    return line or None


def content_text(content: Any) -> str:
    """Return the words of a message's content: a text, or a list of parts of which the media are left out.

    Some servers send structured output as the JSON object itself, not as its text; then the words are that text.
    """
    if type(content) is str:
        # A short text that is no data URL is not media. Most texts are like this, so this is checked first.
        return "" if (len(content) > _LONGEST_WORD or content[:5] == "data:") and _is_media(content) else content
    if type(content) is dict:
        if not _is_part(content):
            return _object_text(content)
        content = [content]
    if type(content) is not list:
        return ""
    return "\n".join(text for part in content if (text := _part_text(part)))


def media_label(content: Any) -> str:
    """Return a label for content without words: ``[image_url]``, ``[input_image] [input_file]``, …."""
    parts = content if type(content) is list else []
    return " ".join(f"[{kind}]" for part in parts if type(part) is dict and type(kind := part.get("type")) is str)


def _part_text(part: Any) -> str:
    if type(part) is str:
        return part
    if type(part) is not dict:
        return ""
    for key in _PART_TEXTS:
        if type(value := part.get(key)) is str and value:
            return value
    if type(text := part.get("text")) is dict:
        return _object_text(text)
    return "" if _is_part(part) else _object_text(part)


def _is_part(content: dict[str, Any]) -> bool:
    """Tell whether an object is a part of a message, and not a JSON object that is the answer itself."""
    return "type" in content or content.keys() <= _PART_FIELDS


def _object_text(content: dict[str, Any]) -> str:
    return without_media(encode_value(content).decode())


def _is_media(text: str) -> bool:
    """Tell whether a text is encoded media: a data URL, or a long text that looks like base64 from its beginning.

    A long text without a space may also be minified JSON, CSV, a list of URLs, hex or a genome. Base64 of anything but
    silence has letters of both cases and digits, and no other punctuation; its lines, if it has any, are 64 or 76 long.
    """
    if text.startswith("data:") and ";base64," in text[:100]:
        return True
    return len(text) > _LONGEST_WORD and _is_base64(text[:_LONGEST_WORD])


def _is_base64(start: str) -> bool:
    lines = start.split()
    if len(lines) > 1 and (len(lines[0]) < _SHORTEST_LINE or len(set(map(len, lines[:-1]))) > 1):
        return False
    run = "".join(lines)
    return _ALPHABET(run) is not None and _is_mixed(run)


def _is_mixed(run: str) -> bool:
    """Tell base64 from other long runs of its letters. Nothing but A is silence."""
    return _MIXED(run) is not None or not run.strip("A=")


def without_media(text: str) -> str:
    """Return the beginning of a JSON text for people: without the base64 that may stand in it."""
    if len(text) < _LONGEST_WORD:
        return text
    return _BASE64.sub(lambda run: "…" if _is_mixed(run[0]) else run[0], text)


def plain_text(value: Any) -> str:
    """Return the texts in any JSON-like value for full-text search: no keys, no media, at most `TEXT_CHARS`."""
    texts: list[str] = []
    room, pending = TEXT_CHARS, [value]
    while pending and room > 0:
        node = pending.pop()
        if isinstance(node, str):
            if node and not _is_media(node) and not (len(node) > _LONGEST_FOUND and node.isalnum()):
                texts.append(node)
                room -= len(node) + 1
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
    if newest_last and len(kept) + sum(map(len, kept)) > TEXT_CHARS:
        kept = _last_within_limit(kept)
    return "\n".join(kept)[:TEXT_CHARS]


def _last_within_limit(texts: list[str]) -> list[str]:
    room, start = TEXT_CHARS, len(texts)
    while start > 0 and room > 0:
        start -= 1
        room -= len(texts[start]) + 1
    return texts[start:]
