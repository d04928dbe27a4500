"""A fork while SQLite or the worker is busy: no connection is open across it, or the child keeps off the file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, query, run_quietly

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

FORK = """
from tracer.store.sqlite import _gate

def fork(made_by_child, name="child's"):
    child = os.fork()
    if not child:
        assert not any(gate.is_used for gate in _gate._gates), "a connection is open in the child"
        for number in range(made_by_child):
            record(name)
        assert tracer.sync.flush(20), tracer.stats()
        sys.exit()
    return child

def wait_for(children):
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""


def names(directory: Path) -> Counter[str]:
    return Counter(query(directory, "SELECT name FROM traces WHERE state = 'OK'"))


def test_a_hook_that_runs_for_longer_than_a_fork_waits(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        FORK
        + """
logging.getLogger("tracer").setLevel("ERROR")  # the hook is slow on purpose, which is a warning
inside = threading.Event()

def slow(text):
    if text == "slow":
        inside.set()
        time.sleep(4.0)
    return text

record()
assert tracer.sync.flush()
tracer.configure(redact=slow)
children = []
for turn in range(3):
    record("slow")
    inside.wait()
    inside.clear()
    children.append(fork(50))
    for _ in range(20):
        record("parent's")
    children.append(fork(50))
wait_for(children)
assert tracer.sync.flush(30), tracer.stats()
""",
    )
    assert names(tmp_path) == {"s": 1, "slow": 3, "parent's": 60, "child's": 300}
    assert_intact(tmp_path)


def test_a_lock_of_another_process(tmp_path: Path) -> None:
    run_quietly(tmp_path, "record()")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(3.0, other.execute, ["ROLLBACK"])
        release.start()
        run_quietly(
            tmp_path,
            FORK
            + """
record("parent's")
time.sleep(0.3)  # the worker waits for the lock now
children = [fork(50) for _ in range(3)]
wait_for(children)
record("parent's")
assert tracer.sync.flush(30), tracer.stats()
""",
        )
        release.join()
    assert names(tmp_path) == {"s": 1, "parent's": 2, "child's": 150}
    assert_intact(tmp_path)


def test_threads_that_compute_and_large_bodies(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        FORK
        + """
stop = threading.Event()

def compute():
    while not stop.is_set():
        sum(range(3_000))

for _ in range(4):
    threading.Thread(target=compute, daemon=True).start()
children = []
for turn in range(6):
    with tracer.start_span("large") as span:
        span.set_inputs("y" * 8_000_000)
    time.sleep(0.02 * turn)
    children.append(fork(20))
wait_for(children)
stop.set()
assert tracer.sync.flush(60), tracer.stats()
""",
    )
    assert names(tmp_path) == {"large": 6, "child's": 120}
    assert_intact(tmp_path)


