"""Adoption: what a dead process left in its spool and its crash ring comes into the database, once.

The locks of these files tell that their owner is gone, and keep others out meanwhile. How far a file was taken over is
written with each batch of it, in the batch's own transaction (`Batch.sources`), by its owner as well as here. So
whoever is killed in the middle takes nothing over twice. The spool comes first: what is in it is older.

An end finds its start even if that was stored long ago: the ring keeps the records of open spans (`Ring.make_room`).
They are fed to an assembler again, and what it makes of them, which is stored already, is thrown away.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import accumulate
from operator import attrgetter
from pathlib import Path

import anyio
import msgspec

from tracer import _semconv as sc
from tracer._exceptions import TracerError, TransientStoreError
from tracer._models import Span
from tracer.assembly.assembler import Assembler, Hooks
from tracer.capture.records import Record, SpanChunk, SpanEnded, SpanStarted, TraceUpdated, decode, subject
from tracer.interpret import decode_json, encode_value
from tracer.interpret.cost import Prices
from tracer.pipeline._left_rings import (
    Content,
    Frame,
    delete_orphans,
    owned,
    read_content,
    read_frames,
    read_owner,
    read_progress,
)
from tracer.pipeline._ring_file import STORED, directory_identity, find_rings
from tracer.pipeline._time_slices import Slices
from tracer.pipeline._write_behind import WriteBehind
from tracer.pipeline.spool import find_spool_files, owned_spool_file, read_spool_file
from tracer.pipeline.throttle import Throttle
from tracer.store.base import Store
from tracer.store.batch import Batch, SpanRow

__all__ = ["Adoption", "Reading", "find_left"]

logger = logging.getLogger("tracer")

BATCH_RECORDS, BATCH_BYTES = 1_024, 2 * 1024 * 1024  # written in one transaction
TURN_RECORDS = 64  # read, or assembled, until the event loop has its turn again
INTERVAL = 1.0  # seconds between two looks for files, if readers ask for them
PATIENCE = 10.0  # seconds that a reader waits at most for what dead processes left

Reading = tuple[Hooks, Prices | None]
"""The ``redact=`` functions of this process, and what models cost."""


def _as_it_is() -> Reading:
    return (), None


def find_left(database: Path) -> list[Path]:
    """Return the files that dead processes left beside a database, for `Adoption` to take over."""
    left: list[Path] = []
    for path in find_spool_files(database):
        with owned_spool_file(path) as descriptor:
            left += [path] if descriptor is not None else []
    for path in find_rings(database):
        with owned(path) as descriptor:
            left += [path] if descriptor is not None else []
    return left


class Adoption:
    """Takes over what dead processes left beside a store's database. Nothing to do costs a look into two directories.

    Belongs to one event loop; only one task at a time takes over, others wait for it.

    Args:
        store: The store that takes it over.
        reading: Returns how records are to be read. Asked only if there is a ring to be taken over. (What a process
            with ``redact=`` left holds no texts.)
        offer: Called again and again while records are read, to let other threads go first; `Slices` by default.
    """

    def __init__(
        self,
        store: Store,
        reading: Callable[[], Reading] = _as_it_is,
        offer: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._reading = reading
        self._offer = offer or Slices().offer
        self._turn = anyio.Lock()
        self._next_look = 0.0
        self._throttle = Throttle()

    async def adopt(self) -> int:
        """Take over what there is. It may be cancelled: what is left comes next time.

        Returns:
            How many records were taken over.

        Raises:
            TransientStoreError: The store can't be written to now; what is left is still there.
        """
        path = self._store.beside
        if path is None or not self._store.may_open:
            return 0
        async with self._turn:
            try:
                delete_orphans(path)
                return await self._adopt_all(path)
            finally:
                self._next_look = time.monotonic() + INTERVAL  # until now, readers wait for their turn

    async def _adopt_all(self, path: Path) -> int:
        adopted = 0
        for file in find_spool_files(path):
            adopted += await _left_alone_if_bad(file, _adopt_spool_file(self._store, file))
        for file in find_rings(path):
            adopted += await _left_alone_if_bad(file, _adopt_ring(self._store, file, self._reading, self._offer))
        return adopted

    async def adopt_for_reader(self) -> None:
        """Do the same before somebody reads, but not again within a second, and for ten seconds at most.

        What fails is logged, and no error.
        """
        if time.monotonic() < self._next_look:
            return
        try:
            with anyio.move_on_after(PATIENCE):
                await self.adopt()
        except Exception as error:
            if self._throttle.allows("adoption"):
                logger.warning("what a process that has ended recorded could not be taken over yet: %s", error)


async def _left_alone_if_bad(path: Path, adopting: Awaitable[int]) -> int:
    """Wait for the result. A file that can't be taken over stays where it is, as the others may be sound."""
    try:
        return await adopting
    except TransientStoreError:
        raise
    except Exception as error:
        _tell(path, error)
        return 0


