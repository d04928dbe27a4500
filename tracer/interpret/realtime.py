"""Realtime over a WebSocket: its responses, and the sessions that they are part of.

The input of a response is spread over several events of the session. The caller's thread joins these events without
reading them (`tracer.openai._websocket_session`); here they become what a request over HTTP would have been::

    {"model": …, "create": <the response.create event> | null, "events": [<what was said since the last response>]}

https://platform.openai.com/docs/api-reference/realtime-server-events, and ``openai/types/realtime``.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tracer import _semconv as sc
from tracer.interpret import responses
from tracer.interpret._json import as_dict, as_dicts, as_text, decode_json, encode_value
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import describe_error, read_head
from tracer.interpret.hosted import hosted_calls
from tracer.interpret.item_times import ItemTimes
from tracer.interpret.previews import content_text, join_texts, one_line
from tracer.interpret.response_stream import ResponseStream
from tracer.interpret.sse import Event
from tracer.interpret.tools import approval_requests, asked_calls, call_ids, describe_calls

__all__ = [
    "read_request",
    "read_response",
    "read_session_request",
    "read_session_response",
    "read_session_stream",
    "read_stream",
]

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
COMMIT = "input_audio_buffer.commit"  # the client's
COMMITTED = "input_audio_buffer.committed"
_CONFIG = frozenset({"session.created", "session.started", "session.updated", "transcription_session.updated"})
_USAGE = frozenset({"session.usage.updated", "session.closed"})  # of Live, and cumulative
_TRANSCRIPTS = {  # of translations and of Live, which have no responses
    "session.input_transcript.delta": "input_transcript",
    "session.output_transcript.delta": "output_transcript",
}
_AUDIO = frozenset({"response.output_audio.delta", "response.audio.delta"})
_BARGE_IN = "turn_detected"

# --- one response ---------------------------------------------------------------------------------------------------


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Put a response's request together: its parameters, and as ``input`` what was said since the last response."""
    create = as_dict(as_dict(body.get("create")).get("response"))
    said = _said(as_dicts(body.get("events")))
    given = create.get("input")
    request = {"model": body.get("model"), **create, "input": [*said, *(given if type(given) is list else [])]}
    view.inputs = encode_value(request)
    responses.read_request(request, view)


