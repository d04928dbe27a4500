"""Chat streams in fewer chunks: those that only bring a piece of the text become one chunk with all of it.

A stream of a chat completion is hundreds of chunks that differ in one short text. Read one by one, each of them costs
its decoding and a dozen looks into it. Here all are decoded in one go, into just the fields that can differ, and what
`tracer.interpret.chat` then reads says the same in a few chunks. Any stream that is not quite like this is left as it
is.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Any

import msgspec

from tracer.interpret.sse import DONE, Chunks, Event, split_events

__all__ = ["split_chat"]

_FIELD = b"data: "
_END = b"\n\n"
_DONE = _FIELD + DONE
_UNSET = msgspec.UNSET
_Absent = msgspec.UnsetType


class _Exact(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An object without other fields than these."""


class _Delta(_Exact):
    content: str | _Absent | None = _UNSET
    role: str | _Absent | None = _UNSET
    refusal: _Absent | None = _UNSET


class _Choice(_Exact):
    index: int
    delta: _Delta
    finish_reason: str | _Absent | None = _UNSET
    logprobs: _Absent | None = _UNSET


class _Chunk(_Exact):
    """What may differ between two chunks: the part from ``choices`` on."""

    choices: list[_Choice]
    usage: dict[str, Any] | _Absent | None = _UNSET
    obfuscation: str | _Absent = _UNSET


_decode_chunks = msgspec.json.Decoder(_Chunk).decode_lines
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def split_chat(reads: Chunks) -> list[Event]:
    """Split decompressed reads into events, as `split_events` does, and join neighbouring pieces of a usual stream.

    A joined event has the time of the first of its pieces that is not empty.
    """
    body = b"".join([data for _, data in reads])
    head = _shared_head(body)
    try:
        joined = None if head is None else _join(body, head, reads)
    except _REFUSED:
        joined = None
    return split_events(reads) if joined is None else joined


def _shared_head(body: bytes) -> bytes | None:
    """Return how the first event begins, up to its choices. The others of a usual stream begin alike: id, model, …."""
    choices = body.find(b'"choices":', 0, body.find(_END))
    head = body[: max(choices, 0)]
    return head if head.startswith(_FIELD + b"{") and b"\r" not in body else None


def _join(body: bytes, head: bytes, reads: Chunks) -> list[Event] | None:
    blocks = body.split(_END)
    if blocks.pop():  # the last event has no end
        return None
    if is_done := blocks[-1] == _DONE:
        blocks.pop()
    chunks = _decode_all(blocks, head)
    if chunks is None:
        return None
    ends = list(accumulate(len(block) + len(_END) for block in blocks))
    reached, times = list(accumulate(len(data) for _, data in reads)), [time_ns for time_ns, _ in reads]
    events: list[Event] = []
    at = 0
    while at < len(blocks):
        pieces = _pieces(chunks, at)
        data, first = blocks[at][len(_FIELD) :], at
        if len(pieces) > 1:
            chunk = _decode(data)
            chunk["choices"][0]["delta"]["content"] = "".join(pieces)
            data, first = _encode(chunk), at + next((place for place, piece in enumerate(pieces) if piece), 0)
        events.append((times[bisect_left(reached, ends[first])], None, data))
        at += len(pieces) or 1
    if is_done:
        events.append((times[bisect_left(reached, len(body))], None, DONE))
    return events


def _decode_all(blocks: list[bytes], head: bytes) -> list[_Chunk] | None:
    """Decode the chunks without their heads, all at once; None if they are not one line each with the same head."""
    size = len(head)
    if not all(block.startswith(head) for block in blocks):
        return None
    lines = b"{" + b"\n{".join([block[size:] for block in blocks])
    # In JSON, no value goes on behind such a line end. So if there are no others, each line is a value of its own.
    if not lines.count(b"\n") == lines.count(b"}\n{") == len(blocks) - 1:
        return None
    chunks = _decode_chunks(lines)
    return chunks if len(chunks) == len(blocks) else None


def _pieces(chunks: list[_Chunk], at: int) -> list[str]:
    """Return the texts of the neighbouring chunks, from `at` on, that differ in nothing else."""
    first = chunks[at]
    if len(first.choices) != 1 or first.usage or first.choices[0].finish_reason:
        return []
    usage, choice = first.usage, first.choices[0]
    index, finish_reason, logprobs = choice.index, choice.finish_reason, choice.logprobs
    role, refusal = choice.delta.role, choice.delta.refusal
    pieces: list[str] = []
    for place in range(at, len(chunks)):
        chunk = chunks[place]
        if len(chunk.choices) != 1:
            break
        choice = chunk.choices[0]
        delta = choice.delta
        if (
            type(delta.content) is not str
            or choice.index != index
            or choice.finish_reason is not finish_reason
            or choice.logprobs is not logprobs
            or chunk.usage is not usage
            or delta.role != role
            or delta.refusal is not refusal
        ):
            break
        pieces.append(delta.content)
    return pieces
