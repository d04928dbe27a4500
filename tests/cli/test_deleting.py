"""``tracer traces delete`` and ``prune``: what goes, what stays, and who is asked first."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import fails, invoke, on_terminal, record

DAY_NS = 86_400 * 10**9


@pytest.fixture
def made(uri: str) -> list[str]:
    """Ids of five traces, the oldest first: n0 began 50 days ago, n1 40, … n4 10 days ago."""
    ids = [record(f"n{index}", tags={"even": str(index % 2 == 0).lower()}) for index in range(5)]
    tracer.sync.flush()
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection, connection:
        for index, trace_id in enumerate(ids):
            start = time.time_ns() - (50 - 10 * index) * DAY_NS
            connection.execute(
                "UPDATE traces SET start_time_ns = ?, end_time_ns = ? WHERE trace_id = ?", (start, start + 1, trace_id)
            )
    return ids


def left() -> list[str]:
    return [trace.info.name or "" for trace in tracer.sync.search_traces(order_by="start_time asc")]


def test_delete_by_ids(made: list[str]) -> None:
    ended = invoke("traces", "delete", made[0], made[1][:10], made[0], "--yes", "--json")
    assert ended.json == {"deleted": 2, "trace_ids": made[:2]}
    assert left() == ["n2", "n3", "n4"]


def test_delete_by_conditions(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.cli.traces.PAGE", 2)
    assert invoke("traces", "delete", "--tag", "even=true", "-y").out == "deleted 3 traces\n"
    assert left() == ["n1", "n3"]
    assert invoke("traces", "delete", "--tag", "even=true", "-y").out == "deleted 0 traces\n"


def test_nothing_is_deleted_unasked(made: list[str]) -> None:
    for arguments in (["delete", made[0]], ["delete", "--name", "n0"], ["prune", "--keep", "1"]):
        assert "pass --yes" in fails(2, "traces", *arguments)
    assert len(left()) == 5


@pytest.mark.parametrize(
    ("typed", "code", "count"), [("n\n", 1, 5), ("\x03", 1, 5), ("y\n", 0, 4)], ids=["no", "^C", "yes"]
)
def test_the_user_is_asked(made: list[str], tmp_path: Path, typed: str, code: int, count: int) -> None:
    ended = on_terminal(tmp_path, "traces", "delete", made[0], "--uri", tracer.get_tracking_uri(), typed=typed)
    assert "Delete 1 trace for good? [y/N]" in ended.out
    assert ended.code == code
    assert "Traceback" not in ended.out
    assert len(left()) == count


def test_delete_needs_ids_or_conditions(made: list[str]) -> None:
    assert "name the traces by TRACE_ID, or by conditions" in fails(2, "traces", "delete", "--yes")
    assert "not by both" in fails(2, "traces", "delete", made[0], "--name", "n1", "--yes")
    assert "no trace" in fails(1, "traces", "delete", made[0], "f" * 32, "--yes")
    assert len(left()) == 5


@pytest.mark.parametrize(
    ("arguments", "stays"),
    [
        (["--older-than", "25d"], ["n3", "n4"]),
        (["--keep", "4"], ["n1", "n2", "n3", "n4"]),
        (["--keep", "4", "--older-than", "25d"], ["n3", "n4"]),
        (["--keep", "1", "--older-than", "25d"], ["n4"]),
        (["--keep", "9"], ["n0", "n1", "n2", "n3", "n4"]),
        (["--keep", "0"], []),
        (["--keep", "0", "--experiment", "other"], ["n0", "n1", "n2", "n3", "n4"]),
    ],
    ids=" ".join,
)
def test_prune(made: list[str], arguments: list[str], stays: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.cli.traces.PAGE", 2)
    gone = 5 - len(stays)
    plan = invoke("traces", "prune", *arguments, "--dry-run", "--json")
    assert plan.json == {"deleted": 0, "would_delete": gone}
    assert len(left()) == 5
    assert invoke("traces", "prune", *arguments, "--yes", "--json").json["deleted"] == gone
    assert left() == stays


def test_prune_needs_a_limit(made: list[str]) -> None:
    assert "prune needs --older-than, as in --older-than 30d, or --keep" in fails(2, "traces", "prune", "--yes")
    assert "'30' is no age" in fails(2, "traces", "prune", "--older-than", "30", "--yes")
    assert "'--keep': -1" in fails(2, "traces", "prune", "--keep", "-1", "--yes")
