"""`/responses`: the response object and the events that stream it.

The events are made from the finished response, so whatever items a response holds can be streamed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from tracer.testing._answer import NEW_CALL, Answer, Json, deltas
from tracer.testing._wire import Mint

__all__ = ["response_events", "response_object"]

# Parameters that a response repeats, with the API's defaults.
_ECHOED: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_ID_PREFIXES = {
    "apply_patch_call": "apc_",
    "code_interpreter_call": "ci_",
    "computer_call": "cu_",
    "custom_tool_call": "ctc_",
    "file_search_call": "fs_",
    "function_call": "fc_",
    "image_generation_call": "ig_",
    "local_shell_call": "lsh_",
    "mcp_approval_request": "mcpr_",
    "mcp_call": "mcp_",
    "mcp_list_tools": "mcpl_",
    "message": "msg_",
    "reasoning": "rs_",
    "shell_call": "sh_",
    "shell_call_output": "sho_",
    "web_search_call": "ws_",
}
# Fields of an item that are sent only if `include` names them.
_ON_REQUEST = {
    "file_search_call": ("results", "file_search_call.results"),
    "code_interpreter_call": ("outputs", "code_interpreter_call.outputs"),
}
# What an item looks like when it is added, before its content arrives.
_BLANKS: dict[str, Json] = {
    "code_interpreter_call": {"code": "", "outputs": None},
    "custom_tool_call": {"input": ""},
    "function_call": {"arguments": ""},
    "image_generation_call": {"result": None, "revised_prompt": None},
    "mcp_call": {"arguments": "", "output": None},
    "mcp_list_tools": {"tools": []},
    "message": {"content": []},
    "reasoning": {"summary": []},
    "shell_call": {"action": {"commands": [], "max_output_length": None, "timeout_ms": None}},
    "shell_call_output": {"output": []},
}


def response_object(body: Json, answer: Answer, input_words: int, mint: Mint) -> Json:
    """A finished `response`: completed, incomplete or failed, depending on the answer."""
    now = int(time.time())
    given = {key: body[key] for key in _ECHOED if body.get(key) is not None}
    status = "failed" if answer.failure else "incomplete" if answer.truncated else "completed"
    return {
        **_ECHOED,
        **given,
        "id": mint("resp_"),
        "object": "response",
        "created_at": now,
        "completed_at": now if status == "completed" else None,
        "status": status,
        "error": {"code": answer.failure[0], "message": answer.failure[1]} if answer.failure else None,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.truncated else None,
        "model": body["model"],
        "output": _items(answer, body, mint),
        "usage": None if answer.failure else _usage(input_words, answer),
    }


def response_events(response: Json, *, partial_images: int = 0) -> Iterator[Json]:
    """The events that stream a response, numbered; the last one holds the whole response."""
    unfinished: Json = {"status": "in_progress", "output": [], "usage": None, "error": None}
    started = {**response, **unfinished, "completed_at": None, "incomplete_details": None}
    events: list[Json] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
    ]
    for index, item in enumerate(response["output"]):
        events += _item_events(item, index, partial_images)
    events.append({"type": f"response.{response['status']}", "response": response})
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def _items(answer: Answer, body: Json, mint: Mint) -> list[Json]:
    items: list[Json] = []
    if answer.reasoning is not None:
        asked = (body.get("reasoning") or {}).get("summary")
        summary = [{"type": "summary_text", "text": answer.reasoning}] if asked else []
        items.append({"type": "reasoning", "summary": summary})
    items += _identified(answer.items, mint)
    content = _content(answer)
    if content:
        status = "incomplete" if answer.truncated else "completed"
        items.append({"type": "message", "status": status, "role": "assistant", "content": content})
    items += [
        {
            "type": "function_call",
            "status": "completed",
            "name": call.name,
            "arguments": call.arguments,
            "call_id": call.id or mint("call_"),
        }
        for call in answer.tool_calls
    ]
    return [_as_included({"id": mint(_ID_PREFIXES.get(item["type"], "item_")), **item}, body) for item in items]


def _identified(items: Iterable[Json], mint: Mint) -> Iterator[Json]:
    """Give a call without an id a new one, and its result the same id."""
    made = ""
    for item in items:
        if item.get("call_id") == NEW_CALL:
            made = made or mint("call_")
            item = {**item, "call_id": made}
        yield item


def _content(answer: Answer) -> list[Json]:
    parts: list[Json] = []
    if answer.text is not None:
        parts.append({"type": "output_text", "text": answer.text, "annotations": [*answer.annotations], "logprobs": []})
    if answer.refusal is not None:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    return parts


def _as_included(item: Json, body: Json) -> Json:
    field, option = _ON_REQUEST.get(item["type"], ("", ""))
    return {**item, field: None} if field and option not in (body.get("include") or ()) else item


def _usage(input_tokens: int, answer: Answer) -> Json:
    output_tokens = answer.words + answer.reasoning_words
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_words},
        "total_tokens": input_tokens + output_tokens,
    }


def _item_events(item: Json, index: int, partial_images: int) -> Iterator[Json]:
    kind = item["type"]
    blank = {**item, **_BLANKS.get(kind, {})}
    if "status" in item:
        blank["status"] = "in_progress"
    if "diff" in item.get("operation", ()):
        blank["operation"] = {**item["operation"], "diff": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": blank}
    inner = _INNER_EVENTS.get(kind, _no_events)
    for event in inner(item, partial_images):
        name = event.pop("type")
        known = {} if name.startswith("shell_call_command") else {"item_id": item["id"]}
        yield {"type": f"response.{name}", "output_index": index, **known, **event}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


# The events inside an item; `_item_events` adds the `response.` prefix, the item's id and its index.


def _no_events(item: Json, _: int) -> Iterator[Json]:
    return iter(())


def _message_events(item: Json, _: int) -> Iterator[Json]:
    for number, part in enumerate(item["content"]):
        place = {"content_index": number}
        field = "refusal" if part["type"] == "refusal" else "text"
        name = "refusal" if field == "refusal" else "output_text"
        extra: Json = {} if field == "refusal" else {"logprobs": []}
        blank = {**part, field: ""} if field == "refusal" else {**part, field: "", "annotations": []}
        yield {"type": "content_part.added", **place, "part": blank}
        for piece in deltas(part[field]):
            yield {"type": f"{name}.delta", **place, "delta": piece, **extra}
        for place_in_part, annotation in enumerate(part.get("annotations", ())):
            cited = {"annotation_index": place_in_part, "annotation": annotation}
            yield {"type": "output_text.annotation.added", **place, **cited}
        yield {"type": f"{name}.done", **place, field: part[field], **extra}
        yield {"type": "content_part.done", **place, "part": part}


def _reasoning_events(item: Json, _: int) -> Iterator[Json]:
    for number, part in enumerate(item["summary"]):
        place = {"summary_index": number}
        yield {"type": "reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
        for piece in deltas(part["text"]):
            yield {"type": "reasoning_summary_text.delta", **place, "delta": piece}
        yield {"type": "reasoning_summary_text.done", **place, "text": part["text"]}
        yield {"type": "reasoning_summary_part.done", **place, "part": part}


def _text_events(name: str, field: str, item: Json) -> Iterator[Json]:
    for piece in deltas(item.get(field)):
        yield {"type": f"{name}.delta", "delta": piece}
    yield {"type": f"{name}.done", field: item.get(field) or ""}


def _function_call_events(item: Json, _: int) -> Iterator[Json]:
    for event in _text_events("function_call_arguments", "arguments", item):
        yield {**event, "name": item["name"]} if event["type"].endswith("done") else event


def _custom_tool_call_events(item: Json, _: int) -> Iterator[Json]:
    return _text_events("custom_tool_call_input", "input", item)


def _search_events(item: Json, _: int) -> Iterator[Json]:
    for phase in ("in_progress", "searching", _outcome(item)):
        yield {"type": f"{item['type']}.{phase}"}


def _code_interpreter_events(item: Json, _: int) -> Iterator[Json]:
    yield {"type": "code_interpreter_call.in_progress"}
    yield from _text_events("code_interpreter_call_code", "code", item)
    yield {"type": "code_interpreter_call.interpreting"}
    yield {"type": "code_interpreter_call.completed"}


def _image_generation_events(item: Json, partial_images: int) -> Iterator[Json]:
    yield {"type": "image_generation_call.in_progress"}
    yield {"type": "image_generation_call.generating"}
    for number in range(partial_images):
        image: Any = {"partial_image_index": number, "partial_image_b64": item["result"]}
        yield {"type": "image_generation_call.partial_image", **image}
    yield {"type": "image_generation_call.completed"}


def _mcp_list_events(item: Json, _: int) -> Iterator[Json]:
    yield {"type": "mcp_list_tools.in_progress"}
    yield {"type": f"mcp_list_tools.{_outcome(item)}"}


def _mcp_call_events(item: Json, _: int) -> Iterator[Json]:
    yield {"type": "mcp_call.in_progress"}
    yield from _text_events("mcp_call_arguments", "arguments", item)
    yield {"type": f"mcp_call.{_outcome(item)}"}


def _shell_events(item: Json, _: int) -> Iterator[Json]:
    for number, command in enumerate(item["action"]["commands"]):
        yield {"type": "shell_call_command.added", "command_index": number, "command": ""}
        for event in _text_events("shell_call_command", "command", {"command": command}):
            yield {**event, "command_index": number}


def _shell_output_events(item: Json, _: int) -> Iterator[Json]:
    for number, printed in enumerate(item["output"]):
        for name in ("stdout", "stderr"):
            for piece in deltas(printed[name]):
                yield {"type": "shell_call_output_content.delta", "command_index": number, "delta": {name: piece}}
        yield {"type": "shell_call_output_content.done", "command_index": number, "output": [printed]}


def _patch_events(item: Json, _: int) -> Iterator[Json]:
    """Make events that the API sends although the SDK has no types for them."""
    if "diff" in item["operation"]:
        yield from _text_events("apply_patch_call_operation_diff", "diff", item["operation"])


def _outcome(item: Json) -> str:
    """How a hosted tool ended. A web search has no event of its own for a failure, so its item is checked."""
    return "failed" if item.get("error") and item["type"].startswith("mcp") else "completed"


_INNER_EVENTS = {
    "apply_patch_call": _patch_events,
    "code_interpreter_call": _code_interpreter_events,
    "custom_tool_call": _custom_tool_call_events,
    "file_search_call": _search_events,
    "function_call": _function_call_events,
    "image_generation_call": _image_generation_events,
    "mcp_call": _mcp_call_events,
    "mcp_list_tools": _mcp_list_events,
    "message": _message_events,
    "reasoning": _reasoning_events,
    "shell_call": _shell_events,
    "shell_call_output": _shell_output_events,
    "web_search_call": _search_events,
}
