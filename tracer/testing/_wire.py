"""What all endpoints share on the wire: ids, payloads, server-sent events, error objects."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tracer.testing._answer import Json, encode

__all__ = [
    "DONE",
    "JSON",
    "SSE",
    "Mint",
    "Payload",
    "RefusedError",
    "error_body",
    "frame",
    "json_payload",
    "stream_payload",
]

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


class Payload(msgspec.Struct, frozen=True):
    """A response body with its status.

    Attributes:
        pieces: The body; for a stream, each piece is one server-sent event.
        content_type: Its media type.
        status: The HTTP status.
        streamed: The body goes out piece by piece, without a `content-length`.
    """

    pieces: tuple[bytes, ...]
    content_type: str = JSON
    status: int = 200
    streamed: bool = False


class Mint:
    """Ids like OpenAI's, numbered in order so that a test can predict them: `chatcmpl-000000000001`."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):012d}"


class RefusedError(Exception):
    """The request gets an error object instead of an answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.payload = json_payload(error_body(message, kind=kind, param=param, code=code), status)


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_payload(body: Any, status: int = 200) -> Payload:
    """A JSON body."""
    return Payload((encode(body),), JSON, status)


def frame(data: Any, event: str | None = None) -> bytes:
    """One server-sent event with JSON data."""
    head = b"event: %s\n" % event.encode() if event else b""
    return b"%sdata: %s\n\n" % (head, encode(data))


def stream_payload(events: Iterable[Mapping[str, Any]], *, named: bool) -> Payload:
    """A stream of events; `named` ones (Responses) repeat their type in the `event` field, others end with `[DONE]`."""
    if named:
        return Payload(tuple(frame(event, event["type"]) for event in events), SSE, streamed=True)
    return Payload((*map(frame, events), DONE), SSE, streamed=True)
