"""Traces of other tools as traces of ours: their spans, by the tool's conventions, and what belongs to the trace."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from tracer._exceptions import MediaNotFoundError
from tracer._models import Feedback, Media, TraceState
from tracer.assembly.foreign_spans import make_batch
from tracer.interpret import decode_json, encode_value
from tracer.moving.mover import Refusal
from tracer.otlp.received import ReceivedSpan
from tracer.store.batch import MediaRow, SpanRow, StoredTrace
from tracer.store.process import current_process

__all__ = ["ForeignSource", "ForeignTrace", "as_text", "feedback_id", "nanoseconds", "stored_trace"]

_READ = 20  # traces that are in memory at once
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
_ID = re.compile("[0-9a-f]{32}")


class ForeignTrace(msgspec.Struct, kw_only=True):
    """One trace of another tool.

    Attributes:
        trace_id: 32 lower-case hex digits.
        spans: What is known of them, with attributes as the tool writes them.
        dropped_attributes: Names of attributes that say what the rows say anyway: they are not stored.
        state: What the tool says; None takes it from the root.
    """

    trace_id: str
    spans: list[ReceivedSpan]
    dropped_attributes: frozenset[str] = frozenset()
    experiment: str | None = None
    name: str | None = None
    state: TraceState | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    feedback: list[Feedback] = msgspec.field(default_factory=list)


class ForeignSource:
    """What a tool's database or export holds, as a `Source` of a move.

    Args:
        traces: The traces, oldest first, and refusals of those that can't be read. Read as it is needed.
        total: How many there are, about; 0 if that can't be known.
    """

    def __init__(self, traces: Iterator[ForeignTrace | Refusal], total: int = 0) -> None:
        self._traces = traces
        self._total = total
        self._media: dict[str, MediaRow] = {}

    async def count(self) -> int:
        """Return how many traces there are, about."""
        return self._total

    async def traces(self) -> AsyncIterator[list[StoredTrace | Refusal]]:
        """Return the traces, some at a time."""
        group: list[StoredTrace | Refusal] = []
        for each in self._traces:
            group.append(each if isinstance(each, Refusal) else self._stored(each))
            if len(group) == _READ:
                yield group
                group = []
                self._media.clear()
        if group:
            yield group

    def _stored(self, trace: ForeignTrace) -> StoredTrace | Refusal:
        try:
            stored, media = stored_trace(trace)
        except (ValueError, TypeError, RecursionError) as error:
            return Refusal(trace.trace_id, f"it can't be read: {error!r}")
        self._media.update((row.hash, row) for row in media)
        return stored

    async def media(self, media_hash: str) -> Media:
        """Return a medium of the traces that came last. Raises MediaNotFoundError."""
        if (row := self._media.get(media_hash)) is None:
            raise MediaNotFoundError(f"no media with the hash {media_hash!r} were read")
        return Media(hash=row.hash, content_type=row.content_type, data=row.data)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return nothing: other tools keep no raw streams."""
        return []


def stored_trace(trace: ForeignTrace) -> tuple[StoredTrace, list[MediaRow]]:
    """Return a trace as a store would have it, and its media. Raises ValueError if it has no spans."""
    if not trace.spans:
        raise ValueError("it has no spans")
    ids = {span.span_id for span in trace.spans}
    for span in trace.spans:
        span.begins_here = span.parent_id is None or span.parent_id not in ids
    batch = make_batch(trace.spans, current_process())
    (patch,) = batch.traces
    patch.experiment = trace.experiment or patch.experiment
    patch.name_override = trace.name if trace.name != patch.name else None
    patch.state = trace.state or patch.state or TraceState.OK
    patch.session_id = trace.session_id or patch.session_id
    patch.user_id = trace.user_id or patch.user_id
    patch.tags |= trace.tags
    patch.metadata |= trace.metadata
    links = list(dict.fromkeys(link for row in batch.spans for link in (row.links or {}).items()))
    for row in batch.spans:
        row.links = None
        _drop_attributes(row, trace.dropped_attributes)
    media = list(dict.fromkeys((row.span_id, row.hash) for row in batch.media))
    stored = StoredTrace(
        patch=patch,
        spans=batch.spans,
        media=media,
        links=links,
        feedback=[each for each in trace.feedback if each.span_id is None or each.span_id in ids],
    )
    return stored, batch.media


def _drop_attributes(row: SpanRow, names: frozenset[str]) -> None:
    if names and row.attributes is not None:
        attributes = decode_json(row.attributes)
        row.attributes = encode_value({key: value for key, value in attributes.items() if key not in names})


def as_text(value: Any) -> str:
    """Return a value as the text of a tag or of metadata: JSON, unless it is text."""
    return value if isinstance(value, str) else encode_value(value).decode()


def feedback_id(given: str) -> str:
    """Return 32 hex digits for a tool's own id of a judgement, always the same ones."""
    bare = given.replace("-", "").lower()
    return bare if _ID.fullmatch(bare) else hashlib.sha256(given.encode()).hexdigest()[:32]


def nanoseconds(moment: str) -> int:
    """Return nanoseconds since the epoch of an ISO 8601 moment. What names no time zone is UTC. Raises ValueError."""
    given = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", moment.strip()))
    given = given if given.tzinfo else given.replace(tzinfo=datetime.timezone.utc)
    return (given - _EPOCH) // _MICROSECOND * 1000
