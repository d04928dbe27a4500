"""Turns payloads into views, with privacy applied: code after this module does not see what was withheld."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.assembly._privacy import Privacy, withhold_request, withhold_response
from tracer.capture.records import Codec, Payload
from tracer.interpret import RequestView, ResponseView, decode_json, encode_value, plain_text, stream_events
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream
from tracer.interpret.previews import PREVIEW_CHARS, media_label, one_line, without_media, words_of
from tracer.interpret.privacy import CREDENTIAL, hide_credentials
from tracer.redact import api_keys

__all__ = [
    "binary_answer",
    "chunk_times",
    "read_error_body",
    "read_request",
    "read_response",
    "read_stream",
    "read_value",
    "view_outputs",
]

_OBJECT = re.compile(r"<[\w.]+ object\b[^>]*>|<.{1,300} at 0x[0-9a-fA-F]+>")  # the repr of an object or a function
_VARIABLE = ("args", "kwargs")  # by these names the worker knows parameters that take any number of arguments
RAW = "raw"  # the operation that can read any body, with few attributes
_VALUE = Codec.VALUE  # looking up an enum member takes 0.1 µs (Python 3.11)


def read_value(payload: Payload, privacy: Privacy) -> Any:
    """Return a user's value as it may be stored."""
    try:
        value = msgspec.msgpack.decode(payload.data, strict=False)
    except (msgspec.DecodeError, RecursionError) as error:  # the nesting fits the caller's stack, not ours
        value = f"[could not be read: {error}]"
    return privacy.clean(value)


def _read_unsent(value: Any, privacy: Privacy) -> Any:
    """Return a call's body that could not be encoded as JSON, and therefore came as a user's value."""
    privacy.has_credentials = hide_credentials(value) or privacy.has_credentials
    return value


def view_inputs(value: Any, privacy: Privacy, variable: Iterable[str] = ()) -> RequestView:
    """Make the view of a user's inputs, as `read_value` returned them: of a function, its arguments by name.

    Its preview leaves out clients and arguments that are None. Of a single text argument, it is the text, also if it
    is one of ``*args`` or ``**kwargs``, or of the parameters with these names in `variable`.
    """
    names = frozenset((*_VARIABLE, *variable))
    data, preview, text = _shown(value, privacy, names)
    if type(value) is dict and privacy.capture:
        told = _told(value, names)
        given = [one for key, argument in told.items() for one in (_each(argument) if key in names else (argument,))]
        only = given[0] if len(given) == 1 else None
        preview = one_line(only) if type(only) is str else preview if told else None
    return RequestView(inputs=data, preview=preview, text=text)


def view_outputs(value: Any, privacy: Privacy) -> ResponseView:
    """Make the view of a user's outputs, as `read_value` returned them."""
    data, preview, text = _shown(value, privacy)
    return ResponseView(outputs=data, preview=preview, text=text)


def _shown(value: Any, privacy: Privacy, variable: Set[str] = frozenset()) -> tuple[bytes, str | None, str]:
    """Return a user's value as JSON, its preview and its text for search."""
    data = encode_value(value)
    if not privacy.capture:
        return data, None, ""
    if type(value) is str:
        return data, one_line(value), plain_text(value)
    told = encode_value(_told(value, variable) or value) if type(value) is dict else data
    return data, _json_preview(told), plain_text(value)


def _json_preview(data: bytes) -> str:
    return without_media(data.decode(), PREVIEW_CHARS)[:PREVIEW_CHARS]


def _told(arguments: dict[str, Any], variable: Set[str]) -> dict[str, Any]:
    """Return the arguments that say something: no nulls, no objects such as clients, also not among many."""
    told = {key: _told_of(key, value, variable) for key, value in arguments.items()}
    return {
        key: value
        for key, value in told.items()
        if _tells(value) and (value or value == arguments[key]) and not (key in variable and value in ([], {}))
    }


def _told_of(key: str, value: Any, variable: Set[str]) -> Any:
    if type(value) is str:
        return words_of(value) or media_label(value)
    if type(value) is list and key in variable:
        return [one for one in value if _tells(one)]
    return _told(value, variable) if type(value) is dict else value


def _tells(value: Any) -> bool:
    return value is not None and not (type(value) is str and _OBJECT.fullmatch(value))


def _each(arguments: Any) -> Iterable[Any]:
    """Return the arguments that one parameter took."""
    if type(arguments) is list:
        return arguments
    return arguments.values() if type(arguments) is dict else (arguments,)


