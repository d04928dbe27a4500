"""The runtime: switching stores, configuring live, shutting down, and any mix of loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import tracer
from tests.scripted_store import ScriptedStore, eventually, use
from tracer._models import TraceState
from tracer._runtime import runtime

Log = list[logging.LogRecord]


def uri(tmp_path: Path, name: str) -> str:
    return f"sqlite:///{tmp_path}/{name}.db"


def names(tmp_path: Path, name: str) -> list[tuple[str, str]]:
    """The traces in a file: (name, state)."""
    with closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'traces'").fetchone():
            return []  # its worker is about to create it
        return connection.execute("SELECT name, state FROM traces ORDER BY start_time_ns").fetchall()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tracer-worker"]


def record(name: str) -> str:
    with tracer.start_span(name) as span:
        return span.trace_id


def together(function: Callable[[], Any], count: int) -> None:
    """Run a function in many threads at the same moment; their exceptions fail the test."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run() -> None:
        barrier.wait(20)
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []


# --- switching --------------------------------------------------------------------------------------------------------


def test_spans_end_in_the_store_they_began_in(tmp_path: Path) -> None:
    tracer.set_tracking_uri(uri(tmp_path, "old"))
    with tracer.start_span("begun before"):
        tracer.set_tracking_uri(uri(tmp_path, "new"))
        with tracer.start_span("child of the old"):
            pass
    trace_id = record("begun after")
    assert tracer.sync.get_trace(trace_id).info.name == "begun after"
    eventually(lambda: names(tmp_path, "old") == [("begun before", "OK")])
    assert names(tmp_path, "new") == [("begun after", "OK")]
    with pytest.raises(tracer.TraceNotFoundError):
        tracer.sync.get_trace("1" * 32)


def test_twenty_switches_leave_one_worker(tmp_path: Path) -> None:
    for number in range(20):
        tracer.set_tracking_uri(uri(tmp_path, f"store{number}"))
        record(f"trace {number}")
    tracer.sync.flush()
    eventually(lambda: len(workers()) == 1)
    for number in range(20):
        assert names(tmp_path, f"store{number}") == [(f"trace {number}", "OK")]


def test_switching_to_the_same_store_changes_nothing(tmp_path: Path) -> None:
    tracer.set_tracking_uri(uri(tmp_path, "one"))
    first = runtime.pipeline
    tracer.set_tracking_uri(uri(tmp_path, "one"))
    assert runtime.pipeline is first


def test_switching_back_takes_up_the_pipeline_that_still_has_spans_to_end(tmp_path: Path) -> None:
    tracer.set_tracking_uri(uri(tmp_path, "one"))
    first = runtime.pipeline
    with tracer.start_span("long"):
        tracer.set_tracking_uri(uri(tmp_path, "two"))
        record("between")
        tracer.set_tracking_uri(uri(tmp_path, "one"))
        assert runtime.pipeline is first
        inner = tracer.sync.get_trace(runtime_trace_id())
        assert inner.info.state is TraceState.IN_PROGRESS
    assert record("later")
    tracer.sync.flush()
    assert names(tmp_path, "one") == [("long", "OK"), ("later", "OK")]


def runtime_trace_id() -> str:
    span = tracer.get_current_active_span()
    assert span is not None
    return span.trace_id


def test_a_read_that_runs_is_answered_though_the_store_is_switched(tmp_path: Path) -> None:
    store = ScriptedStore()
    use(store)
    trace_id = record("s")
    tracer.sync.flush()
    store.gate.clear()
    answers: list[tracer.Trace] = []
    reader = threading.Thread(target=lambda: answers.append(tracer.sync.get_trace(trace_id)))
    pipeline = runtime.pipeline
    reader.start()
    eventually(lambda: bool(pipeline._worker._jobs.running))
    tracer.set_tracking_uri(uri(tmp_path, "other"))
    store.gate.set()
    reader.join(20)
    assert [trace.info.trace_id for trace in answers] == [trace_id]


def test_a_bad_uri_leaves_everything_as_it_was(tmp_path: Path) -> None:
    before = tracer.get_tracking_uri()
    with pytest.raises(tracer.ConfigurationError):
        tracer.set_tracking_uri(f"sqlite:///{tmp_path}")
    assert tracer.get_tracking_uri() == before
    assert tracer.sync.get_trace(record("s")).info.name == "s"


