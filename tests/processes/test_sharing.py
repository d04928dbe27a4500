"""Several processes share one file."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, query, run_quietly, states


@pytest.mark.parametrize("processes", [4])
def test_processes_that_race_to_create_one_file_and_write_to_it(processes: int, tmp_path: Path) -> None:
    scripts = [
        Script(
            tmp_path,
            """
            sys.stdin.readline()
            for _ in range(500):
                record(sys.argv[1])
            stats = tracer.sync.flush() and tracer.stats()
            assert stats.written == 1000 and not any(stats.dropped.values()), stats
            """,
            number,
        )
        for number in range(processes)
    ]
    for script in scripts:
        assert script.process.stdin is not None
        script.process.stdin.write("go\n")
        script.process.stdin.flush()
    for script in scripts:
        ended = script.end()
        assert (ended.code, ended.err) == (0, "")
    counts = dict(query(tmp_path, "SELECT name, count(*) FROM traces GROUP BY name"))
    assert counts == {str(number): 500 for number in range(processes)}
    assert states(tmp_path) == {"OK": 500 * processes}
    assert_intact(tmp_path)


def test_what_finds_the_database_locked_is_tried_again(tmp_path: Path) -> None:
    """The other process lets go only once it was found in the way."""
    script = Script(
        tmp_path,
        """
        from tracer.store.sqlite import _thread

        _thread.LOCK_PATIENCE = 0.0  # so that a try is one look at the lock
        record("before")
        assert tracer.sync.flush(20)
        print("open", flush=True)
        sys.stdin.readline()
        record("while it is locked")
        while not tracer.stats().retries and not tracer.stats().dropped["lost"]:
            time.sleep(0.001)
        print("tried", flush=True)
        sys.stdin.readline()
        assert tracer.sync.flush(20)
        assert tracer.stats().dropped["lost"] == 0, tracer.stats()
        """,
    )
    script.wait_for("open")
    with contextlib.closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None, timeout=20)) as other:
        other.execute("BEGIN IMMEDIATE")
        script.answer()
        script.wait_for("tried")
        other.execute("ROLLBACK")
    script.answer()
    ended = script.end()
    assert ended.code == 0, ended.err
    assert states(tmp_path) == {"OK": 2}
    assert_intact(tmp_path)


def test_a_process_reads_what_another_writes(tmp_path: Path) -> None:
    writer = Script(
        tmp_path,
        """
        with tracer.start_span("long"):
            tracer.sync.flush()
            print("open", flush=True)
            sys.stdin.readline()
        """,
    )
    writer.wait_for("open")
    show = "print([(trace.info.name, str(trace.info.state)) for trace in tracer.sync.search_traces()])"
    assert run_quietly(tmp_path, show).out.strip() == "[('long', 'IN_PROGRESS')]"
    assert writer.process.stdin is not None
    writer.process.stdin.write("\n")
    assert writer.end().code == 0
    assert run_quietly(tmp_path, show).out.strip() == "[('long', 'OK')]"