async def _adopt_spool_file(store: Store, path: Path) -> int:
    adopted = 0
    sources = {path.name}
    with owned_spool_file(path) as descriptor:
        if descriptor is None:
            return 0
        for batch, records in read_spool_file(path.name, descriptor, await store.taken_over(path.name)):
            await store.write(batch)
            sources.update(batch.sources)
            adopted += records
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - takes microseconds
    assert store.beside is not None
    for source in sources - {ring.name for ring in find_rings(store.beside)}:
        await store.forget_source(source)
    return adopted


class _Left(Frame, gc=False):
    """A record of a dead process's ring: of which kind it is, and to which span it belongs.

    Each is decoded when its turn has come, and only if it is needed. `place` says when that is.
    """

    kind: type[Record]
    span_id: str
    place: float = 0


_sequence: Callable[[_Left], int] = attrgetter("sequence")


async def _adopt_ring(store: Store, path: Path, reading: Callable[[], Reading], offer: Callable[[], None]) -> int:
    with owned(path) as descriptor:
        if descriptor is None:
            return 0
        owner = read_owner(descriptor)
        if owner is None:
            _tell(path, "it is of another version of tracer, or garbage")
            return 0
        assert store.beside is not None
        if owner.directory is not None and owner.directory != directory_identity(store.beside):
            return 0  # the same path, but in another container
        content = read_content(descriptor, offer)
        left = _starts_first(await _read_ring(content, offer), offer)
        offer()
        committed = max(read_progress(content).committed, await store.taken_over(path.name))
        waiting, stored = _split(left, committed, offer)
        if waiting:
            assembler = Assembler(owner.process, only_ended=store.only_sends)
            hooks, assembler.prices = reading()
            feeder = _Feeder(content, assembler, hooks, offer)
            known = await _feed_stored(store, stored, feeder)
            await _write_all(path.name, waiting, feeder, partial(_complete_and_write, store, known))
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - of memory
    await store.forget_source(path.name)
    return len(waiting)


def _split(left: list[_Left], committed: int, offer: Callable[[], None]) -> tuple[list[_Left], list[_Left]]:
    """Return the records that are not in the database yet, and those that are."""
    waiting: list[_Left] = []
    stored: list[_Left] = []
    for one in left:
        (waiting if committed < one.sequence < STORED else stored).append(one)
        offer()
    return waiting, stored


async def _read_ring(content: Content, offer: Callable[[], None]) -> list[_Left]:
    """Return what the ring holds. What is no record belongs to no span; it is kept, so that it is counted."""
    left = []
    for number, frame in enumerate(read_frames(content)):
        begin, end = frame.begin, frame.end
        kind, span_id = _subject(content[begin:end])
        left.append(_Left(frame.sequence, begin, end, kind, span_id))
        offer()
        if number % TURN_RECORDS == 0:
            await anyio.lowlevel.checkpoint()
    return left


def _subject(encoded: bytes | memoryview) -> tuple[type[Record], str]:
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return subject(encoded)
    return TraceUpdated, ""


_told: set[Path] = set()


def _tell(path: Path, reason: object) -> None:
    if path not in _told:
        _told.add(path)
        logger.warning("%s can't be taken over, and is left alone: %s", path, reason)


class _Feeder:
    """Feeds an assembler what was left. What only the owner's memory had counts as lost."""

    def __init__(self, content: Content, assembler: Assembler, hooks: Hooks, offer: Callable[[], None]) -> None:
        self._content = content
        self._assembler = assembler
        self._hooks = hooks
        self._offer = offer

    def feed(self, one: _Left, gaps: Counter[str] | None = None) -> Record | None:
        """Feed one record, and return it; None if it can't be used. A read that is empty goes into the `gaps`."""
        try:
            record = decode(self._content[one.begin : one.end])
            if gaps is not None and isinstance(record, SpanChunk) and not record.data:
                gaps[record.span_id] += 1
                return record
            _count_losses(record, gaps or {})
            self._assembler.take(record, one.end - one.begin, self._hooks)
            return record
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        except Exception:
            logger.exception("a record of a killed process could not be used")
            return None
        finally:
            self._offer()

    def feed_chunk(self, chunk: SpanChunk) -> None:
        """Feed a read of a stream that the database has."""
        self._assembler.take(chunk, len(chunk.data), self._hooks)

    def take_batch(self) -> Batch:
        """Return the rows of what was fed since the last call."""
        return self._assembler.take_batch(self._offer)


async def _feed_stored(store: Store, stored: list[_Left], feeder: _Feeder) -> dict[str, Span | None]:
    """Feed what is in the database already, so that ends find their starts; return the spans that are open, by id.

    What the database has of them is looked up when it is needed; but for what came of streams, which is needed to
    understand what comes after it. (The ring may lack parts of it: those that were too large.)
    """
    ended = {one.span_id for one in stored if one.kind is SpanEnded}
    known: dict[str, Span | None] = {}
    chunks: dict[str, list[_Left]] = {}
    traces: dict[str, str] = {}
    for one in stored:
        if one.kind is TraceUpdated or one.span_id in ended:
            continue
        known[one.span_id] = None
        if one.kind is SpanChunk:
            chunks.setdefault(one.span_id, []).append(one)
            continue
        record = feeder.feed(one)
        if isinstance(record, SpanStarted) and record.operation is not None:
            traces[record.span_id] = record.trace_id
    for span_id, trace_id in traces.items():
        in_store = await store.live_chunks(trace_id, span_id)
        for time_ns, data in in_store:
            feeder.feed_chunk(SpanChunk(span_id, time_ns, data))
        for one in [] if in_store else chunks.get(span_id, ()):
            feeder.feed(one)
    feeder.take_batch()
    return known


