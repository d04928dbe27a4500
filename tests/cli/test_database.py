"""``tracer stats`` and ``tracer db``, and what a command that reads does to a database: nothing."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import fails, invoke, record
from tests.processes.script import Script
from tracer.store.sqlite import _schema


def old_database(path: Path) -> str:
    """Make a database as the first version did, with one trace in it."""
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_schema._V1)
        connection.execute(f"PRAGMA application_id = {_schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO traces (trace_id, experiment, state, start_time_ns, process_id, root_rank, root_name) "
            "VALUES (?, 'Default', 'OK', 1, 'p', 2, 'old')",
            ("a" * 32,),
        )
    return f"sqlite:///{path}"


def test_upgrade_brings_an_old_database_forward(tmp_path: Path) -> None:
    uri = old_database(tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    assert f"run `tracer db upgrade --uri {uri}`" in fails(1, "traces", "list", "--uri", uri)
    assert (tmp_path / "old.db").read_bytes() == before
    current = {"schema_version_before": 1, "schema_version": _schema.SCHEMA_VERSION}
    assert invoke("db", "upgrade", "--uri", uri, "--json").json == current
    assert invoke("db", "upgrade", "--uri", uri).out.endswith(": nothing to do\n")
    assert invoke("traces", "list", "--uri", uri, "--columns", "name").rows == [["old"]]


def test_databases_that_cannot_be_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 100)
    assert "is not a SQLite database" in fails(2, "stats", "--uri", f"sqlite:///{tmp_path}/text.db")
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        connection.execute(f"PRAGMA application_id = {_schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 999")
    assert "has schema version 999" in fails(2, "db", "upgrade", "--uri", f"sqlite:///{tmp_path}/new.db")
    (tmp_path / "empty.db").touch()
    assert "is empty" in fails(1, "traces", "list", "--uri", f"sqlite:///{tmp_path}/empty.db")
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_check_finds_damage(uri: str) -> None:
    for index in range(200):
        record(f"n{index}")
    tracer.sync.shutdown()
    assert invoke("db", "check").out.startswith("no damage found")
    assert invoke("db", "check", "--json").json == {
        "ok": True,
        "schema_version": _schema.SCHEMA_VERSION,
        "problems": [],
    }
    path = uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM traces WHERE name = 'n7'")
    ended = invoke("db", "check")
    assert ended.code == 1
    assert "of spans refers to a row of traces that does not exist" in ended.out
    with open(path, "r+b") as file:
        file.seek(4096 * 40)
        file.write(b"\xff" * 4096 * 3)
    ended = invoke("db", "check", "--json")
    assert ended.code == 1
    assert not ended.json["ok"]


def test_vacuum_gives_space_back(uri: str) -> None:
    for index in range(100):
        record(f"n{index}" + "x" * 20_000)
    tracer.sync.shutdown()
    assert invoke("traces", "delete", "--text", "zzz", "--yes").out == "deleted 0 traces\n"
    assert invoke("traces", "prune", "--keep", "3", "--yes").out == "deleted 97 traces\n"
    sizes = invoke("db", "vacuum", "--json").json
    assert sizes["bytes_after"] < sizes["bytes_before"] / 5
    path = Path(uri.removeprefix("sqlite:///"))
    assert sizes["bytes_after"] == path.stat().st_size
    assert len(tracer_names()) == 3
    assert "→" in invoke("db", "vacuum").out


def tracer_names() -> list[str]:
    return [row[0] for row in invoke("traces", "list", "--columns", "name").rows]


def test_vacuum_of_a_database_in_use_says_so(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.store.sqlite._upkeep.BUSY_TIMEOUT_MS", 50)
    record()
    tracer.sync.flush()
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "database is locked" in fails(1, "db", "vacuum")


def test_reading_leaves_a_running_trace_of_another_process_running(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        with tracer.start_span("long"):
            tracer.sync.flush()
            print("open", flush=True)
            sys.stdin.readline()
        """,
    )
    script.wait_for("open")
    uri = f"sqlite:///{tmp_path}/t.db"
    for arguments in (["traces", "list"], ["traces", "show", "last"], ["stats"], ["db", "check"], ["doctor"]):
        assert invoke(*arguments, "--uri", uri).code == 0
    states = ["--columns", "status", "--uri", uri]
    assert invoke("traces", "list", *states).rows == [["IN_PROGRESS"]]
    assert script.process.stdin is not None
    script.process.stdin.write("\n")
    script.process.stdin.flush()
    assert script.end().code == 0
    assert invoke("traces", "list", *states).rows == [["OK"]]


def test_reading_tells_of_a_killed_process(tmp_path: Path) -> None:
    source = (
        'with tracer.start_span("x"):\n    tracer.sync.flush()\n    print("open", flush=True)\n    time.sleep(60)\n'
    )
    script = Script(tmp_path, source)
    script.wait_for("open")
    script.send(signal.SIGKILL)
    script.end()
    ended = invoke("traces", "list", "--columns", "status", "--uri", f"sqlite:///{tmp_path}/t.db")
    assert ended.rows == [["INTERRUPTED"]]


def test_stats_count(uri: str) -> None:
    for _ in range(3):
        record()
    with pytest.raises(ValueError, match="x"), tracer.start_span("x"):
        raise ValueError("x")
    tracer.sync.flush()
    counted = invoke("stats", "--json").json
    states = {"ERROR": 1, "OK": 3}
    assert counted["totals"] == {"traces": 4, "states": states, "token_usage": None, "cost": None}
    assert [(found["name"], found["traces"]) for found in counted["experiments"]] == [("Default", 4)]
    assert counted["storage"]["schema_version"] == _schema.SCHEMA_VERSION
    lines = dict(line.split("\t") for line in invoke("stats").lines)
    assert lines["traces"] == "4"
    assert lines["OK"] == "3"
    assert lines["lost records"] == "0"
