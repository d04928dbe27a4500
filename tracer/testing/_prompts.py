"""Requests of each endpoint, read as a `Prompt`."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer.testing._answer import Json, Prompt, ToolResult, count_words

__all__ = ["from_chat", "from_responses", "text_of"]


# Calls whose results the caller sends.
_CALLS = frozenset(
    {"apply_patch_call", "computer_call", "custom_tool_call", "function_call", "local_shell_call", "shell_call"}
)


def text_of(content: Any) -> str:
    """The text of a message: the content itself or its text parts joined; other media are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):  # a screenshot
        return f"a {content.get('type')}"
    if isinstance(content, list):
        return " ".join(part if isinstance(part, str) else _part_text(part) for part in content).strip()
    return ""


def _part_text(part: Json) -> str:
    return str(part.get("text") or part.get("refusal") or part.get("stdout") or "")


def from_chat(body: Json) -> Prompt:
    """Read a request of `/chat/completions`."""
    messages = [message for message in body["messages"] if isinstance(message, dict)]
    question, since = _last_user(messages)
    calls = {call["id"]: call["function"] for m in messages for call in m.get("tool_calls") or () if "function" in call}
    results = [
        _result(calls.get(m.get("tool_call_id", ""), {}), m.get("content")) for m in since if m.get("role") == "tool"
    ]
    response_format = body.get("response_format") or {}
    tools = body.get("tools") or ()
    return Prompt(
        text=question,
        results=tuple(results),
        functions=tuple(tool["function"] for tool in tools if tool.get("type") == "function"),
        choice=_choice(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=(response_format.get("json_schema") or {}).get("schema"),
        json_mode=response_format.get("type") == "json_object",
        reasoning=body.get("reasoning_effort") not in (None, "none"),
        max_words=body.get("max_completion_tokens") or body.get("max_tokens"),
        words=sum(_words(message) for message in messages),
    )


def from_responses(body: Json, history: list[Json]) -> Prompt:
    """Read a request of `/responses`; `history` holds the items of the responses before it."""
    given = body.get("input") or []
    items = [*history, *([{"role": "user", "content": given}] if isinstance(given, str) else given)]
    question, since = _last_user(items)
    calls = {item["call_id"]: _named(item) for item in items if item.get("type") in _CALLS}
    results = [
        _result(calls.get(item.get("call_id") or item.get("id"), {}), item.get("output") or item.get("status"))
        for item in since
        if str(item.get("type")).removesuffix("_output") in _CALLS and str(item["type"]).endswith("_output")
    ]
    text_format = (body.get("text") or {}).get("format") or {}
    tools = body.get("tools") or ()
    return Prompt(
        text=question,
        results=tuple(results),
        functions=tuple(tool for tool in tools if tool.get("type") == "function"),
        hosted=tuple(tool for tool in tools if tool.get("type") != "function"),
        choice=_choice(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=text_format.get("schema"),
        json_mode=text_format.get("type") == "json_object",
        reasoning=bool(body.get("reasoning")),
        approved=any(item.get("type") == "mcp_approval_response" and item.get("approve") for item in since),
        max_words=body.get("max_output_tokens"),
        words=count_words(body.get("instructions")) + sum(_words(item) for item in items),
    )


def _named(call: Json) -> Json:
    """A call of a built-in tool, with its kind as its name."""
    return {"name": call["type"].removesuffix("_call"), **call}


def _last_user(messages: list[Json]) -> tuple[str, list[Json]]:
    """The last user message's text, and what came after it."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user":
            return text_of(messages[index].get("content")), messages[index + 1 :]
    return "", messages


def _result(call: Json, content: Any) -> ToolResult:
    try:
        arguments = msgspec.json.decode(call.get("arguments") or "{}")
    except msgspec.DecodeError:
        arguments = {}
    return ToolResult(name=str(call.get("name") or "the tool"), arguments=arguments, content=text_of(content))


def _choice(choice: Any) -> str:
    """`tool_choice` of either API as one word: a mode, or the name or type of the tool that is forced."""
    if not isinstance(choice, dict):
        return str(choice or "auto")
    if choice.get("type") == "allowed_tools":
        return str(choice.get("mode") or choice.get("allowed_tools", {}).get("mode") or "auto")
    return str(choice.get("name") or choice.get("function", {}).get("name") or choice.get("type") or "auto")


def _words(message: Json) -> int:
    said = text_of(message.get("content")) or text_of(message.get("output")) or str(message.get("arguments") or "")
    return count_words(said) + sum(count_words(call["function"]["arguments"]) for call in _function_calls(message))


def _function_calls(message: Json) -> list[Json]:
    return [call for call in message.get("tool_calls") or () if "function" in call]
