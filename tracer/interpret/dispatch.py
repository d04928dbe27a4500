"""The package's functions: which operation is read by which module, and the guard around them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from tracer import _semconv as sc
from tracer.interpret import (
    assistants,
    audio,
    chat,
    completions,
    decisions,
    embeddings,
    images,
    jobs,
    moderations,
    raw,
    realtime,
    responses,
    retrieval,
    usual,
    usual_chunks,
    videos,
)
from tracer.interpret._charsets import decode_text
from tracer.interpret._decompress import decompress
from tracer.interpret._json import Body, encode_value, read_body
from tracer.interpret._views import Damage, RequestView, ResponseView
from tracer.interpret.choices import describe_refusal
from tracer.interpret.sse import DONE, Chunks, Event, split_events, unreadable_end

__all__ = ["OPERATIONS", "Operation", "child_span_id", "interpret_request", "interpret_response", "interpret_stream"]


class Operation(NamedTuple):
    """How one kind of call is read. Each function fills in the view that it is given.

    Attributes:
        read_request: Takes the decoded request.
        read_response: Takes the decoded plain response.
        read_stream: Takes a stream's events; returns the rebuilt response, None if nothing came.
        decode_response: A faster way to decode a response. It raises if it can't.
        read_text: Takes a response that is plain text by design.
        answer: Fields of which a response has at least one. A body without any is no answer: the page of a proxy, or an
            error that looks like none (``{"detail": "Not Found"}``). Empty: any object may be one.
        read_usual: Reads a usual response at once; returns None for any other. It finds what `read_response` would.
        split_stream: Splits a stream into events. It may join those that say the same together.
    """

    read_request: Callable[[dict[str, Any], RequestView], None]
    read_response: Callable[[dict[str, Any], ResponseView], None]
    read_stream: Callable[[list[Event], ResponseView], Any] = raw.read_stream
    decode_response: Callable[[bytes], dict[str, Any]] | None = None
    read_text: Callable[[str, ResponseView], None] | None = None
    answer: tuple[str, ...] = ()
    read_usual: Callable[[bytes], ResponseView | None] | None = None
    split_stream: Callable[[Chunks], list[Event]] = split_events


_RESPONSES = Operation(
    responses.read_request,
    jobs.read_background,
    jobs.read_background_stream,
    answer=("output", "status", "object", "usage"),
    read_usual=usual.read_response,
)
_SESSION = Operation(realtime.read_session_request, realtime.read_session_response, realtime.read_session_stream)

OPERATIONS: dict[str, Operation] = {
    "chat": Operation(
        chat.read_request,
        chat.read_response,
        chat.read_stream,
        answer=("choices", "object", "usage"),
        read_usual=usual.read_chat,
        split_stream=usual_chunks.split_chat,
    ),
    "responses": _RESPONSES,
    "retrieved": _RESPONSES,
    "responses.session": _SESSION,
    "realtime": Operation(realtime.read_request, realtime.read_response, realtime.read_stream),
    "realtime.session": _SESSION,
    "completions": Operation(
        completions.read_request,
        completions.read_response,
        completions.read_stream,
        answer=("choices", "object", "usage"),
    ),
    "embeddings": Operation(
        embeddings.read_request,
        embeddings.read_response,
        decode_response=embeddings.decode_response,
        answer=("data", "object", "usage"),
    ),
    "decisions": Operation(decisions.read_request, decisions.read_response),
    "moderations": Operation(moderations.read_request, moderations.read_response, answer=("results",)),
    "images": Operation(images.read_request, images.read_response, images.read_stream, answer=("data", "usage")),
    "speech": Operation(audio.read_speech_request, audio.read_speech_response, audio.read_speech_stream),
    "audio_text": Operation(audio.read_request, audio.read_response, audio.read_stream, read_text=audio.read_text),
    "retrieval": Operation(retrieval.read_request, retrieval.read_response),
    "videos": Operation(videos.read_request, videos.read_response),
    "runs": Operation(assistants.read_request, assistants.read_response, assistants.read_stream),
}
_RAW = Operation(raw.read_request, raw.read_response)


def interpret_request(operation: str, body: bytes, *, truncated: int = 0) -> RequestView:
    """Read a request's wire bytes. Raises nothing, whatever the bytes are.

    Args:
        operation: A key of `OPERATIONS`; any other is kept raw, with few attributes.
        body: The JSON as it was sent, or its beginning.
        truncated: How many bytes of it were left out.
    """
    read = read_body(body, truncated=truncated)
    view = RequestView(inputs=read.text)
    if type(read.value) is dict:
        _guarded(OPERATIONS.get(operation, _RAW).read_request, read.value, view)
    if read.note or truncated:
        _annotate(view, read.note, truncated, "inputs")
    return view


def interpret_response(
    operation: str, body: bytes, *, content_type: str | None = None, truncated: int = 0
) -> ResponseView:
    """Read a plain response's body. Raises nothing, whatever the bytes are.

    Args:
        operation: A key of `OPERATIONS`; any other is kept raw, with few attributes.
        body: The body, decompressed; or its beginning.
        content_type: The HTTP header. A body that is not JSON is kept as text in any case.
        truncated: How many bytes of the body were left out.
    """
    reader = OPERATIONS.get(operation, _RAW)
    if reader.read_usual is not None and not truncated and (usual_view := reader.read_usual(body)) is not None:
        return usual_view
    view = ResponseView()
    if not body and not truncated:
        return view
    read_text = reader.read_text
    if read_text is not None and _is_plain_text(content_type):
        read = _text_body(body, content_type, truncated)
    elif reader.decode_response is not None and not truncated:
        read = _read_response_body(reader.decode_response, body)
    else:
        read = read_body(body, truncated=truncated)
    if not read.readable and body:
        text = _text_body(body, content_type, truncated)
        is_answer = read_text is not None and _may_be_text(content_type)
        read = text if is_answer else Body(read.value, text.text, read.note, readable=False)
    view.outputs = read.text
    value = read.value
    if type(value) is list:
        value = _only(value)
    if type(value) is dict:
        _guarded(reader.read_response, value, view)
    elif type(value) is str:
        _guarded(read_text or raw.read_text, value, view)
    if read.note or truncated:
        _annotate(view, read.note, truncated, "outputs")
    if read.note and content_type and not read.readable:
        view.attributes[sc.NOTE] = f"{content_type}: {read.note}"
    is_page = not read.readable and operation in OPERATIONS and (read_text is None or _kind(content_type) in _PAGES)
    is_json = bool(reader.answer) or (not read.readable and "json" in (content_type or ""))
    if (is_json or is_page) and not truncated and view.finish != "failed":
        _refuse_no_answer(reader.answer, value, content_type, view, readable=read.readable)
    return view


def _refuse_no_answer(
    answer: tuple[str, ...], value: Any, content_type: str | None, view: ResponseView, *, readable: bool
) -> None:
    """Mark a body as failed that is no answer, whatever the HTTP status says: the SDK returns it all the same.

    Args:
        answer: See `Operation`.
        value: The body, if it is JSON.
        content_type: The HTTP header.
        view: Is marked.
        readable: The body is JSON.
    """
    if readable and type(value) is dict:
        refusal = describe_refusal(value, answer)
        if refusal is None:
            return
        view.finish, (view.error, view.error_type) = "failed", refusal
    else:
        kind = (content_type or "").partition(";")[0].strip() or "text"
        why = ", which is no answer of this API" if readable or "json" not in kind else " that can't be read"
        view.finish, view.error = "failed", f"the server answered with {kind}{why}"
    view.is_quiet = True


def _read_response_body(decode: Callable[[bytes], dict[str, Any]], body: bytes) -> Body:
    try:
        return Body(decode(body), body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return read_body(body)  # not as documented: read it like any other body


_PAGES = ("text/html", "application/xhtml+xml", "text/event-stream")  # of gateways; events


def _kind(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _is_plain_text(content_type: str | None) -> bool:
    """Tell text that was asked for (also srt and vtt) apart from a gateway's HTML page and from events."""
    kind = _kind(content_type)
    return kind.startswith("text/") and kind not in _PAGES


