"""A database opens itself, keeps SQLite out of forks, and works again whatever happened to its threads."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest

from tests.store.rows import simple
from tracer._exceptions import TransientStoreError
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite import _gate, _thread
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._database import Database
from tracer.store.sqlite._gate import Gate, GoneError
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite.store import SqliteStore


def make_table(connection: sqlite3.Connection) -> None:
    migrate(connection)  # else it would be another program's
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")


def add(connection: sqlite3.Connection, *values: int) -> str:
    with transaction(connection):
        for value in values:
            connection.execute("INSERT INTO t VALUES (?)", (value,))
    return threading.current_thread().name


def values(connection: sqlite3.Connection) -> list[int]:
    return [value for (value,) in connection.execute("SELECT x FROM t ORDER BY x")]


def fork(gate: Gate) -> None:
    """What happens in the parent around a fork."""
    gate.hold(_gate.PATIENCE)
    gate.release()


@pytest.fixture(params=["file", "memory"])
async def database(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Database]:
    database = Database(path if request.param == "file" else None, make_table)
    yield database
    await database.aclose()


async def test_a_function_runs_whole_in_the_connections_thread(database: Database) -> None:
    assert await database.write(add, 1) != threading.current_thread().name
    assert await database.read(values) == [1]
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda _: 1 / 0)
    assert database.is_open


async def test_of_many_who_need_it_at_once_one_opens_it(database: Database, path: Path) -> None:
    opened: list[object] = []

    def on_open(connection: sqlite3.Connection) -> None:
        opened.append(connection)
        make_table(connection)

    database._on_open = on_open
    await asyncio.gather(*(database.write(add, number) for number in range(20)))
    assert len(opened) == 1
    assert await database.read(values) == list(range(20))


async def test_a_file_is_never_seen_without_its_first_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a second process finds the file empty, and takes the log of the first for one that was left behind."""

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    database = Database(path, make_table)
    monkeypatch.setattr(Database, "_connect", killed)  # between making the file and opening it
    with pytest.raises(KeyboardInterrupt):
        await database.open()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA page_count").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    monkeypatch.undo()
    assert await database.read(values) == []
    await database.aclose()


async def test_the_pragmas_are_in_force(path: Path) -> None:
    database = Database(path, make_table)
    for pragma, value in [
        ("busy_timeout", 100),
        ("journal_mode", "wal"),
        ("synchronous", 1),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("auto_vacuum", 2),
        ("mmap_size", 0),
    ]:
        assert (await database.write(sqlite3.Connection.execute, f"PRAGMA {pragma}")).fetchone() == (value,), pragma
    await database.aclose()


@pytest.mark.parametrize("changed", ["before it is opened", "while it is open"])
async def test_durability_counts_from_the_next_write_on(changed: str, path: Path) -> None:
    database = Database(path, make_table)

    async def in_force() -> list[int]:
        pragmas = ("synchronous", "fullfsync")
        return [(await database.write(sqlite3.Connection.execute, f"PRAGMA {p}")).fetchone()[0] for p in pragmas]

    if changed == "while it is open":
        assert await in_force() == [1, 0]
    database.options.durable = True
    assert await in_force() == [3, 1]
    await database.aclose()
    assert await in_force() == [3, 1]
    database.options.durable = False
    assert await in_force() == [1, 0]
    await database.aclose()


