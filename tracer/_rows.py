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
    stream_events,
    withhold,
)
from tracer.interpret._json import read_body
from tracer.interpret.previews import PREVIEW_CHARS, without_media
from tracer.interpret.privacy import CREDENTIAL, hide_credentials, mentions_credentials, without_credentials
from tracer.redact import api_keys

__all__ = [
    "Outcome",
    "Privacy",
    "binary_answer",
    "chunk_times",
    "conclude",
    "describe_failure",
    "exception_attributes",
    "http_attributes",
    "link_ids",
    "read_request",
    "read_response",
    "read_stream",
    "read_value",
    "seconds_after",
    "stream_error_attributes",
    "view_outputs",
]

WITHHELD_NOTE = "content not captured"
RAW = "raw"  # reads any body, with few attributes
# Attributes that hold content, and the field of a body whose form they have ("": somebody's data).
CONTENT_ATTRIBUTES = {
    sc.TOOL_CALLS: "tool_calls",
    sc.TOOL_DEFINITIONS: "tools",
    sc.OUTPUT_SCHEMA: "",
    sc.REQUEST_STOP_SEQUENCES: "",
    sc.RETRIEVAL_DOCUMENTS: "",
    sc.CITATIONS: "",
    sc.REASONING: "",
    sc.MCP_APPROVAL_REQUESTS: "tool_calls",
    sc.INPUT_TRANSCRIPT: "",
    sc.NOTE: "",
}
KEPT_HEADERS = {"openai-processing-ms", "retry-after", "retry-after-ms", "apim-request-id", "cf-ray"}
RATE_LIMIT_PREFIX = "x-ratelimit-"
REQUEST_ID_HEADER = "x-request-id"
CONTENT_TYPE = "content-type"
CONTENT_ENCODING = "content-encoding"
MAX_HEADER_NAMES = 512
LINKS = {
    sc.RESPONSE_ID: "response",
    sc.PREVIOUS_RESPONSE_ID: "previous_response",
    sc.CONVERSATION_ID: "conversation",
}


class Privacy(msgspec.Struct, gc=False):
    """What may be stored of a span's texts.

    Attributes:
        capture: False keeps structure, model, usage and times, and no text.
        hooks: Functions from text to text that every text goes through first.
        failures: How many texts were withheld because a hook raised: it fails closed.
        has_credentials: A body of the span held credentials for a third party; they are gone from what was read
            since, and may still stand in the stream's raw bytes.
    """

    capture: bool = True
    hooks: tuple[Callable[[str], str], ...] = ()
    failures: int = 0
    has_credentials: bool = False

    @property
    def keeps_texts(self) -> bool:
        """Texts are stored as they are."""
        return self.capture and not self.hooks

    @property
    def is_open(self) -> bool:
        """Nothing to hide: bytes can be kept as they are."""
        return self.keeps_texts and not self.has_credentials

    def redact(self, value: Any) -> Any:
        """Return a JSON-like value with the hooks applied to its texts."""
        if not self.hooks:
            return value
        value, failures = redact(value, self.hooks)
        self.failures += failures
        return value

    def clean(self, value: Any) -> Any:
        """Return a user's value with the hooks applied to its texts, or with its texts withheld, all of them."""
        value = self.redact(value)
        return value if self.capture else withhold(value, labels=False)

    def clean_note(self, text: str) -> str:
        """Return a status description, an error message or the like as it may be stored: some servers quote the key."""
        text = self.redact(api_keys(text))
        return text if self.capture or not text else WITHHELD_NOTE

    def keeps_reads(self, reads: list[tuple[int, bytes]]) -> bool:
        """Tell whether a stream's raw reads can be stored. A response may repeat credentials of an earlier request."""
        if self.is_open and mentions_credentials(b"".join([data for _, data in reads])):
            self.has_credentials = True
        return self.is_open

    def clean_body(self, payload: Payload) -> bytes:
        """Return a wire body without credentials and with the hooks applied; the same bytes if that changes nothing."""
        data = without_credentials(payload.data, truncated=payload.truncated)
        self.has_credentials = self.has_credentials or data is not payload.data
        if not self.hooks or not data:
            return data
        body = read_body(data, truncated=payload.truncated)
        return encode_value(self.redact(body.value if body.readable else data.decode("utf-8", "replace")))


