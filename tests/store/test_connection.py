"""What `tracer.store._connection` relies on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from tracer.store import _connection

from .rows import simple


async def test_a_function_runs_whole_in_the_connections_thread(path: Path) -> None:
    """Guards the use of aiosqlite's internals: a new version of it that changes them fails here."""
    connection = await _connection.connect(str(path))

    def inside(raw: sqlite3.Connection, number: int) -> tuple[str, int]:
        assert isinstance(raw, sqlite3.Connection)
        return threading.current_thread().name, number

    name, number = await _connection.run(connection, inside, 7)
    assert (name != threading.current_thread().name, number) == (True, 7)
    with pytest.raises(ZeroDivisionError):
        await _connection.run(connection, lambda raw: 1 / 0)
    await connection.close()


async def test_a_cancelled_write_is_whole_and_leaves_no_transaction_open(path: Path) -> None:
    from tracer.store import TraceQuery, open_store

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


async def test_the_pragmas_are_in_force(path: Path) -> None:
    connection = await _connection.connect(str(path))
    for pragma, value in [
        ("busy_timeout", 5000),
        ("journal_mode", "wal"),
        ("synchronous", 1),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("auto_vacuum", 2),
        ("mmap_size", 0),
    ]:
        rows = list(await connection.execute_fetchall(f"PRAGMA {pragma}"))
        assert rows[0][0] == value, pragma
    await connection.close()


def test_a_transaction_rolls_back_on_any_exception() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(ZeroDivisionError), _connection.transaction(connection):
        assert connection.execute("INSERT INTO t VALUES (1)").rowcount / 0
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.close()