def test_switching_beside_threads_that_record_loses_nothing(tmp_path: Path) -> None:
    done = threading.Event()
    made = [0] * 3

    def work(index: int) -> None:
        while not done.is_set():
            record("s")
            made[index] += 1
            time.sleep(0.0002)  # slower than the queue can take them: nothing is refused here

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for number in range(30):
        tracer.set_tracking_uri(uri(tmp_path, f"store{number % 3}"))
        time.sleep(0.005)  # lets the threads work
    done.set()
    for thread in threads:
        thread.join()
    tracer.sync.flush()
    eventually(lambda: len(workers()) == 1)
    files = ["tracer", *(f"store{number}" for number in range(3))]
    stored = [row for file in files if (tmp_path / f"{file}.db").exists() for row in names(tmp_path, file)]
    assert len(stored) == sum(made)
    assert {state for _, state in stored} == {"OK"}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_take_effect_at_once() -> None:
    record("s")
    tracer.configure(queue_max_records=7, redact=lambda text: text.replace("secret", "***"))
    assert runtime.pipeline.settings.queue_max_records == 7
    with tracer.start_span("s") as span:
        span.set_inputs("a secret")
    assert tracer.sync.get_trace(span.trace_id).data.spans[0].inputs == "a ***"


def test_settings_reach_the_stores_that_finish_their_spans(tmp_path: Path) -> None:
    with tracer.start_span("old") as span:
        old = runtime.pipeline
        tracer.set_tracking_uri(uri(tmp_path, "new"))
        tracer.configure(queue_max_records=7)
        assert span.settings is old.settings
        assert old.settings.queue_max_records == 7


def test_wrong_settings_change_nothing() -> None:
    with pytest.raises(tracer.ConfigurationError):
        tracer.configure(queue_max_records=5, batch_interval=-1)
    assert runtime.settings.queue_max_records == 16_384


def test_settings_made_by_many_threads_all_hold() -> None:
    numbers = iter(range(1, 100))
    fields = ["queue_max_records", "batch_max_records", "max_payload_bytes"] * 4
    changes = iter([(field, next(numbers)) for field in fields])
    together(lambda: tracer.configure(**dict([next(changes)])), len(fields))
    settings = runtime.settings
    assert settings.queue_max_records < 100
    assert settings.batch_max_records < 100
    assert settings.max_payload_bytes < 100


# --- first use --------------------------------------------------------------------------------------------------------


def test_first_use_from_many_threads_makes_one_pipeline_and_one_worker() -> None:
    pipelines = set()

    def use() -> None:
        record("s")
        pipelines.add(runtime.pipeline)

    together(use, 20)
    tracer.sync.flush()
    assert len(pipelines) == 1
    assert len(tracer.sync.search_traces()) == 20
    assert len(workers()) == 1


# --- the end ----------------------------------------------------------------------------------------------------------


def test_after_shutdown_spans_are_counted_and_readers_told() -> None:
    record("kept")
    assert tracer.sync.shutdown() == 0
    record("too late")
    assert tracer.stats().dropped["closed"] == 1, "one span, not its start and its end"
    assert tracer.stats().written == 2
    with pytest.raises(tracer.ClosedError):
        tracer.sync.get_trace("1" * 32)
    assert tracer.sync.shutdown() == 0
    eventually(lambda: workers() == [])


def test_a_shutdown_before_anything_was_traced() -> None:
    assert tracer.sync.shutdown() == 0
    record("too late")
    assert tracer.stats().dropped["closed"] == 1
    assert workers() == []


def test_tracer_opens_again_in_the_same_store(tmp_path: Path) -> None:
    first = record("first")
    tracer.sync.shutdown()
    tracer.set_tracking_uri(tracer.get_tracking_uri())
    second = record("second")
    assert tracer.sync.get_trace(first).info.name == "first"
    assert tracer.sync.get_trace(second).info.name == "second"


def test_a_span_that_outlives_its_shutdown_is_interrupted_and_its_children_are_kept(tmp_path: Path) -> None:
    with tracer.start_span("outlives") as span:
        tracer.sync.shutdown()
        tracer.set_tracking_uri(uri(tmp_path, "tracer"))
        with tracer.start_span("child") as child:
            pass
    assert child.trace_id == span.trace_id
    tracer.sync.flush()
    trace = tracer.sync.get_trace(span.trace_id)
    assert {found.name for found in trace.data.spans} == {"outlives", "child"}


