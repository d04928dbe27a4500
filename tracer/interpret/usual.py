"""The usual answers, decoded into just the fields that are read: a text of one choice, or messages and nothing else.

Most answers are like this, and here they take a third of the time. All that is unusual is refused (None) and left to
the module of its API: a field that is not listed here, a call of a tool, an error, a total that is not a sum. Fields
whose value does not matter are listed as `Any`. Others can't be skipped: they might matter, or be no JSON that the
store accepts. What is read here is read as the API's module reads it; the tests compare both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec

from tracer import _semconv as sc
from tracer.interpret._json import is_shallow
from tracer.interpret._views import ResponseView
from tracer.interpret.finish_reasons import read_reason
from tracer.interpret.previews import content_text, join_texts, one_line
from tracer.interpret.usage import MAX_COUNT

__all__ = ["read_chat", "read_response"]

_Count = Annotated[int, msgspec.Meta(ge=0, lt=MAX_COUNT)]


class _Exact(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object without other fields than these."""


class _Asked(_Exact):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: Any = None
    text_tokens: Any = None


class _Answered(_Exact):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    accepted_prediction_tokens: Any = None
    image_tokens: Any = None
    rejected_prediction_tokens: Any = None
    text_tokens: Any = None


class _ChatUsage(
    _Exact,
    rename={
        "read": "prompt_tokens",
        "written": "completion_tokens",
        "total": "total_tokens",
        "asked": "prompt_tokens_details",
        "answered": "completion_tokens_details",
    },
):
    read: _Count
    written: _Count
    total: _Count
    asked: _Asked | None = None
    answered: _Answered | None = None


class _ResponseUsage(
    _Exact,
    rename={
        "read": "input_tokens",
        "written": "output_tokens",
        "total": "total_tokens",
        "asked": "input_tokens_details",
        "answered": "output_tokens_details",
    },
):
    read: _Count
    written: _Count
    total: _Count
    asked: _Asked | None = None
    answered: _Answered | None = None


class _ChatMessage(_Exact):
    content: str
    role: Any = None
    refusal: None = None
    annotations: list[None] | None = None
    audio: None = None
    function_call: None = None
    reasoning: None = None
    reasoning_content: None = None
    tool_calls: list[None] | None = None


class _ChatChoice(_Exact):
    message: _ChatMessage
    finish_reason: str
    index: Any = None
    logprobs: Any = None
    content_filter_results: Any = None
    native_finish_reason: Any = None
    stop_reason: Any = None


class _ChatAnswer(_Exact):
    choices: list[_ChatChoice]
    usage: _ChatUsage
    object: Literal["chat.completion"]
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    created: Any = None
    moderation: Any = None
    prompt_filter_results: Any = None
    provider: Any = None


class _Text(_Exact, tag_field="type", tag="output_text"):
    text: str
    annotations: list[None] | None = None
    logprobs: Any = None


class _Message(_Exact, tag_field="type", tag="message"):
    content: list[_Text]
    id: Any = None
    phase: Any = None
    role: Any = None
    status: Any = None


class _Thought(_Exact, tag_field="type", tag="reasoning"):
    summary: list[None]
    id: Any = None
    content: list[None] | None = None
    encrypted_content: Any = None
    status: Any = None


class _Response(_Exact):
    output: list[_Message | _Thought]
    usage: _ResponseUsage
    object: Literal["response"]
    status: Literal["completed"]
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    background: bool | None = None
    conversation: None = None
    error: None = None
    incomplete_details: None = None
    billing: Any = None
    completed_at: Any = None
    content_filters: Any = None
    created_at: Any = None
    frequency_penalty: Any = None
    instructions: Any = None
    max_output_tokens: Any = None
    max_tool_calls: Any = None
    metadata: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    presence_penalty: Any = None
    previous_response_id: Any = None
    prompt: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    reasoning: Any = None
    safety_identifier: Any = None
    store: Any = None
    temperature: Any = None
    text: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    top_p: Any = None
    truncation: Any = None
    user: Any = None


