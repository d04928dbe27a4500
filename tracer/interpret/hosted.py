"""OpenAI's tools inside a response, run by OpenAI or by the caller: what goes into their child spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.interpret._json import as_dict, as_dicts, as_text, decode_json, encode_value
from tracer.interpret._views import ChildView, Finish
from tracer.interpret.item_times import ItemTimes
from tracer.interpret.items import has_span, is_asked, pair_results
from tracer.interpret.previews import content_text

__all__ = ["hosted_calls"]

Read = Callable[[dict[str, Any]], "tuple[Any, Any]"]
"""Takes an item, returns the tool's inputs and outputs. The outputs are None if they are an item of their own."""


def _searched(item: dict[str, Any]) -> tuple[Any, Any]:
    """Return the search and its results; the results are there only if the request asked to include them."""
    action = item.get("action")
    if type(action) is not dict:
        return action, item.get("results")
    asked = {key: value for key, value in action.items() if key != "sources"}
    return asked, item.get("results") or action.get("sources")


def _retrieved(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"queries": item.get("queries")}, item.get("results")


def _ran_code(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"code": item.get("code")}, item.get("outputs")


def _acted(item: dict[str, Any]) -> tuple[Any, Any]:
    return item.get("action") or item.get("actions") or item.get("operation"), None


def _drew(item: dict[str, Any]) -> tuple[Any, Any]:
    """Leave the picture where it is: its base64 is stored only once, no matter how many spans show it."""
    settings = ("action", "background", "output_format", "quality", "size")
    inputs = {"prompt": item.get("revised_prompt"), **{key: item[key] for key in settings if key in item}}
    form = {"output_format": item["output_format"]} if "output_format" in item else {}
    return inputs, {**form, "result": item["result"]} if item.get("result") else None


def _called(item: dict[str, Any]) -> tuple[Any, Any]:
    return _decoded(item.get("arguments")), item.get("output")


def _given(item: dict[str, Any]) -> tuple[Any, Any]:
    return item.get("input"), None


def _listed(item: dict[str, Any]) -> tuple[Any, Any]:
    return {"server_label": item.get("server_label")}, item.get("tools")


class _Tool(NamedTuple):
    """How the calls of one kind are shown.

    Attributes:
        type: ``gen_ai.tool.type``: run by the API (``extension``, of data ``datastore``) or by the caller
            (``function``).
        detail: The item's field that distinguishes its calls, if there is one.
        answered: Its result is an item of its own, which comes when the tool has run.
    """

    name: str
    span_type: str
    read: Read
    type: str = "extension"
    detail: str | None = None
    answered: bool = False


_TOOLS = {
    "web_search_call": _Tool("web_search", SpanType.RETRIEVER, _searched),
    "file_search_call": _Tool("file_search", SpanType.RETRIEVER, _retrieved, "datastore"),
    "code_interpreter_call": _Tool("code_interpreter", SpanType.TOOL, _ran_code),
    "computer_call": _Tool("computer_use", SpanType.TOOL, _acted, "function"),
    "image_generation_call": _Tool("image_generation", SpanType.TOOL, _drew),
    "mcp_call": _Tool("mcp", SpanType.TOOL, _called, detail="name"),
    "mcp_list_tools": _Tool("mcp_list_tools", SpanType.TOOL, _listed),
    "tool_search_call": _Tool("tool_search", SpanType.TOOL, _called, answered=True),
    "program": _Tool("program", SpanType.TOOL, _ran_code, answered=True),
    "multi_agent_call": _Tool("multi_agent", SpanType.TOOL, _called, detail="action", answered=True),
    "local_shell_call": _Tool("local_shell", SpanType.TOOL, _acted, answered=True),
    "shell_call": _Tool("shell", SpanType.TOOL, _acted, answered=True),
    "apply_patch_call": _Tool("apply_patch", SpanType.TOOL, _acted, answered=True),
    "custom_tool_call": _Tool("custom", SpanType.TOOL, _given, "function", detail="name"),
    "mcp_approval_request": _Tool("mcp_approval", SpanType.TOOL, _called, detail="name"),
}
_RESULTS = ("output", "result", "tools")
_RUNNING = ("queued", "in_progress", "searching", "interpreting", "generating", "calling")


