"""Runs of the Assistants API: ``/threads/{id}/runs``, ``/threads/runs``, ``…/submit_tool_outputs``, their polls."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer._models import SpanType
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.interpret._params import read_format, read_params, read_tools
from tracer.interpret._typed_events import TypedEvents
from tracer.interpret._views import ChildView, Finish, RequestView, ResponseView
from tracer.interpret.choices import describe_error, read_head
from tracer.interpret.deltas import merge_deltas
from tracer.interpret.jobs import read_job
from tracer.interpret.previews import content_text, join_texts, media_label, one_line
from tracer.interpret.sse import Event
from tracer.interpret.tools import call_ids, chat_tool_calls, describe_calls

__all__ = ["read_request", "read_response", "read_stream"]

_FINISHES: dict[str, tuple[Finish, str | None]] = {
    "cancelled": ("cancelled", "the run was cancelled"),
    "cancelling": ("cancelled", "the run is being cancelled"),
    "expired": ("failed", "the run expired"),
    "failed": ("failed", "the run failed without saying why"),
    "incomplete": ("incomplete", "the run is incomplete: no reason given"),
}
_ENDS = tuple(f"thread.run.{word}" for word in ("completed", "requires_action", *_FINISHES))


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, the assistant, tools, preview and text of a request."""
    read_params(body, view)
    if assistant := as_text(body.get("assistant_id")):
        view.attributes[sc.AGENT_ID] = assistant
    if limit := body.get("max_completion_tokens"):
        view.attributes[sc.REQUEST_MAX_TOKENS] = limit
    if "tools" in body:
        read_tools(body, view)
    read_format(body.get("response_format"), view)
    messages = as_dicts(as_dict(body.get("thread")).get("messages")) + as_dicts(body.get("additional_messages"))
    texts = [_message_text(message) for message in messages]
    outputs = as_dicts(body.get("tool_outputs"))
    results = [content_text(result.get("output")) for result in outputs]
    instructions = [as_text(body.get(key)) for key in ("instructions", "additional_instructions")]
    last = next((text for text in reversed([*texts, *results]) if text), None)
    shown = media_label(messages[-1].get("content")) if messages else None
    view.preview = one_line(last or shown or next(filter(None, instructions), None))
    ids = [as_text(result.get("tool_call_id")) for result in outputs]
    view.text = join_texts([*instructions, *texts, *ids, *results], newest_last=True)


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what a run says. A run that was rebuilt from a stream also has its ``messages`` and ``steps``."""
    read_head(body, view)
    read_job(body, view)
    for key, name in (("assistant_id", sc.AGENT_ID), ("thread_id", sc.CONVERSATION_ID)):
        if value := as_text(body.get(key)):
            view.attributes[name] = value
    action = as_dict(as_dict(body.get("required_action")).get("submit_tool_outputs"))
    if calls := chat_tool_calls(action):
        view.attributes[sc.TOOL_CALLS] = calls
    texts = [text for message in as_dicts(body.get("messages")) if (text := _message_text(message))]
    asked, status = describe_calls(calls), as_text(body.get("status"))
    view.preview = one_line("\n".join(texts) or asked or status)
    view.text = join_texts([*texts, asked, *call_ids(calls)])
    view.children = [child for step in as_dicts(body.get("steps")) for child in _children(step)]
    _read_status(status, body, view)


def _message_text(message: dict[str, Any]) -> str:
    """Return a message's words: ``text`` is a string in requests, and an object in answers."""
    content = message.get("content")
    values = [as_dict(part.get("text")).get("value") for part in as_dicts(content)]
    return "\n".join(text for value in values if (text := as_text(value))) or content_text(content)


def _read_status(status: str | None, body: dict[str, Any], view: ResponseView) -> None:
    """Translate ``status``. A run that is only queued, or waits for tools, is a successful result of the call."""
    if status is None:
        return
    view.attributes[sc.RESPONSE_FINISH_REASONS] = [status]
    if view.finish is not None:
        return
    view.finish, view.error = _FINISHES.get(status, ("completed", None))
    reason = as_text(as_dict(body.get("incomplete_details")).get("reason"))
    if status == "incomplete" and reason:
        view.error = f"the run is incomplete: {reason}"
    if status == "failed" and (error := body.get("last_error")):
        view.error, view.error_type = describe_error(error)


