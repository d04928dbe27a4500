"""Replies to script the fake server with: what it says, and the faults that it adds.

::

    from tracer.testing import reply

    server.enqueue(reply.text("Hello!"))                             # in the form of the endpoint that is called
    server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})))
    server.enqueue(reply.error(429), reply.text("The second attempt"))
    server.enqueue(reply.text("A long story").cut(after_events=3))   # faults are added to any reply

A `Reply` is immutable; each option returns a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tracer.testing._answer import Answer, Json, ToolCall, encode
from tracer.testing._wire import DONE, JSON, SSE, Payload, error_body, frame

__all__ = [
    "Reply",
    "default",
    "error",
    "failed",
    "held",
    "json_body",
    "output",
    "raw",
    "refusal",
    "sse",
    "text",
    "tool_calls",
]

_RETRIED = frozenset({408, 409, 429})


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One scripted reply; made by the functions of this module, refined by its methods.

    Attributes:
        content: An answer that takes the form of the endpoint, a body that is sent as it is, or `None` for the answer
            of the default model.
        headers: Response headers that are added or replaced; a value of `None` takes a header away.
        first_delay: Seconds before the first byte.
        chunk_delay: Seconds between two writes of the body.
        split_size: The body is written in pieces of this many bytes, each a chunk and a write of its own.
        compressed: The body is gzip-encoded; in a stream each event can be decoded when it arrives.
        done: A stream ends with its `[DONE]`, if it has one.
        fail_after: `(events, error)`: after this many events, the stream reports an error and ends.
        cut_after: `("response" | "events" | "bytes", count)`: where the connection is closed.
        hold_after: After this many events, the reply waits for `FakeOpenAI.release`; 0 is before the headers.
    """

    content: Answer | Payload | None = None
    headers: Mapping[str, str | None] = {}
    first_delay: float = 0.0
    chunk_delay: float = 0.0
    split_size: int | None = None
    compressed: bool = False
    done: bool = True
    fail_after: tuple[int, Json] | None = None
    cut_after: tuple[str, int] | None = None
    hold_after: int | None = None

    def with_headers(self, headers: Mapping[str, str | None]) -> Reply:
        """Add or replace response headers (names in any case); `None` takes one away."""
        lowered = {name.lower(): value for name, value in headers.items()}
        return msgspec.structs.replace(self, headers={**self.headers, **lowered})

    def delayed(self, first: float = 0.0, *, between: float = 0.0) -> Reply:
        """Wait `first` seconds before anything is sent, and `between` seconds between two writes of the body."""
        return msgspec.structs.replace(self, first_delay=first, chunk_delay=between)

    def held(self, *, after_events: int = 0) -> Reply:
        """Wait for `FakeOpenAI.release` after this many events, or before anything is sent (0)."""
        return msgspec.structs.replace(self, hold_after=after_events)

    def cut(self, *, after_events: int | None = None, after_bytes: int | None = None) -> Reply:
        """Close the connection after this many events or bytes of the body; without either, before any response."""
        where = ("events", after_events) if after_events is not None else ("response", 0)
        return msgspec.structs.replace(self, cut_after=where if after_bytes is None else ("bytes", after_bytes))

    def split(self, size: int) -> Reply:
        """Write the body in pieces of `size` bytes, across the borders of events and characters."""
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        return msgspec.structs.replace(self, split_size=size)

    def gzipped(self) -> Reply:
        """Compress the body."""
        return msgspec.structs.replace(self, compressed=True)

    def without_done(self) -> Reply:
        """Leave out the `[DONE]` that ends a stream."""
        return msgspec.structs.replace(self, done=False)

    def failing(
        self, *, after_events: int, message: str = "The server had an error.", code: str = "server_error"
    ) -> Reply:
        """Let a stream report an error after this many events, and end there."""
        described = error_body(message, kind="server_error", code=code)
        return msgspec.structs.replace(self, fail_after=(after_events, described["error"]))


def default() -> Reply:
    """What the default model answers, to add faults to."""
    return Reply()


def held(*, after_events: int = 0) -> Reply:
    """What the default model answers, sent only after `FakeOpenAI.release`."""
    return Reply().held(after_events=after_events)


def text(text: str, *, reasoning: str | None = None, truncated: bool = False) -> Reply:
    """A message; `reasoning` comes before it, `truncated` says that it reached the token limit.

    At other endpoints, the text is the transcript (audio), the document found (a search), or the revised prompt
    (images).
    """
    return Reply(content=Answer(text=text, reasoning=reasoning, truncated=truncated))


def refusal(text: str) -> Reply:
    """A refusal."""
    return Reply(content=Answer(refusal=text))


def tool_calls(*calls: tuple[str, Any], text: str | None = None) -> Reply:
    """Calls of functions: `(name, arguments)`; arguments given as a `str` are sent as they are, valid JSON or not."""
    wanted = tuple(ToolCall(name, given if isinstance(given, str) else encode(given).decode()) for name, given in calls)
    return Reply(content=Answer(tool_calls=wanted, text=text))


def output(*items: Json, text: str | None = None) -> Reply:
    """Output items of the Responses API, of any type, then a message; an item without an `id` gets one."""
    return Reply(content=Answer(items=items, text=text))


def failed(message: str = "The model failed.", *, code: str = "server_error", text: str | None = None) -> Reply:
    """A response (or video, or run) that ends `failed` after it said `text`; other endpoints answer with HTTP 500."""
    return Reply(content=Answer(text=text, failure=(code, message)))


def json_body(status: int, body: Any, headers: Mapping[str, str | None] | None = None) -> Reply:
    """Any JSON, with any status."""
    return Reply(content=Payload((encode(body),), JSON, status)).with_headers(headers or {})


def error(
    status: int, message: str | None = None, *, code: str | None = None, retry_after: float | None = 0.001
) -> Reply:
    """An error object.

    Args:
        status: The HTTP status.
        message: What the error says; by default something that fits.
        code: The error's code, such as `context_length_exceeded`.
        retry_after: The seconds that a client is told to wait before a retry, for statuses that clients retry (408,
            409, 429, 5xx); `None` leaves that to the client (the SDK waits half a second or more).
    """
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    body = error_body(message or f"Scripted error {status}.", kind="server_error" if status >= 500 else kind, code=code)
    made = json_body(status, body)
    if retry_after is None or not (status in _RETRIED or status >= 500):
        return made
    return made.with_headers({"retry-after": f"{retry_after:g}", "retry-after-ms": f"{retry_after * 1000:g}"})


def sse(events: Iterable[Json | str | bytes]) -> Reply:
    """A stream of exactly these events.

    A dict is sent as JSON (named by its `type`, if it has one), a `str` as an event's data (`"[DONE]"`), `bytes` as
    they are (comments, half an event, anything).
    """
    return Reply(content=Payload(tuple(map(_framed, events)), SSE, streamed=True))


def raw(body: bytes, content_type: str = "application/octet-stream", *, status: int = 200) -> Reply:
    """Any bytes, of any type, with a `content-length`."""
    return Reply(content=Payload((body,), content_type, status))


def _framed(event: Json | str | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    if isinstance(event, str):
        return DONE if event == "[DONE]" else b"data: %s\n\n" % event.encode()
    return frame(event, event.get("type"))
