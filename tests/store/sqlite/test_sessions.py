from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.store.rows import SECOND, START, query_plan, simple, trace_id
from tracer._models import Feedback
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite import _sessions
from tracer.store.sqlite._schema import SCHEMA_VERSION
from tracer.store.sqlite.store import SqliteStore


def size(path: Path) -> int:
    return path.stat().st_size


async def test_of_a_very_long_session_the_newest_traces_are_summed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.store.sessions.MAX_TRACES", 10)
    monkeypatch.setattr(_sessions, "_SUMS", _sessions._SUMS.replace("10000", "10"))
    await store.write(simple(*range(15), session_id="s"))
    [session] = (await store.sessions(TraceQuery())).sessions
    assert (session.traces, session.complete, session.first_ns) == (10, False, START)


async def test_sessions_walk_an_index(store: SqliteStore) -> None:
    await store.write(simple(*range(50), session_id="s"))
    seen: list[str] = []
    await store._database.read(sqlite3.Connection.set_trace_callback, seen.append)
    await store.sessions(TraceQuery())
    await store._database.read(sqlite3.Connection.set_trace_callback, None)
    [statement] = [sql for sql in seen if "head_session" in sql]
    plan = [row[3] for row in await store._database.read(query_plan, statement)]
    assert any("traces_in_sessions" in step for step in plan), plan
    assert any("traces_by_session" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


async def test_storage_is_told_with_what_is_missing(store: SqliteStore, path: Path) -> None:
    await store.write(simple(1, tags={"a": "b"}, dropped={"chunks": 2}))
    await store.write(simple(2, dropped={"chunks": 1, "bodies": 4}))
    await store.write(simple(3))
    await store.add_feedback(Feedback(id="1", trace_id=trace_id(1), name="x", value=True, created_ns=1))
    told = await store.storage()
    assert (told.rows["traces"], told.rows["spans"], told.rows["tags"], told.rows["feedback"]) == (3, 3, 1, 1)
    assert (told.oldest_ns, told.newest_ns) == (START + SECOND, START + 3 * SECOND)
    assert (told.traces_with_losses, told.dropped) == (2, {"bodies": 4, "chunks": 3})
    assert told.schema_version == SCHEMA_VERSION
    assert told.file_bytes == size(path)
    assert told.log_bytes == size(Path(f"{path}-wal")) > 0


async def test_storage_of_an_empty_store_in_memory() -> None:
    store = open_store("memory://")
    await store.open()
    told = await store.storage()
    assert (told.uri, told.file_bytes, told.oldest_ns, told.dropped) == ("memory://", 0, None, {})
    await store.aclose()
