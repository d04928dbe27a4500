"""The messages of a call to OpenAI's APIs in OpenTelemetry's form: ``[{"role", "parts": [{"type", …}]}]``.

(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/, the schemas of ``gen_ai.input.messages``,
``gen_ai.output.messages`` and ``gen_ai.system_instructions``.) `tracer.otlp._messages` goes the other way.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tracer.otlp._messages import decoded

__all__ = ["Messages", "read_messages"]

Message = dict[str, Any]

_TEXTS = ("text", "input_text", "output_text")
_FINISH = {"tool_calls": "tool_call", "function_call": "tool_call"}
_REASON = {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}


class Messages(msgspec.Struct):
    """What a model call was asked and what it answered.

    Attributes:
        system: Parts of instructions that were given beside the messages, as Responses have them.
        asked: Messages, the oldest first; `answered` has one for each choice.
    """

    system: list[dict[str, Any]] = msgspec.field(default_factory=list)
    asked: list[Message] = msgspec.field(default_factory=list)
    answered: list[Message] = msgspec.field(default_factory=list)


def read_messages(operation: str | None, inputs: Any, outputs: Any) -> Messages:
    """Return the messages of a call; none where a body is not known to have some.

    Args:
        operation: As in the attribute ``tracer.operation``; None for another library's call.
        inputs: The request's body.
        outputs: The answer's body.
    """
    request = inputs if type(inputs) is dict else {}
    answer = outputs if type(outputs) is dict else {}
    told = Messages()
    if operation == "embeddings":
        return told
    if isinstance(request.get("messages"), list):
        told.asked = _of_chat(request["messages"])
    elif "input" in request:
        told.system = _parts(request.get("instructions"))
        told.asked = _of_items(request["input"])
    elif "prompt" in request:
        prompts = request["prompt"] if isinstance(request["prompt"], list) else [request["prompt"]]
        told.asked = [{"role": "user", "parts": _parts(text)} for text in prompts if isinstance(text, str)]
    if isinstance(answer.get("choices"), list):
        told.answered = [_of_choice(choice) for choice in answer["choices"] if isinstance(choice, dict)]
    elif isinstance(answer.get("output"), list):
        told.answered = _of_output(answer)
    return told


def _of_chat(messages: list[Any]) -> list[Message]:
    return [_of_message(message) for message in messages if isinstance(message, dict)]


def _of_message(message: Message) -> Message:
    """Return a message of chat completions. The answer of a tool is a part of its own."""
    role = str(message.get("role") or "user")
    if role == "tool":
        parts = [_answer_part(message.get("tool_call_id"), message.get("content"))]
    else:
        thought = message.get("reasoning_content") or message.get("reasoning")
        parts = [{"type": "reasoning", "content": thought}] if isinstance(thought, str) else []
        parts += _parts(message.get("content"))
        if isinstance(refusal := message.get("refusal"), str):
            parts.append({"type": "refusal", "content": refusal})
        calls = message.get("tool_calls")
        parts += [_call_part(call) for call in calls or () if isinstance(call, dict)]
        if isinstance(message.get("function_call"), dict):
            parts.append(_call_part({"function": message["function_call"]}))
    told: Message = {"role": role, "parts": parts}
    if isinstance(message.get("name"), str):
        told["name"] = message["name"]
    return told


def _of_choice(choice: dict[str, Any]) -> Message:
    message = choice.get("message")
    told = (
        _of_message({"role": "assistant", **message})
        if isinstance(message, dict)
        else {"role": "assistant", "parts": _parts(choice.get("text"))}
    )
    reason = choice.get("finish_reason")
    return {**told, "finish_reason": _FINISH.get(reason, reason) if isinstance(reason, str) else "stop"}


def _of_items(items: Any) -> list[Message]:
    """Return the items of Responses as messages."""
    if isinstance(items, str):
        return [{"role": "user", "parts": _parts(items)}]
    found = [_of_item(item) for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [message for message in found if message["parts"]]


def _of_item(item: dict[str, Any]) -> Message:
    kind = item.get("type")
    if kind in (None, "message"):
        return {"role": str(item.get("role") or "user"), "parts": _parts(item.get("content"))}
    if kind == "function_call":
        return {"role": "assistant", "parts": [_call_part({"id": item.get("call_id"), "function": item})]}
    if kind == "function_call_output":
        return {"role": "tool", "parts": [_answer_part(item.get("call_id"), item.get("output"))]}
    if kind == "reasoning":
        texts = [*(item.get("summary") or ()), *(item.get("content") or ())]
        thoughts = [text.get("text") for text in texts if isinstance(text, dict)]
        said = [{"type": "reasoning", "content": text} for text in thoughts if isinstance(text, str)]
        return {"role": "assistant", "parts": said}
    return {"role": "assistant", "parts": [item]}  # a built-in tool's call, for one: any type is allowed


def _of_output(answer: dict[str, Any]) -> list[Message]:
    parts = [part for message in _of_items(answer["output"]) for part in message["parts"]]
    if not parts:
        return []
    reason = (answer.get("incomplete_details") or {}).get("reason")
    if answer.get("status") == "failed":
        finish = "error"
    elif isinstance(reason, str):
        finish = _REASON.get(reason, reason)
    else:
        finish = "tool_call" if any(part.get("type") == "tool_call" for part in parts) else "stop"
    return [{"role": "assistant", "parts": parts, "finish_reason": finish}]


def _parts(content: Any) -> list[dict[str, Any]]:
    """Return a content as parts: a text, or parts as OpenAI's APIs have them."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    if not isinstance(content, list):
        return []
    return [_part(part) for part in content if isinstance(part, dict)]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part; one that OpenTelemetry has no type for stays as it is, which its schema allows."""
    kind = part.get("type")
    if kind in _TEXTS and isinstance(part.get("text"), str):
        return {"type": "text", "content": part["text"]}
    if kind in ("image_url", "input_image"):
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            return {"type": "uri", "modality": "image", "uri": url}
    return part


def _call_part(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    function = function if isinstance(function, dict) else call.get("custom") or {}
    arguments = function.get("arguments", function.get("input"))
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": str(function.get("name") or ""),
        "arguments": decoded(arguments),
    }


def _answer_part(call_id: Any, answer: Any) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": call_id, "response": decoded(answer)}