async def _write_all(
    source: str, waiting: list[_Left], feeder: _Feeder, write: Callable[[Batch], Awaitable[None]]
) -> None:
    """Write what the waiting records amount to, for spans that ended as well as for those still open."""
    gaps: Counter[str] = Counter()  # reads of streams that were too large for the ring
    least = _least_from(waiting)
    reached = size = records = 0
    async with WriteBehind(write) as writing:
        for number, one in enumerate(waiting, 1):
            feeder.feed(one, gaps)
            size, records, reached = size + one.end - one.begin, records + 1, max(reached, one.sequence)
            if number % TURN_RECORDS == 0:
                await anyio.lowlevel.checkpoint()
            # How far the ring is stored is one number. So a batch goes on until all before it in the ring is in it.
            is_full = records >= BATCH_RECORDS or size >= BATCH_BYTES
            if number == len(waiting) or (is_full and least[number] > reached):
                batch = feeder.take_batch()
                batch.sources[source] = reached
                batch.once.append(source)
                size = records = 0
                await writing.put(batch)
                await anyio.lowlevel.checkpoint()  # it begins


def _least_from(waiting: list[_Left]) -> list[int]:
    """Return for each place the least sequence from there on: starts may have been put before others."""
    least = list(accumulate(map(_sequence, reversed(waiting)), min))
    least.reverse()
    return least


async def _complete_and_write(store: Store, known: dict[str, Span | None], batch: Batch) -> None:
    await _complete(store, batch, known)
    await store.write(batch)


async def _complete(store: Store, batch: Batch, known: dict[str, Span | None]) -> None:
    """Add what the database has of spans that began before, as the ring may hold less of them: a start without body."""
    for trace_id in {row.trace_id for row in batch.spans if row.span_id in known and known[row.span_id] is None}:
        with contextlib.suppress(TracerError):
            for stored in (await store.get_trace(trace_id)).data.spans:
                if stored.span_id in known:
                    known[stored.span_id] = stored
    for row in batch.spans:
        if (stored_span := known.get(row.span_id)) is not None:
            _merge(row, stored_span)
    names = {row.span_id: row.name for row in batch.spans}
    for patch in batch.traces:
        if patch.name is not None and patch.root_span_id is not None:
            patch.name = names.get(patch.root_span_id, patch.name)


def _merge(row: SpanRow, stored: Span) -> None:
    row.name, row.span_type = stored.name, str(stored.span_type)
    attributes = {**stored.attributes, **decode_json(row.attributes or b"{}")}
    if stored.inputs is not None:
        row.inputs = None  # what is stored stays
        if sc.PAYLOAD_DROPPED not in stored.attributes:
            attributes.pop(sc.PAYLOAD_DROPPED, None)
            row.text = None
    row.attributes = encode_value(attributes)
    events = [(event.name, event.timestamp_ns, event.attributes) for event in stored.events]
    if row.chunks is None and events:
        new = [tuple(event) for event in decode_json(row.events or b"[]")]
        row.events = encode_value(events + [one for one in new if one[:2] not in {event[:2] for event in events}])
    if row.outputs is None and stored.outputs is not None:
        row.outputs = encode_value(stored.outputs)


def _starts_first(left: list[_Left], offer: Callable[[], None]) -> list[_Left]:
    """Return them by sequence, but the start of each span before its other records.

    A start that found the ring busy was written later than they.
    """
    first: dict[str, int] = {}
    for one in left:
        if one.kind is not SpanStarted and one.sequence < first.get(one.span_id, STORED):
            first[one.span_id] = one.sequence
        offer()
    for one in left:
        one.place = one.sequence
        if one.kind is SpanStarted:
            one.place = min(one.place, first.get(one.span_id, one.place + 1) - 0.5)
        offer()
    return sorted(left, key=attrgetter("place"))


def _count_losses(record: Record, gaps: Mapping[str, int]) -> None:
    """Count a large body as lost, which lay beside its record and is not in the ring, and lost reads of a stream."""
    if isinstance(record, SpanStarted) and record.inputs is not None and record.inputs.beside:
        record.inputs, record.body_dropped = None, True
    elif isinstance(record, SpanEnded):
        lost = dict(record.lost or {})
        if record.outputs is not None and record.outputs.beside:
            record.outputs, lost["bodies"] = None, lost.get("bodies", 0) + 1
        if gap := gaps.get(record.span_id):
            lost["chunks"] = lost.get("chunks", 0) + gap
        record.lost = lost or None