def hosted_calls(body: dict[str, Any], times: ItemTimes | None = None) -> list[ChildView]:
    """Return the calls of OpenAI's tools, in the order of the response's ``output``.

    A call that the caller must run (its own shell, a patch, a custom tool, an approval) ends when it is requested: its
    result is in the next request.

    Args:
        body: A response, or as much of it as came.
        times: The times of a stream's items; without them, the children have no times.
    """
    output = as_dicts(body.get("output"))
    if not any(as_text(item.get("type")) in _TOOLS for item in output):
        return []
    whole = body.get("status") in ("completed", None)
    pairs = pair_results(output)
    children: dict[str, ChildView] = {}
    for position, item in enumerate(output):
        if not has_span(item):
            continue
        result = output[pairs[position]] if position in pairs else None
        asked = is_asked(item, answered=position in pairs)
        key = as_text(item.get("id")) or f"output[{position}]"
        key = f"{key}[{position}]" if key in children else key
        children[key] = child = _child(key, item, result, whole=whole, asked=asked)
        if times is not None:
            times.apply(child, output, position, pairs.get(position))
            if not whole:
                _leave_open(child, waits=result is None and not asked and _TOOLS[item["type"]].answered)
    return list(children.values())


def _leave_open(child: ChildView, *, waits: bool) -> None:
    """Let a tool run until the end of the call if the stream was cut off before it reported the tool's end."""
    if waits:
        child.end_time_ns = None
    elif child.start_time_ns is not None and child.end_time_ns is None and child.finish == "completed":
        child.finish = "incomplete"


def _child(key: str, item: dict[str, Any], result: dict[str, Any] | None, *, whole: bool, asked: bool) -> ChildView:
    tool = _TOOLS[item["type"]]
    if asked:
        tool = tool._replace(type="function", answered=False)
    inputs, outputs = tool.read(item)
    if outputs is None and result is not None:
        outputs = next((result[field] for field in _RESULTS if field in result), None)
    detail = as_text(item.get(tool.detail)) if tool.detail else None
    error = _error(item) or _error_of_result(result or {})
    return ChildView(
        key=key,
        name=f"{tool.name}.{detail}" if detail else tool.name,
        span_type=tool.span_type,
        inputs=inputs,
        outputs=outputs,
        attributes=_attributes(tool, detail, item),
        error=error,
        finish="failed" if error else _finish(tool, item, result, whole=whole, empty=outputs is None),
    )


def _attributes(tool: _Tool, detail: str | None, item: dict[str, Any]) -> dict[str, Any]:
    error = as_dict(item.get("error"))
    attributes = {
        sc.OPERATION_NAME: "execute_tool",
        sc.TOOL_NAME: detail or tool.name,
        sc.TOOL_TYPE: tool.type,
        sc.TOOL_CALL_ID: item.get("call_id") or item.get("id"),
        sc.MCP_SERVER_LABEL: item.get("server_label"),
        sc.MCP_APPROVAL_REQUEST_ID: item.get("approval_request_id"),
        sc.CONTAINER_ID: item.get("container_id") or as_dict(item.get("environment")).get("container_id"),
        sc.AGENT_NAME: as_dict(item.get("agent")).get("agent_name"),
        sc.SVG_USAGE: item.get("svg_usage"),
        sc.ERROR_TYPE: as_text(error.get("code")) or as_text(error.get("type")),
    }
    return {attribute: value for attribute, value in attributes.items() if value is not None}


def _finish(tool: _Tool, item: dict[str, Any], result: dict[str, Any] | None, *, whole: bool, empty: bool) -> Finish:
    """Tell whether a call ended, as far as the response says.

    In a complete response, not every call says that it is completed: computer calls wait for the caller, and some calls
    keep the status of their last event.
    """
    statuses = (item.get("status"), as_dict(result).get("status"))
    if "incomplete" in statuses or (tool.answered and result is None):
        return "incomplete"
    if not whole and empty and any(status in _RUNNING for status in statuses):
        return "incomplete"
    return "completed"


def _error(item: dict[str, Any]) -> str | None:
    error = item.get("error")
    if error:
        fields = as_dict(error)
        words = as_text(error) or as_text(fields.get("message")) or content_text(fields.get("content"))
        return words or encode_value(error).decode()
    return "the tool call failed" if item.get("status") == "failed" else None


def _error_of_result(result: dict[str, Any]) -> str | None:
    """Return the error of a patch that failed or a command that ran too long. A command's exit code is no error."""
    if result.get("status") == "failed":
        return content_text(result.get("output")) or "the tool call failed"
    outcomes = [as_dict(part.get("outcome")).get("type") for part in as_dicts(result.get("output"))]
    return "a command ran into its time limit" if "timeout" in outcomes else None


def _decoded(arguments: Any) -> Any:
    if type(arguments) is not str:
        return arguments
    try:
        return decode_json(arguments.encode("utf-8", "replace"))
    except ValueError:
        return arguments
