"""Which reader takes a span's inputs and outputs: their shape decides, so spans of other libraries can be read, too."""

from __future__ import annotations

import base64
import contextlib
import struct
from collections.abc import Iterable
from typing import Any

from tracer import _semconv as sc
from tracer._models import Span
from tracer.interpret._json import as_dict, as_dicts, as_text
from tracer.render import _chat, _responses
from tracer.render._conversation import Call, Conversation, Message, Part, read_audio, read_content, split_fields
from tracer.render._json_tree import summarize_numbers
from tracer.render._media import MediaLinks

__all__ = ["Results", "collect_results", "link_calls", "read_inputs", "read_outputs"]

Results = dict[str, tuple[list[Part], str]]
"""By a tool call's id: its result, and the span in which the result was found."""


def read_inputs(span: Span, links: MediaLinks) -> Conversation:
    """Read what a span was given."""
    body = span.inputs
    if type(body) is dict:
        if _responses.is_items(body.get("messages")):
            return _chat.read_messages(body, links)
        if _responses.is_items(body.get("input")) or (
            sc.OPERATION in span.attributes and "previous_response_id" in body
        ):
            return _responses.read_input(body, links)
        if sc.OPERATION in span.attributes:
            for key in ("input", "prompt", "query"):
                if body.get(key):
                    return _chat.read_prompts(body, key, links)
    return _plain(body, "inputs", links)


def read_outputs(span: Span, links: MediaLinks) -> Conversation:
    """Read what a span returned."""
    body = span.outputs
    if type(body) is dict:
        if as_dicts(body.get("choices")):
            return _chat.read_choices(body, links)
        if _responses.is_items(body.get("output")):
            return _responses.read_output(body, links)
        if sc.OPERATION in span.attributes:
            return _other_answer(body, span.attributes.get(sc.EMBEDDINGS_DIMENSION_COUNT), links)
        if as_text(body.get("role")) and "content" in body:  # one message, as some agents' functions return
            return Conversation(messages=[_chat.chat_message(body, ["outputs"], links)])
    return _plain(body, "outputs", links)


def _plain(body: Any, side: str, links: MediaLinks) -> Conversation:
    """Show a text as Markdown; leave any other value to the tree."""
    if isinstance(body, str) and body:
        return Conversation(
            messages=[Message(role=side.removesuffix("s"), parts=read_content(body, links), path=[side])]
        )
    return Conversation(value=body)


def _other_answer(body: dict[str, Any], size: Any, links: MediaLinks) -> Conversation:
    """Read vectors, pictures, speech, a transcript; leave anything else to the tree."""
    data = as_dicts(body.get("data"))
    if data and "embedding" in data[0]:
        return _vectors(body, data, size)
    if data and ("b64_json" in data[0] or "url" in data[0]):
        return _pictures(body, data, links)
    if (sound := links.find(body.get("data"), as_text(body.get("content_type")))) is not None:
        part = Part(kind="media", media=sound, label="speech")
        fields, unset = split_fields(body, {"data"})
        return Conversation(messages=[Message(role="assistant", parts=[part])], fields=fields, unset=unset)
    if (text := as_text(body.get("text"))) is not None:
        fields, unset = split_fields(body, {"text"})
        message = Message(role="assistant", parts=[Part(kind="plain", text=text)], path=["outputs", "text"])
        return Conversation(messages=[message], fields=fields, unset=unset)
    if audio := as_dict(body.get("audio")):
        return Conversation(messages=[Message(role="assistant", parts=read_audio(audio, links))])
    return Conversation(value=body)


def _vectors(body: dict[str, Any], data: list[dict[str, Any]], size: Any) -> Conversation:
    """Say how many vectors of how many dimensions there are, and the first values of the first few."""
    fields, unset = split_fields(body, {"data", "usage"})
    shown = [_first_values(item.get("embedding")) for item in data[:5]]
    lines = "\n".join(f"{at}: {values}" for at, values in enumerate(shown))
    words = f"{len(data):,} {'vector' if len(data) == 1 else 'vectors'}"
    words += f" of {size:,} dimensions" if isinstance(size, int) else ""
    parts = [Part(kind="plain", text=words), Part(kind="plain", text=lines)]
    return Conversation(messages=[Message(role="embeddings", parts=parts)], fields=fields, unset=unset)


def _first_values(vector: Any) -> str:
    if isinstance(vector, str):  # base64 of 32-bit floats, of which five are 20 bytes in 28 characters
        with contextlib.suppress(ValueError, struct.error):
            first = struct.unpack("<5f", base64.b64decode(vector[:28])[:20])
            return f"{', '.join(f'{number:.4g}' for number in first)}, …"
        return f"{vector[:40]}…"
    return summarize_numbers(vector) or str(vector)[:120]


def _pictures(body: dict[str, Any], data: list[dict[str, Any]], links: MediaLinks) -> Conversation:
    kind = f"image/{as_text(body.get('output_format')) or 'png'}"
    messages = []
    for at, item in enumerate(data):
        shown = links.find(item.get("b64_json"), kind)
        parts = [Part(kind="media", media=shown, label="image")] if shown is not None else []
        if url := as_text(item.get("url")):
            parts.append(Part(kind="link", text=url, label="image"))
        if prompt := as_text(item.get("revised_prompt")):
            parts.append(Part(kind="plain", text=prompt, label="revised prompt"))
        messages.append(Message(role="assistant", parts=parts, path=["outputs", "data", at]))
    fields, unset = split_fields(body, {"data", "usage"})
    return Conversation(messages=messages, fields=fields, unset=unset)


# --- tool calls and their results ----------------------------------------------------------------------------------


def collect_results(spans: Iterable[Span], links: MediaLinks) -> Results:
    """Return the results of tool calls, from later requests of a trace and from tool spans, which name their call."""
    results: Results = {}
    for span in spans:
        call_id = span.attributes.get(sc.TOOL_CALL_ID)
        if isinstance(call_id, str) and span.outputs is not None:
            results[call_id] = (_plain_parts(span.outputs, links), span.span_id)
        for call_id, content in _told(as_dict(span.inputs)):
            if call_id not in results:
                results[call_id] = (read_content(content, links), span.span_id)
    return results


def _plain_parts(value: Any, links: MediaLinks) -> list[Part]:
    return read_content(value, links) if isinstance(value, str) else [Part(kind="json", value=value)]


def _told(body: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for message in as_dicts(body.get("messages")):
        if call_id := as_text(message.get("tool_call_id")):
            yield call_id, message.get("content")
    for item in as_dicts(body.get("input")):
        if (call_id := as_text(item.get("call_id"))) and str(item.get("type")).endswith("_output"):
            yield call_id, next((item[key] for key in ("output", "result", "tools") if key in item), None)


def link_calls(messages: list[Message], results: Results) -> list[Message]:
    """Put each result under its call, and leave out messages that contain nothing else."""
    asked: dict[str, Call] = {call.call_id: call for m in messages for call in m.calls if call.call_id}
    for call_id, call in asked.items():
        if call_id in results and not call.results:
            call.results, call.span_id = results[call_id]
    kept: list[Message] = []
    for message in messages:
        answered = asked.get(message.answers or "")
        if answered is None:
            kept.append(message)
        elif not answered.results:
            answered.results = message.parts
    return kept
