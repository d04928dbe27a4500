"""Writes traces from a source into a store: what the store lacks, and only that.

So a move that was killed, or failed, is simply run again. What the target has stays as it is, also if somebody changed
it there. A trace goes into one transaction (over HTTP, one that is too large for a request goes in pieces).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

import anyio
import msgspec

from tracer._exceptions import MediaNotFoundError, StoreError, TracerError, TransientStoreError
from tracer._models import Feedback, Media, TraceState
from tracer.moving.missing import missing_part
from tracer.store.base import Store
from tracer.store.batch import Batch, ChunkRow, MediaRow, SpanRow, StoredTrace
from tracer.store.process import current_process

__all__ = ["PATIENCE", "Moved", "Refusal", "Source", "move"]

T = TypeVar("T")
PATIENCE = 60.0  # seconds for which a target that does not take a batch is asked again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_SPANS, _BYTES = 500, 4 * 1024 * 1024  # of a batch: larger ones take no less time a span
_RUNNING = TraceState.IN_PROGRESS


class Refusal(msgspec.Struct, frozen=True):
    """A trace that could not be moved, and why."""

    trace_id: str
    reason: str


class Source(Protocol):
    """Where traces come from."""

    async def count(self) -> int:
        """Return how many traces there are, about; 0 if that can't be known."""
        ...

    def traces(self) -> AsyncIterator[list[StoredTrace | Refusal]]:
        """Return the traces, some at a time; a refusal in the place of one that can't be read."""
        ...

    async def media(self, media_hash: str) -> Media:
        """Return a medium of the traces that came last. Raises MediaNotFoundError."""
        ...

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return what a stream had brought that never ended."""
        ...


class Moved(msgspec.Struct):
    """What a move has done, in traces.

    Attributes:
        copied: They were not in the target.
        completed: The target had them, and lacked some spans, tags, feedback or media, which it has now.
        already_there: The target had all of them.
        running: They have not ended, so they were left out. They come with the next run.
        refused: What the target does not take, or what can't be read.
        spans: How many spans were written.
        feedback: How much feedback was written.
        media: How many images, recordings and files were sent.
    """

    copied: int = 0
    completed: int = 0
    already_there: int = 0
    running: int = 0
    spans: int = 0
    feedback: int = 0
    media: int = 0
    refused: list[Refusal] = msgspec.field(default_factory=list)

    @property
    def traces(self) -> int:
        """All traces that were looked at."""
        return self.copied + self.completed + self.already_there + self.running + len(self.refused)


async def move(source: Source, target: Store, *, advance: Callable[[int], None] = lambda _: None) -> Moved:
    """Write the traces of a source into a store.

    One batch is in memory at a time, beside what the source holds. May be cancelled at any moment, and run again.

    Args:
        source: Where they come from.
        target: The store, opened.
        advance: Called with how many traces more are done.

    Raises:
        StoreError: The source can't be read, or the target takes nothing; TransientStoreError after `PATIENCE`.
    """
    mover = _Mover(source, target)
    async for traces in source.traces():
        await mover.add(traces)
        advance(len(traces))
    await mover.flush()
    return mover.moved


class _Parcel:
    """What the target lacks of one trace."""

    def __init__(self, lacking: StoredTrace, *, is_new: bool) -> None:
        self.lacking = lacking
        self.is_new = is_new
        self.chunks: list[ChunkRow] = []
        self.media: list[MediaRow] = []
        self.size = sum(_size(span) for span in lacking.spans)

    def batch(self) -> Batch:
        """Return its rows."""
        process = current_process()
        patch = msgspec.structs.replace(self.lacking.patch, process_id=process.process_id)
        return Batch(process=process, traces=[patch], spans=self.lacking.spans, chunks=self.chunks, media=self.media)


class _Mover:
    def __init__(self, source: Source, target: Store) -> None:
        self._source = source
        self._target = target
        self._waiting: list[_Parcel] = []
        self.moved = Moved()

    async def add(self, given: list[StoredTrace | Refusal]) -> None:
        """Take in traces of the source."""
        self.moved.refused += [each for each in given if isinstance(each, Refusal)]
        traces = [each for each in given if isinstance(each, StoredTrace)]
        ended = [trace for trace in traces if trace.patch.state is not _RUNNING]
        self.moved.running += len(traces) - len(ended)
        ids = [trace.patch.trace_id for trace in ended]
        there = await self._patiently_read(ids) if ids else {}
        for trace in ended:
            known = there.get(trace.patch.trace_id)
            lacking = missing_part(trace, known)
            if lacking is None:
                self.moved.already_there += 1
                continue
            parcel = _Parcel(lacking, is_new=known is None)
            await self._fetch(parcel)
            self._waiting.append(parcel)
            waiting = self._waiting
            if sum(len(each.lacking.spans) for each in waiting) >= _SPANS or sum(e.size for e in waiting) >= _BYTES:
                await self.flush()

    async def _patiently_read(self, trace_ids: list[str]) -> dict[str, StoredTrace]:
        async def read() -> list[StoredTrace]:
            return await self._target.stored_traces(trace_ids, bodies=False)

        return {trace.patch.trace_id: trace for trace in await _patiently(read)}

    async def _fetch(self, parcel: _Parcel) -> None:
        """Add what does not stand in the rows: media, and what streams had brought that never ended."""
        trace_id = parcel.lacking.patch.trace_id
        for span in parcel.lacking.spans:
            if span.end_time_ns is not None or await self._target.live_chunks(trace_id, span.span_id):
                continue
            if chunks := await self._source.live_chunks(trace_id, span.span_id):
                parcel.chunks.append(ChunkRow(trace_id, span.span_id, chunks))
        found: dict[str, Media] = {}
        for span_id, media_hash in parcel.lacking.media:
            try:
                medium = found.get(media_hash) or await self._source.media(media_hash)
            except MediaNotFoundError:  # deleted meanwhile
                continue
            found[media_hash] = medium
            row = MediaRow(
                trace_id=trace_id,
                span_id=span_id,
                hash=media_hash,
                content_type=medium.content_type,
                data=medium.data,
            )
            parcel.media.append(row)
            parcel.size += len(medium.data)

    async def flush(self) -> None:
        """Write what waits. If the target refuses it as a whole, each trace is written alone."""
        parcels, self._waiting = self._waiting, []
        if not parcels:
            return
        try:
            await self._write(parcels)
        except TransientStoreError:
            raise
        except StoreError as error:
            if len(parcels) == 1:
                self.moved.refused.append(Refusal(parcels[0].lacking.patch.trace_id, str(error)))
                return
            for parcel in parcels:
                self._waiting = [parcel]
                await self.flush()

    async def _write(self, parcels: list[_Parcel]) -> None:
        batch = Batch(process=current_process())
        for parcel in parcels:
            rows = parcel.batch()
            batch.traces += rows.traces
            batch.spans += rows.spans
            batch.chunks += rows.chunks
            batch.media += rows.media
        await _patiently(lambda: self._target.write(batch))
        for parcel in parcels:
            await self._add_feedback(parcel)

    async def _add_feedback(self, parcel: _Parcel) -> None:
        """Write the feedback of a trace that is written, and count the trace."""
        moved, lacking = self.moved, parcel.lacking
        problems = [problem for each in lacking.feedback if (problem := await self._judge(each)) is not None]
        moved.spans += len(lacking.spans)
        moved.media += len(parcel.media)
        moved.feedback += len(lacking.feedback) - len(problems)
        if problems:
            moved.refused.append(Refusal(lacking.patch.trace_id, f"feedback: {problems[0]}"))
        elif parcel.is_new:
            moved.copied += 1
        else:
            moved.completed += 1

    async def _judge(self, feedback: Feedback) -> str | None:
        """Write one feedback; return why the target does not take it."""
        try:
            await _patiently(lambda: self._target.add_feedback(feedback))
        except TransientStoreError:
            raise
        except TracerError as error:
            return str(error)
        return None


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; again and again while the target is busy or away, until that has taken too long."""
    pause, ends = _FIRST_PAUSE, anyio.current_time() + PATIENCE
    while True:
        try:
            return await work()
        except TransientStoreError as error:
            wait = max(pause, error.retry_after or 0.0)
            if error.is_refusal or anyio.current_time() + wait > ends:
                raise
        await anyio.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _size(span: SpanRow) -> int:
    texts = (span.inputs, span.outputs, span.attributes, span.events, span.chunks, span.text)
    return sum(len(text) for text in texts if text is not None)
