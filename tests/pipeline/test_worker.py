"""The worker: writes everything once, survives its store's and its own failures, and counts what it could not keep."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

import tracer
import tracer.pipeline.worker as worker_module
from tests.scripted_store import ScriptedStore, ended, eventually, started
from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError, TransientStoreError
from tracer._runtime import runtime
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Codec, Payload, Rank, SpanChunk, encode
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline.worker import Worker
from tracer.testing import isolated

Log = list[logging.LogRecord]


class Bench:
    """A worker over a scripted store, with hands on its queue."""

    def __init__(self) -> None:
        self.store = ScriptedStore()
        self.queue = RecordQueue(100_000, 2**30)
        self.settings = Settings(batch_interval=0.002)
        self.worker = Worker(self.queue, self.store, lambda: self.settings, ErrorLog())

    def push(self, *records: bytes) -> None:
        for record in records:
            assert self.queue.push(record, Rank.START)
        if not self.worker.is_running:
            self.worker.try_to_start()

    def settled(self) -> None:
        """Wait until all that was pushed is written or lost."""
        eventually(lambda: self.worker.writer.counts.settled == self.queue.accepted)

    def end(self, timeout: float = 20.0) -> None:
        self.worker.stop(timeout)
        self.worker.join(timeout + 20)
        assert not self.worker.is_running


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.store.gate.set()
    bench.end(0.0)


def messages(log: Log) -> list[str]:
    """What was logged since the last look."""
    texts = [record.getMessage() for record in log]
    log.clear()
    return texts


async def nothing() -> None:
    pass


# --- writing --------------------------------------------------------------------------------------------------------


def test_everything_is_written_once_and_in_order(bench: Bench) -> None:
    for number in range(1, 501):
        bench.push(started(number), ended(number))
    bench.end()
    assert bench.store.ended == [f"{number:016x}" for number in range(1, 501)]
    assert bench.worker.writer.counts.settled == 1_000
    assert bench.worker.writer.counts.lost == 0
    assert bench.store.closed == 1


def test_a_batch_has_no_more_records_than_set(bench: Bench) -> None:
    bench.settings = Settings(batch_max_records=10, batch_interval=0.002)
    bench.push(*map(started, range(1, 96)))
    bench.settled()
    assert [len(batch.spans) for batch in bench.store.batches[:9]] == [10] * 9
    assert sum(len(batch.spans) for batch in bench.store.batches) == 95


def test_a_batch_has_few_large_records(bench: Bench) -> None:
    body = Payload(Codec.VALUE, b"\xc6" + (1 << 20).to_bytes(4, "big") + b"x" * (1 << 20))
    bench.push(*[started(number, inputs=body) for number in range(1, 21)])
    bench.settled()
    assert max(len(batch.spans) for batch in bench.store.batches) <= 8
    assert sum(len(batch.spans) for batch in bench.store.batches) == 20


def stored_losses(bench: Bench) -> dict[str, int]:
    losses = bench.worker.submit(bench.store.losses).result(20)
    return {loss.reason: loss.count for loss in losses}


def test_refused_spans_are_stored_though_nothing_comes_after_them(bench: Bench) -> None:
    bench.push(started(1), ended(1))
    bench.settled()
    for _ in range(3):
        bench.queue.refuse(Rank.START)
    bench.queue.refuse(Rank.CHUNK)  # of a trace that says so itself
    bench.worker.wake()
    eventually(lambda: stored_losses(bench) == {"start": 3})
    bench.queue.refuse(Rank.START)
    bench.push(started(2), ended(2))
    bench.settled()
    assert stored_losses(bench) == {"start": 4}


def test_lost_batches_are_stored_when_the_store_takes_batches_again(bench: Bench, tracer_log: Log) -> None:
    bench.store.always = StoreError("no")
    bench.push(started(1), ended(1))
    bench.settled()
    bench.store.always = None
    bench.push(started(2), ended(2))
    bench.settled()
    eventually(lambda: stored_losses(bench) == {"lost": 2})
    assert bench.worker.writer.counts.lost == 2
    tracer_log.clear()


def test_losses_are_stored_at_the_end(tmp_path: Path) -> None:
    with isolated(f"sqlite:///{tmp_path}/losses.db"), tracer.start_span("full"):
        pipeline = runtime.pipeline_for_spans()
        for _ in range(7):
            pipeline.refuse(Rank.START)
    with closing(sqlite3.connect(tmp_path / "losses.db")) as connection:
        assert connection.execute("SELECT reason, count FROM loss").fetchall() == [("start", 7)]


def test_an_idle_worker_is_woken_by_one_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BUSY_FOR", 0.0)  # it sleeps without a limit after each record
    for number in range(1, 201):
        bench.push(started(number))
        bench.settled()


def test_a_stopped_worker_starts_again_for_what_came_too_late(bench: Bench) -> None:
    bench.push(started(1))
    bench.end()
    bench.push(started(2))
    bench.settled()
    eventually(lambda: not bench.worker.is_running)
    assert bench.store.closed == 2


def test_no_record_is_left_behind_by_a_thread_that_ends(bench: Bench) -> None:
    """Each record comes in the very moment in which the thread may decide that nothing is left to do."""
    bench.worker.retire()
    for number in range(1, 151):
        bench.push(started(number), ended(number))
        if number % 3:
            time.sleep(number % 7 / 2_000)
    bench.settled()
    eventually(lambda: not bench.worker.is_running)
    assert sum(len(batch.spans) for batch in bench.store.batches) >= 150
    assert bench.worker.writer.counts.lost == 0


@pytest.mark.filterwarnings("ignore:.*[Pp]olicy.* is deprecated")  # since 3.14, where users can still set one
def test_the_worker_runs_a_loop_of_its_own_whatever_the_users_policy(bench: Bench) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def loop_type() -> type:
        return type(asyncio.get_running_loop())

    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        assert issubclass(bench.worker.submit(loop_type).result(20), asyncio.SelectorEventLoop)
    finally:
        asyncio.set_event_loop_policy(policy)


# --- a store that fails -----------------------------------------------------------------------------------------------


def test_a_busy_store_is_tried_again_until_it_takes_the_batch(bench: Bench, tracer_log: Log) -> None:
    bench.store.errors = [TransientStoreError("locked") for _ in range(3)]
    bench.push(started(1), ended(1))
    bench.settled()
    assert bench.store.ended == [f"{1:016x}"]
    assert (bench.worker.writer.counts.retries, bench.worker.writer.counts.lost) == (3, 0)
    assert len(messages(tracer_log)) == 1, "told once, not three times"


def test_what_the_store_refuses_for_good_is_lost_and_counted_and_the_rest_written(
    bench: Bench, tracer_log: Log
) -> None:
    bench.settings = Settings(batch_max_records=10, batch_interval=0.002)
    bench.store.errors = [StoreError("no"), StoreError("no"), ValueError("neither")]
    bench.push(*map(started, range(1, 101)))
    bench.settled()
    assert bench.worker.writer.counts.lost == 30
    assert sum(len(batch.spans) for batch in bench.store.batches) == 70
    (text,) = messages(tracer_log)
    assert "10 records could not be stored: no" in text


def test_a_stop_gives_a_failing_store_up_at_its_deadline_and_counts_the_rest(bench: Bench, tracer_log: Log) -> None:
    bench.settings = Settings(batch_max_records=10, batch_interval=0.002)
    bench.store.always = TransientStoreError("locked")
    bench.push(*map(started, range(1, 101)))
    eventually(lambda: bench.worker.writer.counts.retries > 0)
    bench.end(0.1)
    assert bench.worker.writer.counts.settled == bench.worker.writer.counts.lost == 100
    assert len(messages(tracer_log)) == 1


def test_a_reader_is_told_when_the_store_has_failed_for_long(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "READ_PATIENCE", 0.1)
    bench.store.always = TransientStoreError("locked")
    bench.push(started(1))
    with pytest.raises(StoreError, match="TransientStoreError: locked"):
        bench.worker.submit(bench.worker.settle_accepted).result(20)
    tracer_log.clear()


def test_a_thread_that_cannot_start_costs_nothing_but_time(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        bench.push(started(1), ended(1))
        bench.push(started(2), ended(2))
        with pytest.raises(StoreError, match="can't start new thread"):
            bench.worker.submit(nothing)
        assert len(messages(tracer_log)) == 1
    bench.push(started(3), ended(3))
    bench.settled()
    assert len(bench.store.ended) == 3


# --- records and loops that fail --------------------------------------------------------------------------------------


def test_a_record_whose_reading_fails_is_lost_alone(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Assembler.feed

    def fail_for_some(self: Assembler, raw: bytes, hooks: object = ()) -> None:
        if raw in (started(2), started(4)):
            raise KeyError("a bug")
        feed(self, raw, hooks)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(Assembler, "feed", fail_for_some)
    bench.store.gate.clear()
    bench.push(*map(started, range(1, 6)))
    bench.store.gate.set()
    bench.settled()
    assert bench.worker.writer.counts.lost == 2
    assert sum(len(batch.spans) for batch in bench.store.batches) == 3
    assert len(messages(tracer_log)) == 1


def test_a_batch_that_cannot_be_assembled_is_lost_alone(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_batch = Assembler.take_batch
    failures = iter([True])

    def fail_once(self: Assembler, *_: object) -> object:
        batch = take_batch(self)
        if next(failures, False):
            raise KeyError("a bug")
        return batch

    monkeypatch.setattr(Assembler, "take_batch", fail_once)
    bench.push(started(1))
    bench.settled()
    bench.push(started(2))
    bench.settled()
    assert bench.worker.writer.counts.lost == 1
    assert [span.span_id for batch in bench.store.batches for span in batch.spans] == [f"{2:016x}"]
    assert "could not be assembled" in messages(tracer_log)[0]


@pytest.mark.parametrize("written", [True, False])
def test_useless_records_are_counted_once_whatever_becomes_of_their_batch(
    bench: Bench, tracer_log: Log, written: bool
) -> None:
    orphan = encode(SpanChunk("f" * 16, 1, b"x"))
    bench.store.errors = [] if written else [StoreError("no")]
    for record in (started(1), orphan, b"\xc1 no record"):
        bench.queue.push(record, Rank.START)
    bench.worker.start()
    bench.settled()
    assert bench.worker.writer.counts.lost == (2 if written else 3)
    tracer_log.clear()


def test_a_failed_loop_starts_again_with_what_was_in_flight_counted(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RESTART_AFTER", 0.05)
    bench.store.errors = [SystemExit("killed")]
    for number in (1, 2, 3):
        bench.queue.push(started(number), Rank.START)
    bench.worker.start()
    eventually(lambda: bench.worker.writer.counts.lost == 3)
    bench.push(started(4), ended(4))
    bench.settled()
    assert bench.store.ended == [f"{4:016x}"]
    assert (bench.worker.writer.counts.settled, bench.worker.writer.counts.lost) == (5, 3)
    assert "3 records were lost as the worker failed; it starts again: killed" in messages(tracer_log)[0]


def test_a_loop_that_fails_always_starts_again_seldom_and_keeps_what_it_has_not_taken(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RESTART_AFTER", 0.1)
    starts: list[float] = []
    healthy = threading.Event()

    def settings() -> Settings:
        if not healthy.is_set():
            starts.append(time.monotonic())
            raise OSError("too many open files")
        return bench.settings

    bench.worker._settings = settings
    bench.push(started(1), ended(1))
    eventually(lambda: len(starts) >= 4)
    healthy.set()
    bench.settled()
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(starts))
    assert bench.worker.writer.counts.lost == 0
    assert len(messages(tracer_log)) == 1


def test_a_stop_during_a_failed_loops_pause_still_writes(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RESTART_AFTER", 60.0)
    bench.store.errors = [SystemExit("killed")]
    bench.push(started(1))
    eventually(lambda: bench.worker.writer.counts.lost == 1)
    bench.push(started(2), ended(2))
    bench.end()
    assert bench.store.ended == [f"{2:016x}"]
    tracer_log.clear()


def test_a_loop_that_fails_while_it_stops_is_given_up(bench: Bench, tracer_log: Log) -> None:
    bench.store.always = SystemExit("killed")
    bench.store.gate.clear()
    bench.push(started(1))
    eventually(lambda: len(bench.store.attempts) == 1)
    bench.push(started(2))
    bench.worker.stop(20)
    bench.store.gate.set()
    bench.worker.join(20)
    assert bench.worker.writer.counts.settled == bench.worker.writer.counts.lost == 2
    tracer_log.clear()


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_the_barrier_waits_for_all_that_was_accepted_before(bench: Bench) -> None:
    bench.store.gate.clear()
    bench.push(*map(started, range(1, 101)))
    future = bench.worker.submit(bench.worker.settle_accepted)
    with pytest.raises(concurrent.futures.TimeoutError):  # not the built-in one before 3.11
        future.result(0.05)
    bench.store.gate.set()
    future.result(20)
    assert bench.worker.writer.counts.settled >= 100


def test_a_jobs_exception_goes_to_who_asked_and_nowhere_else(bench: Bench) -> None:
    async def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bench.worker.submit(fail).result(20)
    assert bench.worker.submit(nothing).result(20) is None


def test_a_withdrawn_job_is_not_run(bench: Bench) -> None:
    ran = []

    async def job() -> None:
        ran.append(1)

    bench.worker.submit(nothing).result(20)
    for _ in range(20):
        future = bench.worker.submit(job)
        if future.cancel():
            bench.worker.submit(nothing).result(20)
            assert ran == []
        else:
            future.result(20)
            ran.clear()


@pytest.mark.parametrize("how", ["stop", "retire"])
def test_a_job_that_runs_is_finished_before_the_end(bench: Bench, how: str) -> None:
    running = threading.Event()

    async def job() -> str:
        running.set()
        await anyio.sleep(0.05)
        return "done"

    future = bench.worker.submit(job)
    assert running.wait(20)
    bench.worker.stop(20) if how == "stop" else bench.worker.retire()
    assert future.result(20) == "done"
    eventually(lambda: not bench.worker.is_running)


def test_a_job_that_outlasts_the_deadline_is_told_so(bench: Bench) -> None:
    running = threading.Event()

    async def job() -> None:
        running.set()
        await anyio.sleep_forever()

    future = bench.worker.submit(job)
    assert running.wait(20)
    bench.end(0.05)
    with pytest.raises(ClosedError, match="while the call ran"):
        future.result(20)


def test_a_job_in_a_loop_that_fails_is_told_so_and_one_that_waits_is_answered(
    bench: Bench, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RESTART_AFTER", 0.1)
    bench.store.errors = [SystemExit("killed")]
    future = bench.worker.submit(anyio.sleep_forever)
    bench.push(started(1))
    with pytest.raises(StoreError, match="worker failed while the call ran"):
        future.result(20)
    assert bench.worker.submit(nothing).result(20) is None
    tracer_log.clear()


def test_every_job_is_answered_by_a_worker_that_is_about_to_end(bench: Bench) -> None:
    bench.worker.retire()
    for number in range(150):
        future = bench.worker.submit(nothing)
        assert future.result(20) is None
        if number % 3:
            time.sleep(number % 7 / 2_000)


def test_a_retired_worker_waits_for_the_spans_that_run(bench: Bench) -> None:
    bench.push(started(1))
    bench.settled()
    bench.worker.retire()
    bench.worker.join(0.1)
    assert bench.worker.is_running
    bench.push(ended(1))
    eventually(lambda: not bench.worker.is_running)
    assert bench.store.ended == [f"{1:016x}"]


def test_a_withdrawn_question_ends_its_job_and_nothing_else(bench: Bench) -> None:
    begun, ended, finished = threading.Event(), threading.Event(), threading.Event()

    async def endless() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def other() -> int:
        while not finished.is_set():  # noqa: ASYNC110  the test sets it in its own thread
            await anyio.sleep(0.005)
        return 5

    staying = bench.worker.submit(other)
    question = bench.worker.submit(endless)
    assert begun.wait(20)
    assert not question.cancel()
    assert ended.wait(20)
    finished.set()
    assert staying.result(20) == 5
    assert not question.cancel()  # once more, when it has ended
