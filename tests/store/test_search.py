from __future__ import annotations

import base64
import contextlib
import itertools
import math
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from tracer._exceptions import ConfigurationError, TraceNotFoundError
from tracer._models import TraceState
from tracer.store import TraceQuery
from tracer.store.base import Store

from .rows import SECOND, START, batch, patch, running, simple, span, trace_id


async def found(any_store: Store, **arguments: Any) -> list[int]:
    """The numbers of the traces that a search finds, in order."""
    page = await any_store.search_traces(TraceQuery(**arguments))
    return [int(trace.info.trace_id, 16) for trace in page]


async def test_the_default_list_is_newest_first_with_spans(any_store: Store) -> None:
    await any_store.write(simple(1, 3, 2))
    page = await any_store.search_traces(TraceQuery())
    assert [int(trace.info.trace_id, 16) for trace in page] == [3, 2, 1]
    assert all(len(trace.data.spans) == 1 for trace in page)
    assert page.next_page_token is None
    bare = await any_store.search_traces(TraceQuery(include_spans=False))
    assert all(trace.data.spans == [] for trace in bare)


async def test_each_keyword_narrows(any_store: Store) -> None:
    await any_store.write(simple(1, name="a", session_id="s1", user_id="u1", model="gpt-5", experiment="E"))
    await any_store.write(simple(2, state=TraceState.ERROR, tags={"env": "prod", "x": "1"}, text="a needle in hay"))
    await any_store.write(batch([span(3)], [running(3)]))
    await any_store.write(simple(4, end_time_ns=START + 14 * SECOND))
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"name": "a"}, [1]),
        ({"session_id": "s1"}, [1]),
        ({"user_id": "u1"}, [1]),
        ({"model": "gpt-5"}, [1]),
        ({"experiment": "E"}, [1]),
        ({"experiment": "Default"}, [4, 3, 2]),
        ({"status": "ERROR"}, [2]),
        ({"status": "in_progress"}, [3]),
        ({"status": TraceState.OK}, [4, 1]),
        ({"tags": {"env": "prod"}}, [2]),
        ({"tags": {"env": "prod", "x": "2"}}, []),
        ({"text": "needle"}, [2]),
        ({"min_duration": 1}, [4]),
        ({"min_duration": 0.5}, [4, 2, 1]),
        ({"name": "a", "status": "ERROR"}, []),
    ]
    for arguments, numbers in cases:
        assert await found(any_store, **arguments) == numbers, arguments


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("quick fox", True),
        ("QUICK", True),
        ("résumé", True),
        ("resume", True),
        ('"quick brown"', True),
        ('"brown quick"', False),
        ("qui*", True),
        ("qui", False),
        ("quick AND fox", True),  # AND is a word like any other, and it is in the text
        ("quick OR lion", False),
        ("quick NOT fox", False),
        ('quick" OR 1', False),
        ("fox)", True),
        ("text:fox", True),
        ("don't", True),
        ("100%", True),
        ("^quick", True),
        ("-fox", True),
        ("quick !!!", True),
        ("  ", True),
        ("\0fox", True),
    ],
)
async def test_text_is_words_never_query_syntax(any_store: Store, text: str, hit: bool) -> None:
    await any_store.write(simple(1, text="The quick brown fox and don't résumé text: fox 100%"))
    assert bool(await found(any_store, text=text)) is hit


async def test_traces_are_sorted_by_their_first_token(any_store: Store) -> None:
    """A trace of a single span, a trace whose call began a second after it, and a trace that wasn't streamed."""
    first = b'{"tracer.time_to_first_token": 0.5}'
    await any_store.write(simple(1, model="m", attributes=first))
    late = span(
        2, span_id=f"{20:016x}", parent_id=f"{2:016x}", model="m", start_time_ns=START + 3 * SECOND, attributes=first
    )
    await any_store.write(batch([span(2), late], [patch(2)]))
    await any_store.write(simple(3, model="m", attributes=b'{"note": "tracer.time_to_first_token"}'))
    assert await found(any_store, order_by="time_to_first_token asc") == [1, 2, 3]
    assert await found(any_store, order_by="time_to_first_token desc") == [2, 1, 3]
    page = await any_store.search_traces(TraceQuery(order_by="time_to_first_token asc"))
    assert [trace.info.time_to_first_token for trace in page] == [0.5, 1.5, None]