def _may_be_text(content_type: str | None) -> bool:
    """Tell the same of what is no JSON, also under a type of its own (``application/x-subrip``)."""
    kind = _kind(content_type)
    return kind not in _PAGES and "json" not in kind


def _text_body(body: bytes, content_type: str | None, truncated: int) -> Body:
    text, note = decode_text(body, content_type, is_whole=not truncated)
    return Body(text, encode_value(text), note)


def _only(values: list[Any]) -> Any:
    """Unpack the list of one object in which Google's compatible endpoint sends errors."""
    return values[0] if len(values) == 1 else values


def interpret_stream(
    operation: str, chunks: Chunks, *, content_encoding: str | None = None, content_type: str | None = None
) -> ResponseView:
    """Read a response that was recorded as it came over the wire. Raises nothing, whatever the bytes are.

    Server-sent events are rebuilt to the plain response's shape; anything else (a plain call read through
    ``with_streaming_response``) is read as a plain response.

    Args:
        operation: A key of `OPERATIONS`; any other is kept raw, with few attributes.
        chunks: (time_ns, bytes) for each read from the socket, cut anywhere.
        content_encoding: The HTTP header, if the bytes are still compressed.
        content_type: The HTTP header.
    """
    view = ResponseView()
    read = functools.partial(_interpret_reads, operation, content_encoding, content_type)
    _guarded(read, chunks, view)
    return view


