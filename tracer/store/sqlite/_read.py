"""Reads rows back as the frozen models that users see."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._models import (
    USAGE_KEYS,
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
from tracer.store.sqlite._feedback import feedback_of, with_feedback
from tracer.store.sqlite._links import chains

__all__ = ["TRACE_COLUMNS", "read_live_chunks", "read_traces"]

RawChunks = list[tuple[int, bytes]]
_decode_chunks = msgspec.msgpack.Decoder(RawChunks).decode
_USAGE = ", ".join(USAGE_KEYS)
TRACE_COLUMNS = (
    "key, trace_id, experiment, name, state, start_time_ns, duration_ns, request_preview, response_preview, metadata, "
    f"dropped, session_id, user_id, cost, root_span_id, models, time_to_first_token, {_USAGE}"
)
_SPAN_COLUMNS = (
    "trace_key, span_id, parent_id, name, span_type, start_time_ns, end_time_ns, status_code, status_description, "
    f"inputs, outputs, attributes, events, chunks, chunk_encoding, operation, cost, {_USAGE}"
)
_IN_KEYS = "trace_key IN (SELECT value FROM json_each(?))"
_SPANS = f"SELECT {_SPAN_COLUMNS} FROM spans WHERE {_IN_KEYS} ORDER BY trace_key, start_time_ns, key"
_TAGS = f"SELECT trace_key, key, value FROM tags WHERE {_IN_KEYS} ORDER BY trace_key, key"
_LIVE = "SELECT chunks FROM live_chunks WHERE trace_id = ? AND span_id = ? ORDER BY key"


def read_traces(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], *, spans: bool = True) -> list[Trace]:
    """Complete rows of `TRACE_COLUMNS` with their tags and, if asked for, their spans."""
    keys = msgspec.json.encode([row[0] for row in rows]).decode()
    tags: dict[int, dict[str, str]] = defaultdict(dict)
    for trace_key, key, value in connection.execute(_TAGS, (keys,)):
        tags[trace_key][key] = value
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    if spans:
        for row in connection.execute(_SPANS, (keys,)):
            found[row[0]].append(row)
    linked = chains(connection, [row[0] for row in rows])
    infos = [_info(row, tags[row[0]], linked.get(row[0], [])) for row in rows]
    traces = [_trace(connection, info, root, found[row[0]]) for row, (info, root) in zip(rows, infos, strict=True)]
    judged = feedback_of(connection, keys)
    return [with_feedback(trace, judged.get(row[0])) for row, trace in zip(rows, traces, strict=True)]


def read_live_chunks(connection: sqlite3.Connection, trace_id: str, span_id: str) -> RawChunks:
    """Return the raw reads of a stream that still runs, in order."""
    rows = connection.execute(_LIVE, (trace_id, span_id)).fetchall()
    return [chunk for (packed,) in rows for chunk in _decode_chunks(packed)]


def _trace(connection: sqlite3.Connection, info: TraceInfo, root: str | None, spans: list[tuple[Any, ...]]) -> Trace:
    built = [_span(connection, info.trace_id, span) for span in spans]
    built.sort(key=lambda span: span.span_id != root)  # stable: the others stay in start order
    return Trace(info=info, data=TraceData(spans=number_model_calls(built)))


def _info(row: tuple[Any, ...], tags: dict[str, str], chain: list[str]) -> tuple[TraceInfo, str | None]:
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


def _span(connection: sqlite3.Connection, trace_id: str, row: tuple[Any, ...]) -> Span:
    (_, span_id, parent, name, span_type, start, end, status, description, inputs, outputs, attributes) = row[:12]
    events, chunks, encoding, operation, cost = row[12:17]
    raw, partial = [], None
    if chunks is not None:
        raw = unpack_chunks(chunks)
    elif end is None:
        raw = read_live_chunks(connection, trace_id, span_id)  # empty unless the span is a stream
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


def _outputs(operation: str | None, outputs: Any, attributes: dict[str, Any]) -> Any:
    """Return outputs as the caller got them."""
    if operation != "embeddings" or sc.BASE64_VECTORS in attributes:
        return outputs
    from tracer.interpret.embeddings import with_floats  # needed only to read vectors

    return with_floats(outputs)


def unpack_chunks(packed: bytes) -> RawChunks:
    """Undo the packing of `SpanRow.chunks`."""
    return _decode_chunks(zlib.decompress(packed))


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


def _usage(values: tuple[Any, ...]) -> TokenUsage | None:
    return {key: value for key, value in zip(USAGE_KEYS, values, strict=True) if value is not None} or None


def _json(text: str | None) -> Any:
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
