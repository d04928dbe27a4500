"""The pipeline end to end over a real file: reads see writes, overload is counted, the sums always come out."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import tracer
from tests.scripted_store import ScriptedStore, eventually, use
from tracer._config import Settings
from tracer._models import TraceState
from tracer._runtime import runtime
from tracer.capture.records import Codec, Ending, LargeRecord, Payload, Rank, SpanEnded, SpanStarted, decode
from tracer.pipeline.clock import RandomIds, SystemClock
from tracer.pipeline.pipeline import LARGE, Pipeline
from tracer.testing._isolation import isolated

Log = list[logging.LogRecord]


def database(tmp_path: Path) -> sqlite3.Connection:
    """A connection to the test's own database, such as another process would have."""
    return sqlite3.connect(tmp_path / "tracer.db", isolation_level=None, check_same_thread=False)


def assert_sums(stats: tracer.Stats) -> None:
    assert stats.accepted == stats.written + stats.dropped["lost"] + stats.queued
    assert min(stats.queued, stats.written, stats.queue_bytes, stats.open_spans, *stats.dropped.values()) >= 0


@contextmanager
def held_pipeline(**settings: object) -> Iterator[ScriptedStore]:
    """A fresh tracer over a store that takes nothing until its gate is set."""
    store = ScriptedStore()
    store.gate.clear()
    with isolated():
        tracer.configure(**settings)
        use(store)
        try:
            yield store
        finally:
            store.gate.set()


# --- read your writes -------------------------------------------------------------------------------------------------


async def test_a_trace_that_has_ended_is_never_read_stale() -> None:
    for number in range(1_000):
        with tracer.start_span("outer") as outer, tracer.start_span("inner") as inner:
            inner.set_attribute("number", number)
        trace = await tracer.get_trace(outer.trace_id)
        assert trace.info.state is TraceState.OK
        assert [span.name for span in trace.data.spans] == ["outer", "inner"]
        assert trace.data.spans[1].get_attribute("number") == number
        assert trace.data.spans[1].end_time_ns is not None


async def test_a_trace_that_runs_is_read_as_far_as_it_got() -> None:
    with tracer.start_span("outer") as outer:
        outer.set_inputs({"question": 1})
        with tracer.start_span("inner"):
            pass
        trace = await tracer.get_trace(outer.trace_id)
        assert trace.info.state is TraceState.IN_PROGRESS
        assert trace.data.spans[0].inputs == {"question": 1}
        assert [span.end_time_ns is None for span in trace.data.spans] == [True, False]


# --- a database that is in the way ------------------------------------------------------------------------------------


