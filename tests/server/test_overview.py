from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import pytest

from tests.server.test_pages import Elements, ids
from tests.store.rows import SECOND, START, batch, patch, simple, span, span_id
from tracer._models import SpanStatusCode, TraceState
from tracer.store.sqlite.store import SqliteStore

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


async def fill(store: SqliteStore) -> None:
    """Ten answers of two models, taking 1 to 10 seconds; two failures."""
    for number in range(1, 11):
        model = "gpt-5" if number > 4 else "it's"
        end = START + number * SECOND + number * SECOND
        await store.write(
            simple(number, name="answer", model=model, end_time_ns=end, usage=USAGE, cost=0.01 * number, counted=True)
        )
    await store.write(simple(20, 21, name="look up", state=TraceState.ERROR, tags={"env": "prod"}))


def figures(page: str) -> dict[str, tuple[str, str | None]]:
    """The numbers at the top: by title the text, and where it leads."""
    found = re.findall(r'<dt>(\w+)</dt><dd>(?:<a href="([^"]*)">)?([^<]*)', page)
    return {title: (text, unescape(url) or None) for title, url, text in found}


def tables(page: str) -> dict[str, list[tuple[str, str]]]:
    """Each row's numbers by the model's or the name's, as (text, where it leads)."""
    rows = re.findall(r'<tr><th scope="row"><a [^>]*>([^<]*)</a></th>(.*?)</tr>', page, re.DOTALL)
    cell = re.compile(r'<td class="number[^"]*">(?:<a href="([^"]*)">)?([^<]*)')
    return {unescape(name): [(text, unescape(url)) for url, text in cell.findall(rest)] for name, rest in rows}


