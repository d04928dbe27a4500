"""The assembler: puts records together into spans, and spans into the rows of a batch.

It owns the state of every span that is open in this process. It knows no clock, no thread and no database, so any
interleaving of records can be replayed through it.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._config import BodyRule, Settings
from tracer._models import MODEL_CALL_TYPES, SpanStatusCode
from tracer.assembly._counted_responses import CountedResponses
from tracer.assembly._exception_texts import (
    describe_failure,
    error_attributes,
    exception_attributes,
    left_out_of,
)
from tracer.assembly._finish_and_status import Outcome, conclude, raised_unseen
from tracer.assembly._kept_bodies import is_chosen, keeps_body, leave_body_out
from tracer.assembly._media_rows import take_media, take_media_from_reads
from tracer.assembly._open_span import Event, OpenSpan
from tracer.assembly._payload_views import (
    binary_answer,
    chunk_times,
    read_error_body,
    read_request,
    read_response,
    read_stream,
    read_value,
    view_outputs,
)
from tracer.assembly._privacy import Privacy
from tracer.assembly._response_head import http_attributes
from tracer.assembly._row_parts import child_row, link_ids, seconds_after
from tracer.assembly._trace_patches import TracePatches
from tracer.assembly.counts import AssemblyCounts
from tracer.capture.limits import MANY_OPEN_SPANS, OPEN_SPANS
from tracer.capture.records import (
    Encoded,
    Ending,
    Failure,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    TraceUpdated,
    decode,
)
from tracer.interpret import ResponseView, encode_value
from tracer.interpret.cost import Prices, cost_of
from tracer.store.batch import Batch, ChunkRow, ProcessRow, SpanRow
from tracer.store.raw import SpanState

__all__ = ["Assembler", "Hooks", "given_up"]

GIVEN_UP = f"closed by tracer: {OPEN_SPANS:,} younger spans were open"

Hooks = tuple[Callable[[str], str], ...]

# Looking up an enum member takes 0.1 µs (Python 3.11).
_SPAN_OK, _SPAN_ERROR = SpanStatusCode.OK, SpanStatusCode.ERROR


def _ignore(_what: str, _error: Exception) -> None:
    """Report to nobody."""


_pack = msgspec.msgpack.Encoder().encode


class Assembler:
    """Turns records into batches. Used only in the worker's thread.

    Args:
        process: The process that writes.
        report: Called with what could not be interpreted; the span is kept without that part.
        only_ended: Make no rows of running spans: the row of their end has all of them.
    """

    def __init__(
        self, process: ProcessRow, report: Callable[[str, Exception], None] = _ignore, *, only_ended: bool = False
    ) -> None:
        self._report = report
        self.counts = AssemblyCounts()
        self.prices: Prices | None = None
        self.keep_bodies: BodyRule | None = None
        self.max_payload_bytes = Settings().max_payload_bytes
        self.only_ended = only_ended
        self._process = process
        self._open: dict[str, OpenSpan] = {}
        self._touched: dict[str, OpenSpan] = {}
        self._batch = Batch(process=process)
        self._traces = TracePatches(process.process_id, self._open)
        self.responses = CountedResponses()
        self._handlers: dict[type, Callable[[Any, Hooks], None]] = {
            SpanStarted: self._on_started,
            SpanChunk: self._on_chunk,
            SpanNoted: self._on_noted,
            SpanUpdated: self._on_updated,
            SpanEnded: self._on_ended,
            TraceUpdated: self._on_trace_updated,
        }

    @property
    def open_spans(self) -> int:
        """How many spans have started and not ended."""
        return len(self._open)

    def is_open(self, span_id: str) -> bool:
        """Tell whether a span has started and not ended."""
        return span_id in self._open

    def starts(self) -> list[SpanStarted]:
        """Return how the open spans began. Names are as hooks left them."""
        return [span.started for span in self._open.values()]

    def feed(self, raw: Encoded, hooks: Hooks = ()) -> None:
        """Take one record in. A record that can't be understood is counted, never raised."""
        try:
            record = decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.counts.undecodable += 1
            return
        self.take(record, len(raw), hooks)

    def take(self, record: Record, size: int, hooks: Hooks = ()) -> None:
        """Take a decoded record in, which had this many bytes."""
        self._record_bytes = size
        self._handlers[type(record)](record, hooks)

    def take_batch(self, offer: Callable[[], None] = lambda: None) -> Batch:
        """Return the rows made of the records that came since the last call. The caller must write them.

        `offer` is called after each span, so that the caller can let other threads go first.
        """
        touched, self._touched = self._touched, {}
        for span in touched.values():
            try:
                if self.only_ended:
                    self._traces.add(span)
                    continue
                self._add_open_row(span)
            except Exception as error:  # the span's end may still be understood
                self._report("a running span could not be interpreted", error)
            offer()
        batch = self._batch
        self._take_media(batch, offer)
        batch.traces = self._traces.take()
        self._batch = Batch(process=self._process)
        return batch

    # --- spans of earlier batches, where nobody else remembers them (`raw_batches`) -------------------------------

    def remember(self, records: list[Encoded], state: SpanState | None, hooks: Hooks = ()) -> None:
        """Take in a span that began in an earlier batch. What its records mean is stored, and is not said again."""
        kept = self._batch, self._traces, self.counts, self.responses, self._touched
        self._batch, self._traces = Batch(process=self._process), TracePatches(self._process.process_id, self._open)
        self.counts, self.responses, self._touched = AssemblyCounts(), CountedResponses(), {}
        try:
            for record in records:
                self.feed(record, hooks)
            for span in self._touched.values():
                with contextlib.suppress(Exception):  # it was reported when the row was made
                    self._row(span)
                span.is_stored(state)
        finally:
            self._batch, self._traces, self.counts, self.responses, self._touched = kept

    def states(self) -> dict[str, SpanState]:
        """Return what was found out about the spans that are open, by id."""
        states = ((span_id, span.state()) for span_id, span in self._open.items())
        return {span_id: state for span_id, state in states if state is not None}

    # --- records --------------------------------------------------------------------------------------------------

    def _on_started(self, record: SpanStarted, hooks: Hooks) -> None:
        span = OpenSpan(record, Privacy(record.capture, hooks))
        self._open[record.span_id] = self._touched[record.span_id] = span
        if len(self._open) > OPEN_SPANS:
            self._give_up(next(iter(self._open)), record.start_ns, hooks)
        if record.body_dropped:
            span.attributes[sc.PAYLOAD_DROPPED] = True
            self._traces.lose(span, {"bodies": 1})

    def _on_chunk(self, record: SpanChunk, hooks: Hooks) -> None:
        if span := self._touch(record.span_id, hooks):
            span.add_chunk(record.time_ns, record.data)

    def _on_noted(self, record: SpanNoted, hooks: Hooks) -> None:
        span = self._touch(record.span_id, hooks)
        if span is None:
            return
        if span.has_all_events:
            self._lose_event(span)
            return
        attributes = dict(record.attributes)
        if span.started.operation is None or record.name != sc.EVENT_RETRY:
            attributes = span.privacy.clean(attributes)
        if record.failure is not None:
            attributes.update(self._exception_attributes(span, record.failure))
        if (payload := record.value) is not None:
            span.items_left_out += payload.truncated
            if payload.data:
                attributes["value"] = read_value(payload, span.privacy)
        if not span.add_event((span.privacy.redact(record.name), record.time_ns, attributes), self.max_payload_bytes):
            self._lose_event(span)
        elif payload is not None and payload.data:
            span.add_item(attributes["value"])

    def _lose_event(self, span: OpenSpan) -> None:
        self.counts.events += 1
        self._traces.lose(span, {"events": 1})

    def _exception_attributes(self, span: OpenSpan, failure: Failure) -> dict[str, Any]:
        if left_out := left_out_of(failure):
            self._count_truncated(span, "exceptions", left_out)
        return exception_attributes(failure, span.privacy)

    def _on_updated(self, record: SpanUpdated, hooks: Hooks) -> None:
        if span := self._touch(record.span_id, hooks):
            span.inputs = record.inputs or span.inputs
            if record.outputs is not None:
                span.outputs, span.outputs_changed = record.outputs, True
            if record.status is not None:
                code, description = record.status
                span.status = code, span.privacy.clean_note(description)
            if record.attributes:
                changes = span.privacy.clean(record.attributes)
                if not span.set_attributes(changes, self._record_bytes, self.max_payload_bytes):
                    self._count_truncated(span, "attributes", self._record_bytes)
            span.started.name = span.privacy.redact(record.name) or span.started.name
            span.started.span_type = record.span_type or span.started.span_type

    def _on_ended(self, record: SpanEnded, hooks: Hooks) -> None:
        span = self._open.pop(record.span_id, None)
        if span is None:
            self.counts.orphaned += not record.is_repeated
            return
        self._touched.pop(record.span_id, None)
        span.privacy.hooks = hooks
        span.unpack_text()
        try:
            self._add_ended_rows(span, record)
        except Exception as error:
            self._report("the end of a span could not be interpreted", error)
            self._add_bare_end(span, record)
        if span.privacy.failures:
            self.counts.redaction_failed += span.privacy.failures

    def _give_up(self, span_id: str, now_ns: int, hooks: Hooks) -> None:
        """Close a span of which it is unlikely that it will ever end. Its late records will be counted as orphaned."""
        self.counts.given_up += 1
        self._on_ended(given_up(span_id, now_ns), hooks)

    def _on_trace_updated(self, record: TraceUpdated, hooks: Hooks) -> None:
        privacy = Privacy(hooks=hooks)
        self._traces.update(record, privacy)
        self.counts.redaction_failed += privacy.failures

    def _touch(self, span_id: str, hooks: Hooks) -> OpenSpan | None:
        span = self._open.get(span_id)
        if span is None:
            self.counts.orphaned += 1
        else:
            span.privacy.hooks = hooks
            self._touched[span_id] = span
        return span

    # --- rows -----------------------------------------------------------------------------------------------------

    def _row(self, span: OpenSpan) -> SpanRow:
        """Return a row with what was known before the span ended. Reads the inputs, but only once."""
        started = span.started
        inputs = None
        if span.inputs is not None:
            payload, span.inputs = span.inputs, None
            view = read_request(started.operation, payload, span.privacy, span.variable_parameters)
            inputs = view.inputs
            span.attributes.update(view.attributes)
            span.touch_attributes()
            span.model, span.preview, span.text = view.model, view.preview, view.text
            if view.preview and started.span_type in MODEL_CALL_TYPES:
                self._traces.tell_root(span, view.preview)
            if payload.truncated:
                self._count_truncated(span, "inputs", payload.truncated)
        return SpanRow(
            trace_id=started.trace_id,
            span_id=started.span_id,
            parent_id=started.parent_id,
            name=started.name,
            span_type=started.span_type,
            operation=started.operation,
            start_time_ns=started.start_ns,
            model=span.model,
            inputs=inputs,
            text=span.new_text,
        )

    def _add_open_row(self, span: OpenSpan) -> None:
        row = self._row(span)
        row.events, row.attributes = span.new_events(), span.new_attributes()
        row.links = link_ids(row.operation, span.attributes)
        may_keep = is_chosen(self.keep_bodies, row.trace_id)
        if not may_keep:  # how it ends will decide
            span.held_inputs, row.inputs, row.text = row.inputs or span.held_inputs, None, None
        elif span.outputs is not None and span.outputs_changed:
            row.outputs, span.outputs_changed = read_response(None, span.outputs, span.privacy).outputs, False
        if len(self._open) > MANY_OPEN_SPANS:
            span.pack_text()
        self._batch.spans.append(row)
        new_chunks = span.chunks[span.chunks_written :]
        if new_chunks and may_keep and span.privacy.keeps_reads(span.chunks[max(0, span.chunks_written - 1) :]):
            self._batch.chunks.append(ChunkRow(row.trace_id, row.span_id, list(new_chunks)))
        span.chunks_written = len(span.chunks)
        self._traces.add(span)

    def _add_ended_rows(self, span: OpenSpan, ended: SpanEnded) -> None:
        events: list[Event] = []
        if ended.failure is not None:
            events.append((sc.EVENT_EXCEPTION, ended.end_ns, self._exception_attributes(span, ended.failure)))
            span.attributes[sc.ERROR_TYPE] = ended.failure.type
        row = self._row(span)
        row.inputs = row.inputs or span.held_inputs
        view, encoding = self._read_outputs(span, ended)
        outcome = self._outcome(span, ended, view)
        self._complete(row, span, ended, view, outcome)
        if not span.keeps_body:
            pass
        elif span.chunks and span.privacy.keeps_reads(span.chunks):
            reads, encoding, media = take_media_from_reads(row.trace_id, row.span_id, span.chunks, encoding)
            row.chunks, row.chunk_encoding = zlib.compress(_pack(reads), 1), encoding
            self._batch.media += media
        elif span.chunks:
            events.extend(chunk_times(span.chunks, encoding))
        if span.chunks and view is not None and ended.failure is None:
            raised = raised_unseen(ended.ending, span.started.operation, view)
            events += [(sc.EVENT_EXCEPTION, ended.end_ns, error_attributes(*error)) for error in raised]
        row.events = span.all_events(*events)
        self._batch.spans.append(row)
        if view is not None and view.children:
            self._batch.spans.extend(child_row(row, child, keeps_body=span.keeps_body) for child in view.children)
        if ended.lost:
            self._traces.lose(span, ended.lost)
        self._traces.end(span, ended, row, None if view is None else view.preview)

    def _take_media(self, batch: Batch, offer: Callable[[], None]) -> None:
        for row in batch.spans:
            try:
                media = take_media(row)
            except Exception as error:  # the media stay where they are
                self._report("media could not be taken out of a span", error)
                continue
            if media:
                batch.media += media
                offer()

    def _add_bare_end(self, span: OpenSpan, ended: SpanEnded) -> None:
        """Add the end of a span whose payloads could not be understood. Only the payloads are missing from it."""
        span.inputs = span.outputs = None
        outcome = self._outcome(span, ended, None)
        span.attributes = {sc.NOTE: "could not be interpreted; see the log"}
        row = self._row(span)
        row.events = span.all_events()
        self._complete(row, span, ended, None, outcome)
        self._batch.spans.append(row)
        self._traces.end(span, ended, row, None)

    def _read_outputs(self, span: OpenSpan, ended: SpanEnded) -> tuple[ResponseView | None, str | None]:
        """Read the outputs, and add what the response's head says to the attributes."""
        operation = span.started.operation
        content_type = encoding = None
        if ended.http is not None:
            facts, content_type, encoding = http_attributes(ended.http)
            span.attributes.update(facts)
        if ended.attributes:
            attributes = dict(ended.attributes)
            for what, size in attributes.pop(sc.TRUNCATED, {}).items():
                self.counts.truncated += 1
                span.cut(what, size)
            span.attributes.update(span.privacy.clean(attributes))
        payload = ended.outputs or span.outputs
        if operation == "speech" and ended.outputs is not None and span.chunks:
            whole = encoding is None and "chunks" not in (ended.lost or {})
            payload = binary_answer(ended.outputs, span.chunks) if whole else ended.outputs
            span.chunks = ()
        if span.chunks and operation is not None:
            view: ResponseView | None = read_stream(
                operation, span.chunks, span.privacy, content_type=content_type, content_encoding=encoding
            )
        elif payload is not None:
            if ended.failure is not None and ended.http is not None and ended.http.status_code >= 400:
                view = read_error_body(payload, span.privacy, content_type=content_type)
            else:
                view = read_response(operation, payload, span.privacy, content_type=content_type)
            if payload.truncated:
                self._count_truncated(span, "outputs", payload.truncated)
        else:
            view = view_outputs(span.items, span.privacy) if span.items else None
            if span.items_left_out:
                self._count_truncated(span, "outputs", span.items_left_out)
        return view, encoding

    def _outcome(self, span: OpenSpan, ended: SpanEnded, view: ResponseView | None) -> Outcome:
        if view is None and ended.streamed and ended.failure is None and "bodies" in (ended.lost or {}):
            return Outcome("incomplete", _SPAN_OK, "the answer was not kept, so it is not known how it ended")
        failure = None if ended.failure is None else describe_failure(ended.failure, span.privacy)
        return conclude(
            ended.ending,
            view,
            streamed=ended.streamed,
            operation=span.started.operation,
            failure=failure,
            status=span.status,
        )

    def _complete(
        self, row: SpanRow, span: OpenSpan, ended: SpanEnded, view: ResponseView | None, outcome: Outcome
    ) -> None:
        row.end_time_ns = max(ended.end_ns, row.start_time_ns)
        row.finish, row.status_code, row.status_description = outcome.finish, outcome.code, outcome.description
        span.attributes[sc.FINISH] = outcome.finish
        if view is not None:
            span.attributes.update(view.attributes)
            if outcome.code is _SPAN_ERROR and (error_type := outcome.error_type or view.error_type):
                span.attributes.setdefault(sc.ERROR_TYPE, error_type)
            if view.first_chunk_ns is not None or view.first_token_ns is not None:
                moments = (sc.TIME_TO_FIRST_CHUNK, view.first_chunk_ns), (sc.TIME_TO_FIRST_TOKEN, view.first_token_ns)
                span.attributes.update(seconds_after(row.start_time_ns, moments))
            row.outputs, row.usage = view.outputs, view.usage
            row.model = view.model or row.model
            row.text = f"{span.text}\n{view.text}" if view.text else span.text
            self._price(row, span.attributes)
            is_model_call = row.operation is not None or row.span_type in MODEL_CALL_TYPES
            row.counted = is_model_call and (row.usage is not None or row.cost is not None)
            row.counted = row.counted and self.responses.is_new(
                row.operation,
                span.attributes.get(sc.RESPONSE_ID),
                status=span.attributes.get(sc.RESPONSE_STATUS),
                says=bool(row.cost) or any((row.usage or {}).values()),
            )
        row.links = link_ids(row.operation, span.attributes)
        has_body = row.inputs is not None or row.outputs is not None or bool(span.chunks)
        if has_body and not keeps_body(self.keep_bodies, row):
            span.keeps_body = False
            self.counts.bodies_left_out += 1
            leave_body_out(row, span.attributes)
        row.attributes = encode_value(span.attributes)

    def _price(self, row: SpanRow, attributes: dict[str, Any]) -> None:
        if row.operation is None:
            return
        try:
            cost = cost_of(row.usage, attributes, row.start_time_ns, self.prices)
        except Exception as error:  # the user's function failed, or a table has changed
            self._report("a call could not be priced", error)
            return
        if cost is not None:
            row.cost = cost.total
            if cost.input is not None:
                attributes[sc.COST_INPUT], attributes[sc.COST_OUTPUT] = cost.input, cost.output

    def _count_truncated(self, span: OpenSpan, what: str, size: int) -> None:
        self.counts.truncated += 1
        span.cut(what, size)
        self._traces.lose(span, {"truncated": 1})


def given_up(span_id: str, now_ns: int) -> SpanEnded:
    """Return the end of a span of which it is unlikely that it will ever end."""
    return SpanEnded(span_id, now_ns, Ending.COLLECTED, attributes={sc.NOTE: GIVEN_UP})