def test_shutdown_puts_aside_what_a_locked_database_kept_out(tmp_path: Path, tracer_log: Log) -> None:
    with closing(sqlite3.connect(tmp_path / "tracer.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(5):
            record("s")
        assert tracer.sync.shutdown(timeout=3) == 0
        assert tracer.stats().spooled == 10
        other.execute("COMMIT")
    assert tracer.sync.shutdown() == 0
    tracer.set_tracking_uri(f"sqlite:///{tmp_path}/tracer.db")
    assert len(tracer.sync.search_traces()) == 5
    assert any("waits in" in record.getMessage() for record in tracer_log)
    tracer_log.clear()


def test_shutdown_returns_what_could_not_be_kept(tmp_path: Path, tracer_log: Log) -> None:
    (tmp_path / "tracer.db-spool").write_text("not a directory")
    with closing(sqlite3.connect(tmp_path / "tracer.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(5):
            record("s")
        assert tracer.sync.shutdown(timeout=3) == 10
        other.execute("COMMIT")
    assert tracer.stats().dropped["lost"] == 10
    assert tracer.stats().spooled == 0
    tracer_log.clear()


async def test_shutdown_does_not_block_the_loop(tmp_path: Path, tracer_log: Log) -> None:
    with closing(sqlite3.connect(tmp_path / "tracer.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        record("s")
        ticks = 0
        async with anyio.create_task_group() as tasks:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await anyio.sleep(0.01)
                    ticks += 1

            tasks.start_soon(tick)
            await tracer.shutdown(timeout=1)
            tasks.cancel_scope.cancel()
        other.execute("COMMIT")
    assert ticks > 1
    pipeline = runtime.pipeline
    await anyio.to_thread.run_sync(eventually, lambda: not pipeline.is_running)
    tracer_log.clear()


# --- loops and threads ------------------------------------------------------------------------------------------------


async def call_and_read() -> None:
    with tracer.start_span("s") as span:
        await anyio.lowlevel.checkpoint()
    trace = await tracer.get_trace(span.trace_id)
    assert trace.info.state is TraceState.OK


def test_fifty_loops_in_sequence() -> None:
    for _ in range(50):
        asyncio.run(call_and_read())
    assert len(tracer.sync.search_traces()) == 50
    assert len(workers()) == 1


def test_ten_threads_each_with_its_own_loop() -> None:
    async def five() -> None:
        for _ in range(5):
            await call_and_read()

    together(lambda: asyncio.run(five()), 10)
    assert len(tracer.sync.search_traces()) == 50


@pytest.mark.parametrize(
    ("backend", "options"), [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})], ids=str
)
def test_any_event_loop(backend: str, options: dict[str, Any]) -> None:
    pytest.importorskip("uvloop" if options else backend)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call_and_read)
        assert len(await tracer.search_traces()) == 10
        assert await tracer.flush()

    for _ in range(3):
        anyio.run(main, backend=backend, backend_options=options)
        tracer.sync.delete_traces(max_timestamp_ms=2**50)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_read_can_be_cancelled(backend: str) -> None:
    store = ScriptedStore()
    use(store)
    trace_id = record("s")
    store.gate.clear()

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await tracer.get_trace(trace_id)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    store.gate.set()
    assert tracer.sync.get_trace(trace_id).info.state is TraceState.OK


def test_a_loop_that_closes_while_a_read_waits(caplog: pytest.LogCaptureFixture) -> None:
    store = ScriptedStore()
    use(store)
    trace_id = record("s")
    store.gate.clear()

    async def leave() -> None:
        task = asyncio.ensure_future(tracer.get_trace(trace_id))
        await asyncio.sleep(0.02)
        del task

    asyncio.run(leave())

    loop = asyncio.new_event_loop()  # and one that is closed without its tasks being cancelled
    read = tracer.get_trace(trace_id)
    waiting = loop.create_task(read)
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()
    store.gate.set()
    assert tracer.sync.get_trace(trace_id).info.state is TraceState.OK
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is asyncio's noise, and right
    with contextlib.suppress(RuntimeError):  # anyio's cancel scope wants a running loop even now
        read.close()
    assert caplog.records == []


async def test_a_thread_reads_while_a_loop_runs_elsewhere() -> None:
    trace_id = record("s")
    trace = await anyio.to_thread.run_sync(tracer.sync.get_trace, trace_id)
    assert trace.info.trace_id == trace_id
    assert (await tracer.get_trace(trace_id)).info.trace_id == trace_id
