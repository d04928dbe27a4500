"""What a dead process left in its ring comes into the database: all of it, and none of it twice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tests.pipeline.children import in_a_child
from tracer._exceptions import StoreError, TransientStoreError
from tracer._models import TraceState
from tracer.assembly.assembler import Assembler
from tracer.capture.records import (
    Codec,
    Encoded,
    Ending,
    LargeRecord,
    Payload,
    Rank,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    TraceUpdated,
    encode,
)
from tracer.pipeline import _left_rings, _ring_file, adoption
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline._ring_file import find_rings
from tracer.pipeline.adoption import Adoption, find_left
from tracer.pipeline.ring import Ring
from tracer.pipeline.skeletons import encode_skeleton
from tracer.store import TraceQuery, open_store
from tracer.store.batch import Batch
from tracer.store.process import current_process
from tracer.store.sqlite.store import SqliteStore

START = 1_700_000_000_000_000_000
pytestmark = pytest.mark.usefixtures("shared_memory")


def started(number: int, **changes: Any) -> bytes:
    fields = {"name": f"span {number}", "span_type": "LLM", "start_ns": START + number, "experiment": "Default"}
    return encode(SpanStarted(f"{number:032x}", f"{number:016x}", None, **{**fields, **changes}))


def ended(number: int, **changes: Any) -> bytes:
    return encode(SpanEnded(f"{number:016x}", START + number + 10, Ending.RETURNED, **changes))


def die_with(database: Path, *records: Encoded, committed: int = 0) -> Path:
    """Have a process write these records and die; it had stored the first `committed` of them."""

    def work() -> None:
        ring = Ring(database, current_process(), 1024 * 1024)
        assert all(ring.append(record, deque()) for record in records)
        if committed:
            ring.settle(committed)

    in_a_child(work)
    (path,) = find_rings(database)
    return path


async def found(store: SqliteStore) -> dict[str | None, TraceState]:
    return {trace.info.name: trace.info.state for trace in await store.search_traces(TraceQuery())}


async def test_what_was_not_stored_is_stored_and_the_ring_is_gone(store: SqliteStore, database: Path) -> None:
    die_with(database, started(1), ended(1), started(2))
    assert await Adoption(store).adopt() == 3
    assert await found(store) == {"span 1": TraceState.OK, "span 2": TraceState.INTERRUPTED}
    assert find_rings(database) == []
    assert await Adoption(store).adopt() == 0


async def test_an_end_finds_the_start_that_was_stored(store: SqliteStore, database: Path) -> None:
    question = Payload(Codec.VALUE, b"\xa3why")
    note = encode(SpanNoted(f"{1:016x}", "thought", START + 5))
    stored = [started(1, inputs=question), started(2), ended(2), note]
    assembler = Assembler(current_process())
    for record in stored:
        assembler.feed(record)
    await store.write(assembler.take_batch())
    die_with(database, *stored, ended(1), committed=4)
    assert await Adoption(store).adopt() == 1
    trace = (await store.search_traces(TraceQuery()))[-1]
    assert trace.info.state is TraceState.OK
    assert trace.data.spans[0].inputs == "why"
    assert [event.name for event in trace.data.spans[0].events] == ["thought"]


async def test_a_start_that_found_the_ring_busy_comes_first_all_the_same(store: SqliteStore, database: Path) -> None:
    die_with(database, ended(1), started(1))
    await Adoption(store).adopt()
    assert await found(store) == {"span 1": TraceState.OK}


async def test_a_start_that_was_added_late_is_the_start_of_what_came_before(store: SqliteStore, database: Path) -> None:
    """The ring was busy at the start, but not for the notes. The worker stored the start, and added it then."""
    first, second = (encode(SpanNoted(f"{1:016x}", name, START + 5)) for name in ("first", "second"))
    assembler = Assembler(current_process())
    for record in (started(1), first):
        assembler.feed(record)
    await store.write(assembler.take_batch())

    def work() -> None:
        ring = Ring(database, current_process(), 1024 * 1024)
        assert ring.append(first, deque())
        ring.settle(1)
        assert ring.keep(started(1, body_dropped=True))
        assert all(ring.append(record, deque()) for record in (second, ended(1)))

    in_a_child(work)
    assert await Adoption(store).adopt() == 2
    (trace,) = await store.search_traces(TraceQuery())
    assert [event.name for event in trace.data.spans[0].events] == ["first", "second"]
    assert (trace.info.state, trace.info.dropped) == (TraceState.OK, {})


async def test_what_the_database_has_of_a_span_is_not_lost_to_a_start_without_body(
    store: SqliteStore, database: Path
) -> None:
    request = Payload(Codec.WIRE, b'{"model":"gpt-5","temperature":0.5,"messages":[{"role":"user","content":"why?"}]}')
    assembler = Assembler(current_process())
    assembler.feed(started(1, inputs=request, operation="chat", attributes={"mine": 1}))
    assembler.feed(encode(SpanNoted(f"{1:016x}", "noted", START + 5)))
    await store.write(assembler.take_batch())
    die_with(database, started(1, operation="chat", body_dropped=True), ended(1), committed=1)
    assert await Adoption(store).adopt() == 1
    (trace,) = await store.search_traces(TraceQuery())
    (span,) = trace.data.spans
    assert span.inputs["messages"][0]["content"] == "why?"
    assert (span.attributes["mine"], span.attributes["gen_ai.request.temperature"]) == (1, 0.5)
    assert "tracer.payload_dropped" not in span.attributes
    assert [event.name for event in span.events] == ["noted"]
    assert (trace.info.state, trace.info.dropped) == (TraceState.OK, {})
    assert len(await store.search_traces(TraceQuery(text="why"))) == 1


async def test_a_name_that_a_hook_changed_stays_changed(store: SqliteStore, database: Path) -> None:
    """With hooks, the ring has the type of a span in place of its name."""
    assembler = Assembler(current_process())
    assembler.feed(started(1, name="mail to [hidden]", span_type="TOOL"))
    await store.write(assembler.take_batch())
    die_with(database, started(1, name="UNKNOWN", span_type="UNKNOWN"), ended(1), committed=1)
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    (span,) = trace.data.spans
    assert (trace.info.name, span.name, span.span_type) == ("mail to [hidden]", "mail to [hidden]", "TOOL")


def said(text: str) -> bytes:
    """A read of a chat stream."""
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


@pytest.mark.parametrize("late", [said("second"), b""])
async def test_what_the_database_has_of_a_stream_is_not_lost_to_a_ring_that_has_less(
    store: SqliteStore, database: Path, late: bytes
) -> None:
    """Of a read that is too large, the ring has only that there was one."""
    start, first = started(1, operation="chat"), SpanChunk(f"{1:016x}", START + 2, said("first "))
    assembler = Assembler(current_process())
    for record in (start, encode(first)):
        assembler.feed(record)
    await store.write(assembler.take_batch())
    noted = encode(SpanChunk(first.span_id, first.time_ns, b""))
    later = encode(SpanChunk(first.span_id, START + 3, late))
    die_with(database, start, noted, later, ended(1, streamed=True), committed=2)
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    content = trace.data.spans[0].outputs["choices"][0]["message"]["content"]
    assert content == ("first second" if late else "first ")
    assert trace.info.dropped == ({} if late else {"chunks": 1})


async def test_the_rings_of_one_process_are_taken_over_in_the_order_in_which_they_were_made(
    store: SqliteStore, database: Path
) -> None:
    """A ring comes to its end when settings change. The next one has the ends of spans that began in the first."""

    def work() -> None:
        rings = [Ring(database, current_process(), 64 * 1024) for _ in range(8)]
        rings[0].append(started(1, operation="chat"), deque())
        for ring in rings[1:]:
            ring.keep(started(1, operation="chat", body_dropped=True))
            ring.append(encode(SpanChunk(f"{1:016x}", START + 1, said("x"))), deque())
        rings[-1].append(ended(1, streamed=True), deque())

    in_a_child(work)
    assert await Adoption(store).adopt() == 9
    (trace,) = await store.search_traces(TraceQuery())
    assert trace.info.state is TraceState.OK
    assert await store.live_chunks(f"{1:032x}", f"{1:016x}") == []


async def test_of_a_stream_whose_answer_was_not_kept_it_is_not_said_how_it_ended(
    store: SqliteStore, database: Path
) -> None:
    end = SpanEnded(f"{1:016x}", START + 10, Ending.CLOSED, streamed=True)
    die_with(database, started(1, operation="chat"), encode_skeleton(end))
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    assert trace.data.spans[0].attributes["tracer.finish"] == "incomplete"
    assert "not known" in trace.data.spans[0].status.description


async def test_a_ring_that_can_not_be_used_does_not_keep_others_out(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    in_a_child(lambda: Ring(database, current_process(), 1024 * 1024).append(started(1), deque()))
    in_a_child(lambda: Ring(database, current_process(), 1024 * 1024).append(started(2), deque()))
    bad = find_rings(database)[0]

    def read_owner(descriptor: int) -> Any:
        if len(find_rings(database)) == 2 and not tracer_log:
            raise ValueError("bad")
        return _left_rings.read_owner(descriptor)

    monkeypatch.setattr(adoption, "read_owner", read_owner)
    assert await Adoption(store).adopt() == 1
    assert str(bad) in tracer_log.pop().getMessage()


async def test_a_ring_of_the_same_path_elsewhere_is_left_alone(store: SqliteStore, database: Path) -> None:
    """Two containers may share the memory, and have a database of the same name each."""
    path = die_with(database, started(1))
    os.rename(database.parent, database.parent.with_name("elsewhere"))
    database.parent.mkdir()
    os.rename(database.parent.with_name("elsewhere") / "shm", database.parent / "shm")
    assert await Adoption(store).adopt() == 0
    assert path.exists()


async def test_a_large_body_that_lay_beside_its_record_counts_as_lost(store: SqliteStore, database: Path) -> None:
    beside = Payload(Codec.WIRE, b"", beside=True)
    die_with(
        database,
        LargeRecord(started(1, inputs=beside), b"x" * 100_000),
        LargeRecord(ended(1, outputs=Payload(Codec.WIRE, b"", beside=True)), b"x" * 100_000),
    )
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    assert (trace.info.state, trace.info.dropped) == (TraceState.OK, {"bodies": 2})


async def test_tags_come_too(store: SqliteStore, database: Path) -> None:
    die_with(database, started(1), encode(TraceUpdated(f"{1:032x}", START + 1, tags={"a": "b"})), ended(1))
    await Adoption(store).adopt()
    assert (await store.search_traces(TraceQuery()))[0].info.tags == {"a": "b"}


@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize("is_stored", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("late", [0, 3, 9], ids=["in order", "a start is late", "a start comes last"])
async def test_who_fails_in_between_takes_nothing_over_twice(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, written: int, is_stored: bool, late: int
) -> None:
    """Before a transaction, or behind it: the ring itself does not know of it yet.

    A start is late in the ring if it found the ring busy, and is taken over before the rest of its span all the same.
    """
    monkeypatch.setattr(adoption, "BATCH_RECORDS", 4)
    records = [record for number in range(6) for record in (started(number, body_dropped=True), ended(number))]
    records.insert(2 + late, records.pop(2))
    die_with(database, *records)
    batches: list[Batch] = []

    async def failing(batch: Batch) -> None:
        if len(batches) == written and not is_stored:
            raise TransientStoreError("locked")
        batches.append(batch)
        await write(batch)
        if len(batches) > written:
            raise TransientStoreError("killed")

    write = store.write
    monkeypatch.setattr(store, "write", failing)
    with contextlib.suppress(StoreError):
        await Adoption(store).adopt()
    monkeypatch.setattr(store, "write", write)
    taken = await Adoption(store).adopt()
    assert taken == len(records) - 4 * (written + is_stored) or late
    traces = await store.search_traces(TraceQuery())
    assert [(trace.info.state, trace.info.dropped) for trace in traces] == [(TraceState.OK, {"bodies": 1})] * 6


@pytest.mark.parametrize("by", ["task", "scope"])  # a scope cancels each further wait, too
async def test_who_is_cancelled_waits_for_the_batch_that_is_being_written(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Until then nobody else may have the ring: it would not know whether that batch is committed."""
    monkeypatch.setattr(adoption, "BATCH_RECORDS", 4)
    records = [record for number in range(6) for record in (started(number, body_dropped=True), ended(number))]
    path = die_with(database, *records)
    begun, go_on = asyncio.Event(), asyncio.Event()
    written: list[Batch] = []

    async def slow(batch: Batch) -> None:
        begun.set()
        await go_on.wait()
        await write(batch)
        written.append(batch)

    write = store.write
    monkeypatch.setattr(store, "write", slow)
    scope = anyio.CancelScope()

    async def adopt() -> None:
        with scope:
            await Adoption(store).adopt()

    task = asyncio.ensure_future(adopt())
    await begun.wait()
    if by == "task":
        task.cancel()
    else:
        scope.cancel()
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    with _left_rings.owned(path) as content:
        assert content is None, "somebody else can have the ring"
    go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(written) == 1, "the next batch was begun all the same"
    assert path.exists()
    monkeypatch.setattr(store, "write", write)
    assert await Adoption(store).adopt() == len(records) - 4
    traces = await store.search_traces(TraceQuery())
    assert [(trace.info.state, trace.info.dropped) for trace in traces] == [(TraceState.OK, {"bodies": 1})] * 6


