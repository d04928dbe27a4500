"""Retention in the pipeline: traces are deleted while it is idle, while it is busy, and at the end."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

import tracer
from tests.scripted_store import eventually, use
from tracer._exceptions import StoreError
from tracer._runtime import runtime
from tracer.pipeline import _expiry
from tracer.store.sqlite.store import SqliteStore
from tracer.testing import isolated


def record(name: str = "s") -> str:
    with tracer.start_span(name) as span:
        pass
    return span.trace_id


def names() -> list[str]:
    return sorted(str(trace.info.name) for trace in tracer.sync.search_traces(max_results=1_000))


def age_all(path: Path) -> None:
    """Have all that is stored so far be an hour older."""

    async def age(store: object) -> None:
        assert isinstance(store, SqliteStore)
        shift = "UPDATE traces SET start_time_ns = start_time_ns - 3600e9, end_time_ns = end_time_ns - 3600e9"
        await store._database.write(lambda connection: connection.execute(shift))

    runtime.pipeline.submit(age, barrier=True).result(20)


def test_a_limit_that_is_set_at_run_time_counts_at_once(tmp_path: Path) -> None:
    with isolated(f"sqlite:///{tmp_path}/t.db"):
        record("old")
        tracer.sync.flush()
        age_all(tmp_path)
        assert (names(), tracer.stats().expired) == (["old"], 0)
        tracer.configure(retention_max_age=timedelta(minutes=10))
        eventually(lambda: tracer.stats().expired == 1)
        assert names() == []
        stats = tracer.stats()
        assert stats.accepted == stats.written
        assert not any(stats.dropped.values())


def test_traces_grow_old_while_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_expiry, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(_expiry, "IDLE_LOOK_EVERY", 0.02)
    with isolated(f"sqlite:///{tmp_path}/t.db"):
        tracer.configure(retention_max_age=1)
        record()
        tracer.sync.flush()
        eventually(lambda: tracer.stats().expired == 1)


def test_a_busy_worker_deletes_too_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_expiry, "LOOK_EVERY", 0.01)
    with isolated(f"sqlite:///{tmp_path}/t.db"):
        for _ in range(300):
            record("old")
        tracer.sync.flush()
        age_all(tmp_path)
        done = threading.Event()

        def keep_recording() -> None:
            while not done.is_set():
                record("new")
                time.sleep(0.001)

        recording = threading.Thread(target=keep_recording)
        recording.start()
        try:
            tracer.configure(retention_max_age=600)
            eventually(lambda: tracer.stats().expired == 300)
        finally:
            done.set()
            recording.join()
        assert set(names()) == {"new"}
        stats = tracer.stats()
        assert not any(stats.dropped.values())
        assert (stats.queued, stats.accepted) == (0, stats.written)


def test_the_file_shrinks_once_the_worker_is_idle(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with isolated(f"sqlite:///{path}"):
        for _ in range(40):
            with tracer.start_span("large") as span:
                span.set_inputs("x" * 100_000)
        tracer.sync.flush()
        tracer.configure(retention_max_bytes=1 << 20)
        eventually(lambda: tracer.stats().expired >= 30)
        eventually(lambda: path.stat().st_size <= 1 << 20)


def test_a_program_of_a_moment_deletes_at_its_end(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/t.db"
    with isolated(uri):
        for _ in range(60):
            record("old")
        tracer.sync.flush()
        age_all(tmp_path)
    with isolated(uri):
        tracer.configure(retention_max_age=600)
        record("new")
    with isolated(uri):
        assert names() == ["new"]


def test_a_failure_to_delete_is_told_and_stops_nothing(tracer_log: list[object]) -> None:
    class Refusing(SqliteStore):
        async def expire(self) -> bool:
            raise StoreError("not now")

    with isolated("memory://"):
        use(Refusing("memory://"))
        record()
        assert names() == ["s"]
        eventually(lambda: "not now" in str(tracer.stats().last_error))
    assert len(tracer_log) == 1
    tracer_log.clear()


@pytest.mark.parametrize(("durability", "durable"), [("full", True), ("normal", False)])
def test_durability_reaches_the_store(durability: str, durable: bool) -> None:
    with isolated("memory://"):
        tracer.configure(durability=durability)
        assert runtime.pipeline._worker.store.options.durable is durable
        tracer.configure(durability="full")
        assert runtime.pipeline._worker.store.options.durable
