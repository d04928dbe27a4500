"""The queue's rules: bounds, the order in which records are refused, exact counts, and no lost wake-up."""

from __future__ import annotations

import collections
import gc
import itertools
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.capture.records import Encoded, Rank
from tracer.pipeline._queue import RecordQueue, Tally

EVERYTHING = 2**62
RANKS = st.sampled_from(list(Rank))


def drain_all(queue: RecordQueue) -> list[Encoded]:
    records = queue.drain(EVERYTHING, EVERYTHING)
    assert queue.drain(EVERYTHING, EVERYTHING) == []
    return records


# --- laws ---------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 50),
    st.integers(1, 2_000),
    st.lists(st.one_of(st.tuples(RANKS, st.integers(0, 300)), st.integers(0, 20)), max_size=200),
)
def test_accepted_and_refused_add_up_and_bounds_hold(
    max_records: int, max_bytes: int, steps: list[tuple[Rank, int] | int]
) -> None:
    queue = RecordQueue(max_records, max_bytes)
    offered, ends, sent, received = 0, 0, [], []
    for step in steps:
        if isinstance(step, int):
            received += queue.drain(step, EVERYTHING)
            continue
        rank, size = step
        record = offered.to_bytes(4, "big") + bytes(size)
        offered += 1
        ends += rank is Rank.END
        if queue.push(record, rank):
            sent.append(record)
        else:
            assert rank is not Rank.END
        counts = queue.statistics()
        assert counts.accepted + sum(counts.refused.values()) == offered
        assert counts.accepted == counts.drained + counts.depth
        assert counts.depth <= max_records + ends
        assert counts.bytes == sum(map(len, sent)) - sum(map(len, received))
    assert received + drain_all(queue) == sent  # in order, each once
    assert queue.statistics().bytes == queue.statistics().depth == 0


@given(st.integers(1, 30), st.integers(1, 5_000), st.lists(st.integers(0, 400), max_size=60))
def test_a_drain_takes_no_more_than_asked_for(max_records: int, max_bytes: int, sizes: list[int]) -> None:
    queue = RecordQueue(EVERYTHING, EVERYTHING)
    for size in sizes:
        queue.push(bytes(size), Rank.START)
    while records := queue.drain(max_records, max_bytes):
        assert len(records) <= max_records
        assert sum(map(len, records[:-1])) < max_bytes
    assert queue.drained == len(sizes)


# --- the ladder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rank", "accepted"), [(Rank.CHUNK, 80), (Rank.DETAIL, 90), (Rank.START, 100), (Rank.END, 150)]
)
def test_each_rank_is_refused_from_its_own_mark_of_the_count(rank: Rank, accepted: int) -> None:
    queue = RecordQueue(100, EVERYTHING)
    assert sum(queue.push(b"x", rank) for _ in range(150)) == accepted
    assert queue.statistics().refused.get(rank.name.lower(), 0) == 150 - accepted


@pytest.mark.parametrize(
    ("rank", "accepted"), [(Rank.CHUNK, 80), (Rank.DETAIL, 90), (Rank.START, 100), (Rank.END, 150)]
)
def test_each_rank_is_refused_from_its_own_mark_of_the_bytes(rank: Rank, accepted: int) -> None:
    queue = RecordQueue(EVERYTHING, 100_000)
    assert sum(queue.push(bytes(1_000), rank) for _ in range(150)) == accepted


@pytest.mark.parametrize("rank", [Rank.CHUNK, Rank.DETAIL, Rank.START])
def test_room_is_there_exactly_if_a_push_would_be_accepted(rank: Rank) -> None:
    queue = RecordQueue(10, 1_000)
    while queue.has_room(rank, 90):
        assert queue.push(bytes(90), rank)
    assert not queue.push(bytes(90), rank)


def test_a_record_that_was_not_even_made_is_counted() -> None:
    queue = RecordQueue(10, 1_000)
    queue.refuse(Rank.DETAIL)
    assert queue.statistics().refused == {"chunk": 0, "detail": 1, "start": 0}


def test_new_limits_hold_at_once_and_keep_what_is_queued() -> None:
    queue = RecordQueue(10, 10_000)
    assert all(queue.push(b"x", Rank.START) for _ in range(10))
    queue.set_limits(5, 10_000)
    assert not queue.push(b"x", Rank.START)
    assert len(drain_all(queue)) == 10


def test_a_tally_counts_what_many_threads_add() -> None:
    tally = Tally()
    run_together(*[lambda: collections.deque(map(Tally.add, itertools.repeat(tally, 20_000)), maxlen=0)] * 4)
    assert tally.value == 80_000


# --- threads --------------------------------------------------------------------------------------------------------


def run_together(*functions: Any) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_nothing_is_lost_or_doubled_between_many_producers_and_a_consumer() -> None:
    queue = RecordQueue(5_000, EVERYTHING)
    accepted: list[list[bytes]] = [[] for _ in range(8)]
    received: list[Any] = []
    stop = threading.Event()

    def produce(own: list[bytes], name: int) -> None:
        for number in range(12_500):
            record = b"%d/%d" % (name, number)
            if queue.push(record, Rank.START):
                own.append(record)

    def consume() -> None:
        while not stop.is_set():
            received.extend(queue.drain(100, EVERYTHING))

    consumer = threading.Thread(target=consume)
    consumer.start()
    run_together(*[lambda own=own, name=name: produce(own, name) for name, own in enumerate(accepted)])
    stop.set()
    consumer.join()
    received.extend(drain_all(queue))

    counts = queue.statistics()
    assert sorted(received) == sorted(record for own in accepted for record in own)
    assert counts.accepted == counts.drained == len(received)
    assert counts.accepted + counts.refused["start"] == 100_000
    assert counts.bytes == 0
    for name, own in enumerate(accepted):
        assert [record for record in received if record.startswith(b"%d/" % name)] == own, "a thread's order is kept"


