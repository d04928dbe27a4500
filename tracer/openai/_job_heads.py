"""What an answer says of a job: its id, and whether it has ended. Compatible servers have words of their own."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tracer.interpret.jobs import is_running
from tracer.interpret.sse import Chunks, split_events

__all__ = ["JobHead", "has_end_mark", "head_of", "head_of_stream"]

# What else a server says is judged by what its answer holds.
_ENDED = frozenset(
    {
        "abort", "aborted", "canceled", "cancelled", "complete", "completed", "done", "error", "errored", "expired",
        "failed", "finished", "incomplete", "requires_action", "success", "succeeded",
    }
)  # fmt: skip

_NOTHING = msgspec.Raw(b"null")
_EMPTY = frozenset({b"", b"null", b"[]", b"{}", b'""', b"false"})
_has_digits = re.compile(rb"[1-9]").search  # usage of zeros says nothing

_END_MARK = re.compile(
    rb'"type"\s*:\s*"response\.(?:cancelled|completed|failed|incomplete)"'
    rb"|^event: ?thread\.run\.(?:cancelled|completed|expired|failed|incomplete|requires_action)\r?$",
    re.MULTILINE,
)
_RUN = "thread.run"


class JobHead(msgspec.Struct):
    """The part of an answer that tells about a job. Raw fields are only looked at; decoding them takes time."""

    id: Any = None
    status: Any = None
    background: Any = None
    object: Any = None
    output: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING
    completed_at: msgspec.Raw = _NOTHING

    @property
    def word(self) -> str | None:
        """The status, in small letters."""
        return self.status.lower() if isinstance(self.status, str) and self.status else None

    @property
    def has_ended(self) -> bool:
        """The job has ended, or waits for its caller. Without a known word for it, it has if there is a result."""
        word = self.word
        if word in _ENDED or is_running(word):
            return word in _ENDED
        is_over = _says(self.error) or _says(self.completed_at) or _has_digits(bytes(self.usage)) is not None
        return is_over or (word is None and _says(self.output))


def _says(value: msgspec.Raw) -> bool:
    return bytes(value) not in _EMPTY


class _Event(msgspec.Struct):
    """An event of a Responses stream."""

    response: JobHead | None = None


_decode_head = msgspec.json.Decoder(JobHead).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def head_of(body: bytes) -> JobHead:
    """Return what a body says; an empty head if it is not JSON."""
    try:
        return _decode_head(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return JobHead()


def head_of_stream(reads: Chunks) -> JobHead:
    """Return what the first event says that names the job, or the body if it is a single answer.

    Args:
        reads: The first reads of a body, not compressed.
    """
    body = b"".join([data for _, data in reads])
    if body.lstrip()[:1] == b"{":
        return head_of(body)
    for _, name, data in split_events(reads):
        try:
            head = _decode_event(data).response or _decode_head(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(head.id, str) and (_is_run(head, name) or head.object in ("response", None)):
            return head
    return JobHead()


def _is_run(head: JobHead, name: str | None) -> bool:
    return head.object == _RUN or (head.object is None and (name or "").startswith(_RUN))


def has_end_mark(data: bytes) -> bool:
    """Tell whether a part of a stream holds the event that ends the job, or makes it wait for its caller.

    In a text that the model wrote, the quotes would have backslashes before them.
    """
    return _END_MARK.search(data) is not None
