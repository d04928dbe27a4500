"""Sessions, experiments and storage."""

from __future__ import annotations

import pytest

from tracer._exceptions import ConfigurationError
from tracer._models import TraceState
from tracer.store import TraceQuery
from tracer.store.base import Store

from .rows import SECOND, START, batch, running, simple


async def names(any_store: Store, **query: object) -> list[str]:
    return [session.session_id for session in (await any_store.sessions(TraceQuery(**query))).sessions]  # type: ignore[arg-type]


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


async def test_a_session_runs_while_any_of_its_traces_does(any_store: Store) -> None:
    await any_store.write(batch([], [running(1, session_id="s")]))
    await any_store.write(simple(2, session_id="s"))
    [session] = (await any_store.sessions(TraceQuery())).sessions
    assert (session.state, session.duration_ns) == ("IN_PROGRESS", None)


async def test_sessions_stand_in_the_order_of_their_latest_trace(any_store: Store) -> None:
    for n, name in enumerate("abcabac"):
        await any_store.write(simple(n, session_id=name))
    assert await names(any_store) == ["c", "a", "b"]


async def test_pages_of_sessions_have_each_once_while_traces_arrive(any_store: Store) -> None:
    for n in range(60):
        await any_store.write(simple(n, session_id=f"s{n % 20}"))
    seen, token = [], None
    for fresh in range(1_000, 2_000):
        page = await any_store.sessions(TraceQuery(max_results=3, page_token=token))
        seen += [session.session_id for session in page.sessions]
        if (token := page.next_page_token) is None:
            break
        await any_store.write(simple(fresh, session_id=f"s{fresh % 20}"))
    assert seen == [f"s{n}" for n in range(19, -1, -1)]


async def test_sessions_are_of_the_traces_that_a_query_selects_and_summed_whole(any_store: Store) -> None:
    pytest.importorskip("lark")
    for n, name in enumerate("aabbc"):
        await any_store.write(simple(n, session_id=name, state=TraceState.ERROR if n in (0, 2) else TraceState.OK))
    assert await names(any_store, status="ERROR") == ["b", "a"]
    assert await names(any_store, filter_string="status = 'OK' AND session_id != 'b'") == ["c", "a"]
    page = await any_store.sessions(TraceQuery(status="ERROR", max_results=1))
    assert page.sessions[0].traces == 2
    page = await any_store.sessions(TraceQuery(status="ERROR", max_results=1, page_token=page.next_page_token))
    assert [session.session_id for session in page.sessions] == ["a"]


async def test_wrong_arguments_for_sessions_are_named(any_store: Store) -> None:
    await any_store.write(simple(1, session_id="a"))
    await any_store.write(simple(2, session_id="b"))
    with pytest.raises(ConfigurationError, match="sessions are ordered by their latest trace"):
        await any_store.sessions(TraceQuery(order_by="cost desc"))
    with pytest.raises(ConfigurationError, match="max_results must be"):
        await any_store.sessions(TraceQuery(max_results=0))
    token = (await any_store.search_traces(TraceQuery(max_results=1))).next_page_token
    with pytest.raises(ConfigurationError, match="page_token belongs to a search with other arguments"):
        await any_store.sessions(TraceQuery(page_token=token))


async def test_experiments_are_told_with_their_size_and_age(any_store: Store) -> None:
    assert await any_store.experiments() == []
    await any_store.write(simple(1, 2, 3, experiment="old"))
    await any_store.write(simple(9))
    told = await any_store.experiments()
    assert [(each.name, each.traces) for each in told] == [("Default", 1), ("old", 3)]
    assert (told[1].first_ns, told[1].last_ns) == (START + SECOND, START + 3 * SECOND)