def read_value(payload: Payload, privacy: Privacy) -> Any:
    """Return a user's value as it may be stored."""
    try:
        value = msgspec.msgpack.decode(payload.data, strict=False)
    except (msgspec.DecodeError, RecursionError) as error:  # nested as deep as the caller's stack allowed, not ours
        value = f"[could not be read: {error}]"
    return value if privacy.keeps_texts else privacy.clean(_bytes_as_text(value))


def _read_unsent(value: Any, privacy: Privacy) -> Any:
    """Return a call's body that could not be made JSON of, and came as a user's value therefore."""
    privacy.has_credentials = hide_credentials(value) or privacy.has_credentials
    return value


def _bytes_as_text(value: Any) -> Any:
    """Return a value with its bytes as text, so that hooks see what is in them and not its base64."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: _bytes_as_text(item) for key, item in value.items()}
    return [_bytes_as_text(item) for item in value] if isinstance(value, list) else value


def view_inputs(value: Any, privacy: Privacy) -> RequestView:
    """Make the view of a user's inputs, as `read_value` returned them."""
    data, preview, text = _shown(value, privacy)
    return RequestView(inputs=data, preview=preview, text=text)


def view_outputs(value: Any, privacy: Privacy) -> ResponseView:
    """Make the view of a user's outputs, as `read_value` returned them."""
    data, preview, text = _shown(value, privacy)
    return ResponseView(outputs=data, preview=preview, text=text)


def _shown(value: Any, privacy: Privacy) -> tuple[bytes, str | None, str]:
    """Return a user's value as JSON, its preview and its text for search."""
    data = encode_value(value)
    if not privacy.capture:
        return data, None, ""
    return data, without_media(data[: PREVIEW_CHARS * 4].decode("utf-8", "ignore"))[:PREVIEW_CHARS], plain_text(value)


def read_request(operation: str | None, payload: Payload, privacy: Privacy) -> RequestView:
    """Read a request's body, or the inputs of a user's span."""
    if payload.codec is Codec.VALUE:
        value = read_value(payload, privacy)
        return view_inputs(value if operation is None else _read_unsent(value, privacy), privacy)
    view = interpret_request(operation or RAW, privacy.clean_body(payload), truncated=payload.truncated)
    view.attributes.pop(sc.TRUNCATED, None)  # the assembler counts for both sides
    if not privacy.capture:
        view.inputs = encode_value(withhold(decode_json(view.inputs), labels=operation is not None))
        _withhold_texts(view)
    return view


def read_response(
    operation: str | None, payload: Payload, privacy: Privacy, *, content_type: str | None = None
) -> ResponseView:
    """Read a plain response's body, or the outputs of a user's span."""
    if payload.codec is Codec.VALUE and operation is None:
        return view_outputs(read_value(payload, privacy), privacy)
    if payload.codec is Codec.VALUE:  # with the bytes of a binary answer in it
        payload = Payload(Codec.WIRE, encode_value(msgspec.msgpack.decode(payload.data)))
    body = privacy.clean_body(payload)
    if body is not payload.data:
        content_type = None  # cleaned, it is JSON, whatever it was
    view = interpret_response(operation or RAW, body, content_type=content_type, truncated=payload.truncated)
    view.attributes.pop(sc.TRUNCATED, None)
    return view if privacy.capture else _withheld(view, labels=operation is not None)


def binary_answer(facts: Payload, reads: list[tuple[int, bytes]]) -> Payload:
    """Return what is said of a binary answer (``{"content_type", "size"}``) together with its bytes as they came."""
    value = {**decode_json(facts.data), "data": b"".join([data for _, data in reads])}
    return Payload(Codec.VALUE, msgspec.msgpack.encode(value))


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
    if view.outputs is not None:
        _clean_rebuilt(operation, view, privacy)
    view.attributes, view.error = privacy.redact([view.attributes, view.error])
    for child in view.children:
        hide_credentials([child.inputs, child.outputs])
        child.inputs, child.outputs, child.error = privacy.redact([child.inputs, child.outputs, child.error])
        child.name, child.attributes = privacy.redact([child.name, child.attributes])
    return view if privacy.capture else _withheld(view)


