"""Feedback by the page's plain forms, as a browser without scripts sends them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import tracer
from tests.server.test_pages import PAYLOADS, Elements
from tests.store.rows import simple, span_id, trace_id
from tracer._models import Feedback
from tracer.store.sqlite.store import SqliteStore

PAGE = f"/traces/{trace_id(1)}"
ORIGIN = {"origin": "http://127.0.0.1:5151"}


async def said(store: SqliteStore) -> list[Feedback]:
    return (await store.get_trace(trace_id(1))).info.feedback


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"thumb": "up"}, ("helpful", True, None, None)),
        ({"thumb": "down", "span_id": span_id(1)}, ("helpful", False, None, span_id(1))),
        ({"name": "mood", "kind": "label", "value": " fine ", "comment": "ok"}, ("mood", "fine", "ok", None)),
        ({"name": "score", "kind": "score", "value": "0.5", "comment": ""}, ("score", 0.5, None, None)),
        ({"name": "correct", "kind": "no", "value": "ignored"}, ("correct", False, None, None)),
    ],
)
async def test_a_form_is_stored_and_leads_back(
    client: httpx.AsyncClient, store: SqliteStore, form: dict[str, str], expected: tuple[Any, ...]
) -> None:
    await store.write(simple(1))
    asked_from = {"referer": f"http://127.0.0.1:5151{PAGE}?list=status%3DOK&span={span_id(1)}", **ORIGIN}
    answer = await client.post(f"{PAGE}/feedback", data=form, headers=asked_from)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{PAGE}?list=status%3DOK&span={span_id(1)}#feedback")
    (one,) = await said(store)
    assert (one.name, one.value, one.comment, one.span_id) == expected
    assert one.source == "human"
    shown = (await client.get(answer.headers["location"])).text
    assert one.name in Elements(shown).text
    gone = await client.post(f"{PAGE}/feedback/{one.id}/delete", data={}, headers=asked_from)
    assert gone.status_code == 303
    assert await said(store) == []


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "name must not be blank"),
        ({"name": " ", "kind": "yes"}, "name must not be blank"),
        ({"name": "a", "kind": "score", "value": "high"}, "a score must be a number"),
        ({"name": "a", "kind": "score", "value": "nan"}, "finite number"),
        ({"name": "a", "kind": "label"}, "a label must not be blank"),
        ({"name": "a", "kind": "other"}, "is not known"),
        ({"thumb": "sideways"}, "thumb must be up or down"),
    ],
)
async def test_a_wrong_form_is_told(
    client: httpx.AsyncClient, store: SqliteStore, form: dict[str, str], words: str
) -> None:
    await store.write(simple(1))
    answer = await client.post(f"{PAGE}/feedback", data=form)
    assert answer.status_code == 400
    assert words in Elements(answer.text).text
    assert await said(store) == []


async def test_what_is_not_there_cannot_be_judged(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    assert (await client.post(f"/traces/{trace_id(2)}/feedback", data={"thumb": "up"})).status_code == 404
    other = await client.post(f"{PAGE}/feedback", data={"thumb": "up", "span_id": "f" * 16})
    assert other.status_code == 404
    assert (await client.post(f"{PAGE}/feedback", content=b"a=" + b"x" * 80_000)).status_code == 413
    assert (await client.post(f"{PAGE}/feedback", content=b"\xff&=&" * 100)).status_code == 400


@pytest.mark.parametrize("what", ["feedback", "feedback/1/delete"], ids=["add", "delete"])
async def test_other_sites_judge_nothing(client: httpx.AsyncClient, store: SqliteStore, what: str) -> None:
    await store.write(simple(1))
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = await client.post(f"{PAGE}/{what}", data={"thumb": "up"}, headers=headers)
        assert answer.status_code == 403
    assert await said(store) == []


async def test_the_way_back_is_on_this_server(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    for referer in ("http://evil.example/x", "//evil.example", f"http://evil.example{PAGE}?a=b", "::"):
        answer = await client.post(f"{PAGE}/feedback", data={"thumb": "up"}, headers={"referer": referer})
        assert answer.headers["location"].startswith(PAGE)


async def test_a_script_is_given_the_box(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    answer = await client.post(f"{PAGE}/feedback", data={"thumb": "up", "fragment": "1"})
    assert answer.status_code == 200
    assert answer.text.strip().startswith("<section")
    assert "yes" in answer.text


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_was_said_is_text(client: httpx.AsyncClient, store: SqliteStore, payload: str) -> None:
    await store.write(simple(1))
    body = {"name": payload, "value": payload, "comment": payload, "source": f"human:{payload}"}
    assert (await client.post(f"/api{PAGE}/feedback", json=body)).status_code == 201
    page = Elements((await client.get(PAGE)).text)
    assert page.text.count(payload) >= 4
    for _, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href") or "/").startswith(("/", "?", "#"))


async def test_what_was_said_leads_to_the_traces_of_which_the_same_was_said(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    await store.write(simple(1, 2))
    for name, value in (("helpful", True), ("a b", "it's \\"), ("score", 0.5)):
        assert (await client.post(f"/api{PAGE}/feedback", json={"name": name, "value": value})).status_code == 201
    links = [
        link
        for link in Elements((await client.get(PAGE)).text).named("a")
        if link.get("title") == "All traces with this"
    ]
    assert len(links) == 3
    for link in links:
        found = await client.get(str(link["href"]))
        assert found.text.count("<tr data-id") == 1, link


async def test_feedback_passes_the_redact_hooks(client: httpx.AsyncClient, store: SqliteStore) -> None:
    tracer.configure(redact=lambda text: text.replace("ann@example.com", "[email]"))
    await store.write(simple(1))
    told = {"name": "who", "kind": "label", "value": "ann@example.com", "comment": "by ann@example.com"}
    await client.post(f"{PAGE}/feedback", data=told)
    await client.post(f"/api{PAGE}/feedback", json={"name": "who", "value": "x", "comment": "ann@example.com"})
    assert [(one.value, one.comment) for one in await said(store)] == [("[email]", "by [email]"), ("x", "[email]")]


async def test_next_and_previous_stay_within_the_list(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 3, 5, name="wanted"))
    await store.write(simple(2, 4, name="other"))
    opened = (await client.get("/?name=wanted&order_by=start_time+asc")).text
    link = next(str(link["href"]) for link in Elements(opened).named("a") if trace_id(1) in str(link.get("href")))
    for number in (3, 5):
        page = Elements((await client.get(link)).text)
        (after,) = [str(each["href"]) for each in page.named("a") if each.get("rel") == "next"]
        link = (await client.get(after)).headers["location"]
        assert trace_id(number) in link
    (after,) = [str(e["href"]) for e in Elements((await client.get(link)).text).named("a") if e.get("rel") == "next"]
    last = (await client.get(after)).headers["location"]
    assert trace_id(5) in last
    page = Elements((await client.get(last)).text)
    assert "This is the last of the list." in page.text
    assert "/?name=wanted&order_by=start_time+asc" in [link.get("href") for link in page.named("a")]


async def test_a_broken_list_is_told_where_it_is_needed(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    assert (await client.get(f"{PAGE}?list=filter%3Dstatus")).status_code == 200
    assert (await client.get(f"{PAGE}/next?list=filter%3Dstatus")).status_code == 400
    assert (await client.get(f"/traces/{trace_id(9)}/next")).status_code == 404
