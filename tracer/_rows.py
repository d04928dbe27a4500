"""From records to what a span says: pure functions between `tracer._records` and `tracer.store.base`.

Here privacy is applied (`capture_content=False`, ``redact=``), so nothing past this module sees what was withheld.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._failures import format_failure
from tracer._models import SpanStatusCode
from tracer._records import Codec, Ending, Failure, HttpFacts, Payload
from tracer.interpret import (
    ChildView,
    Finish,
    RequestView,
    ResponseView,
    decode_json,
    encode_value,
    interpret_request,
    interpret_response,
    interpret_stream,
    plain_text,
    redact,
    withhold,
)

__all__ = [
    "Outcome",
    "Privacy",
    "conclude",
    "exception_attributes",
    "http_attributes",
    "read_request",
    "read_response",
    "read_stream",
]

PREVIEW_CHARS = 1_000
WITHHELD_NOTE = "content not captured"
CONTENT_ATTRIBUTES = (sc.TOOL_CALLS, sc.TOOL_DEFINITIONS, sc.OUTPUT_SCHEMA, sc.REQUEST_STOP_SEQUENCES)
KEPT_HEADERS = ("openai-processing-ms", "openai-version", "retry-after", "x-ratelimit-", "apim-request-id", "cf-ray")
REQUEST_ID_HEADER = "x-request-id"


class Privacy(msgspec.Struct):
    """What may be stored of a span's texts.

    Attributes:
        capture: False keeps structure, model, usage and times, and no text.
        hooks: Functions from text to text that every text goes through first.
        failures: How many texts were withheld because a hook raised: it fails closed.
    """

    capture: bool = True
    hooks: tuple[Callable[[str], str], ...] = ()
    failures: int = 0

    @property
    def is_open(self) -> bool:
        """Nothing to hide: bytes can be kept as they are."""
        return self.capture and not self.hooks

    def clean(self, value: Any) -> Any:
        """Return a JSON-like value with the hooks applied to its texts, or with its texts withheld."""
        if self.hooks:
            value, failures = redact(value, self.hooks)
            self.failures += failures
        return value if self.capture else withhold(value)

    def redact_bytes(self, data: bytes) -> bytes:
        """Return JSON bytes with the hooks applied; the same bytes where there are none."""
        if not self.hooks:
            return data
        value, failures = redact(decode_json(data), self.hooks)
        self.failures += failures
        return encode_value(value)

    def clean_bytes(self, data: bytes) -> bytes:
        """Return JSON bytes as `clean` leaves their value."""
        return data if self.is_open else encode_value(self.clean(decode_json(data)))


def read_request(operation: str | None, payload: Payload, privacy: Privacy) -> RequestView:
    """Read a request's body, or the inputs of a user's span."""
    if operation is None or payload.codec is Codec.VALUE:
        data = privacy.clean_bytes(_value_bytes(payload))
        return RequestView(inputs=data, preview=_preview(data) if privacy.capture else None, text=_text(data, privacy))
    view = interpret_request(operation, privacy.redact_bytes(payload.data), truncated=payload.truncated)
    if not privacy.capture:
        view.inputs = encode_value(withhold(decode_json(view.inputs)))
        view.preview, view.text = None, ""
        _withhold_attributes(view.attributes)
    return view


def read_response(
    operation: str | None, payload: Payload, privacy: Privacy, *, content_type: str | None = None
) -> ResponseView:
    """Read a plain response's body, or the outputs of a user's span."""
    if operation is None or payload.codec is Codec.VALUE:
        data = privacy.clean_bytes(_value_bytes(payload))
        return ResponseView(
            outputs=data, preview=_preview(data) if privacy.capture else None, text=_text(data, privacy)
        )
    body = privacy.redact_bytes(payload.data)
    view = interpret_response(operation, body, content_type=content_type, truncated=payload.truncated)
    return view if privacy.capture else _withheld(view)


def read_stream(
    operation: str,
    chunks: list[tuple[int, bytes]],
    privacy: Privacy,
    *,
    content_type: str | None = None,
    content_encoding: str | None = None,
) -> ResponseView:
    """Read a stream from its raw reads.

    With ``redact=`` hooks the rebuilt message is redacted, not each chunk: a secret may lie across two of them.
    """
    view = interpret_stream(operation, chunks, content_type=content_type, content_encoding=content_encoding)
    if privacy.hooks and view.outputs is not None:
        clean = interpret_response(operation, privacy.redact_bytes(view.outputs))
        view.outputs, view.preview, view.text = clean.outputs, clean.preview, clean.text
        view.attributes = privacy.clean(view.attributes)
        view.error = privacy.clean(view.error)
        for child in view.children:
            child.inputs, child.outputs = privacy.clean([child.inputs, child.outputs])
            child.error = privacy.clean(child.error)
    return view if privacy.capture else _withheld(view)


def _withheld(view: ResponseView) -> ResponseView:
    if view.outputs is not None:
        view.outputs = encode_value(withhold(decode_json(view.outputs)))
    view.preview, view.text = None, ""
    _withhold_attributes(view.attributes)
    for child in view.children:
        _withhold_child(child)
    return view


def _withhold_child(child: ChildView) -> None:
    child.inputs, child.outputs = withhold(child.inputs), withhold(child.outputs)
    child.error = WITHHELD_NOTE if child.error else None


def _withhold_attributes(attributes: dict[str, Any]) -> None:
    for key in CONTENT_ATTRIBUTES:
        if key in attributes:
            attributes[key] = withhold(attributes[key])


def _value_bytes(payload: Payload) -> bytes:
    """Return a user's value as JSON."""
    if payload.codec is Codec.WIRE:
        return encode_value(decode_json(payload.data))
    return encode_value(msgspec.msgpack.decode(payload.data, strict=False))