def _clean_rebuilt(operation: str, view: ResponseView, privacy: Privacy) -> None:
    """Put what a stream was rebuilt to through what a plain body goes through."""
    outputs = view.outputs or b""
    if privacy.has_credentials and outputs.startswith(b'"'):  # could not be read: it may repeat the request's
        outputs = encode_value(CREDENTIAL)
    cleaned = privacy.clean_body(Payload(Codec.WIRE, outputs))
    if cleaned is not view.outputs:
        clean = interpret_response(operation, cleaned)
        view.outputs, view.preview, view.text = clean.outputs, clean.preview, clean.text


def _withheld(view: ResponseView, *, labels: bool = True) -> ResponseView:
    if view.outputs is not None:
        view.outputs = encode_value(withhold(decode_json(view.outputs), labels=labels))
    _withhold_texts(view)
    if view.error and view.finish != "incomplete":  # whose reason is a label
        view.error = WITHHELD_NOTE
    for child in view.children:
        child.inputs, child.outputs = withhold([child.inputs, child.outputs], labels=False)
        child.error = WITHHELD_NOTE if child.error else None
    return view


def _withhold_texts(view: RequestView | ResponseView) -> None:
    view.preview, view.text = None, ""
    for key, field in CONTENT_ATTRIBUTES.items():
        if key in view.attributes:
            view.attributes[key] = withhold({field: view.attributes[key]}, labels=bool(field))[field]


def http_attributes(facts: HttpFacts) -> tuple[dict[str, Any], str | None, str | None]:
    """Return the attributes of a response's head, its content type and its content encoding."""
    attributes: dict[str, Any] = {sc.HTTP_STATUS_CODE: facts.status_code}
    limits: dict[str, str] = {}
    for name, value in facts.headers:
        kept = _HEADER_KEYS[name]
        if kept is not None:
            is_limit, key = kept
            (limits if is_limit else attributes)[key] = value.decode("latin-1")
    if limits:
        attributes[sc.RATE_LIMIT] = limits
    return attributes, attributes.pop(CONTENT_TYPE, None), attributes.pop(CONTENT_ENCODING, None)


class _HeaderKeys(dict[bytes, "tuple[bool, str] | None"]):
    """Where a header is kept: among the rate limits or not, and as what. None for cookies and whatever else comes.

    Remembered, as a server sends the same names in every answer.
    """

    def __missing__(self, raw_name: bytes) -> tuple[bool, str] | None:
        if len(self) >= MAX_HEADER_NAMES:
            self.clear()
        kept = self[raw_name] = _header_key(raw_name.decode("latin-1").lower())
        return kept


_HEADER_KEYS = _HeaderKeys()


def _header_key(name: str) -> tuple[bool, str] | None:
    if name in (CONTENT_TYPE, CONTENT_ENCODING):
        return False, name
    if name == REQUEST_ID_HEADER:
        return False, sc.REQUEST_ID
    if name.startswith(RATE_LIMIT_PREFIX):
        return True, name[len(RATE_LIMIT_PREFIX) :]
    return (False, sc.HEADERS_PREFIX + name) if name in KEPT_HEADERS else None


def link_ids(operation: str | None, attributes: dict[str, Any]) -> dict[str, str] | None:
    """Return the ids by which traces continue one another; only Responses has any that can be continued."""
    if operation not in ("responses", "retrieved"):
        return None
    return {kind: value for key, kind in LINKS.items() if type(value := attributes.get(key)) is str} or None


