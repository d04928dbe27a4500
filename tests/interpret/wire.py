"""Wire bytes for the tests of interpretation: requests, SSE streams, the corpus."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "dev.jsonl"
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "responses",
}

Json = dict[str, Any]
Chunks = list[tuple[int, bytes]]


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def loads(data: bytes | None) -> Any:
    """Decode a view's inputs or outputs, which must be there."""
    assert data is not None
    return json.loads(data)


def sse(events: Iterable[Any], *, done: bool = True, names: bool = False) -> Chunks:
    """One read for each event, at 100, 200, … ns; `names` as in Responses streams."""
    texts = [
        (f"event: {event['type']}\n" if names else "") + f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
        for event in events
    ]
    if done:
        texts.append("data: [DONE]\n\n")
    return [(100 * number, text.encode()) for number, text in enumerate(texts, 1)]


def chat_chunk(delta: Any, *, index: int = 0, finish: str | None = None, **fields: Any) -> Json:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_HEAD, "choices": [choice], **fields}


_HEAD: Json = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}


@functools.cache
def all_records() -> list[Json]:
    """The corpus of recorded exchanges; the test is skipped where it is missing."""
    if not CORPUS.exists():
        pytest.skip(f"the corpus of recorded exchanges is not here: {CORPUS}")
    with CORPUS.open() as lines:
        return [json.loads(line) for line in lines]


def records(operation: str, *, stream: bool | None = None) -> list[Json]:
    """The corpus' successful exchanges of one operation."""
    return [
        record
        for record in all_records()
        if OPERATIONS.get(record["path"]) == operation
        and record["method"] == "POST"
        and record["status"] == 200
        and stream in (None, record["stream"])
    ]


def reads(record: Json, size: int = 1000) -> Chunks:
    """A record's body cut into reads of `size` bytes."""
    data = record["response_body"].encode()
    return [(start + 1, data[start : start + size]) for start in range(0, len(data), size)]