async def test_each_number_at_the_top_leads_to_its_traces(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await fill(store)
    found = figures((await client.get("/overview")).text)
    assert {title: text for title, (text, _) in found.items()} == {
        "Traces": "12",
        "Errors": "2",
        "Median": "4.00 s",
        "p95": "10.0 s",
        "p99": "10.0 s",
        "Tokens": "150",
        "Cost": "$0.55",
    }
    shown = {title: ids((await client.get(str(url))).text) for title, (_, url) in found.items()}
    assert shown["Errors"] == [21, 20]
    assert shown["Median"] == [10, 9, 8, 7, 6, 5, 4]
    assert shown["p95"] == shown["p99"] == [10]
    assert len(shown["Traces"]) == 12
    assert shown["Cost"][0] == 10


async def test_each_number_by_model_and_by_name_leads_to_its_traces(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    await fill(store)
    rows = tables((await client.get("/overview")).text)
    assert list(rows) == ["gpt-5", "it's", "answer", "look up"]
    assert [text for text, _ in rows["it's"]] == ["4", "0", "2.00 s", "4.00 s", "40", "20", "$0.10"]
    for name, column, numbers in [
        ("it's", 0, [4, 3, 2, 1]),
        ("it's", 2, [4, 3, 2]),
        ("it's", 3, [4]),
        ("gpt-5", 6, [10, 9, 8, 7, 6, 5]),
        ("look up", 1, [21, 20]),
        ("answer", 3, [10]),
    ]:
        assert ids((await client.get(rows[name][column][1])).text) == numbers, (name, column)


async def test_a_model_call_that_failed_and_was_handled_is_found(client: httpx.AsyncClient, store: SqliteStore) -> None:
    failed = span(1, span_id=span_id(2), parent_id=span_id(1), model="m", status_code=SpanStatusCode.ERROR)
    await store.write(batch([span(1, span_type="AGENT"), failed], [patch(1)]))
    await store.write(simple(2, model="m"))
    cells = tables((await client.get("/overview")).text)["m"]
    assert [text for text, _ in cells[:2]] == ["2", "1"]
    assert ids((await client.get(cells[1][1])).text) == [1]


async def test_the_filter_goes_along_into_every_link(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await fill(store)
    filter_string = "duration > 2 OR name = 'x'"
    view = {"name": "answer", "model": "gpt-5", "filter": filter_string, "since": "2020-01-01"}
    answer = await client.get("/overview", params=view)
    assert figures(answer.text)["Traces"][0] == "6"
    for link in Elements(answer.text).named("a"):
        url = httpx.URL(str(link["href"]))
        if url.path == "/" and url.query:
            asked = dict(url.params)
            assert filter_string in asked["filter"], url
            assert (asked["name"], asked["model"], asked["since"]) == ("answer", "gpt-5", "2020-01-01")
    nav = [str(link["href"]) for link in Elements(answer.text).named("a") if "sessions" in str(link["href"])]
    assert dict(httpx.URL(nav[0]).params) == view


async def test_another_model_than_the_one_chosen_is_asked_for_beside_it(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    second = span(1, span_id=span_id(2), parent_id=span_id(1), model="b'2")
    await store.write(batch([span(1, model="a"), second], [patch(1)]))
    await store.write(simple(2, model="a"))
    await store.write(simple(3, model="b'2"))
    rows = tables((await client.get("/overview?model=a")).text)
    assert ids((await client.get(rows["b'2"][0][1])).text) == [1]


async def test_traces_without_a_name_are_found(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, name="a"))
    await store.write(batch([span(2)], [patch(2, name=None)]))
    rows = tables((await client.get("/overview")).text)
    assert ids((await client.get(rows["(no name)"][0][1])).text) == [2]


async def test_charts_show_calls_latency_tokens_and_cost(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await fill(store)
    page = Elements((await client.get("/overview")).text)
    labels = [str(svg["aria-label"]) for svg in page.named("svg") if svg.get("data-steps")]
    assert [label.partition(" over time")[0] for label in labels] == [
        "Traces",
        "Latency",
        "Tokens by model",
        "Cost by model",
    ]
    kinds = {str(drawn.get("class")) for drawn in (*page.named("path"), *page.named("polyline"))}
    assert {"chart-calls", "chart-errors", "chart-median", "chart-latency", "c0", "c1"} <= kinds


async def test_rare_models_are_one_in_the_charts(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in range(9):
        await store.write(simple(number, model=f"m{number}", usage=USAGE, counted=True))
    page = Elements((await client.get("/overview")).text)
    assert "others 60" in page.text
    assert {str(path.get("class")) for path in page.named("path")} >= {"c0", "c1", "c2", "c3", "c4", "c5"}


async def test_what_the_tables_show_over_time_is_in_the_url(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await fill(store)
    page = Elements((await client.get("/overview?spark=cost&name=answer")).text)
    assert any(svg.get("aria-label") == "cost over time, at most $0.10" for svg in page.named("svg"))
    measures = [str(link["href"]) for link in page.named("a") if "#by-model" in str(link["href"])]
    assert measures[0] == "/overview?name=answer#by-model"
    assert "/overview?name=answer&spark=tokens#by-model" in measures


async def test_estimates_say_that_they_are(
    client: httpx.AsyncClient, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = await client.get("/overview")
    assert "≈" not in exact.text
    monkeypatch.setattr("tracer.store.sqlite._sample.SIZE", 40)
    await store.write(simple(*range(400), model="m"))
    estimated = (await client.get("/overview")).text
    assert "are estimates from an even sample of " in estimated
    assert figures(estimated)["Traces"][0].startswith("≈")
    assert (await client.get("/api/overview")).json()["scope"]["exact"] is False


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("filter=foo", "position 4"),
        ("since=yesterday", "since must be"),
        ("spark=token", "did you mean &#39;tokens&#39;"),
        ("tag=x", "tag must be key=value"),
    ],
)
async def test_a_wrong_parameter_is_told(client: httpx.AsyncClient, store: SqliteStore, wrong: str, words: str) -> None:
    await store.write(simple(1))
    answer = await client.get(f"/overview?{wrong}")
    assert answer.status_code == 400
    assert words in answer.text
    assert 'class="figures"' not in answer.text


async def test_an_overview_of_nothing(client: httpx.AsyncClient, store: SqliteStore) -> None:
    assert "tracer.autolog()" in (await client.get("/overview")).text
    await store.write(simple(1))
    assert "No trace matches" in (await client.get("/overview?name=none")).text


async def test_the_api_says_what_the_page_shows(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await fill(store)
    found: dict[str, Any] = (await client.get("/api/overview", params={"name": "answer", "limit": 3})).json()
    assert (found["scope"]["traces"], found["errors"], found["total_tokens"]) == (10, 0, 150)
    assert [model["name"] for model in found["models"]] == ["gpt-5", "it's"]
    assert len(found["slowest"]) == 3
    for wrong in ("limit=0", "spark=cost", "filter=x", "page_token=x"):
        answer = await client.get(f"/api/overview?{wrong}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), wrong


async def test_a_page_of_many_models_is_small(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in range(400):
        await store.write(
            simple(
                number, model=f"model-{number % 30}", name=f"name {number % 30}", usage=USAGE, cost=1.5 / (number + 1)
            )
        )
    async with client.stream("GET", "/overview", headers={"accept-encoding": "gzip"}) as answer:
        assert sum([len(piece) async for piece in answer.aiter_raw()]) < 60_000