def exception_attributes(failure: Failure, privacy: Privacy) -> dict[str, Any]:
    """Return an ``exception`` event's attributes (OpenTelemetry's exception conventions; the bare class name)."""
    # A stack trace quotes source code, and so may a key that somebody wrote there.
    stacktrace = privacy.redact(api_keys(format_failure(failure))) if privacy.capture else ""
    return {
        sc.EXCEPTION_TYPE: failure.type,
        sc.EXCEPTION_MESSAGE: privacy.clean_note(failure.message),
        sc.EXCEPTION_STACKTRACE: stacktrace,
    }


def describe_failure(failure: Failure, privacy: Privacy) -> str:
    """Return a status description: the exception's class and message, or the class alone."""
    if not privacy.capture or not failure.message:
        return failure.type
    return f"{failure.type}: {privacy.redact(api_keys(failure.message))}"


def stream_error_attributes(view: ResponseView) -> dict[str, Any]:
    """Return the ``exception`` event's attributes for an error that came inside a stream.

    The SDK raises it above the byte tap, as `openai.APIError` (``openai/_streaming.py``).
    """
    return {sc.EXCEPTION_TYPE: "APIError", sc.EXCEPTION_MESSAGE: view.error or "", sc.EXCEPTION_STACKTRACE: ""}


def chunk_times(reads: list[tuple[int, bytes]], encoding: str | None) -> list[tuple[str, int, dict[str, Any]]]:
    """Return a chunk event for each event of a stream, with its time and without its text."""
    events = stream_events(reads, content_encoding=encoding)
    return [(sc.EVENT_CHUNK, time_ns, {"index": i}) for i, (time_ns, _, data) in enumerate(events) if data != "[DONE]"]


class Outcome(msgspec.Struct, frozen=True, gc=False):
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
    status: tuple[str, str] | None = None,
) -> Outcome:
    """Decide how a span ended, from what its watcher saw, what the data says, and what the user set.

    A stream that brought its end mark is complete however it was left. One without it was given up by its reader,
    or cut off. An exception that reached the caller is a failure even if the response was whole (``.parse()``);
    neither it nor a cancellation is overruled by ``set_status``.

    Args:
        ending: What was seen.
        view: What the data says; None if nothing came.
        streamed: The body was read by the caller, piece by piece.
        operation: Key of `tracer.interpret`; None for a user's span.
        failure: The exception in words.
        status: Code and description that the user set.
    """
    outcome = _seen(ending, view or ResponseView(), streamed, operation, failure)
    if status is None or status[0] == SpanStatusCode.UNSET or ending in (Ending.RAISED, Ending.CANCELLED):
        return outcome
    code = SpanStatusCode(status[0])
    failed = code is SpanStatusCode.ERROR and outcome.finish == "completed"
    return Outcome("failed" if failed else outcome.finish, code, status[1])


def _seen(ending: Ending, view: ResponseView, streamed: bool, operation: str | None, failure: str | None) -> Outcome:
    said = view.finish
    if ending is Ending.RAISED:
        return Outcome("failed", SpanStatusCode.ERROR, failure or view.error or "")
    if said in ("failed", "cancelled"):
        return Outcome(said, SpanStatusCode.ERROR, view.error or said)
    if said is not None and (streamed or ending is not Ending.CANCELLED):
        return Outcome(said, SpanStatusCode.OK, (view.error or "") if said == "incomplete" else "")
    if ending is Ending.CANCELLED:
        return Outcome("cancelled", SpanStatusCode.ERROR, "cancelled")
    if ending in (Ending.CLOSED, Ending.COLLECTED):
        return Outcome("abandoned", SpanStatusCode.OK)
    if streamed and operation in ("responses", "retrieved", "realtime"):
        # These always close with a terminal event; a body that ends without one was cut off.
        return Outcome("incomplete", SpanStatusCode.OK, "the stream ended without a terminal event")
    return Outcome("completed", SpanStatusCode.OK)


def seconds_after(start_ns: int, moments: Iterable[tuple[str, int | None]]) -> dict[str, float]:
    """Return each moment that is known as seconds from the start."""
    return {key: max(0, moment - start_ns) / 1e9 for key, moment in moments if moment is not None}
