from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.test_pages import PAYLOADS, Elements
from tests.store.rows import SECOND, START, batch, patch, simple, span, span_id, trace_id
from tracer.render import _compare
from tracer.store.sqlite.store import SqliteStore


def chat(number: int, question: str, answer: str, **more: Any) -> dict[str, Any]:
    """A chat call's columns."""
    request = {"model": "gpt-5", "messages": [{"role": "system", "content": "Be brief."}], **more}
    request["messages"].append({"role": "user", "content": question})
    reply = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}]}
    return {
        "inputs": json.dumps(request).encode(),
        "outputs": json.dumps(reply).encode(),
        "attributes": b'{"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5"}',
        "usage": {"input_tokens": 10 * number, "output_tokens": 5, "total_tokens": 10 * number + 5},
        "counted": True,
        "model": "gpt-5",
    }


@pytest.fixture
async def two(client: httpx.AsyncClient, store: SqliteStore) -> httpx.AsyncClient:
    await store.write(simple(1, **chat(1, "What is red?", "Red is a colour.", temperature=0)))
    later = START + 2 * SECOND
    await store.write(
        simple(2, end_time_ns=later + SECOND, **chat(2, "What is blue?", "Blue is a colour.", temperature=1, seed=7))
    )
    return client


def words(turn: dict[str, Any], kind: str) -> list[str]:
    return [piece["text"].strip() for piece in turn["pieces"] if piece["kind"] == kind]


async def test_figures_parameters_and_messages_of_two_traces(two: httpx.AsyncClient) -> None:
    told = (await two.get("/api/compare", params={"a": trace_id(1), "b": trace_id(2)})).json()
    figures = {figure["name"]: figure for figure in told["figures"]}
    assert figures["duration"] | {"name": ""} == {
        "name": "", "unit": "seconds", "a": 0.5, "b": 1.0, "difference": 0.5, "differs": True,
    }  # fmt: skip
    assert figures["tokens in"]["difference"] == 10
    assert figures["tokens out"]["differs"] is False
    differing = {figure["name"]: (figure["a"], figure["b"]) for figure in told["parameters"] if figure["differs"]}
    assert differing == {"temperature": ("0", "1"), "seed": (None, "7")}
    assert [turn["role"] for turn in told["inputs"]] == ["system", "user"]
    assert (words(told["inputs"][1], "removed"), words(told["inputs"][1], "added")) == (["red"], ["blue"])
    assert words(told["outputs"][0], "same") == ["is a colour."]
    assert len(told["spans"]) == 1


async def test_the_page_marks_what_differs(two: httpx.AsyncClient) -> None:
    page = (await two.get("/compare", params={"a": trace_id(1), "b": trace_id(2)})).text
    assert "<del>red</del>" in page
    assert "<ins>blue</ins>" in page
    assert "the same in both" in page
    shown = (await two.get("/compare", params={"a": trace_id(1), "b": trace_id(2), "show": "rendered"})).text
    assert 'class="msg user"' in shown
    assert "<del>" not in shown


async def test_spans_links_and_the_previous_trace_can_be_named(two: httpx.AsyncClient) -> None:
    spans = {
        "a": f"{trace_id(1)}:{span_id(1)}",
        "b": f"http://127.0.0.1:5151/traces/{trace_id(2)}?list=x&span={span_id(2)}",
    }
    told = (await two.get("/api/compare", params=spans)).json()
    assert (told["a"]["span_id"], told["b"]["span_id"], told["spans"]) == (span_id(1), span_id(2), [])
    assert "gpt-5" in {figure["a"] for figure in told["figures"] if figure["name"] == "model"}
    found = await two.get("/compare", params={"a": trace_id(2), "b": "previous"})
    assert (found.status_code, found.headers["location"]) == (303, f"/compare?a={trace_id(2)}&b={trace_id(1)}")
    of_span = await two.get("/compare", params={"a": f"{trace_id(2)}:{span_id(2)}", "b": "previous"})
    assert of_span.headers["location"].endswith(f"b={trace_id(1)}%3A{span_id(1)}")
    ticked = await two.get("/compare", params={"id": [trace_id(1), trace_id(2), trace_id(1)]})
    assert ticked.headers["location"] == f"/compare?a={trace_id(1)}&b={trace_id(2)}"


