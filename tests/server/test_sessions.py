from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import httpx
import pytest

from tests.render.test_hostile import OWN_TAGS
from tests.server.test_pages import OUR_ELEMENTS, PAYLOADS, Elements, ids
from tests.store.rows import batch, patch, running, simple, span, started, trace_id
from tracer._models import SpanStatusCode, TraceState
from tracer.render.addresses import session_url
from tracer.store.sqlite.store import SqliteStore

HOSTILE_IDS = [
    "a/b",
    "/",
    "//evil.example",
    ".",
    "..",
    "../../traces",
    "a/../b",
    "%2e%2e",
    "%",
    "a?b=c&d#e",
    "a b+c",
    "ä ✓ 😀",
    "\\..\\",
    "javascript:alert(1)",
    "<script>alert(1)</script>",
    "new\nline",
    "x" * 2_000,
]


def said(question: str, answer: str, **changes: Any) -> dict[str, Any]:
    """A chat call's row: one question, one answer."""
    inputs = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}],
    }
    outputs = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
    return {
        "operation": "chat",
        "inputs": json.dumps(inputs).encode(),
        "outputs": json.dumps(outputs).encode(),
        "attributes": b'{"gen_ai.operation.name": "chat"}',
        **changes,
    }


def turns(page: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r'<article class="turn card" id="t-(\w+)"', page)]


def listed(page: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'class="c-id"><a href="[^"]*" data-step title="([^"]*)"', page)]


# --- the list ---------------------------------------------------------------------------------------------------------


async def test_sessions_are_listed_newest_first_with_their_sums(client: httpx.AsyncClient, store: SqliteStore) -> None:
    words = {"session_id": "one", "user_id": "ada"}
    await store.write(simple(1, **words, request_preview="What's up?", response_preview="a", cost=0.25, counted=True))
    await store.write(simple(2, **words, state=TraceState.ERROR, cost=0.5, counted=True))
    await store.write(simple(3, **words, request_preview="b", response_preview="Goodbye.", cost=0.25, counted=True))
    await store.write(simple(4, session_id="two"))
    await store.write(simple(5))
    page = (await client.get("/sessions")).text
    assert listed(page) == ["two", "one"]
    for expected in ("What&#39;s up?", "Goodbye.", "ada", "$1.00", "2.50 s"):
        assert expected in page
    links = [str(link["href"]) for link in Elements(page).named("a")]
    assert ids((await client.get(links[links.index("/?session_id=one")])).text) == [3, 2, 1]
    assert ids((await client.get(links[links.index("/?session_id=one&status=ERROR")])).text) == [2]


async def test_pages_follow_one_another_and_keep_the_filter(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in range(7):
        await store.write(simple(number, session_id=f"s{number}", user_id="ada" if number else "bob"))
    url, seen = "/sessions?user_id=ada&limit=2", []
    for _ in range(3):
        page = (await client.get(url)).text
        seen.append(listed(page))
        older = [str(link["href"]) for link in Elements(page).named("a") if link.get("rel") == "next"]
        url = older[0] if older else ""
    assert seen == [["s6", "s5"], ["s4", "s3"], ["s2", "s1"]]
    assert url == ""
    assert "/sessions?user_id=ada&limit=2" in [str(link["href"]) for link in Elements(page).named("a")]  # the newest


async def test_a_filter_finds_sessions_by_their_traces(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, session_id="good"))
    await store.write(simple(2, session_id="bad"))
    await store.write(simple(3, session_id="bad", state=TraceState.ERROR))
    page = (await client.get("/sessions", params={"filter": "status = 'ERROR'"})).text
    assert listed(page) == ["bad"]
    assert "2<span" in page  # all its traces
    assert "No session matches" in (await client.get("/sessions?name=none")).text


