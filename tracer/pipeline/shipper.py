"""For a store that takes records (`tracer.store.raw`): makes batches of records, and remembers what they must bring.

A span's records are sent with each batch, as they come, as rows would be: what is stored is not needed in the crash
ring any more. Whoever interprets a batch must know earlier records of the spans in it: all of a span that ends, the
changes of one that was changed again, and how the spans above began, without their inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from tracer import _semconv as sc
from tracer.assembly._counted_responses import CountedResponses
from tracer.assembly._open_span import ROOT_STEPS
from tracer.assembly.assembler import given_up
from tracer.assembly.counts import AssemblyCounts
from tracer.capture.limits import LIVE_BYTES, OPEN_SPANS
from tracer.capture.records import (
    Encoded,
    LargeRecord,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    TraceUpdated,
    decode,
    encode,
    subject,
)
from tracer.pipeline.ring import may_hold_credentials
from tracer.store.raw import Learnt, RawBatch, RawRecord, Remembered, SpanState

__all__ = ["Shipper"]


class _StartHead(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded `SpanStarted`. What is not needed is not decoded."""

    tag: str
    trace_id: msgspec.Raw
    span_id: str
    parent_id: str | None
    name: msgspec.Raw
    span_type: msgspec.Raw
    start_ns: int
    experiment: msgspec.Raw
    operation: str | None
    inputs: msgspec.Raw
    attributes: msgspec.Raw
    capture: bool


class _EndHead(msgspec.Struct, array_like=True, gc=False):
    """The beginning of an encoded `SpanEnded`."""

    tag: str
    span_id: str
    end_ns: msgspec.Raw
    ending: int
    outputs: msgspec.Raw
    failure: msgspec.Raw


_NIL = b"\xc0"
_decode_start = msgspec.msgpack.Decoder(_StartHead).decode
_decode_end = msgspec.msgpack.Decoder(_EndHead).decode


class _Open(msgspec.Struct, gc=False):
    """A span that has started and not ended.

    Attributes:
        later: Notes and updates. `later_sent` of them, of `bytes_sent` bytes, were in earlier batches;
            `later_came_before` of them came before the last batch was made.
        is_new: No batch has it yet.
        is_private: Its records must be interpreted in this process.
        stands: It is the first span of its trace in this process.
    """

    start: RawRecord
    parent_id: str | None
    operation: str | None
    stands: bool
    is_private: bool
    is_new: bool = True
    later: list[RawRecord] = msgspec.field(default_factory=list)
    later_sent: int = 0
    later_came_before: int = 0
    bytes_sent: int = 0
    chunks: list[RawRecord] = msgspec.field(default_factory=list)
    chunks_sent: int = 0
    bare_start: bytes | None = None
    state: SpanState | None = None

    def whole(self) -> Remembered:
        return Remembered([self.start, *self.later[: self.later_sent], *self.chunks[: self.chunks_sent]], self.state)

    def without_chunks(self) -> Remembered:
        start = self.start if self.operation is not None else self.bare()
        return Remembered([start, *self.later[: self.later_sent], *self._last_chunk()], self.state)

    def beginning(self) -> Remembered:
        return Remembered([self.bare(), *self._last_chunk()], self.state)

    def _last_chunk(self) -> list[RawRecord]:
        """Credentials may stand across two reads."""
        return self.chunks[max(0, self.chunks_sent - 1) : self.chunks_sent]

    def bare(self) -> bytes:
        """Return its start without what stands in its row already."""
        if self.bare_start is None:
            started = decode(_encoded(self.start))
            assert isinstance(started, SpanStarted)
            self.bare_start = encode(msgspec.structs.replace(started, inputs=None, body_dropped=False))
        return self.bare_start

    def waits(self) -> bool:
        """Its changes are many already, and few are new: as with rows, they are sent when they have doubled."""
        return self.bytes_sent > LIVE_BYTES and self._fresh_bytes() < self.bytes_sent

    def sent(self, *, waits: bool) -> None:
        """Note that a batch was made; with its later records, unless they wait."""
        self.is_new = False
        self.chunks_sent, self.later_came_before = len(self.chunks), len(self.later)
        if not waits:
            self.bytes_sent += self._fresh_bytes()
            self.later_sent = len(self.later)

    def _fresh_bytes(self) -> int:
        return sum(map(_size, self.later[self.later_sent :]))