@pytest.mark.parametrize(
    ("a", "b", "status", "message"),
    [
        (trace_id(1), trace_id(1), 400, "a and b are the same"),
        (trace_id(1), "nonsense", 400, "b must be the id of a trace"),
        ("x" * 5000, trace_id(1), 400, "a must be the id"),
        (trace_id(1), trace_id(9), 404, f"no trace '{trace_id(9)}' is stored"),
        (trace_id(1), f"{trace_id(2)}:{span_id(9)}", 404, f"b: trace {trace_id(2)} has no span"),
        (trace_id(1), "previous", 404, "there is no trace of the name 'AsyncCompletions' before"),
        (trace_id(1), "", 400, "b must be the id of a trace"),
    ],
    ids=["same", "garbage", "long", "no trace", "no span", "no previous", "missing"],
)
async def test_what_cannot_be_compared_is_told(
    two: httpx.AsyncClient, a: str, b: str, status: int, message: str
) -> None:
    told = await two.get("/api/compare", params={"a": a, "b": b})
    assert told.status_code == status
    assert message in told.json()["error"]["message"]
    if b:
        page = await two.get("/compare", params={"a": a, "b": b})
        assert page.status_code == status
        assert message in Elements(page.text).text
        assert {"a", "b"} <= {field.get("name") for field in Elements(page.text).named("input")}


async def test_one_alone_proposes_others(two: httpx.AsyncClient, store: SqliteStore) -> None:
    root = span(3, name="agent", span_type="AGENT")
    calls = [span(3, span_id=span_id(number), parent_id=span_id(3)) for number in (31, 32)]
    await store.write(batch([root, *calls], [patch(3, name="agent")]))
    page = Elements((await two.get("/compare", params={"a": trace_id(1)})).text)
    links = [str(link["href"]) for link in page.named("a") if "/compare?a=" in str(link.get("href"))]
    assert links == [f"/compare?a={trace_id(1)}&b={trace_id(2)}"]
    page = Elements((await two.get("/compare", params={"a": f"{trace_id(3)}:{span_id(31)}"})).text)
    links = [str(link["href"]) for link in page.named("a") if "/compare?a=" in str(link.get("href"))]
    assert links == [f"/compare?a={trace_id(3)}%3A{span_id(31)}&b={trace_id(3)}%3A{span_id(32)}"]
    assert (await two.get("/compare")).status_code == 200


async def test_trees_are_aligned(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number, names in ((1, ["plan", "search", "answer"]), (2, ["plan", "answer", "check"])):
        below = [
            span(number, span_id=f"{number}{at:015x}", parent_id=span_id(number), name=name, span_type="TOOL")
            for at, name in enumerate(names)
        ]
        await store.write(batch([span(number, name="agent"), *below], [patch(number, name="agent")]))
    told = (await client.get("/api/compare", params={"a": trace_id(1), "b": trace_id(2)})).json()
    pairs = [(pair["a"] and pair["a"]["name"], pair["b"] and pair["b"]["name"]) for pair in told["spans"]]
    assert pairs == [("agent", "agent"), ("plan", "plan"), ("search", None), ("answer", "answer"), (None, "check")]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_models_wrote_is_text(client: httpx.AsyncClient, store: SqliteStore, payload: str) -> None:
    for number in (1, 2):
        values = chat(number, f"{payload} {number}", payload * number, **{"p" + payload: payload * number})
        await store.write(simple(number, **{**values, "name": payload, "model": payload}))
    for show in ("", "&show=rendered"):
        page = Elements((await client.get(f"/compare?a={trace_id(1)}&b={trace_id(2)}{show}")).text)
        assert payload.split("=")[0] in page.text
        for tag, attributes in page.found:
            assert tag not in ("iframe", "img")
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert str(attributes.get("href") or "/").startswith(("/", "#", "?")), attributes
        assert all(script.get("src") for script in page.named("script"))


async def test_huge_texts_make_a_small_page(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in (1, 2):
        text = " ".join(f"word{(7 * at * number) % 9973}" for at in range(200_000))
        await store.write(simple(number, **chat(number, text, text[::-1])))
    answer = await client.get(f"/compare?a={trace_id(1)}&b={trace_id(2)}")
    assert "more characters are left out" in answer.text
    async with client.stream("GET", str(answer.url), headers={"accept-encoding": "gzip"}) as raw:
        assert sum([len(piece) async for piece in raw.aiter_raw()]) < 100_000
    assert len(answer.text) < 8 * _compare.MAX_CHARS
