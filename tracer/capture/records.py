"""What crosses the queue: small msgpack records, with the provider's own bytes inside them.

A record says what happened, not what it means. The worker finds out the meaning (`tracer.assembly.assembler`). Records
are encoded as arrays (``array_like``): fields may be added at the end, never moved.
"""

from __future__ import annotations

import enum
from typing import Any, get_args

import msgspec

__all__ = [
    "Codec",
    "Encoded",
    "EncodedAttributes",
    "Ending",
    "Failure",
    "HttpFacts",
    "LargeRecord",
    "Payload",
    "Rank",
    "Record",
    "SpanChunk",
    "SpanEnded",
    "SpanNoted",
    "SpanStarted",
    "SpanUpdated",
    "TraceUpdated",
    "decode",
    "encode",
    "subject",
]


class Rank(enum.IntEnum):
    """What is refused first when the queue fills: chunks, then details and bodies, then new spans; ends never."""

    CHUNK = 0
    DETAIL = 1
    START = 2
    END = 3


class Codec(enum.IntEnum):
    """How a payload's bytes are to be read."""

    WIRE = 0  # as sent or received: JSON text, unless the provider made a mistake
    VALUE = 1  # msgpack of a user's value


class Payload(msgspec.Struct, array_like=True, gc=False):
    """A body or a value, with the number of bytes that were cut off its end.

    If `beside` is true, `data` is empty on the queue, because the bytes go beside the record (`LargeRecord`).
    """

    codec: Codec
    data: bytes
    truncated: int = 0
    beside: bool = False


class Failure(msgspec.Struct, array_like=True):
    """An exception as it was seen. Frames are raw (file, line, function): the worker looks up the source lines.

    `cause` is the exception that this one was raised ``from`` (then `explicit` is True), or that was being handled when
    this one was raised. `members` are the exceptions in an exception group. `left_out` counts causes and members that
    were too many (`tracer.capture.limits`), without those below them.
    """

    type: str
    message: str
    frames: list[tuple[str, int, str]] = msgspec.field(default_factory=list)
    cause: Failure | None = None
    explicit: bool = False
    members: list[Failure] = msgspec.field(default_factory=list)
    left_out: int = 0


class HttpFacts(msgspec.Struct, array_like=True, gc=False):
    """The response's status line and headers. The worker keeps an allow-list of headers and forgets the rest."""

    status_code: int
    headers: list[tuple[bytes, bytes]]


class Ending(enum.IntEnum):
    """How the code that watched the span saw it end. If the data says how it ended (``[DONE]``), that counts more."""

    RETURNED = 0
    RAISED = 1
    CANCELLED = 2
    EXHAUSTED = 3  # a stream's bytes were read to their end
    CLOSED = 4  # a stream or generator was closed before its end
    COLLECTED = 5  # … or dropped, and found by the garbage collector


class EncodedAttributes:
    """Attributes that many spans begin with, encoded only once.

    Attributes:
        values: The attributes. All those spans share them, so they must not be changed.
        encoded: What goes into the spans' records.
    """

    __slots__ = ("encoded", "values")

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.encoded = msgspec.Raw(msgspec.msgpack.encode(values))


class SpanStarted(msgspec.Struct, array_like=True, gc=False, tag="s"):
    """A span began. `experiment` is set on the first span of a trace in this process only."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    span_type: str
    start_ns: int
    experiment: str | None = None
    operation: str | None = None
    inputs: Payload | None = None
    attributes: dict[str, Any] | None = None
    capture: bool = True
    body_dropped: bool = False


class SpanChunk(msgspec.Struct, array_like=True, gc=False, tag="c"):
    """Bytes of a stream as one read brought them, still encoded as ``content-encoding`` says."""

    span_id: str
    time_ns: int
    data: bytes


class SpanNoted(msgspec.Struct, array_like=True, gc=False, tag="n"):
    """A span event. If it is about an exception, `failure` holds that, and the worker puts it into words.

    `value` is an item that a generator yielded. If the span ends without outputs, these items become its outputs.
    """

    span_id: str
    name: str
    time_ns: int
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    failure: Failure | None = None
    value: Payload | None = None


class SpanUpdated(msgspec.Struct, array_like=True, gc=False, tag="u"):
    """Inputs, outputs, attributes or a status that the user set on a running span; None means unchanged."""

    span_id: str
    inputs: Payload | None = None
    outputs: Payload | None = None
    attributes: dict[str, Any] | None = None
    status: tuple[str, str] | None = None
    name: str | None = None
    span_type: str | None = None


class SpanEnded(msgspec.Struct, array_like=True, gc=False, tag="e"):
    """A span ended. `lost` counts the parts of it that the queue did not accept (chunks, bodies, child spans).

    `is_repeated`: the push of its start or of an earlier end was interrupted, so it is unknown whether that record is
    on the queue. `told`: for the span that stands for the trace, what the user said of the trace (``state``,
    ``request_preview``, ``response_preview``). It goes before what the span itself says.
    """

    span_id: str
    end_ns: int
    ending: Ending
    outputs: Payload | None = None
    failure: Failure | None = None
    http: HttpFacts | None = None
    streamed: bool = False
    attributes: dict[str, Any] | None = None
    lost: dict[str, int] | None = None
    is_repeated: bool = False
    told: dict[str, str] | None = None


class TraceUpdated(msgspec.Struct, array_like=True, gc=False, tag="t"):
    """What the user said of a trace. `state` is set only if the span that stands for the trace has ended."""

    trace_id: str
    start_ns: int
    tags: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    session_id: str | None = None
    user_id: str | None = None
    name: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    state: str | None = None


Record = SpanStarted | SpanChunk | SpanNoted | SpanUpdated | SpanEnded | TraceUpdated


class LargeRecord:
    """An encoded record and, beside it, its body. Copying the body would cost the calling thread a millisecond."""

    __slots__ = ("body", "encoded")

    def __init__(self, encoded: bytes, body: bytes) -> None:
        self.encoded = encoded
        self.body = body

    def __len__(self) -> int:
        return len(self.encoded) + len(self.body)


Encoded = bytes | LargeRecord
"""The items in the queue."""

encode = msgspec.msgpack.Encoder().encode
"""Encode one record. Raises what msgspec raises for values that are not JSON-like data (see `snapshots`)."""

_decode = msgspec.msgpack.Decoder(Record).decode


def decode(encoded: Encoded | memoryview) -> Record:
    """Decode one record. Raises `msgspec.DecodeError` or `UnicodeDecodeError` for bytes that `encode` did not make."""
    if not isinstance(encoded, LargeRecord):
        return _decode(encoded)
    record = _decode(encoded.encoded)
    payloads: list[Payload | None] = [getattr(record, name, None) for name in ("inputs", "outputs")]
    for payload in payloads:
        if payload is not None and payload.beside:
            payload.data, payload.beside = encoded.body, False
    return record


class _Head(msgspec.Struct, array_like=True, gc=False):
    tag: str
    first: str
    second: msgspec.Raw


_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_text = msgspec.msgpack.Decoder(str).decode
_BY_TAG: dict[str, type[Record]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Record)}


def subject(encoded: bytes | memoryview) -> tuple[type[Record], str]:
    """Return of which kind a record is, and the id of its span (of the trace for `TraceUpdated`), without decoding it.

    Raises what `decode` raises, and KeyError, for what is no record.
    """
    head = _decode_head(encoded)
    kind = _BY_TAG[head.tag]
    return kind, _decode_text(head.second) if kind is SpanStarted else head.first
