"""What of a record may lie in a file where it may not lie as it is: ids, times, kind and outcome, but no content.

That is so with ``redact=`` (the hooks run in the worker, after the crash ring), with ``capture_content=False``, for
errors that quote an API key, and for records that are too large for the ring.
"""

from __future__ import annotations

import msgspec

from tracer import _semconv as sc
from tracer.capture.records import (
    Failure,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    encode,
)
from tracer.redact import api_keys

__all__ = ["encode_skeleton", "quotes_a_key"]

_SEARCHED = 4_096  # bytes of a failed call's body: a longer one is not searched, but taken for one that quotes a key


def encode_skeleton(record: Record, *, hides_names: bool = False) -> bytes:
    """Return an encoded record without content, in which a body counts as lost; empty if nothing would be left.

    Kept is only what is stored without asking hooks or settings. Never raises.

    Args:
        record: The record.
        hides_names: Hooks may change the names of the user's spans, so their types stand in for them.
    """
    try:
        skeleton = _skeleton(record, hides_names)
        return b"" if skeleton is None else encode(skeleton)
    except Exception:  # fail closed
        return b""


def quotes_a_key(record: Record) -> bool:
    """Tell whether an error seems to quote an API key, as some servers do. The worker takes it out, after the ring."""
    body = b""
    if isinstance(record, SpanUpdated):
        said: object = record.status
    elif isinstance(record, SpanEnded):
        said = record.failure
        has_failed = said is not None and record.http is not None and record.http.status_code >= 400
        body = record.outputs.data if has_failed and record.outputs is not None else b""
    else:
        said = record.failure if isinstance(record, SpanNoted) else None
    if said is None:
        return False
    if len(body) > _SEARCHED:
        return True
    text = msgspec.json.encode(said).decode()  # with a quotation mark before each text, as keys begin at a word's start
    text += body.decode("utf-8", "replace")
    return api_keys(text) != text


def _skeleton(record: Record, hides_names: bool) -> Record | None:
    if isinstance(record, SpanStarted):
        has_content = record.inputs is not None or (record.operation is None and bool(record.attributes))
        return SpanStarted(
            record.trace_id,
            record.span_id,
            record.parent_id,
            record.span_type if hides_names and record.operation is None else record.name,
            record.span_type,
            record.start_ns,
            record.experiment,
            record.operation,
            capture=record.capture,
            body_dropped=record.body_dropped or has_content,
        )
    if isinstance(record, SpanEnded):
        lost = dict(record.lost or {})
        if record.outputs is not None or record.streamed:
            lost["bodies"] = lost.get("bodies", 0) + 1
        return SpanEnded(
            record.span_id,
            record.end_ns,
            record.ending,
            failure=record.failure and Failure(record.failure.type, ""),
            http=record.http,
            streamed=record.streamed,
            lost=lost or None,
        )
    if isinstance(record, SpanUpdated):
        has_body = record.inputs is not None or record.outputs is not None
        attributes = {sc.PAYLOAD_DROPPED: True} if has_body else None
        status = None if record.status is None else (record.status[0], "")
        return SpanUpdated(record.span_id, attributes=attributes, status=status) if has_body or status else None
    if isinstance(record, SpanChunk):
        return SpanChunk(record.span_id, record.time_ns, b"")
    return None
