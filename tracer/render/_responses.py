"""Conversations of Responses and Realtime: lists of typed items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret.hosted import hosted_calls
from tracer.interpret.items import pair_results
from tracer.interpret.tools import item_tool_call
from tracer.render._conversation import Call, Conversation, Message, Part, Path, parsed_json, read_content, split_fields
from tracer.render._media import MediaLinks

__all__ = ["is_items", "read_input", "read_output"]


def is_items(value: Any) -> bool:
    """Tell whether a value is a list of messages and items."""
    return type(value) is list and bool(value) and all(type(i) is dict and ("role" in i or "type" in i) for i in value)


def read_input(body: dict[str, Any], links: MediaLinks) -> Conversation:
    """Read a request with ``input``."""
    given, messages = body.get("input"), []
    if instructions := body.get("instructions"):
        messages.append(
            Message(role="system", parts=read_content(instructions, links), path=["inputs", "instructions"])
        )
    if type(given) is list and is_items(given):
        messages += read_items(given, ["inputs", "input"], links, role="user")
    elif given is not None:
        messages.append(Message(role="user", parts=read_content(given, links), path=["inputs", "input"]))
    fields, unset = split_fields(body, {"input", "instructions", "tools"})
    return Conversation(messages=messages, fields=fields, unset=unset)


def read_output(body: dict[str, Any], links: MediaLinks) -> Conversation:
    """Read a response with ``output``."""
    messages = read_items(as_dicts(body["output"]), ["outputs", "output"], links, role="assistant")
    # These fields of the request are repeated by the response.
    fields, unset = split_fields(body, {"output", "usage", "tools", "instructions"})
    return Conversation(messages=messages, fields=fields, unset=unset)


def read_items(items: list[Any], path: Path, links: MediaLinks, *, role: str) -> list[Message]:
    """Read items one by one; each built-in call is shown together with its result."""
    found = as_dicts(items)
    ran = frozenset(call_id for place in pair_results(found) if (call_id := as_text(found[place].get("call_id"))))
    messages = []
    for at, item in enumerate(items):
        message = _item(as_dict(item), ran, links, role)
        if message is not None:
            message.path = [*path, at]
            messages.append(message)
    return messages


def _item(item: dict[str, Any], ran: frozenset[str], links: MediaLinks, role: str) -> Message | None:
    kind = as_text(item.get("type")) or "message"
    if kind == "message":
        return Message(
            role=as_text(item.get("role")) or role,
            parts=read_content(item.get("content"), links),
            title=_unusual(item.get("status")),
        )
    if reader := _ITEMS.get(kind):
        return reader(item, links)
    if kind.endswith("_output") and as_text(item.get("call_id")):
        result = next((item[key] for key in ("output", "result", "tools") if key in item), item)
        return Message(role="tool", parts=read_content(result, links), answers=as_text(item.get("call_id")))
    if call := _call(item, ran):
        return Message(role="assistant", calls=[call], title=_unusual(item.get("status")))
    if role == "user" and kind.startswith("input_"):  # a part without its message
        return Message(role=role, parts=read_content([item], links))
    return Message(role=kind.replace("_", " "), parts=[Part(kind="json", value=item)])


def _unusual(status: Any) -> str:
    return status if isinstance(status, str) and status not in ("completed", "") else ""


def _call(item: dict[str, Any], ran: frozenset[str]) -> Call | None:
    """Return the call that an item asks for, or that OpenAI ran itself."""
    asked = item_tool_call(item)
    if asked is not None and item.get("type") != "computer_call":
        text = as_text(asked["arguments"]) or ""
        value = parsed_json(text)
        call_id = as_text(asked["id"])
        return Call(
            name=as_text(asked["name"]) or "?",
            arguments=text if value is None else value,
            call_id=call_id,
            ran_by_api=call_id in ran and item.get("type") in ("shell_call", "local_shell_call", "apply_patch_call"),
        )
    child = next(iter(hosted_calls({"output": [item]})), None)
    if child is None:
        return None
    results = [] if child.outputs is None else [Part(kind="json", value=child.outputs)]
    if child.error:
        results.append(Part(kind="refusal", text=child.error))
    call = Call(name=child.name, arguments=child.inputs, ran_by_api=item.get("type") != "computer_call")
    call.call_id, call.results, call.status = as_text(item.get("call_id")), results, _unusual(item.get("status"))
    return call


def _reasoning(item: dict[str, Any], links: MediaLinks) -> Message:
    texts = [as_text(part.get("text")) or "" for part in as_dicts(item.get("summary")) + as_dicts(item.get("content"))]
    words = "\n\n".join(text for text in texts if text)
    if not words:
        return Message(role="reasoning", title="encrypted" if item.get("encrypted_content") else "no summary")
    return Message(role="reasoning", parts=[Part(kind="reasoning", text=words)])


def _picture(item: dict[str, Any], links: MediaLinks) -> Message:
    child = next(iter(hosted_calls({"output": [item]})))
    call = Call(name="image_generation", arguments=child.inputs, ran_by_api=True, status=_unusual(item.get("status")))
    shown = links.find(item.get("result"), f"image/{as_text(item.get('output_format')) or 'png'}")
    if shown is not None:
        call.results.append(Part(kind="media", media=shown, label="image"))
    return Message(role="assistant", calls=[call])


def _code(item: dict[str, Any], links: MediaLinks) -> Message:
    call = Call(name="code_interpreter", arguments={}, ran_by_api=True, status=_unusual(item.get("status")))
    outputs = [as_text(out.get("logs")) for out in as_dicts(item.get("outputs"))]
    call.arguments = Part(kind="code", text=as_text(item.get("code")) or "", label="python")
    call.results = [Part(kind="plain", text=text) for text in outputs if text]
    rest = [out for out in as_dicts(item.get("outputs")) if not as_text(out.get("logs"))]
    call.results += [Part(kind="json", value=out) for out in rest]
    return Message(role="assistant", calls=[call])


_ITEMS: dict[str, Callable[[dict[str, Any], MediaLinks], Message]] = {
    "reasoning": _reasoning,
    "image_generation_call": _picture,
    "code_interpreter_call": _code,
}
