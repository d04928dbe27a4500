"""Several processes over one file, and what happens to the traces of a process that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store.rows import batch, running, simple, started, trace_id
from tracer._models import TraceState
from tracer.store import ProcessRow, TraceQuery, current_process, open_store
from tracer.store.process import is_alive
from tracer.store.sqlite._connection import create_file
from tracer.store.sqlite.store import SqliteStore

ROOT = Path(__file__).parent.parent.parent
WRITER = """
import asyncio, sys
from tests.store.rows import simple
from tracer.store import open_store

async def main(path, first, batches, rows):
    store = open_store(f"sqlite:///{path}")
    await store.open()
    for n in range(batches):
        numbers = range(first + n * rows, first + (n + 1) * rows)
        await store.write(simple(*numbers, counted=True, usage={"total_tokens": 1}))
    await store.aclose()

asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
"""
STARTER = """
import asyncio, sys
from tests.store.rows import batch, running, started
from tracer.store import open_store

async def main(path):
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(batch([started(1, inputs=b'"prompt"')], [running(1)]))
    print("written", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def test_processes_that_race_for_one_file_lose_nothing(path: Path) -> None:
    """Creation and migration are raced for too."""
    with process(WRITER, path, 0, 40, 25) as one, process(WRITER, path, 10_000, 40, 25) as two:
        assert (one.wait(60), two.wait(60)) == (0, 0)
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT count(*), sum(total_tokens) FROM traces").fetchone() == (2_000, 2_000)
        assert reader.execute("SELECT count(*) FROM spans").fetchone() == (2_000,)
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert reader.execute("SELECT count(*) FROM processes WHERE ended_ns IS NULL").fetchone() == (0,)
    reader.close()


def until_zombie(child: subprocess.Popen[str]) -> None:
    """Wait for the end without reaping: a zombie counts as gone."""
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


async def state(store: SqliteStore, number: int = 1) -> TraceState:
    store._next_sweep = 0.0  # don't wait for the interval
    return (await store.get_trace(trace_id(number))).info.state


async def test_a_killed_process_leaves_its_open_traces_interrupted(store: SqliteStore, path: Path) -> None:
    with process(STARTER, path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        assert await state(store) == TraceState.IN_PROGRESS
        child.send_signal(signal.SIGKILL)
        until_zombie(child)
        assert await state(store) == TraceState.INTERRUPTED
    assert (await store.get_trace(trace_id(1))).data.spans[0].inputs == "prompt"
    assert len(await store.search_traces(TraceQuery(status="INTERRUPTED"))) == 1
    await store.write(batch([], [running(1)]))  # whoever adopts the trace is alive
    assert await state(store) == TraceState.IN_PROGRESS
    await store.write(simple(1))
    assert await state(store) == TraceState.OK


async def test_a_process_that_closed_its_store_leaves_interrupted_traces(store: SqliteStore, path: Path) -> None:
    other = open_store(f"sqlite:///{path}")
    await other.open()
    await other.write(batch([started(1)], [running(1)]))
    assert await state(store) == TraceState.IN_PROGRESS
    await other.aclose()
    assert await state(store) == TraceState.INTERRUPTED


async def test_a_process_of_another_host_is_left_alone(store: SqliteStore) -> None:
    remote = ProcessRow(process_id="far:1:1", host="far", pid=1, started="1")
    await store.write(batch([started(1)], [running(1, process_id="far:1:1")], process=remote))
    assert await state(store) == TraceState.IN_PROGRESS


def test_this_process_is_alive_and_a_reused_pid_is_not_it() -> None:
    here = current_process()
    assert here.process_id == f"{here.host}:{here.pid}:{here.started}"
    assert is_alive(here)
    if sys.platform == "linux":
        assert not is_alive(ProcessRow(process_id="x", host=here.host, pid=here.pid, started="1"))
        assert not is_alive(ProcessRow(process_id="x", host=here.host, pid=2**22 + 1, started="1"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_is_a_process_of_its_own() -> None:
    here = current_process().process_id
    script = f"""
import os
from tracer.store import current_process
before = current_process().process_id
pid = os.fork()
if pid == 0:
    os._exit(current_process().process_id == before)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), {here!r} != before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True\n"


HOLDER = """
import sqlite3, sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextmanager
def held_by_another(path: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Another process has the write lock meanwhile, as in a long migration, vacuum or deletion."""
    command = [sys.executable, "-c", HOLDER, str(path), begin]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "locked\n"
        yield
        child.stdin.write("\n")
        child.stdin.close()
        assert child.wait(60) == 0


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_who_only_reads_opens_a_database_that_another_process_writes_to(path: Path, begin: str) -> None:
    store = SqliteStore(f"sqlite:///{path}")
    await store.write(simple(1, text="word"))
    await store.index_text()
    await store.aclose()
    with held_by_another(path, begin):
        await store.open()
        assert len(await store.search_traces(TraceQuery())) == 1
        assert len(await store.search_traces(TraceQuery(text="word"))) == 1
        await store.get_trace(trace_id(1))
    await store.aclose()


async def test_traces_of_a_dead_process_can_be_read_while_another_process_writes(path: Path) -> None:
    """They are marked as interrupted later: reading does not wait for that."""
    with process(STARTER, path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
    store = open_store(f"sqlite:///{path}")
    with held_by_another(path):
        await store.open()
        assert len(await store.search_traces(TraceQuery())) == 1
    await store.aclose()


async def test_an_empty_file_gives_room_back_once_it_is_ours(path: Path) -> None:
    create_file(path)
    store = open_store(f"sqlite:///{path}")
    await store.write(simple(1))
    await store.aclose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