def test_counting_beside_a_consumer_never_goes_back() -> None:
    queue = RecordQueue(EVERYTHING, EVERYTHING)
    seen: list[int] = []
    stop = threading.Event()

    def produce() -> None:
        for _ in range(50_000):
            queue.push(b"x", Rank.START)
        stop.set()

    def consume() -> None:
        while not stop.is_set():
            queue.drain(500, EVERYTHING)

    def look() -> None:
        while not stop.is_set():
            seen.append(queue.statistics().accepted)

    run_together(produce, consume, look)
    # The one record that is on its way from "queued" to "drained" may be missing for a moment.
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(seen))
    assert queue.accepted == 50_000


def test_a_finalizer_may_push_in_the_middle_of_a_push() -> None:
    queue = RecordQueue(EVERYTHING, EVERYTHING)
    pushed = 0

    class Dropped:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            nonlocal pushed
            pushed += queue.push(b"from a finalizer", Rank.END)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(2_000):
            Dropped()
            assert queue.push(bytes(10), Rank.START)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert pushed == 2_000
    assert len(drain_all(queue)) == 4_000


# --- waking ---------------------------------------------------------------------------------------------------------


def test_the_next_record_wakes_a_consumer_that_sleeps_for_long_once() -> None:
    queue, rings = RecordQueue(100, EVERYTHING), []
    queue.call_when(lambda: rings.append(len(queue)), at_once=True)
    for _ in range(3):
        queue.push(b"x", Rank.START)
    assert rings == [1], "after the record is there, and only once"


@pytest.mark.parametrize(("records", "size"), [(100, 1), (1_000, 100)], ids=["by count", "by bytes"])
def test_half_a_queue_wakes_a_consumer_that_sleeps_for_a_moment(records: int, size: int) -> None:
    queue, rings = RecordQueue(records, 10_000), []
    queue.call_when(lambda: rings.append(len(queue)), at_once=False)
    for _ in range(80):
        queue.push(bytes(size), Rank.START)
    assert len(rings) == 1
    assert 50 <= rings[0] <= 51


def test_a_refused_record_wakes_nobody() -> None:
    queue, rings = RecordQueue(1, EVERYTHING), []
    queue.push(b"x", Rank.START)
    queue.call_when(lambda: rings.append(1), at_once=True)
    assert not queue.push(b"x", Rank.START)
    assert rings == []


def test_a_ring_that_was_interrupted_is_repeated_by_the_next_producer() -> None:
    queue, rings = RecordQueue(100, EVERYTHING), []

    def ring() -> None:
        rings.append(1)
        if len(rings) == 1:
            raise KeyboardInterrupt

    queue.call_when(ring, at_once=True)
    with pytest.raises(KeyboardInterrupt):
        queue.push(b"x", Rank.START)
    queue.push(b"x", Rank.START)
    assert rings == [1, 1]


def test_a_producer_that_comes_late_silences_only_the_sleep_it_rang_for() -> None:
    queue, rings = RecordQueue(100, EVERYTHING), []

    def ring() -> None:
        rings.append("first")
        queue.call_when(lambda: rings.append("second"), at_once=True)  # the consumer wakes and sleeps again meanwhile

    queue.call_when(ring, at_once=True)
    queue.push(b"x", Rank.START)
    queue.push(b"x", Rank.START)
    assert rings == ["first", "second"]


def test_no_wake_up_is_lost() -> None:
    """A consumer that sleeps without a limit gets every record, 3,000 times over, from two racing producers."""
    queue = RecordQueue(EVERYTHING, EVERYTHING)
    received = 0
    wanted = 6_000
    arrived = threading.Semaphore(0)

    def consume() -> None:
        nonlocal received
        while received < wanted:
            awake = threading.Event()
            if records := queue.drain(EVERYTHING, EVERYTHING):
                received += len(records)
                arrived.release(len(records))
                continue
            queue.call_when(awake.set, at_once=True)
            if not len(queue) and not awake.wait(20):
                return

    def produce() -> None:
        for _ in range(wanted // 2):
            queue.push(b"x", Rank.START)
            assert arrived.acquire(timeout=20)

    run_together(consume, produce, produce)
    assert received == wanted


def test_the_bounds_of_bytes_hold_to_the_byte() -> None:
    rung: list[None] = []
    queue = RecordQueue(1_000, 100)
    queue.call_when(lambda: rung.append(None), at_once=False)
    assert queue.push(b"x" * 49, Rank.CHUNK)
    assert not rung
    assert queue.push(b"x", Rank.CHUNK)
    assert len(rung) == 1  # half of it is full
    assert not queue.push(b"x" * 31, Rank.CHUNK)
    assert queue.push(b"x" * 30, Rank.CHUNK)
    assert not queue.push(b"x", Rank.CHUNK)