_decode_chat = msgspec.json.Decoder(_ChatAnswer).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def read_chat(body: bytes) -> ResponseView | None:
    """Return what a chat completion says; None if it is not a usual one."""
    try:
        answer = _decode_chat(body)
    except _REFUSED:
        return None
    choices = answer.choices
    if len(choices) != 1:
        return None
    attributes: dict[str, Any] = {}
    if answer.id:
        attributes[sc.RESPONSE_ID] = answer.id
    if answer.model:
        attributes[sc.RESPONSE_MODEL] = answer.model
    if answer.service_tier:
        attributes[sc.RESPONSE_SERVICE_TIER] = answer.service_tier
    if answer.system_fingerprint:
        attributes[sc.RESPONSE_SYSTEM_FINGERPRINT] = answer.system_fingerprint
    return _view(body, answer, attributes, [choices[0].message.content], choices[0].finish_reason)


def read_response(body: bytes) -> ResponseView | None:
    """Return what an answer of the Responses API says; None if it is not a usual one."""
    try:
        answer = _decode_response(body)
    except _REFUSED:
        return None
    if answer.background:
        return None
    attributes: dict[str, Any] = {}
    if answer.id:
        attributes[sc.RESPONSE_ID] = answer.id
    if answer.model:
        attributes[sc.RESPONSE_MODEL] = answer.model
    if answer.service_tier:
        attributes[sc.RESPONSE_SERVICE_TIER] = answer.service_tier
    texts = [part.text for item in answer.output if type(item) is _Message for part in item.content]
    return _view(body, answer, attributes, texts, "completed")


class _Answer(Protocol):
    model: str | None

    @property
    def usage(self) -> _ChatUsage | _ResponseUsage: ...


def _view(
    body: bytes, answer: _Answer, attributes: dict[str, Any], said: Sequence[str], reason: str
) -> ResponseView | None:
    usage = _usage(answer.usage, attributes)
    texts = [text for one in said if (text := content_text(one))]
    if usage is None or not texts or not reason or not is_shallow(body):
        return None
    attributes[sc.RESPONSE_FINISH_REASONS] = [reason]
    finish, error = read_reason(reason)
    if finish == "failed":
        return None
    return ResponseView(
        outputs=body,
        attributes=attributes,
        model=answer.model or None,
        usage=usage,
        preview=one_line("\n".join(texts)),
        text=join_texts(texts),
        finish=finish,
        error=error,
    )


def _usage(usage: _ChatUsage | _ResponseUsage, attributes: dict[str, Any]) -> dict[str, int] | None:
    """Return the counts, and add them to the attributes; None if the total is none, or not the sum of its parts."""
    read, written, total = usage.read, usage.written, usage.total
    if not total or total != read + written:
        return None
    counts = {"input_tokens": read, "output_tokens": written, "total_tokens": total}
    attributes[sc.USAGE_INPUT_TOKENS] = read
    attributes[sc.USAGE_OUTPUT_TOKENS] = written
    attributes[sc.TOTAL_TOKENS] = total
    if (asked := usage.asked) is not None:
        if (count := asked.cached_tokens) is not None:
            counts["cache_read_input_tokens"] = count
            if count:
                attributes[sc.USAGE_CACHE_READ_INPUT_TOKENS] = count
        if (count := asked.cache_write_tokens) is not None:
            counts["cache_creation_input_tokens"] = count
            if count:
                attributes[sc.USAGE_CACHE_CREATION_INPUT_TOKENS] = count
        if (count := asked.audio_tokens) is not None:
            counts["input_audio_tokens"] = count
            if count:
                attributes[sc.INPUT_AUDIO_TOKENS] = count
    if (answered := usage.answered) is not None:
        if (count := answered.reasoning_tokens) is not None:
            counts["reasoning_tokens"] = count
            if count:
                attributes[sc.REASONING_TOKENS] = count
        if (count := answered.audio_tokens) is not None:
            counts["output_audio_tokens"] = count
            if count:
                attributes[sc.OUTPUT_AUDIO_TOKENS] = count
    return counts
