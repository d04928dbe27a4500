"""What interpretation gives back. Plain data: no clock, no storage, no openai import."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["ChildView", "Damage", "Finish", "RequestView", "ResponseView"]

Finish = Literal["completed", "incomplete", "failed", "cancelled", "abandoned"]


class RequestView(msgspec.Struct, kw_only=True, gc=False):
    """What a request says, read from its wire bytes.

    Attributes:
        inputs: The request as JSON text. If the bytes that were sent are valid JSON, it is exactly these bytes, so
            nothing is encoded twice; otherwise a JSON value that holds what could be kept.
        attributes: Conventional attributes (`tracer._semconv`), JSON-able values only.
        model: The requested model.
        preview: One line for a list of traces: the last user message, at most `PREVIEW_CHARS` characters.
        text: Plain text for full-text search (message texts, no JSON syntax, no base64), at most `TEXT_CHARS`.
    """

    inputs: bytes
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    model: str | None = None
    preview: str | None = None
    text: str = ""


class ChildView(msgspec.Struct, kw_only=True, gc=False):
    """A tool that OpenAI ran inside the call (web search, code interpreter, MCP, …): becomes a child span.

    Attributes:
        key: Stable and unique within the call (the output item's id or its index): the span id derives from it.
        start_time_ns: From the stream's events if there are any, otherwise None (then the call's own times are used).
        finish: ``completed``, ``failed`` (with an `error`), or ``incomplete`` (its end was not seen).
    """

    key: str
    name: str
    span_type: str
    start_time_ns: int | None = None
    end_time_ns: int | None = None
    inputs: Any = None
    outputs: Any = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    error: str | None = None
    finish: Finish = "completed"


class Damage(msgspec.Struct, frozen=True, gc=False):
    """What of a stream's bytes could not be read, so that the SDK raised an exception above our tap on the bytes.

    Attributes:
        error_type: The exception: ``DecodingError`` (httpx's, for compressed data), ``UnicodeDecodeError``.
        message: What it says.
        at_end: It is raised after the last read; otherwise at a read in between.
    """

    error_type: str
    message: str
    at_end: bool = False


class ResponseView(msgspec.Struct, kw_only=True, gc=False):
    """What a response says, read from its body or its stream.

    Attributes:
        outputs: JSON text. A plain response's own bytes where they are valid JSON; a stream's chunks rebuilt to the
            plain response's shape; None if nothing arrived.
        attributes: Conventional attributes, JSON-able values only.
        usage: ``input_tokens``, ``output_tokens``, ``total_tokens`` and, where reported,
            ``cache_read_input_tokens``, ``cache_creation_input_tokens``, ``reasoning_tokens``,
            ``input_audio_tokens``, ``output_audio_tokens``. None when the API reported nothing.
        finish: How the call ended, according to the data itself. None when the data does not say (a stream that stops
            without its end mark): then the code that saw the connection decides.
        error: What failed, in words, when `finish` is ``failed``; for ``incomplete`` the reason.
        error_type: The API's error code or type.
        is_quiet: The failure stands only in the answer (a choice's finish reason or ``error``, no choices, no JSON), so
            the SDK raises nothing.
        lacks_end: The stream has no end mark, though its API or its own chunks promise one (``finish_reason: null``).
        damage: Bytes of a stream that could not be read; None if ``[DONE]`` came before them.
        first_chunk_ns: When the first chunk came; None for a plain response.
        first_token_ns: When the first chunk with content came.
    """

    outputs: bytes | None = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    model: str | None = None
    usage: dict[str, int] | None = None
    preview: str | None = None
    text: str = ""
    finish: Finish | None = None
    error: str | None = None
    error_type: str | None = None
    is_quiet: bool = False
    lacks_end: bool = False
    damage: Damage | None = None
    first_chunk_ns: int | None = None
    first_token_ns: int | None = None
    children: list[ChildView] = msgspec.field(default_factory=list)
