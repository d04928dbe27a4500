"""The command over a PostgreSQL database."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.store.rows import simple
from tracer.store.postgres.store import PostgresStore


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tracer", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("traces", "list"), "kept"),
        (("traces", "show", f"{1:032x}"), "kept"),
        (("stats",), "traces"),
        (("traces", "delete", f"{1:032x}", "--yes"), "1"),
    ],
)
async def test_commands_that_read_and_delete_work(postgres_uri: str, command: tuple[str, ...], shown: str) -> None:
    store = PostgresStore(postgres_uri)
    await store.write(simple(1, name="kept"))
    await store.aclose()
    ended = run(*command, "--uri", postgres_uri)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert shown in ended.stdout


@pytest.mark.parametrize("command", [("db", "check"), ("db", "vacuum"), ("db", "upgrade")])
def test_what_is_for_files_says_so(postgres_uri: str, command: tuple[str, ...]) -> None:
    ended = run(*command, "--uri", postgres_uri)
    assert ended.returncode == 2
    assert "is a PostgreSQL database, this needs a file of SQLite; use PostgreSQL's own tools" in ended.stderr