def _preview(data: bytes) -> str:
    return data[: PREVIEW_CHARS * 4].decode("utf-8", "ignore")[:PREVIEW_CHARS]


def _text(data: bytes, privacy: Privacy) -> str:
    return plain_text(decode_json(data)) if privacy.capture else ""


def http_attributes(facts: HttpFacts) -> tuple[dict[str, Any], str | None, str | None]:
    """Return the attributes of a response's head, its content type and its content encoding."""
    attributes: dict[str, Any] = {sc.HTTP_STATUS_CODE: facts.status_code}
    content_type = content_encoding = None
    for raw_name, raw_value in facts.headers:
        name = raw_name.decode("latin-1").lower()
        if name == "content-type":
            content_type = raw_value.decode("latin-1")
        elif name == "content-encoding":
            content_encoding = raw_value.decode("latin-1")
        elif name == REQUEST_ID_HEADER:
            attributes[sc.REQUEST_ID] = raw_value.decode("latin-1")
        elif name.startswith(KEPT_HEADERS):
            attributes[sc.HEADERS_PREFIX + name] = raw_value.decode("latin-1")
    return attributes, content_type, content_encoding


def exception_attributes(failure: Failure, privacy: Privacy) -> dict[str, Any]:
    """Return an ``exception`` event's attributes (OpenTelemetry's exception conventions; the bare class name)."""
    message, stacktrace = failure.message, format_failure(failure)
    if not privacy.capture:
        message, stacktrace = WITHHELD_NOTE, ""
    elif privacy.hooks:
        message, stacktrace = privacy.clean([message, stacktrace])
    return {
        sc.EXCEPTION_TYPE: failure.type,
        sc.EXCEPTION_MESSAGE: message,
        sc.EXCEPTION_STACKTRACE: stacktrace,
    }


class Outcome(msgspec.Struct, frozen=True):
    """How a span ended, in one word, as a status, and why."""

    finish: Finish
    code: SpanStatusCode
    description: str = ""


def conclude(
    ending: Ending,
    view: ResponseView | None,
    *,
    streamed: bool = False,
    operation: str | None = None,
    failure: str | None = None,
) -> Outcome:
    """Decide how a span ended, from what its watcher saw and what the data says.

    A stream that brought its end mark is complete however it was left. One without it was given up by its reader,
    or cut off. An exception that reached the caller is a failure even if the response was whole (``.parse()``).
    """
    said = view.finish if view is not None else None
    if ending is Ending.RAISED:
        return Outcome("failed", SpanStatusCode.ERROR, failure or (view.error if view and view.error else ""))
    if said in ("failed", "cancelled"):
        error = view.error if view is not None and view.error else str(said)
        return Outcome("failed" if said == "failed" else "cancelled", SpanStatusCode.ERROR, error)
    if said is not None and (streamed or ending is not Ending.CANCELLED):
        return Outcome(said, SpanStatusCode.OK, view.error or "" if view is not None and said == "incomplete" else "")
    if ending is Ending.CANCELLED:
        return Outcome("cancelled", SpanStatusCode.ERROR, "cancelled")
    if ending in (Ending.CLOSED, Ending.COLLECTED):
        return Outcome("abandoned", SpanStatusCode.OK)
    if streamed and operation == "responses":
        # The Responses API always closes with a terminal event; a body that ends without one was cut off.
        return Outcome("incomplete", SpanStatusCode.OK, "the stream ended without a terminal event")
    return Outcome("completed", SpanStatusCode.OK)


def seconds_after(start_ns: int, moments: Iterable[tuple[str, int | None]]) -> dict[str, float]:
    """Return each moment that is known as seconds from the start."""
    return {key: max(0, moment - start_ns) / 1e9 for key, moment in moments if moment is not None}