async def test_a_batch_that_fails_ends_the_adoption_and_leaves_the_ring(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written while the next one is assembled, which is then not written."""
    monkeypatch.setattr(adoption, "BATCH_RECORDS", 4)
    path = die_with(database, *(record for number in range(6) for record in (started(number), ended(number))))
    tried: list[Batch] = []

    async def failing(batch: Batch) -> None:
        tried.append(batch)
        raise TransientStoreError("locked")

    monkeypatch.setattr(store, "write", failing)
    with pytest.raises(TransientStoreError):
        await Adoption(store).adopt()
    assert len(tried) == 1
    assert path.exists()


async def test_the_owners_own_transactions_count(store: SqliteStore, database: Path) -> None:
    """It was killed between its commit and the note of it in the ring."""
    path = die_with(database, started(1), ended(1), started(2), ended(2))
    await store.write(Batch(process=current_process(), sources={path.name: 2}))
    assert await Adoption(store).adopt() == 2
    assert await found(store) == {"span 2": TraceState.OK}


async def test_a_record_that_found_the_ring_busy_is_not_stored_twice(store: SqliteStore, database: Path) -> None:
    """The worker drained the last records while a thread was writing to the ring, and the process was idle then."""
    read = encode(SpanChunk(f"{1:016x}", START + 2, said("once")))
    start = started(1, operation="chat", body_dropped=True)
    reached = database.with_name("reached")

    def work() -> None:
        queue = RecordQueue(100, 2**20)
        ring = Ring(database, current_process(), 1024 * 1024)
        queue.set_ring(ring)
        queue.push(start, Rank.START)
        lock = ring._lock
        inside, is_waited_for = threading.Event(), threading.Event()

        class Watched:
            """Tells when the worker waits for the lock, which it may not do for long."""

            def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
                if timeout > 0:
                    is_waited_for.set()
                return bool(lock.acquire(blocking, timeout))

            def release(self) -> None:
                lock.release()

        def write() -> None:
            with lock:
                inside.set()
                is_waited_for.wait(1)

        other = threading.Thread(target=write)
        other.start()
        inside.wait()
        queue.push(read, Rank.CHUNK)  # finds the lock taken
        ring._lock = Watched()
        assert queue.drain(100, 2**20) == [start, read]
        other.join()
        ring.forget_if_stuck()
        (sequence,) = queue.take_ringed().values()
        reached.write_text(str(sequence))

    in_a_child(work)
    (path,) = find_rings(database)
    assembler = Assembler(current_process())
    for record in (start, read):
        assembler.feed(record)
    batch = assembler.take_batch()
    batch.sources[path.name] = int(reached.read_text())
    await store.write(batch)
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    assert await store.live_chunks(f"{1:032x}", f"{1:016x}") == [(START + 2, said("once"))]
    assert trace.info.dropped == {"bodies": 1}


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("held", ["before a record", "in a record"])
async def test_with_a_backlog_a_record_that_found_the_ring_busy_is_not_stored_twice(
    store: SqliteStore, database: Path, most: int, held: str
) -> None:
    """The process is killed after it has stored a batch that ends just there."""
    start = started(1, operation="chat", body_dropped=True)
    reads = [encode(SpanChunk(f"{1:016x}", START + number, said(str(number)))) for number in range(5)]
    drained, reached = database.with_name("drained"), database.with_name("reached")

    def work() -> None:
        queue = RecordQueue(100, 2**20)
        ring = Ring(database, current_process(), 1024 * 1024)
        queue.set_ring(ring)

        def push_busy() -> None:
            other = threading.Thread(target=lambda: [queue.push(read, Rank.CHUNK) for read in reads[1:3]])
            other.start()
            other.join()

        def write(*arguments: Any) -> bool:
            ring._write = usual  # type: ignore[method-assign]
            push_busy()
            return usual(*arguments)

        queue.push(start, Rank.START)
        usual = ring._write
        if held == "in a record":
            ring._write = write  # type: ignore[assignment,method-assign]
            queue.push(reads[0], Rank.CHUNK)
        else:
            queue.push(reads[0], Rank.CHUNK)
            with ring._lock:
                push_busy()
        for read in reads[3:]:
            queue.push(read, Rank.CHUNK)
        drained.write_bytes(msgspec.msgpack.encode(queue.drain(most, 2**20)))
        (sequence,) = queue.take_ringed().values()
        reached.write_text(str(sequence))

    in_a_child(work)
    (path,) = find_rings(database)
    assembler = Assembler(current_process())
    for record in msgspec.msgpack.decode(drained.read_bytes(), type=list[bytes]):
        assembler.feed(record)
    batch = assembler.take_batch()
    batch.sources[path.name] = int(reached.read_text())
    await store.write(batch)
    await Adoption(store).adopt()
    (trace,) = await store.search_traces(TraceQuery())
    assert len(await store.live_chunks(f"{1:032x}", f"{1:016x}")) == len(reads)
    assert trace.info.dropped == {"bodies": 1}


async def test_what_can_not_be_taken_over_yet_stays(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, tracer_log: list[logging.LogRecord]
) -> None:
    die_with(database, started(1), ended(1))

    async def failing(batch: Batch) -> None:
        raise TransientStoreError("locked")

    write = store.write
    monkeypatch.setattr(store, "write", failing)
    await Adoption(store).adopt_for_reader()
    assert "could not be taken over yet: locked" in tracer_log.pop().getMessage()
    monkeypatch.setattr(store, "write", write)
    assert await Adoption(store).adopt() == 2


async def test_another_versions_ring_is_left_alone_and_named_once(
    store: SqliteStore, database: Path, tracer_log: list[logging.LogRecord]
) -> None:
    path = die_with(database, started(1))
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\x63")
    content = os.stat(path)
    assert [await Adoption(store).adopt(), await Adoption(store).adopt()] == [0, 0]
    assert os.stat(path).st_mtime_ns == content.st_mtime_ns
    assert str(path) in tracer_log.pop().getMessage()
    assert tracer_log == []


async def test_garbage_costs_nothing_but_itself(store: SqliteStore, database: Path) -> None:
    die_with(database, started(1), b"\xc1 no record", ended(1))
    assert await Adoption(store).adopt() == 3
    assert await found(store) == {"span 1": TraceState.OK}


def watch_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many bytes are read at once from now on."""
    sizes: list[int] = []

    def counted(read: Any) -> Any:
        def reading(*arguments: Any) -> Any:
            result = read(*arguments)
            sizes.append(result if isinstance(result, int) else len(result))
            return result

        return reading

    monkeypatch.setattr(os, "pread", counted(os.pread))
    monkeypatch.setattr(os, "preadv", counted(os.preadv))
    return sizes


async def test_who_only_looks_reads_no_more_than_the_header(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = die_with(database, *[started(number, inputs=Payload(Codec.WIRE, b"x" * 10_000)) for number in range(50)])
    monkeypatch.setattr(_left_rings, "_ORPHANED_AFTER", -1.0)
    sizes = watch_reads(monkeypatch)
    assert find_left(database) == [path]
    _left_rings.delete_orphans(database)
    assert sum(sizes) <= _ring_file.HEADER


async def test_a_ring_of_the_same_path_elsewhere_is_not_read(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_with(database, *[started(number, inputs=Payload(Codec.WIRE, b"x" * 10_000)) for number in range(50)])
    monkeypatch.setattr(adoption, "directory_identity", lambda _: (0, 0))
    sizes = watch_reads(monkeypatch)
    assert await Adoption(store).adopt() == 0
    assert sum(sizes) <= _ring_file.HEADER


async def test_other_threads_may_go_first_between_all_steps(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done for each record, and each read, is followed by an offer to other threads."""
    die_with(database, *[started(number, inputs=Payload(Codec.WIRE, b"x" * 10_000)) for number in range(90)])
    sizes = watch_reads(monkeypatch)
    read_before_offers: list[int] = []

    def offer() -> None:
        read_before_offers.append(sum(sizes))

    assert await Adoption(store, offer=offer).adopt() == 90
    assert sum(sizes) > 900_000
    assert max(sizes) <= 256 * 1024
    steps = [after - before for before, after in itertools.pairwise([0, *read_before_offers])]
    assert max(steps) <= 256 * 1024 + _ring_file.HEADER
    assert len(read_before_offers) >= 90 * 4  # found, put in order (twice), assembled


async def test_memory_has_no_rings() -> None:
    assert await Adoption(open_store("memory://")).adopt() == 0
