"""What crosses the queue: small msgpack records, with the provider's own bytes inside them.

A record says what happened, not what it means; meaning is made in the worker (`tracer.assembly.assembler`). Records are
arrays on the wire (``array_like``): fields may be added at the end, never moved.
"""

from __future__ import annotations

import enum
from typing import Any

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
]


class Rank(enum.IntEnum):
    """What goes first when the queue fills: chunks, then details and bodies, then new spans; ends never."""

    CHUNK = 0
    DETAIL = 1
    START = 2
    END = 3


class Codec(enum.IntEnum):
    """How a payload's bytes are to be read."""

    WIRE = 0  # as sent or received: JSON text, unless the provider erred
    VALUE = 1  # msgpack of a user's value


class Payload(msgspec.Struct, array_like=True, gc=False):
    """A body or a value, with the number of bytes that were cut off its end.

    `data` is empty on the queue, if `beside` says that it goes beside its record (`LargeRecord`).
    """

    codec: Codec
    data: bytes
    truncated: int = 0
    beside: bool = False


class Failure(msgspec.Struct, array_like=True):
    """An exception as it was seen. Frames are raw (file, line, function): the worker looks up the source lines.

    `cause` is what the exception was raised ``from`` (`explicit`) or while handling; `members` what an exception
    group holds.
    """

    type: str
    message: str
    frames: list[tuple[str, int, str]] = msgspec.field(default_factory=list)
    cause: Failure | None = None
    explicit: bool = False
    members: list[Failure] = msgspec.field(default_factory=list)


class HttpFacts(msgspec.Struct, array_like=True, gc=False):
    """The response's status line and headers. The worker keeps an allow-list of headers and forgets the rest."""

    status_code: int
    headers: list[tuple[bytes, bytes]]


class Ending(enum.IntEnum):
    """How whoever watched the span saw it end. What the data says of it (``[DONE]``) weighs more."""

    RETURNED = 0
    RAISED = 1
    CANCELLED = 2
    EXHAUSTED = 3  # a stream's bytes were read to their end
    CLOSED = 4  # a stream or generator was closed before its end
    COLLECTED = 5  # … or dropped, and found by the garbage collector


class EncodedAttributes:
    """Attributes that many spans begin with, encoded once.

    Attributes:
        values: Shared by those spans: not to be changed.
        encoded: What goes into their records.
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
    """A span event; one about an exception carries it as `failure`, to be put into words by the worker.

    `value` is an item that a generator yielded; a span that ends without outputs has these as its outputs.
    """

    span_id: str
    name: str
    time_ns: int
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    failure: Failure | None = None
    value: Payload | None = None


class SpanUpdated(msgspec.Struct, array_like=True, gc=False, tag="u"):
    """Inputs, outputs, attributes or a status that the user set on a running span; None leaves as it is."""

    span_id: str
    inputs: Payload | None = None
    outputs: Payload | None = None
    attributes: dict[str, Any] | None = None
    status: tuple[str, str] | None = None
    name: str | None = None
    span_type: str | None = None


class SpanEnded(msgspec.Struct, array_like=True, gc=False, tag="e"):
    """A span ended. `lost` counts what of it was not accepted on the way (chunks, bodies, child spans).

    `is_repeated`: its start, or an end before this one, was interrupted; it is unknown whether that is on the queue.
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


class TraceUpdated(msgspec.Struct, array_like=True, gc=False, tag="t"):
    """Tags and the like, set while the trace runs."""

    trace_id: str
    start_ns: int
    tags: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    session_id: str | None = None
    user_id: str | None = None
    name: str | None = None


Record = SpanStarted | SpanChunk | SpanNoted | SpanUpdated | SpanEnded | TraceUpdated


class LargeRecord:
    """An encoded record together with its body, which the thread that calls would take a millisecond to copy."""

    __slots__ = ("body", "encoded")

    def __init__(self, encoded: bytes, body: bytes) -> None:
        self.encoded = encoded
        self.body = body

    def __len__(self) -> int:
        return len(self.encoded) + len(self.body)


Encoded = bytes | LargeRecord
"""What lies in the queue."""

encode = msgspec.msgpack.Encoder().encode
"""Encode one record. Raises what msgspec raises for values that are no JSON-like data (see `snapshots`)."""

_decode = msgspec.msgpack.Decoder(Record).decode


def decode(encoded: Encoded) -> Record:
    """Decode one record. Raises `msgspec.DecodeError` or `UnicodeDecodeError` for bytes that `encode` did not make."""
    record: Record = _decode(encoded.encoded if isinstance(encoded, LargeRecord) else encoded)
    if not isinstance(encoded, LargeRecord):
        return record
    payloads: list[Payload | None] = [getattr(record, name, None) for name in ("inputs", "outputs")]
    for payload in payloads:
        if payload is not None and payload.beside:
            payload.data, payload.beside = encoded.body, False
    return record