async def test_times_may_be_given_in_four_forms(any_store: Store) -> None:
    now = time.time()
    await any_store.write(simple(1, start_time_ns=int((now - 7200) * 1e9), end_time_ns=None))
    await any_store.write(simple(2, start_time_ns=int((now - 60) * 1e9), end_time_ns=None))
    moment = datetime.fromtimestamp(now - 3600, tz=timezone.utc)
    for since in (moment, moment.astimezone().replace(tzinfo=None), now - 3600, int(now - 3600), timedelta(hours=1)):
        assert await found(any_store, since=since) == [2]
        assert await found(any_store, until=since) == [1]
    assert await found(any_store, since=moment.isoformat()) == [2]
    assert await found(any_store, since=moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == [2]


@pytest.mark.parametrize(
    ("order_by", "numbers"),
    [
        ("start_time desc", [4, 3, 2, 1]),
        ("start_time ASC", [1, 2, 3, 4]),
        ("duration desc", [2, 1, 3, 4]),
        ("duration", [3, 1, 2, 4]),
        ("total_tokens desc", [1, 3, 4, 2]),
        ("total_tokens asc", [3, 1, 2, 4]),
        ("cost desc", [3, 1, 4, 2]),
        ("name asc", [2, 3, 1, 4]),
        ("name desc", [1, 3, 2, 4]),
        (None, [4, 3, 2, 1]),
        ([], [4, 3, 2, 1]),
        ("timestamp_ms DESC", [4, 3, 2, 1]),
        (["timestamp_ms DESC"], [4, 3, 2, 1]),
        (["attributes.timestamp ASC"], [1, 2, 3, 4]),
        (["execution_time DESC"], [2, 1, 3, 4]),
        (("trace.execution_time_ms",), [3, 1, 2, 4]),
        (["status"], [4, 1, 2, 3]),
        (["status DESC", "timestamp_ms ASC"], [1, 2, 3, 4]),
        (["state ASC", "execution_time DESC"], [4, 2, 1, 3]),
        (["total_tokens DESC", "name DESC"], [1, 3, 2, 4]),
        (["total_tokens DESC", "name DESC", "total_tokens ASC"], [1, 3, 2, 4]),
    ],
)
async def test_orders_put_what_is_unknown_last(any_store: Store, order_by: Any, numbers: list[int]) -> None:
    def at(number: int, seconds: int) -> int:
        return START + (number + seconds) * SECOND

    await any_store.write(simple(1, name="c", end_time_ns=at(1, 5), usage={"total_tokens": 9}, cost=1.0, counted=True))
    await any_store.write(simple(2, name="a", end_time_ns=at(2, 9)))
    await any_store.write(simple(3, name="b", end_time_ns=at(3, 1), usage={"total_tokens": 1}, cost=2.0, counted=True))
    await any_store.write(batch([], [running(4, name=None)]))
    assert await found(any_store, order_by=order_by) == numbers
    paged: list[int] = []
    token = None
    while True:
        page = await any_store.search_traces(TraceQuery(order_by=order_by, max_results=1, page_token=token))
        paged += [int(trace.info.trace_id, 16) for trace in page]
        if (token := page.next_page_token) is None:
            break
    assert paged == numbers


async def test_a_page_token_fits_its_own_search_only(any_store: Store) -> None:
    await any_store.write(simple(*range(5)))
    token = (await any_store.search_traces(TraceQuery(max_results=2))).next_page_token
    assert await found(any_store, max_results=1, page_token=token) == [2]
    for other in ({"order_by": "start_time asc"}, {"name": "x"}, {"tags": {"a": "b"}}):
        with pytest.raises(ConfigurationError, match="page_token belongs to a search with other arguments"):
            await found(any_store, page_token=token, **other)


@pytest.mark.parametrize("token", ["", "x", "§", "AAAA", "k8QIAAAA", "a" * 1000])
async def test_a_broken_page_token_is_refused(any_store: Store, token: str) -> None:
    with pytest.raises(ConfigurationError, match="page_token"):
        await found(any_store, page_token=token)


@pytest.mark.parametrize("order", ["start_time desc", "name asc", "cache_read_input_tokens desc", "input_tokens asc"])
@pytest.mark.parametrize("since", [None, timedelta(days=20_000)])
async def test_a_forged_page_token_is_refused_or_finds_something(
    any_store: Store, order: str, since: timedelta | None
) -> None:
    """It can be forged: the fingerprint in it is no secret."""
    await any_store.write(simple(*range(3)))
    query = TraceQuery(order_by=order, since=since, max_results=1)
    token = (await any_store.search_traces(query)).next_page_token or ""
    parts = msgspec.msgpack.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    odd: list[Any] = ["x", "", -1, 0, 0.5, math.inf, math.nan, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), None, [], {}]
    for place, value in itertools.product(range(1, 5), odd):
        forged = [*parts[:place], value, *parts[place + 1 :]]
        if place == 4:
            forged = [*parts[:3], [value, *parts[3][1:]]]
        for ask, kind in ((any_store.search_traces, b""), (any_store.sessions, b"sessions")):
            packed = msgspec.msgpack.encode([kind + forged[0], *forged[1:]])
            text = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
            with contextlib.suppress(ConfigurationError):
                await ask(msgspec.structs.replace(query, page_token=text))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_results": 0}, "max_results must be a whole number from 1 to 10000, got 0"),
        ({"max_results": 10_001}, "got 10001"),
        ({"max_results": True}, "got True"),
        ({"order_by": "price desc"}, "order_by must be one of start_time"),
        ({"order_by": "duraton"}, "did you mean 'duration'"),
        ({"order_by": "timestamp_m"}, "did you mean 'timestamp_ms'"),
        ({"order_by": ["name", "price desc"]}, "or a list of such, got 'price desc'"),
        ({"order_by": ["name", 5]}, "or a list of such, got 5"),
        ({"order_by": {"name": "asc"}}, "or a list of such, got {'name': 'asc'}"),
        ({"order_by": "start_time; DROP TABLE traces"}, "order_by must be one of"),
        ({"status": "FAILED"}, "status must be one of IN_PROGRESS, OK"),
        ({"status": "EROR"}, "did you mean 'ERROR'"),
        ({"since": "yesterday"}, "since must be a datetime"),
        ({"until": 1_700_000_000_000}, "until must be a datetime"),
        ({"since": float("nan")}, "since must be"),
        ({"since": "0001-01-01"}, "since must lie between the years 1678 and 2261, got '0001-01-01'"),
        ({"until": "9999-12-31T23:59:59Z"}, "until must lie between"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since must lie between"),
        ({"since": datetime.max}, "since must lie between"),
        ({"since": datetime.min}, "since must lie between"),
        ({"since": timedelta.max}, "since must lie between"),
        ({"since": timedelta.min}, "since must lie between"),
        ({"since": 99_999_999_999}, "since must lie between"),
        ({"since": 10**400}, "since must be a datetime"),
        ({"min_duration": -1}, "min_duration must be seconds"),
        ({"tags": ["a"]}, "tags must be a dict"),
        ({"tags": {"a": 1}}, "tags must be a string"),
        ({"name": 5}, "name must be a string, got 5"),
        ({"text": "!!!"}, "text must hold a word"),
    ],
)
async def test_a_wrong_argument_is_named(any_store: Store, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await found(any_store, **arguments)
    assert words in str(caught.value)


async def test_text_that_changes_again_after_it_was_indexed_is_found_as_it_is_now(any_store: Store) -> None:
    for text in ("first", "second", "third"):
        await any_store.write(simple(1, text=text))
        await any_store.write(simple(1, text=f"{text} again"))
        assert await found(any_store, text=f"{text} again") == [1]
    assert await found(any_store, text="first") == []


ORDERS = ["start_time desc", "start_time asc", "duration desc", "duration asc", "cost desc", "name asc", "name desc"]


@pytest.mark.parametrize("order", ORDERS)
async def test_neighbours_follow_the_list(any_store: Store, order: str) -> None:
    """Also through traces that have the same sort value, or none."""
    for number, (cost, name) in enumerate([(0.2, "b"), (None, "a"), (0.1, "b"), (0.2, "c"), (None, "b")], start=1):
        await any_store.write(simple(number, cost=cost, name=name, counted=True))
    await any_store.write(batch([span(6)], [running(6)]))
    query = TraceQuery(order_by=order)
    listed = [trace.info.trace_id for trace in await any_store.search_traces(query)]
    for before, here, after in zip([None, *listed], listed, [*listed[1:], None], strict=False):
        beside = await any_store.neighbours(query, str(here))
        assert (beside.previous, beside.next) == (before, after)


async def test_neighbours_meet_the_conditions_though_the_trace_itself_need_not(any_store: Store) -> None:
    await any_store.write(simple(1, 3, 5, name="wanted"))
    await any_store.write(simple(2, 4, name="other"))
    beside = await any_store.neighbours(TraceQuery(filter_string="name = 'wanted'"), trace_id(4))
    assert (beside.previous, beside.next) == (trace_id(5), trace_id(3))
    with pytest.raises(TraceNotFoundError):
        await any_store.neighbours(TraceQuery(), trace_id(9))
    with pytest.raises(ConfigurationError, match="order_by"):
        await any_store.neighbours(TraceQuery(order_by="colour"), trace_id(1))
