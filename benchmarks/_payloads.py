"""What goes over the wire: requests of about 1 KB, and the bytes with which OpenAI would answer.

The sizes are those of measurements of other tracers; the design's targets come from the same measurements: a chat
completion of 0.95 KB, streams of 200 chunks, an embedding of 1,536 dimensions in base64.
"""

from __future__ import annotations

import base64
import functools
import itertools
import random
import re
import struct
from typing import Any

import msgspec

__all__ = [
    "CHAT",
    "CHAT_REQUEST",
    "EMBEDDING",
    "EMBEDDING_REQUEST",
    "HEADERS",
    "PLAIN",
    "RESPONSES",
    "RESPONSES_REQUEST",
    "STREAM_CHUNKS",
    "asks_for_stream",
    "chat_stream",
    "headers",
    "image_request",
    "responses_stream",
    "streams",
]

STREAM_CHUNKS = 200

_TEXT = (
    "tracing should cost a service nothing that anybody could measure while it keeps every prompt and every answer "
    "in a place where people find them again when something went wrong last night and nobody knows yet what it was"
)
_WORDS = _TEXT.split()


def _prose(length: int) -> str:
    """Return this number of characters of text that is neither random nor the same word again and again."""
    words = (f"{word}{'.' if n % 17 == 16 else ''}" for n, word in enumerate(itertools.cycle(_WORDS)))
    text = ""
    while len(text) < length:
        text += f"{next(words)} "
    return text[:length].rstrip()


# --- requests ---------------------------------------------------------------------------------------------------------

CHAT_REQUEST: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": _prose(220)},
        {"role": "user", "content": _prose(330)},
        {"role": "assistant", "content": _prose(120)},
        {"role": "user", "content": _prose(110)},
    ],
    "temperature": 0.7,
    "max_tokens": 256,
}
RESPONSES_REQUEST: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "instructions": _prose(220),
    "input": _prose(680),
    "temperature": 0.7,
    "max_output_tokens": 256,
}
EMBEDDING_REQUEST: dict[str, Any] = {"model": "text-embedding-3-small", "input": _prose(950)}

# --- responses --------------------------------------------------------------------------------------------------------

HEADERS = [
    (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"application/json"),
    (b"connection", b"keep-alive"),
    (b"access-control-expose-headers", b"X-Request-ID"),
    (b"openai-organization", b"org-benchmarks"),
    (b"openai-processing-ms", b"412"),
    (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"200000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"199620"),
    (b"x-ratelimit-reset-requests", b"8.64s"),
    (b"x-ratelimit-reset-tokens", b"114ms"),
    (b"x-request-id", b"req_3f0c6d1bb7bd4f2f8f6b2f4a2c1d9e01"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"cf-cache-status", b"DYNAMIC"),
    (b"server", b"cloudflare"),
    (b"cf-ray", b"8f2c1d9e01ab2f4a-FRA"),
]

_encode = msgspec.json.Encoder().encode
_CHAT_USAGE = {
    "prompt_tokens": 187,
    "completion_tokens": 96,
    "total_tokens": 283,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}
CHAT = _encode(
    {
        "id": "chatcmpl-BenchMark000000000000000001",
        "object": "chat.completion",
        "created": 1795348800,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _prose(430), "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _CHAT_USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_0aa8d3e20b",
    }
)
_MESSAGE_ID = "msg_bench0000000000000000000001"
_RESPONSE: dict[str, Any] = {
    "id": "resp_bench000000000000000000001",
    "object": "response",
    "created_at": 1795348800,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": _prose(220),
    "max_output_tokens": 256,
    "model": "gpt-4o-mini-2024-07-18",
    "output": [
        {
            "id": _MESSAGE_ID,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": _prose(430), "annotations": [], "logprobs": []}],
        }
    ],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 0.7,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 187,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 96,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 283,
    },
    "user": None,
    "metadata": {},
}
RESPONSES = _encode(_RESPONSE)
EMBEDDING = _encode(
    {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": 0,
                "embedding": base64.b64encode(struct.pack("<1536f", *(n / 1536 - 0.5 for n in range(1536)))).decode(),
            }
        ],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 205, "total_tokens": 205},
    }
)
PLAIN = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/embeddings": EMBEDDING}

_SSE = b"text/event-stream; charset=utf-8"
_ASKS_FOR_STREAM = re.compile(rb'"stream": ?true')


def asks_for_stream(request: bytes) -> bool:
    """Tell whether a request's body asks for a stream."""
    return _ASKS_FOR_STREAM.search(request) is not None


def headers(streamed: bool) -> list[tuple[bytes, bytes]]:
    """Return `HEADERS`, with the content type of a stream if it is one."""
    return [(name, _SSE if name == b"content-type" and streamed else value) for name, value in HEADERS]


def streams(chunks: int) -> dict[str, list[bytes]]:
    """Return the server-sent events of each stream, by path."""
    return {"/v1/chat/completions": chat_stream(chunks), "/v1/responses": responses_stream(chunks)}


def chat_stream(chunks: int = STREAM_CHUNKS) -> list[bytes]:
    """Return the server-sent events of a chat completion with that many chunks of content."""
    head = {
        "id": "chatcmpl-BenchMark000000000000000001",
        "object": "chat.completion.chunk",
        "created": 1795348800,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_0aa8d3e20b",
    }
    deltas = [{"role": "assistant", "content": ""}, *({"content": text} for text in _pieces(chunks - 2)), {}]
    events = [
        {
            **head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}],
        }
        for delta in deltas
    ]
    return [*(b"data: %b\n\n" % _encode(event) for event in events), b"data: [DONE]\n\n"]


def responses_stream(chunks: int = STREAM_CHUNKS) -> list[bytes]:
    """Return the server-sent events of a Responses stream: this number in all, most of them text deltas."""
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    message = _RESPONSE["output"][0]
    full_part = message["content"][0]
    at = {"item_id": _MESSAGE_ID, "output_index": 0, "content_index": 0}
    begun = {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}
    item = {**message, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *(
            {"type": "response.output_text.delta", **at, "delta": text, "logprobs": [], "obfuscation": "k3Xa9"}
            for text in _pieces(chunks - 8)
        ),
        {"type": "response.output_text.done", **at, "text": full_part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": full_part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": _RESPONSE},
    ]
    return [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode({**event, "sequence_number": number}))
        for number, event in enumerate(events)
    ]


def _pieces(count: int) -> list[str]:
    """Return that many tokens' worth of text."""
    return [f" {word}" for word in itertools.islice(itertools.cycle(_WORDS), max(0, count))]


@functools.cache
def _image_url(size: int) -> str:
    data = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(size - 8)
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def image_request(size: int, number: int) -> dict[str, Any]:
    """Return a chat request with an image of about `size` bytes in base64; each number gives a different image."""
    url = f"{_image_url(size // 3 * 3)[:-8]}{number:08}"  # digits are base64 too
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {**CHAT_REQUEST, "messages": [{"role": "user", "content": parts}]}
