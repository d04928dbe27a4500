"""The rows that are written to a store, in batches, and those that are taken out of it to be sent or moved."""

from __future__ import annotations

import msgspec

from tracer._models import Feedback, SpanStatusCode, TraceState
from tracer.otlp.outgoing import Outgoing
from tracer.store.raw import RawBatch

__all__ = [
    "Batch",
    "ChunkRow",
    "Export",
    "ExportCounts",
    "LossRow",
    "MediaRow",
    "ProcessRow",
    "SpanRow",
    "StoredTrace",
    "TracePatch",
]


class ProcessRow(msgspec.Struct, kw_only=True):
    """The process that writes. It tells a running trace from a trace whose process is gone.

    Attributes:
        process_id: ``host:pid:start time of the process``, so that a reused pid is not taken for the same process.
    """

    process_id: str
    host: str
    pid: int
    started: str


class SpanRow(msgspec.Struct, kw_only=True, gc=False):
    """One span as stored. Written when it starts, again when it ends; the later row completes the earlier.

    If a row with this ``(trace_id, span_id)`` is stored already, a field that is None leaves the stored value as it is.

    Attributes:
        inputs: JSON text (bytes, UTF-8); likewise `outputs`, `attributes` (an object) and `events` (an array of
            ``[name, timestamp_ns, attributes]``).
        chunks: The stream's raw reads: zlib-compressed msgpack of ``[[time_ns, bytes], …]``;
            `chunk_encoding` is the HTTP content-encoding of those bytes.
        counted: The usage counts towards the trace's usage: a model call that does not repeat another span.
        text: Plain text for full-text search.
        links: Ids by which calls of other traces may continue this one: ``response``, ``previous_response``,
            ``conversation``.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str
    span_type: str
    operation: str | None = None
    start_time_ns: int
    end_time_ns: int | None = None
    status_code: SpanStatusCode = SpanStatusCode.UNSET
    status_description: str = ""
    finish: str | None = None
    model: str | None = None
    inputs: bytes | None = None
    outputs: bytes | None = None
    attributes: bytes | None = None
    events: bytes | None = None
    chunks: bytes | None = None
    chunk_encoding: str | None = None
    usage: dict[str, int] | None = None
    cost: float | None = None
    counted: bool = False
    text: str | None = None
    links: dict[str, str] | None = None


class ChunkRow(msgspec.Struct):
    """Raw reads of a stream that still runs. Removed when the row comes that ends its span (and has an `operation`)."""

    trace_id: str
    span_id: str
    chunks: list[tuple[int, bytes]]


class MediaRow(msgspec.Struct, kw_only=True, gc=False):
    """An image, recording or file that a span refers to. Stored once for all spans that refer to it.

    Attributes:
        hash: SHA-256 of `data`, 64 hex digits.
    """

    trace_id: str
    span_id: str
    hash: str
    content_type: str
    data: bytes


class TracePatch(msgspec.Struct, kw_only=True, gc=False):
    """What a batch brings that is new about one trace; None (or empty) leaves the stored value as it is.

    Attributes:
        root_span_id: The span whose name, times, state and previews stand for the trace. A span without parent
            (`true_root`) wins over a span whose parent lives in another process. Between two of the same kind, the one
            that was written first stays.
        name: The root's name; `name_override` is the user's (``update_current_trace(name=…)``) and wins.
        is_told: `request_preview` is the user's, and not the root's.
        tags: Merged key by key, as `metadata` is. The counts in `dropped` are added up.
    """

    trace_id: str
    process_id: str
    start_time_ns: int
    experiment: str | None = None
    root_span_id: str | None = None
    true_root: bool = False
    name: str | None = None
    name_override: str | None = None
    state: TraceState | None = None
    end_time_ns: int | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    is_told: bool = False
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    session_id: str | None = None
    user_id: str | None = None
    dropped: dict[str, int] = msgspec.field(default_factory=dict)


class LossRow(msgspec.Struct, kw_only=True, gc=False):
    """How much a process lost of what belongs to no stored trace, since the last such row.

    Attributes:
        reason: As in `Stats.dropped`: ``start`` (spans that a full queue refused) or ``lost`` (records that could not
            be stored).
    """

    reason: str
    count: int
    time_ns: int


class Batch(msgspec.Struct, kw_only=True):
    """What is written in one transaction: all of it or nothing.

    The trace of every span is among `traces`. The span of every medium is among `spans`, or stored already.

    Attributes:
        raw: Records in place of rows; only in a batch for a store that
            `tracer.store.raw.TakesRecords`.
        sources: How far files beside the database are taken over once this batch is written: a position by name.
        once: The names of those sources whose positions number their batches. If one of them has come as far already,
            this batch is stored: it is sent again because an answer was lost, and nothing of it is written.
    """

    process: ProcessRow
    traces: list[TracePatch] = msgspec.field(default_factory=list)
    spans: list[SpanRow] = msgspec.field(default_factory=list)
    chunks: list[ChunkRow] = msgspec.field(default_factory=list)
    media: list[MediaRow] = msgspec.field(default_factory=list)
    sources: dict[str, int] = msgspec.field(default_factory=dict)
    losses: list[LossRow] = msgspec.field(default_factory=list)
    once: list[str] = msgspec.field(default_factory=list)
    raw: RawBatch | None = None

    @property
    def span_count(self) -> int:
        """How many spans it is about."""
        return len(self.spans) if self.raw is None else self.raw.spans


class Export(msgspec.Struct, kw_only=True):
    """A span that ended, and is to be sent.

    Attributes:
        key: Its place in the order in which spans ended, for `Store.end_exports`.
        outgoing: None if the span was deleted meanwhile.
    """

    key: int
    outgoing: Outgoing | None


class ExportCounts(msgspec.Struct, frozen=True):
    """What became of spans that were to be sent. Replaced as a whole, so that a reader sees figures of one moment."""

    sent: int = 0  # the receiver took them
    refused: int = 0  # the receiver will never take them
    deleted: int = 0  # they were deleted before they could be sent
    retries: int = 0  # requests that failed and are to be sent again

    def plus(self, **changes: int) -> ExportCounts:
        """Return the counts with these added."""
        return msgspec.structs.replace(self, **{name: getattr(self, name) + more for name, more in changes.items()})


class StoredTrace(msgspec.Struct, kw_only=True):
    """One whole trace as a store keeps it: what is needed to write it into another store.

    Attributes:
        spans: In the order of their starts. Their `links` are in `links` instead.
        media: Span id and hash of each medium; `Store.get_media` has the data.
        links: Kind and id, as in `SpanRow.links`, of all spans together.
        feedback: The oldest first.
    """

    patch: TracePatch
    spans: list[SpanRow]
    media: list[tuple[str, str]] = msgspec.field(default_factory=list)
    links: list[tuple[str, str]] = msgspec.field(default_factory=list)
    feedback: list[Feedback] = msgspec.field(default_factory=list)