def _said(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the conversation items from events: as they were created, or with the transcript of their speech."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind, item_id = event.get("type"), event.get("item_id")
        if kind == "conversation.item.create" and type(item := event.get("item")) is dict:
            items.append(item)
        elif kind == COMMIT:
            items.append(_speech(None))
        elif kind in (COMMITTED, TRANSCRIBED):
            item = _heard(items, item_id)
            if kind == TRANSCRIBED:
                item["content"][0]["transcript"] = event.get("transcript")
    return items


def _speech(item_id: Any) -> dict[str, Any]:
    named = {} if item_id is None else {"id": item_id}
    return {"type": "message", **named, "role": "user", "content": [{"type": "input_audio"}]}


def _heard(items: list[dict[str, Any]], item_id: Any) -> dict[str, Any]:
    """Return the item of some speech: the item with this id, or one that has no id yet, or a new one."""
    blank = _speech(None)
    for item in items:
        if (item.get("id") == item_id and type(item.get("content")) is list and item["content"]) or item == blank:
            item["id"] = item_id
            return item
    items.append(_speech(item_id))
    return items[-1]


def read_response(body: dict[str, Any], view: ResponseView, times: ItemTimes | None = None) -> None:
    """Fill in what a ``realtime.response`` object says, its tools with their times."""
    read_head(body, view)
    if conversation := as_text(body.get("conversation_id")):
        view.attributes[sc.CONVERSATION_ID] = conversation
    output = as_dicts(body.get("output"))
    calls = asked_calls(output)
    if calls:
        view.attributes[sc.TOOL_CALLS] = calls
    if approvals := approval_requests(output):
        view.attributes[sc.MCP_APPROVAL_REQUESTS] = approvals
    spoken = [text for item in output if item.get("type") == "message" and (text := content_text(item.get("content")))]
    asked = describe_calls(calls)
    view.preview = one_line("\n".join(spoken) or asked)
    view.text = join_texts([*spoken, asked, *call_ids(calls)])
    view.children = hosted_calls(body, times)
    _read_status(body, view)


def _read_status(body: dict[str, Any], view: ResponseView) -> None:
    """Translate ``status``. A model that the user interrupted has not failed: people talk like that."""
    status, details = body.get("status"), as_dict(body.get("status_details"))
    reason = as_text(details.get("reason"))
    if type(status) is str:
        view.attributes[sc.RESPONSE_FINISH_REASONS] = [reason or status]
    if view.finish is not None:
        return
    if status == "failed":
        view.finish = "failed"
        view.error, view.error_type = describe_error(details.get("error") or {})
    elif status == "incomplete" or (status == "cancelled" and reason == _BARGE_IN):
        view.finish, view.error = "incomplete", f"the response is incomplete: {reason or 'no reason given'}"
    elif status == "cancelled":
        view.finish, view.error = "cancelled", f"the response was cancelled: {reason or 'no reason given'}"
    elif status == "completed":
        view.finish = "completed"


def read_stream(events: list[Event], view: ResponseView) -> Any:
    """Take the response from ``response.done``, or rebuild it from the events that came."""
    stream = ResponseStream(events)
    body = stream.rebuild()
    view.first_token_ns = stream.first_token_ns
    if body is not None:
        _add_audio(events, body)
        read_response(body, view, stream.times)
    if stream.error is not None:
        view.finish = "failed"
        view.error, view.error_type = describe_error(stream.error)
    elif not stream.ended:
        view.finish, view.error = None, None
    if late := [text for event in _decoded(events) if (text := _transcript(event))]:
        view.attributes[sc.INPUT_TRANSCRIPT] = "\n".join(late)
    return body


def _transcript(event: dict[str, Any]) -> str | None:
    return as_text(event.get("transcript")) if event.get("type") == TRANSCRIBED else None


def _decoded(events: list[Event], *, having: bytes = b"input_audio_transcription") -> list[dict[str, Any]]:
    """Return those events that mention something; most are deltas that need no second look."""
    return [body for _, _, data in events if having in data and (body := _decode(data))]


def _decode(data: bytes) -> dict[str, Any]:
    try:
        return as_dict(decode_json(data))
    except ValueError:
        return {}


def _add_audio(events: list[Event], body: dict[str, Any]) -> None:
    """Put recorded audio where the response leaves it out. Audio is recorded only if the user asked for it."""
    pieces: dict[tuple[Any, Any], list[bytes]] = {}
    for event in _decoded(events, having=b"audio.delta"):
        place = (event.get("output_index"), event.get("content_index"))
        is_audio = as_text(event.get("type")) in _AUDIO and all(type(index) is int for index in place)
        if is_audio and type(delta := event.get("delta")) is str:
            pieces.setdefault(place, []).append(_unpack(delta))
    output = as_dicts(body.get("output"))
    for (output_index, content_index), audio in pieces.items():
        item = output[output_index] if type(output_index) is int and 0 <= output_index < len(output) else {}
        parts = as_dicts(item.get("content"))
        if type(content_index) is int and 0 <= content_index < len(parts):
            parts[content_index]["audio"] = base64.b64encode(b"".join(audio)).decode()


def _unpack(delta: str) -> bytes:
    try:
        return base64.b64decode(delta)
    except (binascii.Error, ValueError):
        return b""


# --- a session ------------------------------------------------------------------------------------------------------


def read_session_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in what a connection was made for."""
    view.model = view.preview = as_text(body.get("model"))
    if view.model:
        view.attributes[sc.REQUEST_MODEL] = view.model


def read_session_response(body: dict[str, Any], view: ResponseView) -> None:
    """Read a session as `read_session_stream` put it together."""
    view.model = as_text(as_dict(body.get("session")).get("model"))
    heard = [text for item in as_dicts(body.get("input")) if (text := content_text(item.get("content")))]
    transcripts = [as_text(body.get(name)) for name in _TRANSCRIPTS.values()]
    view.preview = one_line(transcripts[-1] or "\n".join(heard))
    view.text = join_texts([as_text(as_dict(body.get("session")).get("instructions")), *heard, *transcripts])


def read_session_stream(events: list[Event], view: ResponseView) -> Any:
    """Put a session together from its own events: configuration, what the user said, errors.

    What the model said is in its responses, which are spans of their own.
    """
    decoded = [body for _, _, data in events if (body := _decode(data))]
    configs = [config for body in decoded if body.get("type") in _CONFIG and (config := as_dict(body.get("session")))]
    errors = [body.get("error") for body in decoded if body.get("type") == "error"]
    said = _said(decoded)
    session: dict[str, Any] = {}
    if configs:
        session["session"] = configs[-1]
    if said:
        session["input"] = said
    if errors:
        session["errors"] = errors
    for kind, name in _TRANSCRIPTS.items():
        pieces = [piece for body in decoded if body.get("type") == kind and (piece := as_text(body.get("delta")))]
        if pieces:
            session[name] = "".join(pieces)
    read_session_response(session, view)
    session_id = as_text(configs[-1].get("id")) if configs else None
    if session_id:
        view.attributes[sc.WEBSOCKET_SESSION_ID] = session_id
    usages = [as_dict(body.get("usage")) for body in decoded if body.get("type") in _USAGE]
    if usages and type(seconds := usages[-1].get("seconds")) in (int, float):
        view.attributes[sc.AUDIO_SECONDS] = seconds
    return session or None