def _interpret_reads(
    operation: str, content_encoding: str | None, content_type: str | None, chunks: Chunks, view: ResponseView
) -> None:
    reads, note, damage, cut = decompress(chunks, content_encoding)
    if not _is_event_stream(reads, content_type):
        plain = interpret_response(operation, b"".join([data for _, data in reads]), content_type=content_type)
        for field in view.__struct_fields__:
            setattr(view, field, getattr(plain, field))
    else:
        view.first_chunk_ns = next((time_ns for time_ns, data in reads if data), None)
        reader = OPERATIONS.get(operation, _RAW)
        events = reader.split_stream(reads)
        body = reader.read_stream(events, view)
        view.outputs = None if body is None else encode_value(body)
        if any(data.startswith(DONE) for _, _, data in reversed(events)):
            damage = cut = None  # the SDK reads no further
        elif damage is None and cut is None and (error := unreadable_end(reads)):
            view.damage = Damage("UnicodeDecodeError", error, at_end=True)
    if message := damage or cut:
        view.damage = Damage("DecodingError", message, at_end=damage is None)
    _annotate(view, note, 0, "outputs")


def _is_event_stream(reads: Chunks, content_type: str | None) -> bool:
    """Look at the first bytes, since servers mislabel either kind; an event stream can't begin with a bracket."""
    start = next((head for _, data in reads if (head := data.lstrip()[:6])), b"")
    if start[:1] in (b"{", b"[", b"<"):
        return False
    return not content_type or "event-stream" in content_type.lower() or start.startswith(_FIELDS)


_FIELDS = (b"data:", b"event:", b":", b"id:", b"retry:")  # an event stream begins with one of these


def _guarded(read: Callable[[Any, Any], None], value: Any, view: RequestView | ResponseView) -> None:
    """Run a reader. If the data has an unexpected shape, a note is left; the payload itself is kept in any case."""
    try:
        read(value, view)
    except Exception as exc:
        _annotate(view, f"could not be interpreted: {type(exc).__name__}: {exc}"[:300], 0, "")


def _annotate(view: RequestView | ResponseView, note: str | None, truncated: int, side: str) -> None:
    if note:
        earlier = view.attributes.get(sc.NOTE)
        view.attributes[sc.NOTE] = f"{earlier}; {note}" if earlier else note
    if truncated:
        view.attributes[sc.TRUNCATED] = {side: truncated}


def child_span_id(parent_span_id: str, key: str) -> str:
    """Return the span id of a call's child: 16 lower-case hex digits, the same whenever it is computed again."""
    text = f"{parent_span_id}/{key}".encode("utf-8", "backslashreplace")
    return blake2b(text, digest_size=8).hexdigest()
