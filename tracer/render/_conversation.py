"""What a call was given and returned, in one shape for every API: messages of parts and tool calls."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.render._media import MediaLinks, Shown

__all__ = ["Call", "Conversation", "Message", "Part", "Path", "bounded", "parsed_json", "read_content", "split_fields"]

Path = list[str | int]
"""Where something is in the span's JSON: ``["inputs", "messages", 3]``."""

MAX_PARTS = 200
MAX_MESSAGES = 400
_FOLDED_ROLES = frozenset({"system", "developer"})
_FOLD_CHARS = 400  # a shorter message need not be folded


class Part(msgspec.Struct, kw_only=True):
    """A piece of a message.

    Attributes:
        kind: ``text`` (Markdown), ``plain`` (as it is), ``json``, ``code``, ``media``, ``refusal``, ``reasoning`` or
            ``link``.
        text: The text, for all kinds except ``json`` and ``media``.
        value: The value, for ``json``.
        label: The words shown above the part: a language for ``code``, a file's name for ``media``.
    """

    kind: str
    text: str = ""
    value: Any = None
    label: str = ""
    media: Shown | None = None


class Call(msgspec.Struct, kw_only=True):
    """A tool call, with its results where they are known.

    Attributes:
        arguments: Parsed if they are JSON, otherwise the text.
        ran_by_api: A built-in tool, which OpenAI ran itself.
        span_id: The id of the span in which the tool was run, or which sent its result.
    """

    name: str
    arguments: Any
    call_id: str | None = None
    ran_by_api: bool = False
    status: str = ""
    results: list[Part] = msgspec.field(default_factory=list)
    span_id: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """One message.

    Attributes:
        role: ``system``, ``user``, ``assistant``, ``tool``, …; anything that the API or a server says.
        title: The words beside the role: a name, ``choice 2``, a finish reason.
        answers: The id of the tool call whose result this message is.
        path: Where it is in the span's JSON, so that it can be copied as it was sent.
    """

    role: str
    parts: list[Part] = msgspec.field(default_factory=list)
    calls: list[Call] = msgspec.field(default_factory=list)
    title: str = ""
    answers: str | None = None
    path: Path = msgspec.field(default_factory=list)

    @property
    def is_folded(self) -> bool:
        """Whether it starts closed: instructions that are not short, because they are the same in every call."""
        return self.role in _FOLDED_ROLES and sum(len(part.text) for part in self.parts) > _FOLD_CHARS


class Conversation(msgspec.Struct, kw_only=True):
    """One side of a call: its messages, or a value where it has none.

    Attributes:
        fields: The fields beside the messages; `unset` names the fields that are empty.
        value: Shown as a tree if there are no messages.
    """

    messages: list[Message] = msgspec.field(default_factory=list)
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    unset: list[str] = msgspec.field(default_factory=list)
    value: Any = None


def bounded(messages: list[Message]) -> list[Message]:
    """Return the first and the last messages of a very long conversation, with a note in place of the others."""
    left = len(messages) - MAX_MESSAGES
    if left <= 0:
        return messages
    words = f"{left:,} messages are left out here; they are in the JSON"
    half = MAX_MESSAGES // 2
    return [*messages[:half], Message(role="…", parts=[Part(kind="plain", text=words)]), *messages[-half:]]


