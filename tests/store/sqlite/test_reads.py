"""Reads beside one another: a slow one delays nobody, is stopped when nobody waits for it, and has a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.store.rows import simple
from tracer._exceptions import ReadTimeoutError
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite import _gate
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._database import Database
from tracer.store.sqlite._readers import READERS, SEARCHES
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite.store import SqliteStore

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
PATIENCE = 60.0  # seconds after which something counts as hanging


def make_table(connection: sqlite3.Connection) -> None:
    migrate(connection)
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")


def add(connection: sqlite3.Connection, value: int) -> None:
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (?)", (value,))


def values(connection: sqlite3.Connection) -> list[int]:
    return [value for (value,) in connection.execute("SELECT x FROM t ORDER BY x")]


class Slow:
    """A read without an end, in a snapshot of the database, and what became of it."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any] | None = None) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.runs = 0
        self._work = work or (lambda connection: connection.execute(ENDLESS).fetchone())

    def __call__(self, connection: sqlite3.Connection) -> Any:
        self.runs += 1
        try:
            with transaction(connection, "DEFERRED"):
                connection.execute("SELECT count(*) FROM t").fetchone()
                self.begun.set()
                return self._work(connection)
        finally:
            self.ended.set()

    async def begin(self, reading: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(reading)
        assert await asyncio.to_thread(self.begun.wait, PATIENCE)
        return task

    async def is_stopped(self) -> bool:
        return await asyncio.to_thread(self.ended.wait, PATIENCE)


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture(params=["file", "memory"])
async def any_database(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Database]:
    database = Database(path if request.param == "file" else None, make_table)
    await database.open()
    yield database
    await database.aclose()


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = Database(path, make_table)
    await database.open()
    yield database
    await database.aclose()


async def test_slow_searches_delay_no_other_read(database: Database) -> None:
    slow = [Slow() for _ in range(SEARCHES - 1)]
    tasks = [await each.begin(database.search(each)) for each in slow]
    with anyio.fail_after(PATIENCE):
        await database.write(add, 1)
        assert await database.search(values) == [1]
        assert await database.read(values) == [1]
        last = Slow()
        tasks.append(await last.begin(database.search(last)))  # now only reads of one trace have a connection left
        assert await database.read(values) == [1]
    for task in tasks:
        await cancel(task)


async def test_charts_leave_connections_to_lists(database: Database) -> None:
    charts = [asyncio.ensure_future(database.sum_up(Slow())) for _ in range(READERS)]
    assert await asyncio.wait_for(database.search(values), PATIENCE) == []
    for task in charts:
        await cancel(task)


async def test_who_finds_no_connection_waits_for_one(database: Database) -> None:
    slow = [Slow() for _ in range(SEARCHES)]
    tasks = [await each.begin(database.search(each)) for each in slow]
    given_up = asyncio.ensure_future(database.search(values))
    waiting = asyncio.ensure_future(database.search(values))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    await cancel(given_up)
    await cancel(tasks.pop())
    assert await asyncio.wait_for(waiting, PATIENCE) == []
    for task in tasks:
        await cancel(task)
    assert len(database._threads) == SEARCHES + 1


async def test_many_reads_share_few_connections(any_database: Database) -> None:
    await any_database.write(add, 1)
    found = await asyncio.gather(*(any_database.read(values) for _ in range(100)))
    assert found == [[1]] * 100
    assert len(any_database._threads) <= READERS + 1


async def test_a_read_is_stopped_when_nobody_waits_for_it(any_database: Database) -> None:
    slow = Slow()
    await cancel(await slow.begin(any_database.read(slow)))
    assert await slow.is_stopped()
    await any_database.write(add, 1)
    assert await any_database.read(values) == [1]
    assert slow.runs == 1


async def test_a_read_of_many_short_statements_is_stopped(any_database: Database) -> None:
    def work(connection: sqlite3.Connection) -> None:
        while True:
            connection.execute("SELECT count(*) FROM t").fetchone()

    slow = Slow(work)
    await cancel(await slow.begin(any_database.read(slow)))
    assert await slow.is_stopped()
    assert await any_database.read(values) == []


async def test_a_stopped_read_leaves_no_snapshot_behind(database: Database) -> None:
    for _ in range(5):
        slow = Slow()
        await cancel(await slow.begin(database.read(slow)))
    await database.write(add, 1)
    assert await database.read(values) == [1]
    row = await database.write(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    assert row[0] == 0, "a reader in an old snapshot keeps the log from being emptied"


async def test_stopping_a_read_stops_no_write_of_the_same_connection() -> None:
    database = Database(None, make_table)
    for turn in range(50):
        slow = Slow(None if turn % 2 else lambda _: None)
        reading = asyncio.ensure_future(database.read(slow))
        writing = asyncio.ensure_future(database.write(add, turn))
        await asyncio.to_thread(slow.begun.wait)
        await cancel(reading)
        await writing
    assert await database.read(values) == list(range(50))
    await database.aclose()


async def test_closing_waits_for_no_read_which_is_done_on_new_connections(database: Database) -> None:
    await database.write(add, 1)
    first = threading.Event()

    def work(connection: sqlite3.Connection) -> list[int]:
        if not first.is_set():
            first.set()
            connection.execute(ENDLESS).fetchone()
        return values(connection)

    slow = Slow(work)
    task = await slow.begin(database.search(slow))
    await asyncio.wait_for(database.aclose(), PATIENCE)
    assert await asyncio.wait_for(task, PATIENCE) == [1]
    assert slow.runs == 2


async def test_a_fork_closes_all_connections_and_waits_for_no_read(database: Database) -> None:
    slow = [Slow() for _ in range(SEARCHES)]
    tasks = [await each.begin(database.search(each)) for each in slow]
    await asyncio.to_thread(database._gate.hold, _gate.PATIENCE)
    assert not database._gate.is_used
    database._gate.release()
    for task in tasks:  # they began again: nobody told them to stop
        await cancel(task)
    await database.write(add, 1)
    assert await database.read(values) == [1]


async def test_a_new_event_loop_finds_connections(path: Path) -> None:
    """The last loop ended in the middle of reads, which gave back no connection."""
    database, slow = Database(path, make_table), [Slow() for _ in range(READERS)]

    async def begin() -> None:
        for each in slow:
            await each.begin(database.read(each))

    async def go_on() -> list[int]:
        await database.write(add, 1)
        found = await asyncio.wait_for(database.read(values), PATIENCE)
        await database.aclose()
        return found

    def run() -> list[int]:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()
        return asyncio.run(go_on())

    assert await asyncio.to_thread(run) == [1]


# --- regular expressions, which are Python within SQLite --------------------------------------------------------------

SLOW_PATTERNS = " OR ".join(f"name RLIKE 'a*a*{letter}$'" for letter in "bcdefghijklmnopq")


async def test_a_search_by_regular_expressions_is_stopped(store: SqliteStore) -> None:
    """One trace: nothing but the patterns themselves takes time, and SQLite doesn't look up between two of them."""
    await store.write(simple(1, name="a" * 1_000))
    readers = store._database._readers
    assert readers is not None
    searching = asyncio.create_task(store.search_traces(TraceQuery(filter_string=f"({SLOW_PATTERNS})")))
    await asyncio.wait([searching], timeout=0.2)
    assert not searching.done()
    await cancel(searching)
    idle = asyncio.Event()
    readers.threads[0].call_when_idle(idle.set)
    await asyncio.wait_for(idle.wait(), PATIENCE)
    assert (await store.search_traces(TraceQuery())) != []


# --- the time limit ---------------------------------------------------------------------------------------------------


async def test_a_search_over_its_time_limit_is_stopped_and_says_so(store: SqliteStore) -> None:
    await store.write(simple(*range(1_000), name="a" * 900))
    store.options.time_limit = 0.2
    with pytest.raises(ReadTimeoutError, match=r"search took longer than 0\.2 s.*read_timeout"):
        await store.search_traces(TraceQuery(filter_string=SLOW_PATTERNS))
    store.options.time_limit = None
    assert len(await store.search_traces(TraceQuery(max_results=5))) == 5


async def test_the_limit_includes_the_wait_for_a_connection(store: SqliteStore) -> None:
    await store._database.write(make_table)
    tasks = []
    for _ in range(SEARCHES):
        slow = Slow()
        tasks.append(await slow.begin(store._database.search(slow)))
    store.options.time_limit = 0.2
    with pytest.raises(ReadTimeoutError):
        await store.search_traces(TraceQuery())
    for task in tasks:
        await cancel(task)
    store.options.time_limit = PATIENCE
    assert await store.search_traces(TraceQuery()) == []


async def test_opening_is_not_cut_short_by_the_limit(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    store.options.time_limit = 1e-6
    for _ in range(3):
        with pytest.raises(ReadTimeoutError):
            await store.search_traces(TraceQuery())
    store.options.time_limit = None
    assert await store.search_traces(TraceQuery()) == []
    await store.aclose()


async def test_the_limit_holds_where_there_is_no_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    database = Database(path, make_table)
    database.options.time_limit = 0.2
    with pytest.raises(TimeoutError):
        await database.read(Slow())
    assert await database.read(values) == []
    await database.aclose()


async def test_a_connection_that_is_opened_for_nobody_any_more_is_closed(database: Database) -> None:
    first = Slow()
    tasks = [await first.begin(database.read(first))]
    for steps in range(20):
        opening = asyncio.create_task(database.read(Slow()))
        for _ in range(steps):
            await asyncio.sleep(0)
        await cancel(opening)
    await cancel(tasks[0])
    assert await database.read(values) == []
    await database.aclose()
    with anyio.fail_after(PATIENCE):
        while database._gate.is_used:  # noqa: ASYNC110  the thread that still connects gives no sign
            await asyncio.sleep(0.005)