class Shipper:
    """Makes batches of records. Used only in the worker's thread.

    Attributes:
        counts: What was lost of records, here and where they were interpreted.
        is_private: What `take` returned last holds what may be interpreted in this process only.
        max_payload_bytes: As the settings have it.
        counted: Responses whose usage was counted.
    """

    def __init__(self) -> None:
        self.counts = AssemblyCounts()
        self.max_payload_bytes = 0
        self._open: dict[str, _Open] = {}
        self._ended: dict[str, _Open] = {}  # since the last batch
        self._touched: dict[str, _Open] = {}  # since the last batch, and open
        self._records: list[tuple[_Open | None, RawRecord]] = []  # with their span, if the record may wait
        self.is_private = False
        self._has_private = False
        self.counted = CountedResponses()

    @property
    def open_spans(self) -> int:
        """How many spans have started and not ended."""
        return len(self._open)

    def is_open(self, span_id: str) -> bool:
        """Tell whether a span has started and not ended."""
        return span_id in self._open

    def starts(self) -> list[SpanStarted]:
        """Return how the open spans began."""
        records = (decode(_encoded(span.start)) for span in self._open.values())
        return [record for record in records if isinstance(record, SpanStarted)]

    def feed(self, encoded: Encoded) -> None:
        """Take one record in. A record that can't be understood is counted, never raised."""
        raw = encoded if isinstance(encoded, bytes) else (encoded.encoded, encoded.body)
        head = raw if isinstance(raw, bytes) else raw[0]
        try:
            kind, name = subject(head)
            started = _decode_start(head) if kind is SpanStarted else None
            ended = _decode_end(head) if kind is SpanEnded else None
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            self.counts.undecodable += 1
            return
        private = may_hold_credentials(head) or (not isinstance(raw, bytes) and may_hold_credentials(raw[1]))
        if started is not None:
            self._start(raw, started, private)
        elif kind is TraceUpdated:
            self._add(None, raw, private)
        elif (span := self._open.get(name)) is None:
            is_repeated = ended is not None and getattr(decode(encoded), "is_repeated", False)
            self.counts.orphaned += not is_repeated
        elif ended is not None:
            self._end(name, span, raw, private or bytes(ended.failure) != _NIL)
        else:
            is_chunk = kind is SpanChunk
            private = private or (not is_chunk and _tells_of_a_failure(decode(encoded)))
            self._change(name, span, raw, is_chunk=is_chunk, private=private)

    def _start(self, raw: RawRecord, head: _StartHead, private: bool) -> None:
        private = private or not head.capture
        span = _Open(raw, head.parent_id, head.operation, bytes(head.experiment) != _NIL, private)
        self._open[head.span_id] = self._touched[head.span_id] = span
        self._add(None, raw, private)
        if len(self._open) > OPEN_SPANS:
            oldest = next(iter(self._open))
            self.counts.given_up += 1
            self._end(oldest, self._open[oldest], encode(given_up(oldest, head.start_ns)), private=False)

    def _change(self, span_id: str, span: _Open, raw: RawRecord, *, is_chunk: bool, private: bool) -> None:
        span.is_private = span.is_private or private
        self._touched[span_id] = span
        if is_chunk:
            span.chunks.append(raw)
        else:
            span.later.append(raw)
        self._add(None if is_chunk or span.is_new else span, raw, span.is_private)

    def _end(self, span_id: str, span: _Open, raw: RawRecord, private: bool) -> None:
        del self._open[span_id]
        self._touched.pop(span_id, None)
        self._ended[span_id] = span
        self._add(None, raw, private or span.is_private)

    def _add(self, span: _Open | None, raw: RawRecord, private: bool) -> None:
        self._records.append((span, raw))
        self._has_private = self._has_private or private

    # --- batches --------------------------------------------------------------------------------------------------

    def take(self) -> RawBatch | None:
        """Return what came since the last call; None if that is nothing. `is_private` says what may be done with it."""
        touched, ended, records = self._touched, self._ended, self._records
        self._touched, self._ended, self._records = {}, {}, []
        self.is_private, self._has_private = self._has_private, False
        waiting = {id(span) for span in touched.values() if span.waits()}
        remembered: dict[str, Remembered] = {}
        caught_up: list[RawRecord] = []  # what waited until now
        for span_id, span in (*touched.items(), *ended.items()):
            self._remember_above(span, ended, touched, remembered)
            if span.is_new:
                continue
            if span_id in ended:
                remembered[span_id] = span.whole()
            elif len(span.later) > span.later_sent and id(span) not in waiting:
                remembered[span_id] = span.without_chunks()
            else:
                remembered[span_id] = span.beginning()
            if id(span) not in waiting:
                caught_up += span.later[span.later_sent : span.later_came_before]
        for span in touched.values():
            span.sent(waits=id(span) in waiting)
        sent = [raw for span, raw in records if span is None or id(span) not in waiting]
        if not sent and not caught_up:
            return None
        counted = [each for each in map(_response_id, ended.values()) if each in self.counted]
        return RawBatch(
            [*caught_up, *sent], [*remembered.values()], counted, self.max_payload_bytes, len(touched) + len(ended)
        )

    def _remember_above(
        self, span: _Open, ended: Mapping[str, _Open], touched: Mapping[str, _Open], remembered: dict[str, Remembered]
    ) -> None:
        """Add how the spans above one began, up to the one that stands for the trace."""
        for _ in range(ROOT_STEPS):
            above_id = span.parent_id or ""
            above = self._open.get(above_id) or ended.get(above_id)
            if above is None or span.stands:
                return
            if not above.is_new and above_id not in touched and above_id not in ended:
                remembered[above_id] = above.beginning()
                self.is_private = self.is_private or above.is_private
            span = above

    def hand_over(self) -> Iterator[tuple[list[Encoded], SpanState | None]]:
        """Return the records of each open span, with what was found out about it, and forget them all."""
        for span in self._open.values():
            remembered = span.whole()
            yield [*map(_encoded, remembered.records)], remembered.state
        self._open = {}

    def hear(self, learnt: Learnt) -> None:
        """Take note of what the interpretation of a batch has shown."""
        for span_id, state in learnt.states.items():
            if (span := self._open.get(span_id)) is not None:
                span.state = state
        self.counted.add(learnt.counted)
        for name, count in learnt.counts.items():
            if isinstance(before := getattr(self.counts, name, None), int):
                setattr(self.counts, name, before + count)


def _tells_of_a_failure(record: Record) -> bool:
    """Tell whether a text may quote a key, or source lines are to be looked up, which only this process can do."""
    if isinstance(record, SpanNoted):
        return record.failure is not None
    return isinstance(record, SpanUpdated) and record.status is not None


def _response_id(span: _Open) -> str:
    """Return which response a span asks for again; "" if it does not."""
    if span.operation != "retrieved":
        return ""
    started = decode(_encoded(span.start))
    assert isinstance(started, SpanStarted)
    return str((started.attributes or {}).get(sc.RESPONSE_ID, ""))


def _encoded(record: RawRecord) -> Encoded:
    return record if isinstance(record, bytes) else LargeRecord(*record)


def _size(record: RawRecord) -> int:
    return len(record) if isinstance(record, bytes) else len(record[0]) + len(record[1])
