"""`/chat/completions` and the legacy `/completions`, plain and streamed.

A stream is made from the finished completion, so both forms always say the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from tracer.testing._answer import Answer, Json, count_words, deltas
from tracer.testing._wire import Mint

__all__ = ["chat_chunks", "chat_completion", "prompt_words", "text_chunks", "text_completion"]

_COMPLETION_ZEROS = {"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}


def chat_completion(body: Json, answers: list[Answer], prompt_words: int, mint: Mint) -> Json:
    """A `chat.completion` with one choice for each answer."""
    return {
        "id": mint("chatcmpl-"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [_choice(index, answer, bool(body.get("logprobs")), mint) for index, answer in enumerate(answers)],
        "usage": _chat_usage(prompt_words, answers),
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def chat_chunks(completion: Json, *, include_usage: bool) -> Iterator[Json]:
    """The `chat.completion.chunk`s of a completion; several choices take turns."""
    base = {key: completion[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    base["object"] = "chat.completion.chunk"
    if include_usage:
        base["usage"] = None
    for choice in _in_turns(map(_choice_deltas, completion["choices"])):
        yield {**base, "choices": [choice]}
    if include_usage:
        yield {**base, "choices": [], "usage": completion["usage"]}


def text_completion(body: Json, answers: list[Answer], prompt_words: int, mint: Mint) -> Json:
    """A legacy `text_completion` with one choice for each answer."""
    completion_words = sum(answer.words for answer in answers)
    return {
        "id": mint("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [_text_choice(i, a.text or "", _finish_reason(a)) for i, a in enumerate(answers)],
        "usage": _usage(prompt_words, completion_words),
        "system_fingerprint": "fp_fake",
    }


def text_chunks(completion: Json, *, include_usage: bool) -> Iterator[Json]:
    """The streamed form of a legacy completion: each piece a `text_completion` of its own."""
    base = {key: completion[key] for key in ("id", "object", "created", "model", "system_fingerprint")}
    if include_usage:
        base["usage"] = None
    for choice in _in_turns(map(_text_deltas, completion["choices"])):
        yield {**base, "choices": [choice]}
    if include_usage:
        yield {**base, "choices": [], "usage": completion["usage"]}


def _choice(index: int, answer: Answer, logprobs: bool, mint: Mint) -> Json:
    message: Json = {"role": "assistant", "content": answer.text, "refusal": answer.refusal, "annotations": []}
    if answer.reasoning is not None and answer.text is None and not answer.tool_calls:
        message["content"] = ""
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id or mint("call_"), "type": "function", "function": _function(call.name, call.arguments)}
            for call in answer.tool_calls
        ]
    tokens = [_logprob(token) for token in deltas(answer.text)] if logprobs else []
    return {
        "index": index,
        "message": message,
        "logprobs": {"content": tokens, "refusal": None} if logprobs else None,
        "finish_reason": _finish_reason(answer),
    }


def _function(name: str, arguments: str) -> Json:
    return {"name": name, "arguments": arguments}


def _logprob(token: str) -> Json:
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}


def _finish_reason(answer: Answer) -> str:
    if answer.truncated:
        return "length"
    return "tool_calls" if answer.tool_calls else "stop"


def _choice_deltas(choice: Json) -> Iterator[Json]:
    message, index = choice["message"], choice["index"]
    logprobs = iter((choice["logprobs"] or {}).get("content", ()))

    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        token = next(logprobs, None) if delta.get("content") else None
        found = {"content": [token], "refusal": None} if token else None
        return {"index": index, "delta": delta, "logprobs": found, "finish_reason": finish_reason}

    opening = {"content": None} if message["content"] is None else {"content": ""}
    yield chunk({"role": "assistant", **opening, "refusal": None})
    yield from (chunk({"content": text}) for text in deltas(message["content"]))
    yield from (chunk({"refusal": text}) for text in deltas(message["refusal"]))
    yield from (chunk({"tool_calls": [call]}) for call in _call_deltas(message.get("tool_calls", ())))
    yield chunk({}, choice["finish_reason"])


def _call_deltas(calls: Iterable[Json]) -> Iterator[Json]:
    for index, call in enumerate(calls):
        yield {"index": index, **call, "function": _function(call["function"]["name"], "")}
        yield from (
            {"index": index, "function": {"arguments": piece}} for piece in deltas(call["function"]["arguments"])
        )


def _text_choice(index: int, text: str, finish_reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _text_deltas(choice: Json) -> Iterator[Json]:
    yield from (_text_choice(choice["index"], piece, None) for piece in deltas(choice["text"]))
    yield _text_choice(choice["index"], "", choice["finish_reason"])


def _in_turns(streams: Iterable[Iterator[Any]]) -> Iterator[Any]:
    for round_ in zip_longest(*streams, fillvalue=msgspec.UNSET):
        yield from (item for item in round_ if item is not msgspec.UNSET)


def _usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _chat_usage(prompt_words: int, answers: list[Answer]) -> Json:
    reasoning = sum(answer.reasoning_words for answer in answers)
    said = sum(answer.words for answer in answers)
    return {
        **_usage(prompt_words, said + reasoning),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, **_COMPLETION_ZEROS},
    }


def prompt_words(prompt: Any) -> int:
    """The words in a legacy prompt: a text, texts, tokens or lists of tokens (a token counts as a word)."""
    if isinstance(prompt, str):
        return count_words(prompt)
    if isinstance(prompt, list):
        return sum(1 if isinstance(part, int) else prompt_words(part) for part in prompt)
    return 0