def test_a_locked_database_delays_readers_only_and_loses_nothing(tmp_path: Path, tracer_log: Log) -> None:
    tracer.sync.flush()  # so that the database is there
    with closing(database(tmp_path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        spans = []
        for _ in range(300):
            with tracer.start_span("s") as span:
                spans.append(span)
        held = tracer.stats()
        assert held.written == 0, "every span was made while nothing could be written"
        assert held.accepted == held.queued == 600
        threading.Timer(2.0, lambda: other.execute("COMMIT")).start()
        assert tracer.sync.get_trace(spans[-1].trace_id).info.state is TraceState.OK
        assert len(tracer.sync.search_traces(max_results=1_000)) == 300
    assert tracer.stats().written == 600
    tracer_log.clear()  # SQLite itself waits for a short lock; the log says something only if that was not enough


def test_flush_says_when_it_could_not_wait_for_a_locked_database(tmp_path: Path, tracer_log: Log) -> None:
    tracer.sync.flush()
    with closing(database(tmp_path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with tracer.start_span("s"):
            pass
        assert tracer.sync.flush(timeout=0.1) is False
        other.execute("COMMIT")
    assert tracer.sync.flush(timeout=20) is True
    tracer_log.clear()


def _make_directory(path: Path) -> None:
    path.mkdir()


def _make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 0x74726163")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA user_version = 999")


BAD_FILES = pytest.mark.parametrize("make", [_make_directory, _make_newer])


@BAD_FILES
def test_a_file_that_goes_bad_costs_traces_not_calls(make, tmp_path: Path, tracer_log: Log) -> None:
    runtime.pipeline  # noqa: B018  the file was looked at when this was made: there was none
    make(tmp_path / "tracer.db")
    for _ in range(10):
        with tracer.start_span("s") as span:
            pass
        assert tracer.sync.flush() is False
    stats = tracer.stats()
    assert stats.dropped["lost"] == stats.accepted == 20
    assert_sums(stats)
    with pytest.raises(tracer.TracerError):
        tracer.sync.get_trace(span.trace_id)
    (record,) = tracer_log
    assert "could not be stored" in record.getMessage()
    tracer_log.clear()


@BAD_FILES
def test_an_environment_that_names_a_bad_file_costs_traces_not_calls(
    make, tmp_path: Path, tracer_log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "bad.db")
    monkeypatch.setattr(runtime, "_uri", None)
    monkeypatch.setenv("TRACER_TRACKING_URI", f"sqlite:///{tmp_path}/bad.db")
    for _ in range(10):
        with tracer.start_span("s"):
            pass
    (record,) = tracer_log
    assert "nothing is traced" in record.getMessage()
    assert "bad.db" in record.getMessage()
    tracer_log.clear()
    stats = tracer.stats()
    assert (stats.dropped["closed"], stats.accepted) == (10, 0)
    assert stats.last_error is not None
    assert "bad.db" in stats.last_error
    with pytest.raises(tracer.ConfigurationError, match=r"bad\.db"):
        tracer.sync.search_traces()


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, tracer_log: Log) -> None:
    runtime.pipeline  # noqa: B018  made while the file was fine
    text = b"not a database at all, but long enough to be read as the header of one" * 20
    (tmp_path / "tracer.db").write_bytes(text)
    with tracer.start_span("kept") as span:
        pass
    assert tracer.sync.get_trace(span.trace_id).info.name == "kept"
    stats = tracer.stats()
    assert (stats.files_moved_aside, stats.dropped["lost"]) == (1, 0)
    (record,) = tracer_log
    (aside,) = tmp_path.glob("tracer.db.damaged-*")
    assert aside.read_bytes() == text
    assert str(aside) in record.getMessage()
    tracer_log.clear()


def test_a_store_that_becomes_usable_again_is_used_again(tmp_path: Path, tracer_log: Log) -> None:
    runtime.pipeline  # noqa: B018  made while the file was fine
    (tmp_path / "tracer.db").mkdir()
    with tracer.start_span("lost"):
        pass
    assert tracer.sync.flush() is False
    (tmp_path / "tracer.db").rmdir()
    with tracer.start_span("kept") as span:
        pass
    assert tracer.sync.get_trace(span.trace_id).info.name == "kept"
    tracer_log.clear()


def test_a_change_of_directory_does_not_move_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with isolated("sqlite:///relative.db"):
        with tracer.start_span("s"):
            monkeypatch.chdir(tmp_path / "elsewhere")
        tracer.sync.flush()
    assert (tmp_path / "relative.db").exists()
    assert not (tmp_path / "elsewhere" / "relative.db").exists()


# --- overload ---------------------------------------------------------------------------------------------------------


def test_spans_written_and_dropped_add_up_under_overload() -> None:
    with held_pipeline(queue_max_records=100, batch_max_records=20) as store:
        for _ in range(1_000):
            with tracer.start_span("s"):
                pass
        assert tracer.stats().dropped["start"] > 0
        store.gate.set()
        assert tracer.sync.flush()
        stats = tracer.stats()
        traces = tracer.sync.search_traces(max_results=10_000)
    assert len(traces) + stats.dropped["start"] == 1_000
    assert {trace.info.state for trace in traces} == {TraceState.OK}, "no accepted span is left without its end"
    assert stats.open_spans == stats.queued == 0
    assert stats.written == stats.accepted
    assert_sums(stats)


def test_spans_that_were_open_when_the_queue_filled_get_their_ends() -> None:
    with held_pipeline(queue_max_records=100) as store:
        scopes = [tracer.start_span("early") for _ in range(80)]
        for scope in scopes:
            scope.__enter__()
        for _ in range(500):
            with tracer.start_span("late"):
                pass
        for scope in reversed(scopes):
            scope.__exit__(None, None, None)
        store.gate.set()
        assert tracer.sync.flush()
        (trace,) = [trace for trace in tracer.sync.search_traces(max_results=10_000) if trace.info.name == "early"]
        assert tracer.stats().open_spans == 0
    early = [span for span in trace.data.spans if span.name == "early"]
    assert len(early) == 80
    assert all(span.end_time_ns is not None for span in early)


def test_the_queue_never_holds_much_more_than_its_bytes() -> None:
    body = b'{"text": "' + b"x" * (1 << 20) + b'"}'
    limit = 16 << 20
    with held_pipeline(queue_max_bytes=limit) as store:
        pipeline = runtime.pipeline
        with tracer.start_span("first"):
            pass
        eventually(lambda: bool(store.attempts))  # the worker holds one batch and takes no more
        largest = with_body = 0
        for number in range(100):
            payload = pipeline.wire_payload(body)
            record = SpanStarted(
                f"{number + 1:032x}", f"{number + 1:016x}", None, "s", "LLM", 1, "Default", None, payload
            )
            pipeline.push(record, Rank.DETAIL, payload)
            with_body += record.inputs is not None
            largest = max(largest, tracer.stats().queue_bytes)
        assert limit * 0.8 < largest <= limit
        stats = tracer.stats()
        assert with_body == 14, "90 % of 16 bodies"
        assert stats.dropped["detail"] == 100 - with_body
        assert stats.dropped["start"] == 0, "the skeletons had room"
        store.gate.set()
        assert tracer.sync.flush()
        assert tracer.stats().queue_bytes == 0


def test_the_sums_come_out_at_every_moment_beside_a_busy_worker() -> None:
    done = threading.Event()

    def work() -> None:
        for number in itertools.count():
            with tracer.start_span("s") as span:
                span.set_attribute("number", number)
            if done.is_set():
                return

    tracer.configure(queue_max_records=500, batch_max_records=50, batch_interval=0.001)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3_000):
        assert_sums(tracer.stats())
    done.set()
    for thread in threads:
        thread.join()
    assert tracer.sync.flush()
    stats = tracer.stats()
    assert_sums(stats)
    assert (stats.queued, stats.queue_bytes, stats.open_spans) == (0, 0, 0)


# --- odd records ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    pipeline = Pipeline("memory://", Settings(), SystemClock(), RandomIds())
    yield pipeline
    pipeline.stop(5)
    assert pipeline.join(5) == 0


def test_an_attribute_that_is_no_json_is_kept_as_something_readable(pipeline: Pipeline) -> None:
    attributes = {"set": {1}, "surrogate": "\ud800", "large": 10**30, "object": object()}
    assert pipeline.push(
        SpanStarted("1" * 32, "1" * 16, None, "s", "LLM", 1, "Default", None, None, attributes), Rank.START
    )
    assert pipeline.push(SpanEnded("1" * 16, 2, Ending.RETURNED), Rank.END)
    trace = pipeline.submit(lambda store: store.get_trace("1" * 32), barrier=True).result(20)
    assert set(attributes) <= set(trace.data.spans[0].attributes)


def test_a_record_that_cannot_be_encoded_is_counted_and_told_once(pipeline: Pipeline, tracer_log: Log) -> None:
    for _ in range(5):
        assert not pipeline.push(SpanEnded("\ud800", 2, Ending.RETURNED), Rank.END)
    assert pipeline.stats().dropped["encode"] == 5
    assert len(tracer_log) == 1
    tracer_log.clear()


def test_a_body_that_is_too_long_is_cut_and_says_by_how_much(pipeline: Pipeline) -> None:
    pipeline.configure(Settings(max_payload_bytes=10))
    payload = pipeline.wire_payload(b"0123456789abc")
    assert (payload.codec, payload.data, payload.truncated) == (Codec.WIRE, b"0123456789", 3)


def test_what_comes_after_the_stop_is_refused_and_counted(pipeline: Pipeline) -> None:
    pipeline.stop(1)
    assert not pipeline.push(SpanEnded("1" * 16, 2, Ending.RETURNED), Rank.END)
    assert pipeline.stats().dropped["closed"] == 1
    with pytest.raises(tracer.ClosedError, match="set_tracking_uri"):
        pipeline.submit(lambda store: store.get_trace("1"), barrier=False)


def test_making_a_pipeline_starts_no_thread() -> None:
    before = threading.active_count()
    pipeline = Pipeline("memory://", Settings(), SystemClock(), RandomIds())
    assert threading.active_count() == before
    assert not pipeline.is_running
    pipeline.stop(1)
    assert pipeline.join(1) == 0
    assert threading.active_count() == before


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose queue nobody reads but the test."""
    pipeline = Pipeline("memory://", Settings(), SystemClock(), RandomIds())
    monkeypatch.setattr(pipeline._worker, "is_running", True)
    return pipeline


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
def test_a_large_body_is_queued_without_a_copy_and_stored_whole(unread: Pipeline, size: int) -> None:
    unread.queue.set_limits(10, 10 * LARGE)
    body = b'"' + b"x" * (size - 2) + b'"'
    payload = unread.wire_payload(body)
    unread.push(SpanStarted("1" * 32, "1" * 16, None, "s", "LLM", 1, "Default", "chat", payload), Rank.DETAIL, payload)
    [record] = unread.queue.drain(10, 10 * LARGE)
    assert isinstance(record, LargeRecord) == (size > LARGE)
    assert size < len(record) < size + 200
    started = decode(record)
    assert isinstance(started, SpanStarted)
    assert started.inputs == Payload(Codec.WIRE, body)
    if isinstance(record, LargeRecord):
        assert record.body is body


def test_a_start_or_end_without_room_for_its_body_goes_without(unread: Pipeline) -> None:
    unread.queue.set_limits(10, 1_000)
    body = unread.wire_payload(b'"' + b"x" * 900 + b'"')
    start = SpanStarted("1" * 32, "1" * 16, None, "s", "LLM", 1, "Default", "chat", body)
    end = SpanEnded("1" * 16, 2, Ending.RETURNED, body, lost={"chunks": 2, "bodies": 1})
    assert unread.push(start, Rank.DETAIL, body)
    assert unread.push(end, Rank.DETAIL, body)
    started, ended = (decode(record) for record in unread.queue.drain(10, 10_000))
    assert isinstance(started, SpanStarted)
    assert isinstance(ended, SpanEnded)
    assert (started.inputs, started.body_dropped) == (None, True)
    assert (ended.outputs, ended.lost) == (None, {"chunks": 2, "bodies": 2})
    assert unread.stats().dropped["detail"] == 2
