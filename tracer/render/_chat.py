"""Conversations of chat, the legacy completions, and whatever else has ``messages`` or ``choices``."""

from __future__ import annotations

from typing import Any

from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret.tools import chat_tool_calls
from tracer.render._conversation import (
    Call,
    Conversation,
    Message,
    Part,
    Path,
    parsed_json,
    read_audio,
    read_content,
    split_fields,
)
from tracer.render._media import MediaLinks

__all__ = ["chat_message", "read_choices", "read_messages", "read_prompts"]

_THOUGHTS = ("reasoning", "reasoning_content")  # fields of compatible servers


def read_messages(body: dict[str, Any], links: MediaLinks) -> Conversation:
    """Read a request with ``messages``."""
    messages = [chat_message(item, ["inputs", "messages", at], links) for at, item in enumerate(body["messages"])]
    fields, unset = split_fields(body, {"messages", "tools", "functions"})
    return Conversation(messages=messages, fields=fields, unset=unset)


def chat_message(item: dict[str, Any], path: Path, links: MediaLinks) -> Message:
    """Read one message of chat, of a request or of a response."""
    parts = [Part(kind="reasoning", text=text) for key in _THOUGHTS if (text := as_text(item.get(key)))][:1]
    parts += read_content(item.get("content"), links)
    if refusal := as_text(item.get("refusal")):
        parts.append(Part(kind="refusal", text=refusal))
    if sound := as_dict(item.get("audio")):
        parts += read_audio(sound, links)
    calls = [
        Call(name=as_text(call["name"]) or "?", arguments=_parsed(call["arguments"]), call_id=as_text(call["id"]))
        for call in chat_tool_calls(item)
    ]
    return Message(
        role=as_text(item.get("role")) or "?",
        parts=parts,
        calls=calls,
        title=as_text(item.get("name")) or "",
        answers=as_text(item.get("tool_call_id")),
        path=path,
    )


def _parsed(arguments: Any) -> Any:
    text = as_text(arguments) or ""
    value = parsed_json(text)
    return text if value is None else value


def read_choices(body: dict[str, Any], links: MediaLinks) -> Conversation:
    """Read a response with ``choices``, chat's or the legacy completions'."""
    choices = as_dicts(body["choices"])
    messages = [_choice(choice, at, len(choices), links) for at, choice in enumerate(choices)]
    fields, unset = split_fields(body, {"choices", "usage"})
    return Conversation(messages=messages, fields=fields, unset=unset)


def _choice(choice: dict[str, Any], at: int, count: int, links: MediaLinks) -> Message:
    path: Path = ["outputs", "choices", at]
    if type(choice.get("message")) is dict:
        said = {**choice["message"], "role": as_text(choice["message"].get("role")) or "assistant"}
        message = chat_message(said, [*path, "message"], links)
    else:
        message = Message(role="assistant", parts=read_content(choice.get("text"), links), path=path)
    words = [f"choice {at + 1}"] if count > 1 else []
    reason = as_text(choice.get("finish_reason"))
    words += [reason] if reason and reason != "stop" else []
    message.title = ", ".join(words)
    return message


def read_prompts(body: dict[str, Any], key: str, links: MediaLinks) -> Conversation:
    """Read a request whose texts are under one key: a prompt, or texts to be embedded, spoken or moderated."""
    given = body[key]
    many = type(given) is list and all(isinstance(item, str) for item in given)
    pieces = given if many else [given]
    messages = [
        Message(role="user", parts=_prompt(piece, links), title=f"{at + 1} of {len(pieces)}" if many and at else "")
        for at, piece in enumerate(pieces[:100])
    ]
    for at, message in enumerate(messages):
        message.path = ["inputs", key, at] if many else ["inputs", key]
    if instructions := as_text(body.get("instructions")):
        messages.insert(
            0, Message(role="system", parts=read_content(instructions, links), path=["inputs", "instructions"])
        )
    fields, unset = split_fields(body, {key, "instructions"})
    if len(pieces) > len(messages):
        fields = {"texts": len(pieces), **fields}
    return Conversation(messages=messages, fields=fields, unset=unset)


def _prompt(piece: Any, links: MediaLinks) -> list[Part]:
    return [Part(kind="plain", text=piece)] if isinstance(piece, str) else read_content(piece, links)