async def test_without_sessions_the_page_says_how_to_make_one(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    assert "update_current_trace(session_id=" in (await client.get("/sessions")).text


@pytest.mark.parametrize("wrong", ["filter=x", "limit=201", "page_token=x", "order_by=cost", "since=x"])
async def test_a_wrong_parameter_is_told(client: httpx.AsyncClient, store: SqliteStore, wrong: str) -> None:
    await store.write(simple(1, session_id="s"))
    page = await client.get(f"/sessions?{wrong}")
    assert page.status_code == 400
    assert 'class="problem"' in page.text
    if wrong != "limit=201":
        answer = await client.get(f"/api/sessions?{wrong}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


# --- one session ------------------------------------------------------------------------------------------------------


async def test_a_session_shows_what_was_said_in_order(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(2, session_id="s", name="second", **said("And then?", "Then **this**.")))
    await store.write(simple(1, session_id="s", name="first", **said("What now?", "First `that`.")))
    await store.write(simple(3, session_id="other", **said("Not here", "Nor there")))
    page = (await client.get("/sessions/s")).text
    assert turns(page) == [1, 2]
    places = [page.index(words) for words in ("What now?", "<code>that</code>", "And then?", "<strong>this</strong>")]
    assert places == sorted(places)
    assert "Be brief." not in page
    assert "Not here" not in page
    assert f'href="/traces/{trace_id(1)}"' in page


async def test_a_failed_turn_says_where_and_why(client: httpx.AsyncClient, store: SqliteStore) -> None:
    row = span(1, status_code=SpanStatusCode.ERROR, status_description="no such <order>", name="look up")
    await store.write(batch([row], [patch(1, session_id="s", state=TraceState.ERROR)]))
    page = (await client.get("/sessions/s")).text
    assert "no such &lt;order&gt;" in page
    assert f'href="/traces/{trace_id(1)}?span={row.span_id}"' in page


async def test_a_running_turn_counts_its_time(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(batch([started(1)], [running(1, session_id="s")]))
    page = (await client.get("/sessions/s")).text
    assert 'class="elapsed" data-since="1700000001000"' in page
    assert "Nothing was said yet" in page


async def test_a_long_session_comes_in_pages(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(*range(120), session_id="a/b"))
    seen = []
    for number in (1, 2, 3):
        page = (await client.get(f"/sessions/a%2Fb?page={number}")).text
        seen += turns(page)
        links = {str(link.get("rel")): str(link["href"]) for link in Elements(page).named("a") if link.get("rel")}
        assert links.get("prev") == {1: None, 2: "/sessions/a%2Fb", 3: "/sessions/a%2Fb?page=2"}[number]
        assert links.get("next") == {1: "/sessions/a%2Fb?page=2", 2: "/sessions/a%2Fb?page=3", 3: None}[number]
    assert seen == list(range(120))
    assert "101–120 of 120" in page
    for wrong in ("4", "0", "x"):
        answer = await client.get(f"/sessions/a%2Fb?page={wrong}")
        assert answer.status_code == 400
        assert "page must be a whole number from 1 to 3" in answer.text


async def test_what_is_read_and_sent_for_a_page_is_bounded(
    client: httpx.AsyncClient, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        text = f"{number} " + "lorem *ipsum* dolor sit amet " * 1_000
        changes = said(text, text, request_preview=f"asked {number}", response_preview="answered")
        await store.write(simple(number, session_id="s", **changes))
    async with client.stream("GET", "/sessions/s", headers={"accept-encoding": "gzip"}) as answer:
        assert sum([len(piece) async for piece in answer.aiter_raw()]) < 60_000
    page = (await client.get("/sessions/s")).text
    assert len(page) < 300_000
    assert turns(page) == list(range(30))
    assert "more characters" in page
    assert "asked 29" in page
    assert "the whole trace" in page
    read: list[str] = []
    original = SqliteStore.get_trace

    async def get_trace(self: SqliteStore, trace_id: str) -> Any:
        read.append(trace_id)
        return await original(self, trace_id)

    monkeypatch.setattr(SqliteStore, "get_trace", get_trace)
    monkeypatch.setattr("tracer.server.sessions._MOST_SPANS", 3)
    await client.get("/sessions/s")
    assert len(read) == 3


@pytest.mark.parametrize("session_id", HOSTILE_IDS)
async def test_any_text_can_be_a_sessions_id(client: httpx.AsyncClient, store: SqliteStore, session_id: str) -> None:
    await store.write(simple(1, session_id=session_id))
    links = [str(link["href"]) for link in Elements((await client.get("/sessions")).text).named("a")]
    url = session_url(session_id)
    assert url in links
    assert url in [str(link["href"]) for link in Elements((await client.get(f"/traces/{trace_id(1)}")).text).named("a")]
    assert url in [str(link["href"]) for link in Elements((await client.get("/?cols=session")).text).named("a")]
    page = await client.get(url)
    assert page.status_code == 200
    assert turns(page.text) == [1]
    inside = [str(link["href"]) for link in Elements(page.text).named("a") if "session_id=" in str(link["href"])]
    assert ids((await client.get(next(link for link in inside if link.startswith("/?")))).text) == [1]
    told = await client.get(f"/api{url}")
    assert told.json()["session_id"] == session_id


@pytest.mark.parametrize(
    "address", ["/sessions/none", "/sessions/", "/sessions/%00", "/sessions/%ff", "/sessions/a/b/c"]
)
async def test_an_unknown_session_is_told(client: httpx.AsyncClient, store: SqliteStore, address: str) -> None:
    await store.write(simple(1, session_id="s"))
    page = await client.get(address)
    assert page.status_code == 404
    assert "No such session" in page.text
    answer = await client.get(f"/api{address}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session_not_found")


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_was_said_is_inert(client: httpx.AsyncClient, store: SqliteStore, payload: str) -> None:
    names = ("name", "request_preview", "response_preview", "user_id", "experiment", "model")
    changes = {**dict.fromkeys(names, payload), **said(payload, payload)}
    await store.write(simple(1, session_id="s", **changes))
    await store.write(simple(2, session_id="s", **{**changes, "inputs": json.dumps({payload: payload}).encode()}))
    hostile = Elements((await client.get("/sessions/s")).text)
    assert {tag for tag, _ in hostile.found} <= OUR_ELEMENTS | OWN_TAGS
    assert len(hostile.named("script")) == 4
    for tag, attributes in hostile.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src", "action"):
            assert str(attributes.get(name) or "/").startswith(("/", "#main")), attributes


# --- the API ----------------------------------------------------------------------------------------------------------


async def test_the_api_lists_sessions_page_by_page(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in range(5):
        await store.write(simple(number, session_id=f"s{number}"))
    seen, token = [], ""
    while token is not None:
        page = (await client.get("/api/sessions", params={"limit": 2, "page_token": token})).json()
        seen += [one["session_id"] for one in page["sessions"]]
        token = page["next_page_token"]
    assert seen == ["s4", "s3", "s2", "s1", "s0"]


async def test_the_api_tells_one_session(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 2, session_id="a/b", user_id="ada"))
    found = (await client.get("/api/sessions/a/b")).json()
    assert (found["session_id"], found["traces"], found["user_id"]) == ("a/b", 2, "ada")
    parameters = {"session_id": "a/b", "order_by": "start_time asc"}
    told = (await client.get("/api/traces", params=parameters)).json()["traces"]
    assert [trace["trace_id"] for trace in told] == [trace_id(1), trace_id(2)]
    assert (await client.get("/api/sessions/a/b?page=1")).status_code == 400
