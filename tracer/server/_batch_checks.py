"""Whether a batch that somebody sent can be stored: checked as a whole before anything of it is written."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import msgspec

from tracer.capture.records import LargeRecord, decode
from tracer.server._errors import RefusedError
from tracer.store.base import SEEN
from tracer.store.batch import Batch, SpanRow, TracePatch
from tracer.store.raw import RawBatch
from tracer.store.wire import MAX_TRACES, RECORDS, ROWS, VERSIONS, Envelope, unpack_batch

__all__ = ["check_records", "check_rows", "read_batch"]

_TRACE_ID, _SPAN_ID, _HASH = (re.compile(f"[0-9a-f]{{{digits}}}") for digits in (32, 16, 64))
_PLACE = re.compile(r"\$\.(\w+)\[(\d+)\]")
_MOST = 2**63  # SQLite's and PostgreSQL's integers
_envelopes = msgspec.msgpack.Decoder(Envelope)
_versions = msgspec.msgpack.Decoder(list[msgspec.Raw])


def read_batch(body: bytes) -> Batch:
    """Return the batch of an unpacked body. Raises RefusedError (422) with the place of what can't be read."""
    _check_version(body)
    try:
        envelope = _envelopes.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RefusedError(422, "bad_record", f"the envelope can't be read: {error}") from None
    if envelope.kind not in (ROWS, RECORDS):
        message = f"the body's kind must be {ROWS!r} or {RECORDS!r}, got {envelope.kind[:40]!r}"
        raise RefusedError(422, "unknown_kind", message)
    try:
        batch = unpack_batch(envelope)
    except (msgspec.MsgspecError, UnicodeError) as error:
        place = _PLACE.search(str(error))
        index = None if place is None else int(place[2])
        raise RefusedError(422, "bad_record", f"the batch can't be read: {error}", index=index) from None
    if (envelope.kind == RECORDS) != (batch.raw is not None):
        raise RefusedError(422, "bad_record", f"the body's kind is {envelope.kind!r}, but it holds others")
    if batch.process == envelope.process:  # else it is what a dead one left
        batch.sources[SEEN + envelope.process.process_id] = int(time.time())
    return batch


def check_rows(batch: Batch) -> None:
    """Raise RefusedError (422) for the first row that can't be stored."""
    if len(batch.traces) > MAX_TRACES:
        raise RefusedError(413, "too_many_traces", f"a batch has at most {MAX_TRACES:,} traces")
    for name, index, problem in _problems(batch):
        raise RefusedError(422, "bad_record", f"{name}[{index}]: {problem}", index=index)


def check_records(raw: RawBatch) -> None:
    """Raise RefusedError (422) for the first record that is none."""
    index = -1
    try:
        for record in raw.records:
            index += 1
            decode(record if isinstance(record, bytes) else LargeRecord(*record))
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise RefusedError(422, "bad_record", f"records[{index}]: {error}", index=index) from None


def _check_version(body: bytes) -> None:
    try:
        version = msgspec.msgpack.decode(_versions.decode(body)[0], type=int)
    except (msgspec.MsgspecError, UnicodeError, IndexError):
        message = "the body must be msgpack, an array that begins with its version"
        raise RefusedError(422, "bad_record", message) from None
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise RefusedError(422, "unknown_version", f"this server speaks version {known}, got version {version}")


def _problems(batch: Batch) -> Iterator[tuple[str, int, str]]:
    for index, patch in enumerate(batch.traces):
        if problem := _trace_problem(patch):
            yield "traces", index, problem
    for index, span in enumerate(batch.spans):
        if problem := _span_problem(span):
            yield "spans", index, problem
    for index, chunk in enumerate(batch.chunks):
        if problem := _id_problem(chunk.trace_id, chunk.span_id):
            yield "chunks", index, problem
    for index, medium in enumerate(batch.media):
        if problem := _id_problem(medium.trace_id, medium.span_id):
            yield "media", index, problem
        if not _HASH.fullmatch(medium.hash):
            yield "media", index, "hash must be 64 lower-case hex digits"
    for name, counts in (("sources", [*batch.sources.values()]), ("losses", [loss.count for loss in batch.losses])):
        for index, count in enumerate(counts):
            if not -_MOST <= count < _MOST:
                yield name, index, f"{count} is out of range"
    for index, source in enumerate(batch.once):
        if source not in batch.sources:
            yield "once", index, f"{source[:80]!r} is not among the sources"


def _trace_problem(patch: TracePatch) -> str | None:
    if not _TRACE_ID.fullmatch(patch.trace_id):
        return f"trace_id must be 32 lower-case hex digits, got {patch.trace_id[:40]!r}"
    if any('"' in kind for kind in patch.dropped):  # it becomes part of a path into JSON
        return "the names in dropped must have no quotes"
    return _number_problem(patch.start_time_ns, patch.end_time_ns, *patch.dropped.values())


def _span_problem(span: SpanRow) -> str | None:
    return _id_problem(span.trace_id, span.span_id) or _number_problem(
        span.start_time_ns, span.end_time_ns, *(span.usage or {}).values()
    )


def _id_problem(trace_id: str, span_id: str) -> str | None:
    if not _TRACE_ID.fullmatch(trace_id):
        return f"trace_id must be 32 lower-case hex digits, got {trace_id[:40]!r}"
    if not _SPAN_ID.fullmatch(span_id):
        return f"span_id must be 16 lower-case hex digits, got {span_id[:40]!r}"
    return None


def _number_problem(*numbers: int | None) -> str | None:
    wrong = next((number for number in numbers if number is not None and not -_MOST <= number < _MOST), None)
    return None if wrong is None else f"{wrong} is out of range"
