"""Makes the frozen models that users see of stored rows. It knows no database: each store brings its rows in this form.

JSON is text here, as it is stored.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._models import (
    USAGE_KEYS,
    Feedback,
    Span,
    SpanEvent,
    SpanStatus,
    SpanStatusCode,
    TokenUsage,
    Trace,
    TraceData,
    TraceInfo,
    TraceState,
    number_model_calls,
)
from tracer.otlp.outgoing import Outgoing
from tracer.store import base
from tracer.store.batch import Export, SpanRow

__all__ = [
    "EXPORT_COLUMNS",
    "EXPORT_SIZE",
    "SPAN_FIELDS",
    "TRACE_FIELDS",
    "RawChunks",
    "Row",
    "decode_chunks",
    "export_of",
    "export_prefix",
    "read_feedback",
    "read_span",
    "read_trace",
    "runs",
    "span_of",
    "stored_feedback",
]

Row = tuple[Any, ...]
RawChunks = list[tuple[int, bytes]]
decode_chunks = msgspec.msgpack.Decoder(RawChunks).decode
TRACE_FIELDS = (
    "key",
    "trace_id",
    "experiment",
    "name",
    "state",
    "start_time_ns",
    "duration_ns",
    "request_preview",
    "response_preview",
    "metadata",
    "dropped",
    "session_id",
    "user_id",
    "cost",
    "root_span_id",
    "models",
    "time_to_first_token",
    *USAGE_KEYS,
)
SPAN_FIELDS = (
    "trace_key",
    "span_id",
    "parent_id",
    "name",
    "span_type",
    "start_time_ns",
    "end_time_ns",
    "status_code",
    "status_description",
    "inputs",
    "outputs",
    "attributes",
    "events",
    "chunks",
    "chunk_encoding",
    "operation",
    "cost",
    *USAGE_KEYS,
)
_SPAN_ID, _END, _CHUNKS = (SPAN_FIELDS.index(name) for name in ("span_id", "end_time_ns", "chunks"))
EXPORT_COLUMNS = ", ".join(
    (
        "outbox.key",
        *(f"traces.{name}" for name in ("trace_id", "experiment", "session_id", "user_id", "root_span_id")),
        *("NULL" if name == "chunks" else f"spans.{name}" for name in SPAN_FIELDS),  # the events of chunks are not sent
    )
)
EXPORT_SIZE = " + ".join(f"coalesce(length(spans.{name}), 0)" for name in ("inputs", "outputs", "attributes", "events"))
_EXPORT_FIELDS = 6


def read_feedback(row: Row) -> Feedback:
    """Make feedback of ``id, trace_id, span_id, name, value, value_type, comment, source, created_ns``."""
    id_, trace_id, span_id, name, value, value_type, comment, source, created_ns = row
    return Feedback(
        id=id_,
        trace_id=trace_id,
        span_id=span_id,
        name=name,
        value=value == "true" if value_type == "boolean" else value,
        comment=comment,
        source=source,
        created_ns=created_ns,
    )


def stored_feedback(value: bool | int | float | str) -> tuple[int | float | str, str]:
    """Return a value of feedback as it is stored, and the word for its type."""
    if isinstance(value, bool):
        return ("true" if value else "false"), "boolean"
    return value, "text" if isinstance(value, str) else "number"


def read_trace(row: Row, tags: dict[str, str], chain: list[str], spans: list[Span], feedback: list[Feedback]) -> Trace:
    """Make a trace of a row of `TRACE_FIELDS` and of what belongs to it; its spans are in the order of their starts."""
    info, root = _info(row, tags, chain)
    spans = sorted(spans, key=lambda span: span.span_id != root)  # stable: the others stay in start order
    return _with_feedback(Trace(info=info, data=TraceData(spans=number_model_calls(spans))), feedback)


def _info(row: Row, tags: dict[str, str], chain: list[str]) -> tuple[TraceInfo, str | None]:
    _, trace_id, experiment, name, state, start, duration, request, response = row[:9]
    metadata, dropped, session, user, cost, root, models, first_token = row[9:17]
    info = TraceInfo(
        trace_id=trace_id,
        experiment=experiment,
        name=name,
        state=TraceState(state),
        start_time_ns=start,
        duration_ns=duration,
        request_preview=request,
        response_preview=response,
        tags=tags,
        metadata=_json(metadata) or {},
        token_usage=_usage(row[17:]),
        cost=cost,
        session_id=session,
        user_id=user,
        dropped=_json(dropped) or {},
        models=_json(models) or [],
        time_to_first_token=first_token,
        chain=chain,
    )
    return info, root


def runs(row: Row) -> bool:
    """Tell whether a row of `SPAN_FIELDS` has no chunks, though it may be of a stream that still runs."""
    return row[_CHUNKS] is None and row[_END] is None


def read_span(trace_id: str, row: Row, live: RawChunks) -> Span:
    """Make a span of a row of `SPAN_FIELDS`; `live` are the raw reads of one that `runs`."""
    (_, span_id, parent, name, span_type, start, end, status, description, inputs, outputs, attributes) = row[:12]
    events, chunks, encoding, operation, cost = row[12:17]
    raw, partial = [], None
    if chunks is not None:
        raw = unpack_chunks(chunks)
    elif end is None:
        raw = live  # empty unless the span is a stream
        partial = _partial_outputs(operation, raw)
    known = _json(attributes) or {}
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent,
        name=name,
        span_type=span_type,
        start_time_ns=start,
        end_time_ns=end,
        status=SpanStatus(SpanStatusCode(status or "UNSET"), description or ""),
        inputs=_json(inputs),
        outputs=_outputs(operation, _json(outputs), known) if outputs is not None else partial,
        attributes=known,
        events=_events(_json(events) or [], raw, encoding),
        token_usage=_usage(row[17:]),
        cost=cost,
    )


def span_of(row: SpanRow) -> Span:
    """Make a span of a row that has all of it."""
    usage = row.usage or {}
    given = {**msgspec.structs.asdict(row), "trace_key": None, "status_code": row.status_code.value, "chunks": None}
    return read_span(row.trace_id, tuple((given | usage).get(name) for name in SPAN_FIELDS), [])


def export_of(row: Row) -> Export:
    """Make an export of ``key, trace_id, experiment, session_id, user_id, root_span_id`` and a row of `SPAN_FIELDS`."""
    key, trace_id, experiment, session, user, root = row[:_EXPORT_FIELDS]
    span = row[_EXPORT_FIELDS:]
    if span[_SPAN_ID] is None:
        return Export(key=key, outgoing=None)
    outgoing = Outgoing(
        span=read_span(trace_id, span, []),
        experiment=experiment,
        session_id=session,
        user_id=user,
        stands_for_trace=span[_SPAN_ID] == root,
    )
    return Export(key=key, outgoing=outgoing)


def export_prefix(sizes: Iterable[tuple[int, int]]) -> list[int]:
    """Return the first keys, of spans that have no more than `TAKEN_BYTES` in all, or of one. Takes keys and bytes."""
    keys: list[int] = []
    total = 0
    for key, size in sizes:
        total += size
        if keys and total > base.TAKEN_BYTES:
            break
        keys.append(key)
    return keys


def _with_feedback(trace: Trace, feedback: list[Feedback]) -> Trace:
    """Return the trace with the feedback on it and on its spans."""
    if not feedback:
        return trace
    spans = [_judged(span, [each for each in feedback if each.span_id == span.span_id]) for span in trace.data.spans]
    return Trace(info=msgspec.structs.replace(trace.info, feedback=feedback), data=TraceData(spans=spans))


def _judged(span: Span, feedback: list[Feedback]) -> Span:
    return msgspec.structs.replace(span, feedback=feedback) if feedback else span


def _outputs(operation: str | None, outputs: Any, attributes: dict[str, Any]) -> Any:
    """Return outputs as the caller got them."""
    if operation != "embeddings" or sc.BASE64_VECTORS in attributes:
        return outputs
    from tracer.interpret.embeddings import with_floats  # needed only to read vectors

    return with_floats(outputs)


def unpack_chunks(packed: bytes) -> RawChunks:
    """Undo the packing of `SpanRow.chunks`."""
    return decode_chunks(zlib.decompress(packed))


def _events(stored: list[list[Any]], raw: RawChunks, encoding: str | None) -> list[SpanEvent]:
    events = [SpanEvent(name, time_ns, attributes) for name, time_ns, attributes in stored]
    if raw:
        events += _chunk_events(raw, encoding)
        events.sort(key=lambda event: event.timestamp_ns)
    return events


def _chunk_events(raw: RawChunks, encoding: str | None) -> Iterable[SpanEvent]:
    """Cut the raw reads of a stream into its server-sent events."""
    from tracer.interpret import stream_events  # needed only to read a stream

    for index, (time_ns, name, data) in enumerate(stream_events(raw, content_encoding=encoding)):
        if data == "[DONE]":  # marks the end of the stream, and is not a chunk
            continue
        attributes = {"data": _json(data), "index": index, **({"event": name} if name else {})}
        yield SpanEvent(sc.EVENT_CHUNK, time_ns, attributes)


def _partial_outputs(operation: str | None, raw: RawChunks) -> Any:
    """Return what a stream that still runs, or whose process was killed, has brought so far."""
    from tracer.interpret.dispatch import interpret_stream  # needed only to read a stream

    outputs = interpret_stream(operation, raw).outputs if operation is not None and raw else None
    return None if outputs is None else msgspec.json.decode(outputs)


def _usage(values: Row) -> TokenUsage | None:
    return {key: value for key, value in zip(USAGE_KEYS, values, strict=True) if value is not None} or None


def _json(text: str | bytes | None) -> Any:
    """Decode stored JSON; text that can't be decoded is returned unchanged.

    The standard library takes what msgspec refuses (NaN, lone surrogates); those surrogates become ``?``, since no
    JSON encoder could write them out again.
    """
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass
    try:
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return text
