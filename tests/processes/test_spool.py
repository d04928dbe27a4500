"""A database that takes nothing for long costs nothing: what the queue should not hold waits in files beside it."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.processes.script import Script, query, run_quietly, states

RECORDING = """
tracer.configure(queue_max_records=2_000, batch_max_records=100, **SETTINGS)
record("first")
tracer.sync.flush()
print("stored", flush=True)
sys.stdin.readline()
for number in range(2_000):
    record(str(number))
    while tracer.stats().queued > 1_500:  # a service has pauses, too
        time.sleep(0.002)
"""
LAW = """
stats = tracer.stats()
dropped = stats.dropped
assert stats.accepted == stats.queued + stats.written + stats.spooled + dropped["lost"] + dropped["spool"], stats
"""


def begin(tmp_path: Path, rest: str, **settings: int) -> tuple[Script, sqlite3.Connection]:
    """Start a script that records two thousand spans while the database is locked."""
    script = Script(tmp_path, f"SETTINGS = {settings!r}\n{RECORDING}\n{rest}")
    script.wait_for("stored")
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    go_on(script)
    return script, other


def go_on(script: Script) -> None:
    assert script.process.stdin is not None
    script.process.stdin.write("\n")
    script.process.stdin.flush()


def in_order(tmp_path: Path) -> list[str]:
    return query(tmp_path, "SELECT name FROM traces ORDER BY key")


def test_what_the_queue_can_not_hold_is_written_later_in_its_order(tmp_path: Path) -> None:
    script, other = begin(
        tmp_path,
        LAW
        + """
assert stats.spooled > 1_000 and not any(dropped.values()), stats
print("recorded", flush=True)
sys.stdin.readline()
assert tracer.sync.flush()
assert len(tracer.sync.search_traces(max_results=3_000)) == 2_001
stats = tracer.stats()
assert (stats.written, stats.spooled) == (4_002, 0), stats
""",
    )
    script.wait_for("recorded")
    assert list((tmp_path / "t.db-spool").iterdir())
    other.execute("COMMIT")
    go_on(script)
    ended = script.end()
    assert ended.code == 0, ended.err
    assert list((tmp_path / "t.db-spool").iterdir()) == []
    assert in_order(tmp_path) == ["first", *map(str, range(2_000))]
    assert query(tmp_path, "SELECT count(*) FROM taken_over") == [0]
    other.close()


def test_a_kill_costs_nothing_of_it(tmp_path: Path) -> None:
    script, other = begin(tmp_path, 'print("recorded", flush=True)\nsys.stdin.readline()')
    script.wait_for("recorded")
    script.send(signal.SIGKILL)
    script.end()
    other.execute("COMMIT")
    other.close()
    run_quietly(tmp_path, "assert len(tracer.sync.search_traces(max_results=3_000)) == 2_001")
    assert states(tmp_path) == {"OK": 2_001}
    assert in_order(tmp_path) == ["first", *map(str, range(2_000))]
    assert list((tmp_path / "t.db-spool").iterdir()) == []


def test_a_kill_while_it_is_written_costs_nothing_and_writes_nothing_twice(tmp_path: Path) -> None:
    script, other = begin(tmp_path, 'print("recorded", flush=True)\ntracer.sync.flush()\nsys.stdin.readline()')
    script.wait_for("recorded")
    other.execute("COMMIT")
    while query(tmp_path, "SELECT count(*) FROM traces")[0] < 400:
        pass
    script.send(signal.SIGKILL)
    script.end()
    run_quietly(tmp_path, "assert len(tracer.sync.search_traces(max_results=3_000)) == 2_001")
    assert states(tmp_path) == {"OK": 2_001}
    assert in_order(tmp_path) == ["first", *map(str, range(2_000))]
    other.close()


def test_when_it_is_full_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    script, other = begin(
        tmp_path,
        LAW
        + """
assert dropped["spool"] > 0, stats
print("recorded", flush=True)
sys.stdin.readline()
assert tracer.sync.flush()
stats = tracer.stats()
assert stats.written + stats.dropped["spool"] == stats.accepted, stats
print(stats.dropped["spool"], flush=True)
""",
        spool_max_bytes=70_000,
    )
    script.wait_for("recorded")
    assert sum(file.stat().st_size for file in (tmp_path / "t.db-spool").iterdir()) <= 70_000
    other.execute("COMMIT")
    go_on(script)
    ended = script.end()
    assert ended.code == 0, ended.err
    assert "gave way to newer ones" in ended.err
    names = in_order(tmp_path)
    assert len(names) == 2_001 - int(ended.out) // 2
    assert names[-1] == "1999"
    other.close()


def test_without_a_spool_the_queue_refuses_and_counts(tmp_path: Path) -> None:
    source = RECORDING.split("    while")[0]
    script = Script(
        tmp_path,
        f"SETTINGS = {{'spool_max_bytes': 0}}\n{source}"
        """
assert tracer.stats().dropped["start"] > 0, tracer.stats()
print("recorded", flush=True)
sys.stdin.readline()
assert tracer.sync.flush()
stats = tracer.stats()
assert stats.written == stats.accepted, stats
""",
    )
    script.wait_for("stored")
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        go_on(script)
        script.wait_for("recorded")
        other.execute("COMMIT")
    go_on(script)
    ended = script.end()
    assert ended.code == 0, ended.err
    assert not (tmp_path / "t.db-spool").exists()