def test_a_statement_that_can_not_be_stopped_sends_the_child_to_a_file_of_its_own(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        import tracer.store.sqlite.store as sqlite
        from tracer.store.sqlite import _gate

        _gate.PATIENCE = 0.2
        write_batch, inside, go_on = sqlite.write_batch, threading.Event(), threading.Event()

        def stuck(connection, batch, **options):
            write_batch(connection, batch, **options)
            if "stuck" in [trace.name for trace in batch.traces]:
                inside.set()
                go_on.wait()  # as in a file system that hangs

        sqlite.write_batch = stuck
        record("stuck")
        inside.wait()
        child = os.fork()
        if not child:
            for _ in range(100):
                record("child's")
            assert tracer.sync.flush(), tracer.stats()
            try:
                tracer.sync.search_traces()
            except tracer.StoreError as error:
                assert "forked while SQLite was in use" in str(error)
            else:
                raise AssertionError("it read")
            grandchild = os.fork()
            for _ in range(10):
                record("child's" if grandchild else "grandchild's")
            if grandchild:
                assert os.waitpid(grandchild, 0)[1] == 0
            assert tracer.sync.flush(), tracer.stats()
            os.kill(os.getpid(), 9) if grandchild else sys.exit()
        os.waitpid(child, 0)
        assert not any(name.startswith("t.db-spool") for name in os.listdir()) or os.listdir("t.db-spool")
        print("children ended", flush=True)
        sys.stdin.readline()
        go_on.set()
        """,
    )
    script.wait_for("children ended")
    files = sorted((tmp_path / "t.db-spool").iterdir())
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "t.db-spool").stat().st_mode & 0o777 == 0o700
    assert script.process.stdin is not None
    script.process.stdin.write("\n")
    script.process.stdin.flush()
    ended = script.end()
    assert (ended.code, ended.err) == (0, "")
    # The parent took them over as it closed the database.
    assert names(tmp_path) == {"stuck": 1, "child's": 110, "grandchild's": 10}
    assert list((tmp_path / "t.db-spool").iterdir()) == []
    assert_intact(tmp_path)


def test_a_fork_of_c_code_that_runs_no_hooks_is_noticed(tmp_path: Path) -> None:
    run_quietly(
        tmp_path,
        """
        import ctypes
        record("parent's")
        with tracer.start_span("outer") as outer:
            assert tracer.sync.flush()
            time.sleep(1.5)  # the worker sleeps until it is woken: it must not be waiting for the interpreter's lock
            child = ctypes.PyDLL(None).fork()
            if not child:
                for _ in range(50):
                    record("child's")
                print(*[tracer.start_span("s").__enter__().span_id for _ in range(100)], flush=True)
                assert tracer.sync.flush(), tracer.stats()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            ids = {tracer.start_span("s").__enter__().span_id for _ in range(100)}
        record("parent's")
        print(*ids, flush=True)
        """,
    )
    assert query(tmp_path, "SELECT count(*) FROM spans WHERE name = 'child''s'") == [50]
    assert names(tmp_path)["parent's"] == 2
    assert names(tmp_path)["outer"] == 1
    assert_intact(tmp_path)


def test_a_fork_of_c_code_ends_by_itself_and_flushes(tmp_path: Path) -> None:
    ended = run_quietly(
        tmp_path,
        """
        import ctypes
        record("parent's")
        assert tracer.sync.flush()
        time.sleep(1.5)
        child = ctypes.PyDLL(None).fork()
        if not child:
            for _ in range(50):
                record("child's")
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        record("parent's")
        """,
    )
    assert ended.code == 0
    assert names(tmp_path) == {"parent's": 2, "child's": 50}


def test_searches_that_run_are_stopped_for_a_fork_and_done_afterwards(tmp_path: Path) -> None:
    """Also by regular expressions, which are Python within SQLite."""
    run_quietly(
        tmp_path,
        FORK
        + """
from tracer._runtime import runtime

for _ in range(300):
    record("a" * 900)
tracer.sync.flush()
tracer.sync.search_traces(max_results=1)
slow = " OR ".join(f"name RLIKE 'a*a*{letter}$'" for letter in "bcdefghijklmnopq")

def search():
    try:
        tracer.sync.search_traces(filter_string=slow)
    except tracer.ReadTimeoutError:
        ended.append(1)

ended = []
tracer.configure(read_timeout=6)
searching = [threading.Thread(target=search) for _ in range(3)]
for thread in searching:
    thread.start()
readers = lambda: runtime.pipeline._worker.store._database._readers
while not readers() or readers().taken < 3:
    time.sleep(0.001)
children = [fork(20) for _ in range(3)]
record("parent's")
wait_for(children)
for thread in searching:
    thread.join()
assert len(ended) == 3
assert tracer.sync.search_traces(max_results=5)
assert tracer.sync.flush(30), tracer.stats()
""",
    )
    found = names(tmp_path)
    assert (found["parent's"], found["child's"]) == (1, 60)
    assert_intact(tmp_path)
