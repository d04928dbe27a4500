"""Sessions, experiments and storage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tracer._exceptions import ConfigurationError
from tracer._models import Feedback, TraceState
from tracer.store import Store, TraceQuery, open_store
from tracer.store.sqlite import _sessions
from tracer.store.sqlite._schema import SCHEMA_VERSION
from tracer.store.sqlite.store import SqliteStore

from .rows import SECOND, START, batch, query_plan, running, simple, trace_id


async def names(store: SqliteStore, **query: object) -> list[str]:
    return [session.session_id for session in (await store.sessions(TraceQuery(**query))).sessions]  # type: ignore[arg-type]


def size(path: Path) -> int:
    return path.stat().st_size


async def test_a_session_sums_up_its_traces(any_store: Store) -> None:
    await any_store.write(
        simple(
            1,
            session_id="s",
            user_id="u",
            request_preview="hello",
            usage={"total_tokens": 5},
            cost=0.5,
            counted=True,
        )
    )
    await any_store.write(simple(2, session_id="s", state=TraceState.ERROR, usage={"total_tokens": 7}, counted=True))
    await any_store.write(simple(5, session_id="s", response_preview="bye"))
    await any_store.write(simple(3))
    [session] = (await any_store.sessions(TraceQuery())).sessions
    assert (session.session_id, session.user_id, session.traces, session.complete) == ("s", "u", 3, True)
    assert (session.first_ns, session.last_ns) == (START + SECOND, START + 5 * SECOND)
    assert session.duration_ns == 4 * SECOND + SECOND // 2
    assert (session.errors, session.state, session.total_tokens, session.cost) == (1, "OK", 12, 0.5)
    assert (session.request_preview, session.response_preview) == ("hello", "bye")


async def test_a_session_runs_while_any_of_its_traces_does(store: SqliteStore) -> None:
    await store.write(batch([], [running(1, session_id="s")]))
    await store.write(simple(2, session_id="s"))
    [session] = (await store.sessions(TraceQuery())).sessions
    assert (session.state, session.duration_ns) == ("IN_PROGRESS", None)


async def test_sessions_stand_in_the_order_of_their_latest_trace(store: SqliteStore) -> None:
    for n, name in enumerate("abcabac"):
        await store.write(simple(n, session_id=name))
    assert await names(store) == ["c", "a", "b"]


async def test_pages_of_sessions_have_each_once_while_traces_arrive(store: SqliteStore) -> None:
    for n in range(60):
        await store.write(simple(n, session_id=f"s{n % 20}"))
    seen, token = [], None
    for fresh in range(1_000, 2_000):
        page = await store.sessions(TraceQuery(max_results=3, page_token=token))
        seen += [session.session_id for session in page.sessions]
        if (token := page.next_page_token) is None:
            break
        await store.write(simple(fresh, session_id=f"s{fresh % 20}"))
    assert seen == [f"s{n}" for n in range(19, -1, -1)]


async def test_sessions_are_of_the_traces_that_a_query_selects_and_summed_whole(store: SqliteStore) -> None:
    pytest.importorskip("lark")
    for n, name in enumerate("aabbc"):
        await store.write(simple(n, session_id=name, state=TraceState.ERROR if n in (0, 2) else TraceState.OK))
    assert await names(store, status="ERROR") == ["b", "a"]
    assert await names(store, filter_string="status = 'OK' AND session_id != 'b'") == ["c", "a"]
    page = await store.sessions(TraceQuery(status="ERROR", max_results=1))
    assert page.sessions[0].traces == 2
    page = await store.sessions(TraceQuery(status="ERROR", max_results=1, page_token=page.next_page_token))
    assert [session.session_id for session in page.sessions] == ["a"]


async def test_of_a_very_long_session_the_newest_traces_are_summed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sessions, "_MAX_TRACES", 10)
    monkeypatch.setattr(_sessions, "_SUMS", _sessions._SUMS.replace("10000", "10"))
    await store.write(simple(*range(15), session_id="s"))
    [session] = (await store.sessions(TraceQuery())).sessions
    assert (session.traces, session.complete, session.first_ns) == (10, False, START)


async def test_wrong_arguments_for_sessions_are_named(store: SqliteStore) -> None:
    await store.write(simple(1, session_id="a"))
    await store.write(simple(2, session_id="b"))
    with pytest.raises(ConfigurationError, match="sessions are ordered by their latest trace"):
        await store.sessions(TraceQuery(order_by="cost desc"))
    with pytest.raises(ConfigurationError, match="max_results must be"):
        await store.sessions(TraceQuery(max_results=0))
    token = (await store.search_traces(TraceQuery(max_results=1))).next_page_token
    with pytest.raises(ConfigurationError, match="page_token belongs to a search with other arguments"):
        await store.sessions(TraceQuery(page_token=token))


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


async def test_experiments_are_told_with_their_size_and_age(any_store: Store) -> None:
    assert await any_store.experiments() == []
    await any_store.write(simple(1, 2, 3, experiment="old"))
    await any_store.write(simple(9))
    told = await any_store.experiments()
    assert [(each.name, each.traces) for each in told] == [("Default", 1), ("old", 3)]
    assert (told[1].first_ns, told[1].last_ns) == (START + SECOND, START + 3 * SECOND)


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
