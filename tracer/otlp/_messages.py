"""The ways in which conventions write messages, as messages of chat completions, which the page and the search know."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tracer.interpret import decode_json

__all__ = ["decoded", "from_flattened", "from_parts", "unflattened"]

_FINISH = {"tool_call": "tool_calls", "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


def decoded(value: Any) -> Any:
    """Return what JSON text holds; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return decode_json(value.encode("utf-8", "replace"))
    return value


def from_parts(messages: Any) -> list[dict[str, Any]]:
    """Return messages of OpenTelemetry's form: ``[{"role", "parts": [{"type", "content"}], "finish_reason"}]``.

    (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, the schemas of ``gen_ai.input.messages`` and
    ``gen_ai.output.messages``.) The answers of tools become messages of their own.
    """
    read: list[dict[str, Any]] = []
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        parts = message.get("parts")
        if not isinstance(parts, list):  # already as chat completions have it
            read.append(message)
            continue
        read += _of_message(message, [part for part in parts if isinstance(part, dict)])
    return read


def _of_message(message: dict[str, Any], parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told: dict[str, Any] = {"role": message.get("role") or "user"}
    texts = [part for part in parts if part.get("type") == "text"]
    calls = [part for part in parts if part.get("type") == "tool_call"]
    answers = [part for part in parts if part.get("type") == "tool_call_response"]
    thoughts = [part for part in parts if part.get("type") == "reasoning"]
    others = [part for part in parts if part not in texts + calls + answers + thoughts]
    if others:
        told["content"] = [{"type": "text", "text": part.get("content")} for part in texts] + others
    elif texts:
        told["content"] = "".join(str(part.get("content") or "") for part in texts)
    elif calls:
        told["content"] = None
    if thoughts:
        told["reasoning_content"] = "\n".join(str(part.get("content") or "") for part in thoughts)
    if calls:
        told["tool_calls"] = [_call(part.get("id"), part.get("name"), part.get("arguments")) for part in calls]
    if finish := message.get("finish_reason"):
        told["finish_reason"] = _FINISH.get(str(finish), finish)
    read = [told] if len(told) > 1 else []
    for part in answers:
        answer = part.get("response", part.get("result"))
        read.append({"role": "tool", "tool_call_id": part.get("id"), "content": _as_text(answer)})
    return read


def from_flattened(messages: Any) -> list[dict[str, Any]]:
    """Return messages of which each field was an attribute, as `unflattened` put them together again.

    Of OpenInference (``message.role``, ``message.tool_calls.0.tool_call.function.name``) and of OpenLLMetry's former
    form (``role``, ``content``, ``tool_calls.0.name``).
    """
    read: list[dict[str, Any]] = []
    for item in messages if isinstance(messages, list) else []:
        message = item.get("message", item) if isinstance(item, dict) else {}
        if not isinstance(message, dict) or not message:
            continue
        told: dict[str, Any] = {"role": message.get("role") or "user", "content": decoded_parts(message)}
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            told["tool_calls"] = [_flattened_call(call) for call in calls if isinstance(call, dict)]
        for name in ("tool_call_id", "name", "finish_reason"):
            if message.get(name):
                told[name] = message[name]
        read.append(told)
    return read


def decoded_parts(message: dict[str, Any]) -> Any:
    """Return the content of a flattened message: its text, or its parts."""
    contents = message.get("contents")
    if not isinstance(contents, list):
        content = message.get("content")
        parts = decoded(content)  # OpenLLMetry writes the parts of a message as JSON
        return parts if isinstance(parts, list) and all(isinstance(part, dict) for part in parts) else content
    parts = []
    for item in contents:
        part = item.get("message_content", item) if isinstance(item, dict) else {}
        if part.get("type") == "image":
            url = (part.get("image") or {}).get("image", {}).get("url")
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            parts.append({"type": part.get("type", "text"), "text": part.get("text")})
    return parts


def _flattened_call(call: dict[str, Any]) -> dict[str, Any]:
    call = call.get("tool_call", call)
    named = call.get("function")
    function = named if isinstance(named, dict) else call
    return _call(call.get("id"), function.get("name"), function.get("arguments"))


def _call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": _as_text(arguments)}}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_NUMBERED = re.compile(r"\d{1,4}")
_DEEPEST = 12  # parts of a key: no convention has more than eight


def unflattened(attributes: Mapping[str, Any], prefix: str) -> Any:
    """Put together what was flattened below a prefix: ``p.0.role`` and ``p.1.role`` give ``[{"role"}, {"role"}]``.

    Returns:
        A list or dict; None if there is nothing.
    """
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(f"{prefix}."):
            continue
        *path, last = key[len(prefix) + 1 :].split(".", _DEEPEST)
        place = tree
        for step in path:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                break
            place = inner
        else:
            place[last] = value
    return _listed(tree) if tree else None


def _listed(tree: dict[str, Any]) -> Any:
    values = {key: _listed(value) if isinstance(value, dict) else value for key, value in tree.items()}
    if values and all(_NUMBERED.fullmatch(key) for key in values):
        return [values[key] for key in sorted(values, key=int)]
    return values
