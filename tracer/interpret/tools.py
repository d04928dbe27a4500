"""Tools: their definitions in chat form, and the calls that a model asks the caller to run."""

from __future__ import annotations

from typing import Any

from tracer.interpret._json import as_dict, as_dicts, as_text, encode_value
from tracer.interpret.items import ITEM_ROLES, is_asked, pair_results

__all__ = [
    "approval_requests",
    "asked_calls",
    "call_ids",
    "chat_tool_calls",
    "describe_calls",
    "item_tool_call",
    "tool_definitions",
]

ToolCall = dict[str, Any]
"""``id``, ``name``, ``arguments`` (the text that the model produced)."""

# --- definitions ---------------------------------------------------------------------------------------------------

_SECRET = frozenset({"authorization", "headers"})  # fields of an MCP tool: credentials for a third party
_CANONICAL = (("web_search", "web_search"), ("computer", "computer_use"))  # web_search_preview_2025_03_11, …


def tool_definitions(tools: Any, functions: Any = None) -> list[dict[str, Any]]:
    """Return tool definitions in chat form: ``{"type": "function", "function": {"name", …}}``.

    Args:
        tools: The request's ``tools``, chat's or Responses' (flat functions, built-in tools, namespaces).
        functions: The deprecated ``functions``.
    """
    found = [definition for tool in as_dicts(tools) for definition in _chat_form(tool)]
    return found + [{"type": "function", "function": function} for function in as_dicts(functions)]


def _chat_form(tool: dict[str, Any]) -> list[dict[str, Any]]:
    kind = as_text(tool.get("type")) or "function"
    if type(tool.get(kind)) is dict and kind in ("function", "custom"):
        return [tool]
    if kind == "namespace":
        return [definition for inner in as_dicts(tool.get("tools")) for definition in _chat_form(inner)]
    fields = {key: value for key, value in tool.items() if key != "type" and key not in _SECRET}
    if kind in ("function", "custom"):
        return [{"type": kind, kind: fields}]
    name = next((name for prefix, name in _CANONICAL if kind.startswith(prefix)), kind)
    return [{"type": "function", "function": {"name": name}, **({kind: fields} if fields else {})}]


# --- calls that the user's code is to run --------------------------------------------------------------------------


def chat_tool_calls(message: dict[str, Any]) -> list[ToolCall]:
    """Return the calls in a chat message, including the deprecated ``function_call``.

    Some gateways send every field that the API knows: a ``function_call`` without a name is empty, not a call.
    """
    calls = [_chat_call(call) for call in as_dicts(message.get("tool_calls"))]
    legacy = as_dict(message.get("function_call"))
    if legacy.get("name") or legacy.get("arguments"):
        calls.append({"id": None, "name": legacy.get("name"), "arguments": _arguments(legacy.get("arguments"))})
    return calls


def _chat_call(call: dict[str, Any]) -> ToolCall:
    tool, arguments = as_dict(call.get("function")), "arguments"
    if not tool.get("name") and (custom := as_dict(call.get("custom"))).get("name"):
        tool, arguments = custom, "input"
    return {"id": call.get("id"), "name": tool.get("name"), "arguments": _arguments(tool.get(arguments))}


def _arguments(value: Any) -> str:
    """Return arguments as text; some servers send an object where the API sends a string."""
    if value is None:
        return ""
    return value if type(value) is str else encode_value(value).decode()


# The fields that hold the arguments of Responses items. Older computer calls have one action, newer ones several.
_ARGUMENTS = ("arguments", "input", "action", "operation", "actions")


def asked_calls(output: list[dict[str, Any]]) -> list[ToolCall]:
    """Return what a Responses output asks the caller to run."""
    answered = pair_results(output)
    return [_item_call(item) for place, item in enumerate(output) if is_asked(item, answered=place in answered)]


def item_tool_call(item: dict[str, Any]) -> ToolCall | None:
    """Return the call in one element of a request's ``input``, None if the element is not a call."""
    return _item_call(item) if is_asked(item, answered=False) else None


def approval_requests(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the calls that the model wants to make on an MCP server if the caller approves, with ``server_label``."""
    wanted = [item for item in output if ITEM_ROLES.get(as_text(item.get("type")) or "") == "approval"]
    return [{**_item_call(item), "server_label": item.get("server_label")} for item in wanted]


def _item_call(item: dict[str, Any]) -> ToolCall:
    name = as_text(item.get("name")) or str(item.get("type")).removesuffix("_call")
    arguments = next((item[field] for field in _ARGUMENTS if item.get(field) is not None), None)
    return {"id": item.get("call_id") or item.get("id"), "name": name, "arguments": _arguments(arguments)}


def call_ids(calls: list[ToolCall]) -> list[str]:
    """Return the ids of tool calls, by which both the call and its result are found."""
    return [call_id for call in calls if (call_id := as_text(call["id"]))]


def describe_calls(calls: list[ToolCall]) -> str:
    """Return tool calls for people: ``get_weather({"city": "Paris"}), …``."""
    return ", ".join(f"{call['name']}({call['arguments']})" for call in calls)
