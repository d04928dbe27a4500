"""Responses: ``POST /responses``, ``POST /responses/compact``, ``GET /responses/{id}?stream=true``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret._params import read_format, read_params, read_tools
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import describe_error, read_head
from tracer.interpret.cost import billed_searches
from tracer.interpret.previews import content_text, join_texts, media_label, one_line
from tracer.interpret.response_stream import ResponseStream
from tracer.interpret.sse import Event
from tracer.interpret.tools import built_in_calls, describe_calls, item_tool_call, outputs_by_call

__all__ = ["read_request", "read_response", "read_stream"]


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, tools, the output's form, conversation, preview and text of a request."""
    read_params(body, view)
    if "tools" in body:
        read_tools(body, view)
    if type(text := body.get("text")) is dict:
        read_format(text.get("format"), view)
    if effort := as_dict(body.get("reasoning")).get("effort"):
        view.attributes[sc.REQUEST_REASONING_EFFORT] = effort
    conversation = body.get("conversation")
    if conversation_id := as_text(conversation) or as_dict(conversation).get("id"):
        view.attributes[sc.CONVERSATION_ID] = conversation_id
    _read_input(body, view)


def _read_input(body: dict[str, Any], view: RequestView) -> None:
    given = body.get("input")
    if type(given) is str:
        view.preview, view.text = one_line(given), join_texts([as_text(body.get("instructions")), given])
        return
    items = as_dicts(given)
    instructions = as_text(body.get("instructions"))
    prompt_id = as_text(as_dict(body.get("prompt")).get("id"))
    view.preview = one_line(_last_user_text(items) or instructions or prompt_id or media_label(items))
    view.text = join_texts([instructions, *map(_item_text, items)], newest_last=True)


def _last_user_text(items: list[dict[str, Any]]) -> str | None:
    spoken = shown = None
    for item in reversed(items):
        if item.get("role") != "user":
            spoken = spoken or _item_text(item)
        elif text := content_text(item.get("content")):
            return text
        else:
            shown = shown or media_label(item.get("content"))
    return spoken or shown


def _item_text(item: dict[str, Any]) -> str:
    """Return an item's words: a message's content, a reasoning summary, a call, a tool's output."""
    for key in ("content", "output", "summary"):
        if text := content_text(item.get(key)):
            return text
    call = item_tool_call(item, frozenset())
    return describe_calls([call]) if call else ""


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in everything that a plain response, or a stream's terminal one, says."""
    read_head(body, view)
    output = as_dicts(body.get("output"))
    if conversation := as_dict(body.get("conversation")).get("id"):
        view.attributes[sc.CONVERSATION_ID] = conversation
    ran = frozenset(outputs_by_call(output))
    calls = [call for item in output if (call := item_tool_call(item, ran))]
    if calls:
        view.attributes[sc.TOOL_CALLS] = calls
    spoken, refusals = _message_texts(output)
    asked = describe_calls(calls)
    view.preview = one_line("\n".join(spoken) or asked or "\n".join(refusals))
    view.text = join_texts([*spoken, asked, *refusals])
    view.children = built_in_calls(output)
    view.attributes.update(billed_searches(body))
    _read_status(body, view)


def _message_texts(output: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    parts = [part for item in output if item.get("type") == "message" for part in as_dicts(item.get("content"))]
    spoken = [text for part in parts if (text := as_text(part.get("text")))]
    return spoken, [refusal for part in parts if (refusal := as_text(part.get("refusal")))]


def _read_status(body: dict[str, Any], view: ResponseView) -> None:
    """Translate ``status``. A background response that is merely queued is what the call was to bring."""
    status = body.get("status")
    if type(status) is str:
        view.attributes[sc.RESPONSE_FINISH_REASONS] = [status]
    if view.finish is not None:
        return
    if status == "incomplete":
        reason = as_text(as_dict(body.get("incomplete_details")).get("reason"))
        view.finish, view.error = "incomplete", f"the response is incomplete: {reason or 'no reason given'}"
    elif status == "failed":
        view.finish, view.error = "failed", "the response failed without saying why"
    elif status == "cancelled":
        view.finish, view.error = "cancelled", "the response was cancelled"
    elif status is not None or "output" in body:
        view.finish = "completed"


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Take the terminal event's response, or rebuild it as far as the stream came; add the tools' real times."""
    stream = ResponseStream(events)
    body = stream.rebuild()
    view.first_token_ns = stream.first_token_ns
    if body is not None:
        read_response(body, view)
    if stream.error is not None:
        view.finish = "failed"
        view.error, view.error_type = describe_error(stream.error)
    elif not stream.ended:
        view.finish, view.error = None, None
    if stream.unreadable:
        view.attributes[sc.NOTE] = f"{stream.unreadable} stream events were not JSON objects"
    for child in view.children:
        child.start_time_ns, child.end_time_ns = stream.times.get(child.key, (None, None))
    return body