def read_request(
    operation: str | None, payload: Payload, privacy: Privacy, variable: Iterable[str] = ()
) -> RequestView:
    """Read a request's body, or the inputs of a user's span. For `variable`, see `view_inputs`."""
    if payload.codec is _VALUE:
        value = read_value(payload, privacy)
        return view_inputs(value if operation is None else _read_unsent(value, privacy), privacy, variable)
    view = interpret_request(operation or RAW, privacy.clean_body(payload), truncated=payload.truncated)
    if payload.truncated:
        del view.attributes[sc.TRUNCATED]  # the assembler sets this for inputs and outputs together
    if not privacy.capture:
        withhold_request(view, labels=operation is not None)
    return view


def read_response(
    operation: str | None, payload: Payload, privacy: Privacy, *, content_type: str | None = None
) -> ResponseView:
    """Read a plain response's body, or the outputs of a user's span."""
    if payload.codec is _VALUE:
        if operation is None:
            return view_outputs(read_value(payload, privacy), privacy)
        # A value of a call: it contains the bytes of a binary answer.
        payload = Payload(Codec.WIRE, encode_value(msgspec.msgpack.decode(payload.data)))
    body = privacy.clean_body(payload, content_type)
    if body is not payload.data:
        content_type = None  # a cleaned body is JSON, whatever it was before
    view = interpret_response(operation or RAW, body, content_type=content_type, truncated=payload.truncated)
    if payload.truncated:
        del view.attributes[sc.TRUNCATED]
    return view if privacy.capture else withhold_response(view, labels=operation is not None)


def read_error_body(payload: Payload, privacy: Privacy, *, content_type: str | None = None) -> ResponseView:
    """Read the body of a failed call, which has no answer: all that matters is that it can be shown and found.

    It is UTF-8, whatever charset its content type names (`capture.error_bodies`).
    """
    text = payload.data.decode("utf-8", "replace")
    if (shown := api_keys(text)) != text:
        payload = Payload(payload.codec, shown.encode(), payload.truncated)
    kind = None if content_type is None else content_type.partition(";")[0]
    read = read_response(RAW, payload, privacy, content_type=kind)
    view = ResponseView(outputs=read.outputs)
    if sc.NOTE in read.attributes:
        view.attributes[sc.NOTE] = read.attributes[sc.NOTE]
    if privacy.capture and read.outputs is not None:
        view.text = plain_text(decode_json(read.outputs))
    return view


def binary_answer(facts: Payload, reads: list[tuple[int, bytes]]) -> Payload:
    """Return the facts about a binary answer (``{"content_type", "size"}``) together with its bytes as they came."""
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

    The ``redact=`` hooks are applied to the rebuilt message and not to each chunk, because a secret may lie across two
    chunks.
    """
    view = interpret_stream(operation, chunks, content_type=content_type, content_encoding=content_encoding)
    if view.outputs is not None:
        _clean_rebuilt(operation, view, privacy)
    view.attributes, view.error = privacy.redact([view.attributes, view.error])
    for child in view.children:
        hide_credentials([child.inputs, child.outputs])
        child.inputs, child.outputs, child.error = privacy.redact([child.inputs, child.outputs, child.error])
        child.name, child.attributes = privacy.redact([child.name, child.attributes])
    return view if privacy.capture else withhold_response(view)


def _clean_rebuilt(operation: str, view: ResponseView, privacy: Privacy) -> None:
    """Clean the body that was rebuilt from a stream, in the same way as a plain body."""
    outputs = view.outputs or b""
    if privacy.has_credentials and outputs.startswith(b'"'):  # unreadable: may repeat the request's credentials
        outputs = encode_value(CREDENTIAL)
    cleaned = privacy.clean_body(Payload(Codec.WIRE, outputs))
    if cleaned is not view.outputs:
        clean = interpret_response(operation, cleaned)
        view.outputs, view.preview, view.text = clean.outputs, clean.preview, clean.text


def chunk_times(reads: list[tuple[int, bytes]], encoding: str | None) -> list[tuple[str, int, dict[str, Any]]]:
    """Return a chunk event for each event of a stream, with its time and without its text."""
    events = stream_events(reads, content_encoding=encoding)
    return [(sc.EVENT_CHUNK, time_ns, {"index": i}) for i, (time_ns, _, data) in enumerate(events) if data != "[DONE]"]
