"""The crash ring keeps what waits, and what open spans need; a torn frame costs itself alone."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.pipeline.children import in_a_child
from tracer._config import Settings
from tracer.assembly.assembler import Assembler
from tracer.capture.records import (
    Codec,
    Encoded,
    Ending,
    Failure,
    LargeRecord,
    Payload,
    Rank,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    decode,
    encode,
)
from tracer.pipeline import _left_rings, _ring_file, ring
from tracer.pipeline._contended import Contended
from tracer.pipeline._left_rings import Content, owned, read_content, read_frames, read_owner, read_progress
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline._ring_file import FRAME, HEADER, SLOTS, STORED, find_rings
from tracer.pipeline.crash_ring import CrashRing
from tracer.pipeline.ring import Ring
from tracer.pipeline.skeletons import quotes_a_key
from tracer.store.process import current_process

SMALL = 64 * 1024
pytestmark = pytest.mark.usefixtures("shared_memory")


@pytest.fixture
def made(database: Path) -> Iterator[Ring]:
    made = Ring(database, current_process(), SMALL)
    yield made
    made.close()


def append(made: Ring, *records: Encoded) -> list[bool]:
    return [made.append(record, deque()) for record in records]


class Frame(NamedTuple):
    sequence: int
    record: bytes

    @property
    def is_stored(self) -> bool:
        return self.sequence >= STORED


def read(content: Content) -> list[Frame]:
    return sorted(Frame(frame.sequence, bytes(content[frame.begin : frame.end])) for frame in read_frames(content))


def frames(made: Ring) -> list[Frame]:
    return read(made._memory)


def chunk(span_id: str, size: int = 1000) -> bytes:
    return encode(SpanChunk(span_id, 1, os.urandom(size)))


def none_is_open(_: str) -> bool:
    return False


def test_records_are_read_in_the_order_in_which_they_were_queued(made: Ring) -> None:
    queue: deque[Any] = deque()
    for number in range(5):
        assert made.append(b"%d" % number, queue)
    assert list(queue) == [(made, number + 1, b"%d" % number) for number in range(5)]
    assert frames(made) == [Frame(number + 1, b"%d" % number) for number in range(5)]


def test_a_large_record_is_kept_without_the_body_beside_it(made: Ring) -> None:
    started = encode(SpanStarted("t", "s", None, "n", "LLM", 1, inputs=Payload(Codec.WIRE, b"", beside=True)))
    assert append(made, LargeRecord(started, b"x" * 100_000))
    assert frames(made) == [Frame(1, started)]


@pytest.mark.parametrize("word", ["api_key", "domain_secrets", "mcp", "authorization"])
def test_what_may_hold_credentials_is_not_kept(made: Ring, word: str) -> None:
    assert append(made, b'{"' + word.encode() + b'": "secret"}', b"a") == [False, True]
    assert word.encode() not in made._memory[:]


def test_only_this_user_can_read_it(made: Ring, database: Path) -> None:
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    assert find_rings(database) == [made.path]
    assert find_rings(database.with_name("other.db")) == []


def test_a_full_ring_refuses_and_takes_again_when_there_is_room(made: Ring) -> None:
    record = chunk("s")
    kept = append(made, *[record] * 100)
    assert kept == sorted(kept, reverse=True)
    assert 0 < sum(kept) < 100
    made.settle(made.sequence)
    made.make_room(none_is_open)
    assert append(made, record) == [True]
    assert frames(made)[-1].record == record


def test_what_is_not_stored_yet_is_never_freed(made: Ring) -> None:
    kept = sum(append(made, *[chunk("s")] * 100))
    made.settle(3)
    made.make_room(none_is_open)
    assert [frame.sequence for frame in frames(made)] == list(range(4, kept + 1))


def test_records_of_open_spans_outlive_many_laps(made: Ring) -> None:
    started = encode(SpanStarted("t", "open", None, "n", "LLM", 1))
    noted = encode(SpanNoted("open", "event", 2))
    append(made, started, *[chunk("ended")] * 10, noted)
    for _ in range(500):
        assert append(made, chunk("ended")) == [True]
        made.settle(made.sequence)
        made.make_room(lambda span_id: span_id == "open")
    assert [frame for frame in frames(made) if frame.record in (started, noted)] == [
        Frame(1, started),
        Frame(12, noted),
    ]


def test_open_spans_that_fill_the_ring_cost_others_their_place_but_nothing_else(made: Ring) -> None:
    first = encode(SpanStarted("t", "open", None, "n", "LLM", 1))
    append(made, first)
    for _ in range(200):
        append(made, chunk("open"))
        made.settle(made.sequence)
        made.make_room(lambda span_id: True)
    assert frames(made)[0] == Frame(1, first)


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 9000), st.booleans(), st.booleans()), max_size=80),
    st.randoms(use_true_random=False),
)
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_course_keeps_all_that_is_not_stored_and_all_that_is_open(
    database: Path, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[int, bool, bool]], random: Any
) -> None:
    monkeypatch.setattr(ring, "AHEAD_BYTES", 8 * 1024)
    made = Ring(database, current_process(), SMALL)
    kept: dict[int, tuple[str, bytes]] = {}
    open_spans: set[str] = set()
    for number, (size, ends, settles) in enumerate(steps):
        span_id = random.choice(sorted(open_spans)) if open_spans and number % 3 else f"s{number}"
        open_spans.add(span_id)
        record = chunk(span_id, size)
        if append(made, record) == [True]:
            kept[made.sequence] = (span_id, record)
        if ends:
            open_spans.discard(span_id)
        if settles:
            made.settle(made.sequence)
            if open_spans:
                made.make_room(open_spans.__contains__)
            else:
                made.rewind()
    stored = read_progress(made._memory).committed
    found = dict(frames(made))
    for sequence, (span_id, record) in kept.items():
        if sequence > stored or span_id in open_spans:
            assert found[sequence] == record
    assert all(kept[sequence][1] == record for sequence, record in found.items())
    made.close()


def test_a_quiet_process_takes_little_memory(database: Path) -> None:
    made = Ring(database, current_process(), 16 * 1024 * 1024)
    for _ in range(100):
        assert all(append(made, *[chunk("s", 10_000)] * 10))
        made.settle(made.sequence)
        made.rewind()
    assert os.stat(made.path).st_blocks * 512 < 4 * 1024 * 1024
    append(made, b"the last")
    assert frames(made)[-1] == Frame(1001, b"the last")
    made.settle(made.sequence)
    made.close()


def test_a_small_ring_beside_a_busy_process_is_freed_though_no_span_is_open(made: Ring) -> None:
    for _ in range(300):
        assert append(made, chunk("s", 2000), chunk("s", 2000)) == [True, True]
        made.settle(made.sequence - 1)  # there is always something that is not stored yet
        made.rewind()
        made.make_room(none_is_open)


def test_what_the_worker_adds_is_marked_as_stored(made: Ring) -> None:
    append(made, b"a")
    assert made.keep(b"stored")
    append(made, b"b")
    assert [(frame.record, frame.is_stored) for frame in frames(made)] == [
        (b"a", False),
        (b"b", False),
        (b"stored", True),
    ]
    made.settle(2)
    assert made.close()


@contextlib.contextmanager
def held(made: Ring) -> Iterator[None]:
    """Have another thread hold the lock."""
    taken, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with made._lock:
            taken.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    yield
    go_on.set()
    thread.join()


def test_nobody_waits_for_a_lock_that_was_left_taken(made: Ring) -> None:
    append(made, *[chunk("s", 1000)] * 40)
    made.settle(40)
    with held(made):
        assert not made.keep(b"stored")
        made.make_room(lambda _: True)
        made.rewind()


def test_an_ended_ring_takes_and_moves_nothing(made: Ring) -> None:
    append(made, *[chunk("s", 1000)] * 40)
    made.settle(39)
    assert not made.close()
    assert append(made, b"late") == [False]
    made.make_room(lambda _: True)
    made.rewind()
    assert made.keep(b"stored")
    made.settle(40)
    assert made.close()
    assert not made.path.exists()


def test_a_record_that_would_cost_the_caller_more_than_the_call_is_not_kept(made: Ring) -> None:
    assert append(made, b"x" * (ring.MAX_RECORD + 1), b"a") == [False, True]


def test_of_a_span_that_may_hold_credentials_nothing_but_skeletons_is_kept(made: Ring) -> None:
    """The reads of its stream need not name what they hold."""
    span_id = "1" * 16
    question = Payload(Codec.WIRE, b'{"tools":[{"type":"mcp","authorization":"SECRET"}]}')
    records = [
        encode(SpanStarted("2" * 32, span_id, None, "n", "LLM", 1, inputs=question)),
        encode(SpanChunk(span_id, 2, b"SECRET")),
        encode(SpanEnded(span_id, 3, Ending.RETURNED, Payload(Codec.WIRE, b"SECRET"))),
        chunk("3" * 16),
    ]
    assert append(made, *records) == [True, False, True, True]
    assert b"SECRET" not in made._memory[:]
    kept = [decode(frame.record) for frame in frames(made)]
    assert [type(record) for record in kept] == [SpanStarted, SpanEnded, SpanChunk]


# --- what a dead process left -----------------------------------------------------------------------------------------


def test_a_torn_frame_ends_the_ring(made: Ring) -> None:
    append(made, b"a" * 100, b"b" * 100, b"c" * 100)
    made._memory[HEADER + 2 * (FRAME.size + 104) + 50] ^= 1
    assert [frame.record[:1] for frame in frames(made)] == [b"a", b"b"]


def test_a_note_of_progress_that_was_torn_leaves_the_one_before(made: Ring) -> None:
    append(made, b"a", b"b")
    made.settle(1)
    made.settle(2)
    slot = SLOTS[made._notes % 2]
    made._memory[slot + 17] ^= 1
    assert read_progress(made._memory).committed == 1


def test_the_ring_of_a_living_process_is_left_alone(made: Ring, database: Path) -> None:
    def look() -> None:
        with owned(made.path) as descriptor:
            Path(f"{database}.seen").write_text(str(descriptor is None))

    in_a_child(look)
    assert Path(f"{database}.seen").read_text() == "True"


def test_the_owner_itself_looks_at_its_ring_and_keeps_the_lock(made: Ring, database: Path) -> None:
    """A POSIX lock goes when its process closes any descriptor of the file."""
    with owned(made.path) as descriptor:
        assert descriptor is None
    _left_rings.delete_orphans(database)
    test_the_ring_of_a_living_process_is_left_alone(made, database)


def test_two_of_one_process_do_not_take_the_same_ring_over(database: Path) -> None:
    in_a_child(lambda: append(Ring(database, current_process(), SMALL), b"a"))
    (path,) = find_rings(database)
    with owned(path) as first, owned(path) as second:
        assert first is not None
        assert second is None


def test_what_was_killed_as_it_was_made_is_deleted_a_day_later(
    database: Path, made: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = made.path.with_name("0.new")
    unfinished.touch(0o600)
    _left_rings.delete_orphans(database)
    assert unfinished.exists()
    monkeypatch.setattr(_left_rings, "_ORPHANED_AFTER", -1.0)
    _left_rings.delete_orphans(database)
    assert not unfinished.exists()
    assert made.path.exists()


def test_rings_of_a_directory_that_is_not_there_yet_are_no_orphans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "not" / "yet" / "t.db"
    in_a_child(lambda: append(Ring(database, current_process(), SMALL), b"a"))
    _left_rings.delete_orphans(database)
    assert len(find_rings(database)) == 1
    monkeypatch.setattr(_left_rings, "_ORPHANED_AFTER", -1.0)
    _left_rings.delete_orphans(database)
    assert len(find_rings(database)) == 1  # seen for the first time
    _left_rings.delete_orphans(database)
    assert find_rings(database) == []


def test_a_forked_child_lets_go_of_memory_and_file(made: Ring) -> None:
    def let_go() -> None:
        before = len(os.listdir("/proc/self/fd"))
        made.let_go()
        made.let_go()
        assert len(os.listdir("/proc/self/fd")) == before - 2  # ours, and the one of the mmap module
        assert append(made, b"a") == [False]

    in_a_child(let_go)
    assert append(made, b"a") == [True]


def test_the_ring_of_a_dead_process_can_be_had_though_its_child_lives(database: Path) -> None:
    reader, writer = os.pipe()

    def die() -> None:
        made = Ring(database, current_process(), SMALL)
        append(made, b"a")
        if not os.fork():
            os.read(reader, 1)
            os._exit(0)

    in_a_child(die)
    (path,) = find_rings(database)
    with owned(path) as descriptor:
        assert descriptor is not None
        owner = read_owner(descriptor)
        assert owner is not None
        assert owner.database == str(database)
        assert read(read_content(descriptor)) == [Frame(1, b"a")]
    os.write(writer, b"x")


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, bytes(10_000)], ids=["empty", "garbage", "zeros"])
def test_what_is_no_ring_is_no_ring(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ring"
    path.write_bytes(content)
    with owned(path) as descriptor:
        assert descriptor is None or read_owner(descriptor) is None


def test_another_users_file_is_not_opened(made: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with owned(made.path) as descriptor:
        assert descriptor is None


# --- places -----------------------------------------------------------------------------------------------------------


def test_without_shared_memory_it_lies_beside_the_database(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ring_file, "SHARED_MEMORY", database.with_name("missing"))
    made = Ring(database, current_process(), SMALL)
    assert made.path.parent == Path(f"{database}-spool")
    made.close()
    assert find_rings(database) == []


def test_where_there_is_little_room_it_is_smaller(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = os.statvfs(database.parent)
    few = os.statvfs_result((4096, 4096, room.f_blocks, 0, 1000, 0, 0, 0, 0, 255))  # 4 MB are left

    monkeypatch.setattr(os, "statvfs", lambda _: few)
    made = Ring(database, current_process(), 32 * 1024 * 1024)
    assert made.size == 512 * 1024
    made.close()


def test_where_there_is_no_room_there_is_none(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = os.statvfs_result((4096, 4096, 10, 0, 10, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: none)
    with pytest.raises(OSError, match="no room for a crash ring"):
        Ring(database, current_process(), SMALL)


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, database: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shm" / f"tracer-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    made = Ring(database, current_process(), SMALL)
    assert made.path.parent == Path(f"{database}-spool")
    made.close()


# --- writers ----------------------------------------------------------------------------------------------------------


def sequence_of(place: int | Contended) -> int:
    sequence = place.sequence if isinstance(place, Contended) else place
    assert sequence is not None
    return sequence


def test_what_the_worker_takes_before_anybody_has_written_it_is_written_once(made: Ring) -> None:
    """Its thread found the ring busy, and has just put it into the queue."""
    late = Contended(b"late")
    assert made.place(late) == 1
    made._contended.append(late)
    assert append(made, b"next") == [True]
    assert [frame.record for frame in frames(made)] == [b"late", b"next"]
    assert made.place(late) == 1


def test_what_the_worker_takes_from_a_ring_that_stays_busy_is_counted(made: Ring) -> None:
    late = Contended(b"late")
    with held(made):
        assert [made.place(late), made.place(late)] == [0, 0]
    assert made.left_out == 1
    made._contended.append(late)
    assert append(made, b"next") == [True]
    assert [frame.record for frame in frames(made)] == [b"next"]


def test_who_finds_the_ring_busy_does_not_wait_and_is_kept_all_the_same(made: Ring) -> None:
    queue: deque[Any] = deque()
    with held(made):
        assert made.append(b"a", queue)
        assert made.append(b"b", queue)
    assert frames(made) == []
    assert made.append(b"c", queue)
    assert [frame.record for frame in frames(made)] == [b"a", b"b", b"c"]
    assert [(sequence_of(place), record) for _, place, record in queue] == [(1, b"a"), (2, b"b"), (3, b"c")]
    with held(made):
        assert made.append(b"last", queue)
    assert made.reached_when_empty() == 4
    assert frames(made)[-1].record == b"last"
    made.settle(4)


def test_many_threads_keep_the_order_of_their_queue(made: Ring) -> None:
    queue: deque[Any] = deque()

    def work() -> None:
        for _ in range(200):
            made.append(b"x" * 20, queue)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queue) == 1600
    at_once = [place for _, place, _ in queue if not isinstance(place, Contended)]
    assert at_once == sorted(set(at_once))
    assert made.reached_when_empty() == 1600
    assert sorted(sequence_of(place) for _, place, _ in queue) == list(range(1, 1601))
    assert [frame.sequence for frame in frames(made)] == list(range(1, 1601))


def test_what_waits_for_a_thread_that_does_not_come_back_is_counted(
    made: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: deque[Any] = deque()
    with held(made):
        made.append(b"x", queue)
        made.forget_if_stuck()
        monkeypatch.setattr(ring, "STUCK_AFTER", -1)
        made.forget_if_stuck()
        assert (made.left_out, list(made._contended), len(queue)) == (1, [], 1)
        assert not made.close()
    made.append(b"y", queue)
    assert [frame.record for frame in frames(made)] == [b"y"]


def test_a_lock_that_ctrl_c_left_with_its_thread_goes_with_its_next_record(made: Ring) -> None:
    made._lock.acquire()  # and here comes Ctrl-C
    append(made, b"x")
    assert not made._lock._is_owned()
    assert [frame.record for frame in frames(made)] == [b"x"]


def test_a_record_made_by_the_code_that_interrupts_a_record(made: Ring) -> None:
    """A signal handler, or a finalizer, runs in the middle of `append`, in the same thread."""
    queue: deque[Any] = deque()
    write = made._write

    def interrupted(data: bytes, crc: int, sequence: int) -> bool:
        made._write = write  # type: ignore[method-assign]
        assert made.append(b"inner", queue)
        return write(data, crc, sequence)

    made._write = interrupted  # type: ignore[method-assign]
    assert made.append(b"outer", queue)
    assert not made._lock._is_owned()
    assert [frame.record for frame in frames(made)] == [b"outer", b"inner"]
    assert [record for _, _, record in queue] == [b"inner", b"outer"]


def test_a_ring_whose_file_or_descriptor_is_gone_is_noticed(made: Ring) -> None:
    assert made.is_sound
    made.path.unlink()
    assert not made.is_sound


def test_shared_memory_is_left_for_others(made: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ring_file, "RESERVE", 2**60)
    monkeypatch.setattr(_ring_file, "MAX_SHARE", 1)
    monkeypatch.setattr(made, "_allocated", 0)
    assert not made._allocate(1)


def test_after_a_large_request_only_skeletons_are_kept_until_the_worker_has_looked_at_it(made: Ring) -> None:
    span_id = f"{1:016x}"
    start = encode(SpanStarted(f"{1:032x}", span_id, None, "Completions", "CHAT_MODEL", 1, operation="chat"))
    append(made, LargeRecord(start, b"x" * 70_000), chunk(span_id, 10))
    made.allow(span_id)
    append(made, chunk(span_id, 10))
    kept = [type(decode(frame.record)).__name__ for frame in frames(made)]
    assert kept == ["SpanStarted", "SpanChunk"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_ring_that_could_not_be_made_is_made_later(
    database: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    queue = RecordQueue(10, 10_000)
    crash_ring = CrashRing(queue, Settings)
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(CrashRing, "_open", lambda *_: (_ for _ in ()).throw(error()))
        crash_ring.open(database)
    assert not crash_ring._changing._is_owned()
    assert queue.lacks_ring is (error is KeyboardInterrupt)  # at once, or a minute later
    crash_ring._try_again_at = 0.0
    crash_ring.settle({}, Assembler(current_process()))
    assert queue.lacks_ring
    crash_ring.open(database)
    assert crash_ring.place is not None
    crash_ring.end()


def test_keys_are_seen_wherever_an_error_quotes_them() -> None:
    for size in range(20, 300):
        text = "sk-proj-0123456789abcdef0123456789" + "." * size
        for record in (
            SpanEnded("1", 1, Ending.RAISED, failure=Failure("E", text)),
            SpanEnded("1", 1, Ending.RAISED, failure=Failure("E", "", cause=Failure("E", text))),
            SpanUpdated("1", status=("ERROR", text)),
        ):
            assert quotes_a_key(record), (size, record)


@pytest.mark.parametrize("redact", [(), (str.upper,)])
def test_a_start_that_the_ring_refused_is_added_as_far_as_it_may_lie_there(
    made: Ring, redact: tuple[Callable[[str], str], ...]
) -> None:
    queue, assembler = RecordQueue(10, 10_000), Assembler(current_process())
    crash_ring = CrashRing(queue, lambda: Settings(redact=redact))
    crash_ring._ring, made.keeps_texts = made, not redact
    question = Payload(Codec.VALUE, b"\xa7private")
    for operation, words in ((None, b"name"), ("chat", b"\x22api_key\x22")):
        inputs = question if operation is None else Payload(Codec.WIRE, b'{"api_key":"private"}')
        number = 1 if operation is None else 2
        ids = f"{number:032x}", f"{number:016x}", None
        start = encode(SpanStarted(*ids, "name", "TOOL", 1, operation=operation, inputs=inputs))
        assembler.feed(start)
        queue.missed.append(start)
        assert words in start
    crash_ring.settle({}, assembler)
    mine, calls = (frame.record for frame in frames(made))
    assert (b"private" in mine, b"name" in mine) == (not redact, not redact)
    assert b"private" not in calls


def test_what_found_the_ring_busy_is_known_to_be_stored_once_the_queue_was_empty(made: Ring) -> None:
    queue = RecordQueue(10, 10_000)
    queue.set_ring(made)
    queue.push(b"first", Rank.END)
    with held(made):
        queue.push(b"second", Rank.END)
    assert len(queue.drain(10, 10_000)) == 2
    assert queue.take_ringed() == {made: 2}


def test_the_worker_counts_what_waits_for_a_thread_that_does_not_come_back(
    made: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, assembler = RecordQueue(10, 10_000), Assembler(current_process())
    crash_ring = CrashRing(queue, Settings)
    crash_ring._ring = made
    queue.set_ring(made)
    monkeypatch.setattr(ring, "STUCK_AFTER", -1)
    with held(made):
        queue.push(b"x", Rank.END)
        crash_ring.settle({}, assembler)
        crash_ring.settle({}, assembler)
        assert queue.unringed == 1


def test_a_child_that_has_not_noticed_its_fork_leaves_the_ring_to_its_parent(
    made: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: deque[Any] = deque()
    monkeypatch.setattr(ring, "mark", [0])  # as memory reads that the kernel wipes in a child
    assert not made.append(b"x", queue)
    assert (frames(made), list(queue)) == ([], [])