def split_fields(body: dict[str, Any], shown: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that are not empty and not `shown` elsewhere, and the names of the empty fields."""
    rest = {key: value for key, value in body.items() if key not in shown}
    unset = [key for key, value in rest.items() if value is None or value == {} or value == [] or value == ""]
    return {key: value for key, value in rest.items() if key not in unset}, unset


def parsed_json(text: str) -> Any:
    """Return the value of a text that is a JSON object or list; None for any other text."""
    if text[:1].strip() not in ("{", "[") and text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if type(value) in (dict, list) else None


def text_part(text: str) -> Part:
    """Return a text as JSON if it is JSON (structured outputs, tools' results), otherwise as Markdown."""
    value = parsed_json(text)
    return Part(kind="text", text=text) if value is None else Part(kind="json", value=value)


def read_content(content: Any, links: MediaLinks) -> list[Part]:
    """Return the parts of a message's ``content``: a text, or a list of typed parts of either API."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [text_part(content)]
    if type(content) is not list:
        return [Part(kind="json", value=content)]
    parts = [part for item in content[:MAX_PARTS] for part in _read_part(item, links)]
    left = len(content) - MAX_PARTS
    return parts if left <= 0 else [*parts, Part(kind="plain", text=f"… {left:,} more parts, which are in the JSON")]


def _read_part(item: Any, links: MediaLinks) -> list[Part]:
    if isinstance(item, str):
        return [text_part(item)] if item else []
    if type(item) is not dict:
        return [Part(kind="json", value=item)]
    kind = as_text(item.get("type")) or ""
    if kind == "refusal" or as_text(item.get("refusal")):
        return [Part(kind="refusal", text=as_text(item.get("refusal")) or "")]
    if kind in ("thinking", "summary_text", "reasoning_text"):
        thought = item.get("thinking") if kind == "thinking" else item.get("text")
        return [Part(kind="reasoning", text=_joined(thought))]
    if medium := read_medium(item, links):
        return medium
    text = item.get("text")
    if type(text) is dict:  # assistants: {"value", "annotations"}
        text = text.get("value")
    if isinstance(text, str):
        return [text_part(text), *_citations(item)]
    return [Part(kind="json", value=item)]


def _joined(thought: Any) -> str:
    """Return the text of a thought, which Mistral sends in parts."""
    if isinstance(thought, str):
        return thought
    return "\n\n".join(as_text(part.get("text")) or "" for part in as_dicts(thought))


def _citations(item: dict[str, Any]) -> list[Part]:
    """Return the sources that a text names."""
    found = [as_dict(note.get("url_citation")) or note for note in as_dicts(item.get("annotations"))]
    links = [(as_text(note.get("title")) or url, url) for note in found if (url := as_text(note.get("url")))]
    return [Part(kind="link", text=url, label=title) for title, url in dict.fromkeys(links)]


def read_medium(item: dict[str, Any], links: MediaLinks) -> list[Part]:
    """Return an image, a recording or a file in any form that the APIs use; an empty list if it is none of these."""
    image = item.get("image_url")
    address = as_text(image) or as_text(as_dict(image).get("url"))
    if address is not None:
        return [_media_part(address, None, "image", links)]
    for key in ("input_audio", "audio", "output_audio"):
        if sound := as_dict(item.get(key)):
            return read_audio(sound, links)
    if item.get("type") in ("input_image", "input_file", "file", "output_image"):
        file = as_dict(item.get("file")) or item
        name = as_text(file.get("filename")) or as_text(file.get("file_id")) or as_text(file.get("file_url")) or ""
        data = as_text(file.get("file_data"))
        return [_media_part(data or "", "application/octet-stream", name or "file", links)]
    return []


def read_audio(sound: dict[str, Any], links: MediaLinks) -> list[Part]:
    """Return a recording and its transcript."""
    parts = []
    if (data := as_text(sound.get("data"))) is not None:
        parts.append(_media_part(data, f"audio/{as_text(sound.get('format')) or 'pcm'}", "audio", links))
    if transcript := as_text(sound.get("transcript")):
        parts.append(Part(kind="text", text=transcript, label="transcript"))
    return parts or [Part(kind="json", value=sound)]


def _media_part(text: str, declared: str | None, label: str, links: MediaLinks) -> Part:
    shown = links.find(text, declared)
    if shown is not None:
        return Part(kind="media", media=shown, label=label)
    return Part(kind="link", text=text, label=label) if text else Part(kind="plain", text=label)
