"""``tracer copy FROM TO``."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

import tracer
from tests.cli.commands import execute, fails, invoke, on_terminal, record, start
from tests.store.rows import simple
from tests.tracking import TrackingServer
from tracer.store import open_store


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/target.db"


def fill(uri: str, traces: int) -> None:
    async def write() -> None:
        store = open_store(uri)
        for begun in range(0, traces, 500):
            await store.write(simple(*range(begun + 1, begun + 501), inputs=b'"' + b"x" * 500 + b'"'))
        await store.aclose()

    anyio.run(write)


def listed(uri: str) -> list[list[str]]:
    return invoke("traces", "list", "--limit", "100", "--uri", uri).rows


def recorded(name: str, **update: Any) -> str:
    """Record a trace and return its id once it is stored."""
    trace_id = record(name, **update)
    tracer.sync.flush()
    return trace_id


def test_copies_and_says_what_it_did(uri: str, target: str) -> None:
    first, _ = recorded("first", tags={"env": "prod"}), recorded("second")
    tracer.sync.log_feedback(first, "helpful", True)
    ended = invoke("copy", uri, target)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("2 traces: 2 copied; now in sqlite:///")
    assert listed(target) == listed(uri)
    assert invoke("copy", uri, target).out.startswith("2 traces: 0 copied, 2 already there; now in ")
    shown = invoke("traces", "show", first, "--json", "--uri", target).json
    assert shown == invoke("traces", "show", first, "--json", "--uri", uri).json
    assert shown["info"]["feedback"][0]["value"] is True


def test_conditions_and_json(uri: str, target: str) -> None:
    recorded("first")
    recorded("second")
    report = invoke("copy", uri, target, "--filter", "name = 'second'", "--since", "1h", "--json").json
    assert (report["copied"], report["spans"], report["refused"]) == (1, 1, [])
    assert [row[-1] for row in listed(target)] == [row[-1] for row in listed(uri) if "second" in row]


def test_copies_into_a_server_and_back(uri: str, target: str, tmp_path: Path) -> None:
    recorded("first")
    with TrackingServer(f"sqlite:///{tmp_path}/served.db") as server:
        assert invoke("copy", uri, server.url).code == 0
        assert invoke("copy", server.url, target).out.startswith("1 trace: 1 copied")
    assert listed(target) == listed(uri)


def test_a_copy_that_was_killed_is_finished_by_the_next(tmp_path: Path, target: str) -> None:
    uri = f"sqlite:///{tmp_path}/many.db"
    fill(uri, 5_000)
    process = start(tmp_path, "copy", uri, target)
    path = tmp_path / "target.db"
    while not stored(path) and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    begun = stored(path)
    assert 0 < begun < 5_000
    report = execute(tmp_path, "copy", uri, target, "--json").json
    assert (report["already_there"], report["copied"]) == (begun, 5_000 - begun)
    assert stored(path) == 5_000


def stored(path: Path) -> int:
    if not path.exists():
        return 0
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM traces").fetchone()[0])
    return 0


def test_a_terminal_sees_progress(tmp_path: Path, uri: str, target: str) -> None:
    recorded("first")
    shown = on_terminal(tmp_path, "copy", uri, target).out
    assert "copying" in shown
    assert "1/1" in shown


def test_an_empty_file_becomes_a_database(uri: str, target: str, tmp_path: Path) -> None:
    """A copy that is killed at its very beginning leaves one."""
    recorded("first")
    (tmp_path / "target.db").touch(0o600)
    assert invoke("copy", uri, target).out.startswith("1 trace: 1 copied")


def test_wrong_use_says_what_to_do(uri: str, target: str, tmp_path: Path) -> None:
    recorded("first")
    assert "FROM must be a URI" in fails(2, "copy", "traces.db", target)
    assert "TO must name another store than FROM" in fails(2, "copy", uri, uri)
    assert "TO must be a store that outlives" in fails(2, "copy", uri, "memory://")
    assert "there is no" in fails(1, "copy", f"sqlite:///{tmp_path}/none.db", target)
    assert "--filter" in fails(2, "copy", uri, target, "--filter", "nonsense")
    assert not (tmp_path / "none.db").exists()
