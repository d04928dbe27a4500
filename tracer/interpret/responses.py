"""Responses: ``POST /responses``, ``POST /responses/compact``, ``GET /responses/{id}?stream=true``."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret._params import read_format, read_params, read_tools
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import describe_error, read_head
from tracer.interpret.citations import read_citations
from tracer.interpret.cost import billed_searches
from tracer.interpret.finish_reasons import read_reason
from tracer.interpret.hosted import hosted_calls
from tracer.interpret.images import picture_preview
from tracer.interpret.item_times import ItemTimes
from tracer.interpret.previews import TEXT_CHARS, content_text, join_texts, media_label, one_line, part_text
from tracer.interpret.response_stream import ResponseStream
from tracer.interpret.sse import Event
from tracer.interpret.tools import approval_requests, asked_calls, call_ids, describe_calls, item_tool_call

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
        words = content_text(given)
        view.preview = one_line(words or media_label(given))
        view.text = join_texts([as_text(body.get("instructions")), words])
        return
    items = as_dicts(given)
    instructions = as_text(body.get("instructions"))
    prompt_id = as_text(as_dict(body.get("prompt")).get("id"))
    view.preview = one_line(_last_user_text(items) or instructions or prompt_id or media_label(items))
    texts = [text for item in items for text in (_item_text(item), as_text(item.get("call_id")))]
    view.text = join_texts([instructions, *texts], newest_last=True)


def _last_user_text(items: list[dict[str, Any]]) -> str | None:
    spoken = shown = None
    for item in reversed(items):
        if item.get("role") != "user":
            spoken = spoken or _item_text(item)
        elif text := content_text(item.get("content")):
            return text
        else:
            shown = shown or media_label(item.get("content"))
    return shown or spoken


def _item_text(item: dict[str, Any]) -> str:
    """Return an item's words: a message's content, a reasoning summary, a call, a tool's output."""
    if printed := [text for part in as_dicts(item.get("output")) if (text := _printed(part))]:
        return "\n".join(printed)
    for key in ("content", "output", "summary"):
        if text := content_text(item.get(key)):
            return text
    if type(approve := item.get("approve")) is bool:
        return join_texts(["approved" if approve else "not approved", as_text(item.get("reason"))])
    call = item_tool_call(item)
    return describe_calls([call]) if call else ""


def _printed(part: dict[str, Any]) -> str:
    """Return what a shell's command printed."""
    return join_texts([as_text(part.get("stdout")), as_text(part.get("stderr"))])


def read_response(body: dict[str, Any], view: ResponseView, times: ItemTimes | None = None) -> None:
    """Fill in everything that a plain response, or a stream's terminal one, says.

    Args:
        body: The response.
        view: Filled in.
        times: When a stream's items began and ended.
    """
    read_head(body, view)
    output = as_dicts(body.get("output"))
    if conversation := as_dict(body.get("conversation")).get("id"):
        view.attributes[sc.CONVERSATION_ID] = conversation
    said = [item.get("content") for item in output if item.get("type") == "message"]
    parts = [part for content in said for part in as_dicts(content)]
    calls, approvals, thoughts, pictures = [], [], [], []
    if len(said) < len(output):  # most answers are messages and nothing else
        calls, approvals, thoughts = asked_calls(output), approval_requests(output), read_thoughts(output)
        pictures = [item for item in output if item.get("type") == "image_generation_call" and item.get("result")]
        view.children = hosted_calls(body, times)
    found = {
        sc.TOOL_CALLS: calls,
        sc.MCP_APPROVAL_REQUESTS: approvals,
        sc.CITATIONS: read_citations(parts),
        sc.REASONING: "\n\n".join(thoughts)[:TEXT_CHARS],
    }
    view.attributes.update({key: value for key, value in found.items() if value})
    spoken = [text for content in said for text in _spoken(content)]
    refusals = [refusal for part in parts if (refusal := as_text(part.get("refusal")))]
    asked = describe_calls(calls)
    wanted = f"to be approved: {describe_calls(approvals)}" if approvals else ""
    view.preview = one_line(
        "\n".join(spoken) or asked or wanted or "\n".join(refusals) or _labels(said) or "\n".join(thoughts)
    )
    prompts = [prompt for picture in pictures if (prompt := as_text(picture.get("revised_prompt")))]
    if pictures and not (spoken or asked or wanted or refusals):  # an answer that is only a picture
        view.preview = picture_preview(len(pictures), prompts, pictures[0])
    view.text = join_texts([*spoken, asked, wanted, *refusals, *thoughts, *prompts, *call_ids(calls)])
    view.attributes.update(billed_searches(body))
    _read_status(body, view)


def _labels(said: list[Any]) -> str:
    return " ".join(filter(None, map(media_label, said)))


def _spoken(content: Any) -> list[str]:
    """Return the texts of a message; some servers send a text or a JSON object where the API has a list of parts."""
    if type(content) is not list:
        return [text] if (text := content_text(content)) else []
    return [text for part in content if not as_dict(part).get("refusal") and (text := part_text(part))]


def read_thoughts(output: list[dict[str, Any]]) -> list[str]:
    """Return the words of reasoning items: their text if the model shows it, otherwise their summary."""
    items = [item for item in output if item.get("type") == "reasoning"]
    return [text for item in items if (text := content_text(item.get("content")) or content_text(item.get("summary")))]


# Compatible servers have more words than the API.
_FAILED = frozenset({"abort", "aborted", "error", "errored", "expired", "failed"})
_CANCELLED = frozenset({"canceled", "cancelled"})


def _read_status(body: dict[str, Any], view: ResponseView) -> None:
    """Translate ``status``. A background response that is only queued is a successful result of the call."""
    status = body.get("status")
    if type(status) is str:
        view.attributes[sc.RESPONSE_FINISH_REASONS] = [status]
    if view.finish is not None:
        return
    reason = as_text(as_dict(body.get("incomplete_details")).get("reason"))
    word = status.lower() if type(status) is str else None
    if reason is not None and read_reason(reason)[0] in ("failed", "cancelled"):
        view.finish, view.error = read_reason(reason)
    elif word == "incomplete" or (word in (None, "completed") and reason):
        view.finish, view.error = "incomplete", f"the response is incomplete: {reason or 'no reason given'}"
    elif word in _FAILED:
        view.finish, view.error = "failed", "the response failed without saying why"
    elif word in _CANCELLED:
        view.finish, view.error = "cancelled", "the response was cancelled"
    elif status is not None or "output" in body:
        view.finish = "completed"


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Take the terminal event's response, or rebuild it from the events that came; add the tools' real times."""
    stream = ResponseStream(events)
    body = stream.rebuild()
    view.first_token_ns = stream.first_token_ns
    if body is not None:
        read_response(body, view, stream.times)
    if stream.error is not None:
        view.finish = "failed"
        view.error, view.error_type = describe_error(stream.error)
    elif not stream.ended:
        view.finish, view.error = None, None
    if stream.unreadable:
        view.attributes[sc.NOTE] = f"{stream.unreadable} stream events were not JSON objects"
    return body