# --- tools that OpenAI ran -----------------------------------------------------------------------------------------

_RAN = {
    "code_interpreter": ("code_interpreter", SpanType.TOOL, "extension"),
    "file_search": ("file_search", SpanType.RETRIEVER, "datastore"),
    "retrieval": ("file_search", SpanType.RETRIEVER, "datastore"),
}


def _children(step: dict[str, Any]) -> list[ChildView]:
    found: list[ChildView] = []
    for call in as_dicts(as_dict(step.get("step_details")).get("tool_calls")):
        kind = as_text(call.get("type")) or ""
        if kind in _RAN:
            found.append(_child(kind, call, step, len(found)))
    return found


def _child(kind: str, call: dict[str, Any], step: dict[str, Any], number: int) -> ChildView:
    name, span_type, tool_type = _RAN[kind]
    tool, call_id = as_dict(call.get(kind)), as_text(call.get("id"))
    failed = step.get("status") == "failed"
    results = {"outputs", "results"}
    attributes = {
        sc.OPERATION_NAME: "execute_tool",
        sc.TOOL_NAME: name,
        sc.TOOL_TYPE: tool_type,
        sc.TOOL_CALL_ID: call_id,
    }
    return ChildView(
        key=f"{step.get('id')}/{call_id or number}",
        name=name,
        span_type=span_type,
        inputs={key: value for key, value in tool.items() if key not in results},
        outputs=tool.get("outputs", tool.get("results")),
        attributes={key: value for key, value in attributes.items() if value is not None},
        error=describe_error(step.get("last_error") or "the step failed")[0] if failed else None,
    )


# --- streams -------------------------------------------------------------------------------------------------------


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Rebuild a stream to the last state of the run, with the messages and steps that the stream brought."""
    stream = TypedEvents(events)
    run = next((event.body for event in reversed(stream.events) if event.body.get("object") == "thread.run"), None)
    body: dict[str, Any] = dict(run or {})
    for name, (kind, merge) in _GATHERED.items():
        if parts := _gather(stream, kind, merge):
            body[name] = parts
    if stream.error is not None:
        body["error"] = stream.error
    if body:
        read_response(body, view)
    view.first_token_ns = stream.first(".delta")
    stream.conclude(view, ended=any(event.kind in _ENDS for event in stream.events))
    times = _step_times(stream)
    for child in view.children:
        child.start_time_ns, child.end_time_ns = times.get(child.key.partition("/")[0], (None, None))
    return body or None


def _gather(stream: TypedEvents, kind: str, merge: Any) -> list[dict[str, Any]]:
    """Return the last state of the objects of one kind; those that were never sent whole are merged from deltas."""
    objects: dict[Any, dict[str, Any]] = {}
    deltas: dict[Any, list[dict[str, Any]]] = {}
    for _, _, body in stream.events:
        key = as_text(body.get("id"))
        if body.get("object") == kind:
            objects[key] = body
        elif body.get("object") == f"{kind}.delta":
            deltas.setdefault(key, []).append(as_dict(body.get("delta")))
    for key, pieces in deltas.items():
        whole = objects.get(key, {"id": key, "object": kind})
        if whole.get("status") in (None, "in_progress"):
            objects[key] = {**whole, **merge(pieces)}
    return list(objects.values())


def _merge_message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    merged = merge_deltas([{"parts": delta.get("content")} for delta in deltas])
    return {"content": [_unnumbered(part) for part in as_dicts(merged.get("parts"))]}


def _merge_step(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    details = merge_deltas([as_dict(delta.get("step_details")) for delta in deltas])
    if calls := as_dicts(details.get("tool_calls")):
        details["tool_calls"] = [_unnumbered(call) for call in calls]
    return {"step_details": details}


_GATHERED = {"messages": ("thread.message", _merge_message), "steps": ("thread.run.step", _merge_step)}


def _unnumbered(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "index"}


def _step_times(stream: TypedEvents) -> dict[str, tuple[int | None, int | None]]:
    times: dict[str, tuple[int | None, int | None]] = {}
    for time_ns, kind, body in stream.events:
        if kind.startswith("thread.run.step.") and not kind.endswith(".delta"):
            start, _ = times.get(str(body.get("id")), (time_ns, None))
            running = kind.endswith((".created", ".in_progress"))
            times[str(body.get("id"))] = (start, None if running else time_ns)
    return times