async def test_a_cancelled_write_is_whole_and_leaves_no_transaction_open(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    writing = asyncio.create_task(store.write(simple(*range(100))))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.write(simple(200))
    assert len(await store.search_traces(TraceQuery(max_results=1000))) in (1, 101)
    await store.aclose()


def test_a_transaction_rolls_back_on_any_exception() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(ZeroDivisionError), transaction(connection):
        assert connection.execute("INSERT INTO t VALUES (1)").rowcount / 0
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.close()


# --- forks ------------------------------------------------------------------------------------------------------------


async def test_a_fork_finds_a_file_closed_and_its_use_opens_it_again(path: Path) -> None:
    database = Database(path, make_table)
    await database.write(add, 1)
    database._gate.hold(1.0)
    assert not database._gate.is_used
    assert not database.is_open
    database._gate.release()
    await database.write(add, 2)
    assert await database.read(values) == [1, 2]
    await database.aclose()


async def test_a_fork_finds_memory_unused_and_as_it_was() -> None:
    database = Database(None, make_table)
    await database.write(add, 1)
    fork(database._gate)
    assert await database.read(values) == [1]
    await database.aclose()


async def test_while_a_fork_goes_on_nobody_gets_in(database: Database) -> None:
    await database.write(add, 1)
    database._gate.hold(1.0)
    waiting = [asyncio.create_task(database.write(add, 2)), asyncio.create_task(database.read(values))]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    database._gate.release()
    await asyncio.gather(*waiting)
    assert await database.read(values) == [1, 2]


async def test_what_a_fork_stops_is_done_afterwards_once(database: Database) -> None:
    started = threading.Event()

    def long(connection: sqlite3.Connection) -> int:
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (7)")
            first = not started.is_set()
            started.set()
            endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
            return int(connection.execute(endless if first else "SELECT 5").fetchone()[0])

    await database.open()
    running = asyncio.create_task(database.write(long))
    await asyncio.to_thread(started.wait)
    await asyncio.to_thread(fork, database._gate)
    assert await running == 5
    assert await database.read(values) == [7]


@pytest.mark.parametrize("says", ["interrupted", "fts5: error creating shadow table t_data: interrupted"])
async def test_what_a_fork_stops_is_known_by_what_sqlite_says(database: Database, says: str) -> None:
    said: list[str] = []

    def stopped(connection: sqlite3.Connection) -> str:
        if not said:
            said.append(says)
            raise sqlite3.OperationalError(says)
        return "done"

    assert await database.write(stopped) == "done"


async def test_what_fails_while_a_fork_is_near_is_done_again(database: Database) -> None:
    """Whatever SQLite says to it: a virtual table whose constructor was stopped can't be made, it says."""
    failed = threading.Event()

    def stopped(connection: sqlite3.Connection) -> str:
        if failed.is_set():
            return "done"
        database._gate._held += 1  # it begins just now, and waits for us
        failed.set()
        raise sqlite3.OperationalError("vtable constructor failed: t")

    await database.open()
    running = asyncio.create_task(database.write(stopped))
    await asyncio.to_thread(failed.wait)
    await asyncio.sleep(0.05)
    database._gate.release()
    assert await running == "done"


async def test_another_processs_lock_does_not_keep_a_fork_waiting(path: Path) -> None:
    database = Database(path, make_table)
    await database.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(database.write(add, 1))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(database._gate.hold, _gate.PATIENCE)
    assert not database._gate.is_used
    database._gate.release()
    other.execute("ROLLBACK")
    other.close()
    await waiting
    assert await database.read(values) == [1]
    await database.aclose()


async def test_what_does_not_stop_in_time_stays_open_and_is_known_to(path: Path) -> None:
    database = Database(path, make_table)
    begun, go_on = threading.Event(), threading.Event()

    def stay(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait()

    await database.open()
    running = asyncio.create_task(database.write(stay))
    await asyncio.to_thread(begun.wait)
    await asyncio.to_thread(database._gate.hold, 0.05)
    assert database._gate.is_used
    go_on.set()
    database._gate.release()
    await running
    await database.write(add, 1)
    assert await database.read(values) == [1]
    await database.aclose()


async def test_random_forks_between_writes_lose_and_double_nothing(path: Path) -> None:
    database = Database(path, make_table)

    def fork_again_and_again() -> None:
        for _ in range(40):  # without an end nothing would ever be written: each fork closes what was opened just now
            fork(database._gate)
            time.sleep(0.003)

    forking = threading.Thread(target=fork_again_and_again)
    forking.start()
    for first in range(0, 100, 4):
        await asyncio.gather(*(database.write(add, first + step) for step in range(4)))
        assert await database.read(values) == list(range(first + 4))
    forking.join()
    await database.aclose()


def test_a_gate_refuses_who_comes_with_closed_connections() -> None:
    gate = Gate()
    fork(gate)
    with pytest.raises(GoneError), gate.turn(gate.generation - 1):
        pass
    assert not gate.is_used


# --- threads ----------------------------------------------------------------------------------------------------------


def kill(thread: threading.Thread) -> None:
    """End a thread as debuggers and time-outs do: by an exception that strikes when it next runs Python."""
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))


def threads_of(connection: aiosqlite.Connection | None) -> threading.Thread:
    thread = getattr(connection, "_thread", connection)
    assert isinstance(thread, threading.Thread)
    return thread


async def test_killed_threads_come_back_with_what_was_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_thread, "LOOK_AT_THREAD", 0.05)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    await database.write(add, 1)
    for turn in range(3):
        for each in database._threads:
            aio = each._aio
            thread = threads_of(aio)
            assert aio is not None
            while thread.is_alive():  # it may be hit where aiosqlite catches everything: again
                kill(thread)
                aio._tx.put_nowait((asyncio.get_running_loop().create_future(), lambda: None))  # wakes it up
                await asyncio.sleep(0.02)
        await database.write(add, turn + 2)
    assert await database.read(values) == [1, 2, 3, 4]


async def test_where_no_thread_can_be_started_work_is_done_without(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await database.write(add, 1, 2) == threading.current_thread().name
    assert await database.read(values) == [1, 2]
    await database.aclose()


# --- what libraries are shown -----------------------------------------------------------------------------------------


async def test_no_library_logs_what_is_stored(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = SqliteStore(f"sqlite:///{path}")
    await store.write(simple(1, inputs=b'"canary-in"', outputs=b'"canary-out"', text="canary-text"))
    await store.search_traces(TraceQuery(text="canary-text"))
    with pytest.raises(sqlite3.IntegrityError):
        await store._database.write(_broken, "canary-error")
    await store.aclose()
    assert any(record.name == "aiosqlite" for record in caplog.records), "it logs nothing any more: delete this test"
    assert "canary" not in caplog.text


def _broken(_: sqlite3.Connection, value: str) -> None:
    raise sqlite3.IntegrityError(value)


def test_a_path_that_can_no_longer_be_opened_is_a_passing_failure_once_it_was_open(path: Path) -> None:
    async def go() -> None:
        folder = path.parent / "data"
        database = Database(folder / "t.db", make_table)
        await database.write(add, 1)
        os.rename(folder, path.parent / "moved")
        folder.write_text("in its place")
        await database.aclose()
        with pytest.raises(TransientStoreError):
            await database.write(add, 2)
        folder.unlink()
        await database.write(add, 3)
        assert await database.read(values) == [3]
        await database.aclose()

    asyncio.run(go())
