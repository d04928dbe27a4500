"""Output items of Responses: what each kind is, which result belongs to which call, and who ran a call.

Kinds as in openai ``types/responses/response_output_item.py`` and ``types/beta/beta_response_output_item.py``. A kind
that is not in the table is only kept in the outputs.
"""

from __future__ import annotations

from typing import Any, Literal

from tracer.interpret._json import as_dict, as_text

__all__ = ["ITEM_ROLES", "Role", "has_span", "is_asked", "pair_results"]

Role = Literal["speech", "reasoning", "asked", "ran", "either", "both", "result", "approval", "context"]

ITEM_ROLES: dict[str, Role] = {
    "message": "speech",
    "reasoning": "reasoning",
    # Calls of the caller's own tools: its program runs them and sends the result with its next request.
    "function_call": "asked",
    # Calls that the API ran before it answered. A program among them may wait for the caller's functions.
    "web_search_call": "ran",
    "file_search_call": "ran",
    "code_interpreter_call": "ran",
    "image_generation_call": "ran",
    "mcp_call": "ran",
    "mcp_list_tools": "ran",
    "program": "ran",
    "multi_agent_call": "ran",
    # Either of the two above; the item says which (see `_is_hosted`).
    "shell_call": "either",
    "local_shell_call": "either",
    "apply_patch_call": "either",
    "tool_search_call": "either",
    # The caller moves the mouse and takes the screenshot, but the computer is still one of the API's own tools. A
    # custom tool is the caller's, but no schema describes it, so its input gets its own line in the tree.
    "computer_call": "both",
    "custom_tool_call": "both",
    # Shown as part of the call that they answer, wherever that call is.
    "function_call_output": "result",
    "custom_tool_call_output": "result",
    "computer_call_output": "result",
    "local_shell_call_output": "result",
    "shell_call_output": "result",
    "apply_patch_call_output": "result",
    "program_output": "result",
    "tool_search_output": "result",
    "multi_agent_call_output": "result",
    # A call that waits for the caller's approval. Once approved, the API runs it in the next response.
    "mcp_approval_request": "approval",
    "mcp_approval_response": "result",
    # Nothing was run, and the caller is not asked for anything.
    "additional_tools": "context",
    "agent_message": "context",
    "compaction": "context",
}


def pair_results(output: list[dict[str, Any]]) -> dict[int, int]:
    """Return the index of each call's result (``shell_call_output``, …), by the index of the call.

    A call and its result share a ``call_id``. A tool search that the server ran has none; it is paired by order.
    """
    waiting: dict[str, int] = {}
    pairs: dict[int, int] = {}
    for position, item in enumerate(output):
        kind = as_text(item.get("type")) or ""
        key = as_text(item.get("call_id")) or kind.removesuffix("_output").removesuffix("_call")
        if not kind.endswith("_output"):
            waiting[key] = position
        elif key in waiting:
            pairs[waiting.pop(key)] = position
    return pairs


def is_asked(item: dict[str, Any], *, answered: bool) -> bool:
    """Tell whether an item asks the caller to run something.

    Args:
        item: An element of ``output``, or of a request's ``input``.
        answered: Its result is in the same response.
    """
    role = _role(item)
    if role == "either":
        return not _is_hosted(item, answered)
    return role in ("asked", "both") and not answered


def has_span(item: dict[str, Any]) -> bool:
    """Tell whether an item is shown as a span: a tool that the API ran, or asks the caller to run, or to approve."""
    return _role(item) in ("ran", "both", "either", "approval")


def _role(item: dict[str, Any]) -> Role | None:
    return ITEM_ROLES.get(as_text(item.get("type")) or "")


def _is_hosted(item: dict[str, Any], answered: bool) -> bool:
    """Tell whether OpenAI runs a tool that may run on either side: the item says so, or already has its result."""
    if execution := as_text(item.get("execution")):  # of a tool search
        return execution != "client"
    environment = as_text(as_dict(item.get("environment")).get("type")) or ""
    return answered or environment.startswith("container") or item.get("type") == "tool_search_call"
