"""Tools: their definitions in chat form, the calls that a model asks for, the calls that OpenAI ran itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.interpret._json import as_dict, as_dicts, as_text, decode_json, encode_value
from tracer.interpret._views import ChildView
from tracer.interpret.previews import content_text

__all__ = [
    "built_in_calls",
    "chat_tool_calls",
    "describe_calls",
    "item_tool_call",
    "outputs_by_call",
    "tool_definitions",
]

ToolCall = dict[str, Any]
"""``id``, ``name``, ``arguments`` (the text that the model produced)."""

# --- definitions ---------------------------------------------------------------------------------------------------

_SECRET = frozenset({"authorization", "headers"})  # of an MCP tool: credentials for a third party
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
    """Return the calls in a chat message, the deprecated ``function_call`` among them.

    Some gateways send every field that the API knows: one without a name is an empty one, not a call.
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
    """Return arguments as text; some servers send an object where the API has a text."""
    if value is None:
        return ""
    return value if type(value) is str else encode_value(value).decode()


# Responses items that ask the caller to run something: where its arguments stand
_CALLER_RUNS = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}


def item_tool_call(item: dict[str, Any], ran: frozenset[str]) -> ToolCall | None:
    """Return what a Responses output item asks the caller to run, None if it is nothing of the kind.

    Args:
        item: One element of ``output``.
        ran: Ids of the calls whose output stands in the same response: OpenAI has run those.
    """
    kind = item.get("type")
    field = _CALLER_RUNS.get(kind) if type(kind) is str else None
    if field is None or item.get("call_id") in ran:
        return None
    name = as_text(item.get("name")) or str(kind).removesuffix("_call")
    arguments = item.get(field) if item.get(field) is not None else item.get("actions")
    return {"id": item.get("call_id") or item.get("id"), "name": name, "arguments": _arguments(arguments)}


def describe_calls(calls: list[ToolCall]) -> str:
    """Return tool calls for people: ``get_weather({"city": "Paris"}), …``."""
    return ", ".join(f"{call['name']}({call['arguments']})" for call in calls)


# --- calls that OpenAI ran -----------------------------------------------------------------------------------------


def _searched(item: dict[str, Any]) -> tuple[Any, Any]:
    return item.get("action"), item.get("results") or as_dict(item.get("action")).get("sources")


def _retrieved(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"queries": item.get("queries")}, item.get("results")


def _ran_code(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"code": item.get("code")}, item.get("outputs")


def _acted(item: dict[str, Any]) -> tuple[Any, Any]:
    return item.get("action") or item.get("actions") or item.get("operation"), None


def _drew(item: dict[str, Any]) -> tuple[Any, Any]:
    """Leave the picture itself in the response: base64 need not be stored twice."""
    settings = ("action", "background", "output_format", "quality", "size")
    inputs = {"prompt": item.get("revised_prompt"), **{key: item[key] for key in settings if key in item}}
    result = as_text(item.get("result"))
    return inputs, {"base64_chars": len(result)} if result else None


def _called_mcp(item: dict[str, Any]) -> tuple[Any, Any]:
    return _decoded(item.get("arguments")), item.get("output")


def _listed_mcp(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"server_label": item.get("server_label")}, item.get("tools")


def _searched_tools(item: dict[str, Any]) -> tuple[Any, Any]:
    return _decoded(item.get("arguments")), None


_BUILT_IN: dict[str, tuple[str, str, Callable[[dict[str, Any]], tuple[Any, Any]]]] = {
    "web_search_call": ("web_search", SpanType.TOOL, _searched),
    "file_search_call": ("file_search", SpanType.RETRIEVER, _retrieved),
    "code_interpreter_call": ("code_interpreter", SpanType.TOOL, _ran_code),
    "computer_call": ("computer_use", SpanType.TOOL, _acted),
    "image_generation_call": ("image_generation", SpanType.TOOL, _drew),
    "mcp_call": ("mcp", SpanType.TOOL, _called_mcp),
    "mcp_list_tools": ("mcp_list_tools", SpanType.TOOL, _listed_mcp),
    "tool_search_call": ("tool_search", SpanType.TOOL, _searched_tools),
    "program": ("program", SpanType.TOOL, _ran_code),
    "local_shell_call": ("local_shell", SpanType.TOOL, _acted),
    "shell_call": ("shell", SpanType.TOOL, _acted),
    "apply_patch_call": ("apply_patch", SpanType.TOOL, _acted),
}
_KINDS = tuple(_BUILT_IN)  # a type may be an unhashable value of a server that errs
_ONLY_IF_RAN = frozenset({"local_shell_call", "shell_call", "apply_patch_call"})
_DATASTORE = frozenset({"file_search_call"})  # gen_ai.tool.type: function | extension | datastore


def outputs_by_call(output: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the items that hold a call's output (``shell_call_output``, …), by the call's id."""
    return {
        item["call_id"]: item
        for item in output
        if type(item.get("call_id")) is str and str(item.get("type")).endswith("_output")
    }


def built_in_calls(output: list[dict[str, Any]]) -> list[ChildView]:
    """Return the tool calls that OpenAI ran itself, without times, in the order of the response's ``output``."""
    if not any(item.get("type") in _KINDS for item in output):
        return []
    results = outputs_by_call(output)
    children: dict[str, ChildView] = {}
    for position, item in enumerate(output):
        kind = as_text(item.get("type")) or ""
        result = results.get(as_text(item.get("call_id")) or "")
        if kind not in _BUILT_IN or (kind in _ONLY_IF_RAN and result is None) or item.get("execution") == "client":
            continue
        key = as_text(item.get("id")) or f"output[{position}]"
        key = f"{key}[{position}]" if key in children else key
        children[key] = _child(key, kind, item, result)
    return list(children.values())


def _child(key: str, kind: str, item: dict[str, Any], result: dict[str, Any] | None) -> ChildView:
    name, span_type, read = _BUILT_IN[kind]
    tool = as_text(item.get("name"))
    inputs, outputs = read(item)
    if outputs is None and result is not None:
        outputs = next((result[field] for field in ("output", "result", "tools") if field in result), None)
    attributes: dict[str, Any] = {
        sc.OPERATION_NAME: "execute_tool",
        sc.TOOL_NAME: tool or name,
        sc.TOOL_TYPE: "datastore" if kind in _DATASTORE else "extension",
        sc.TOOL_CALL_ID: item.get("call_id") or item.get("id"),
        sc.MCP_SERVER_LABEL: item.get("server_label"),
    }
    return ChildView(
        key=key,
        name=f"{name}.{tool}" if tool else name,
        span_type=span_type,
        inputs=inputs,
        outputs=outputs,
        attributes={attribute: value for attribute, value in attributes.items() if value is not None},
        error=_error(item),
    )


def _error(item: dict[str, Any]) -> str | None:
    error = item.get("error")
    if error:
        fields = as_dict(error)
        words = as_text(error) or as_text(fields.get("message")) or content_text(fields.get("content"))
        return words or encode_value(error).decode()
    return "the tool call failed" if item.get("status") == "failed" else None


def _decoded(arguments: Any) -> Any:
    if type(arguments) is not str:
        return arguments
    try:
        return decode_json(arguments.encode("utf-8", "replace"))
    except ValueError:
        return arguments
