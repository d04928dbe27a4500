from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import Site
from tests.store.rows import batch, patch, running, simple, span, started, trace_id
from tracer._exceptions import ConfigurationError
from tracer._models import TraceState
from tracer.server import create_app
from tracer.store import open_store
from tracer.store.sqlite._schema import SCHEMA_VERSION
from tracer.store.sqlite.store import SqliteStore


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def ids(page: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r'<tr data-id="(\w+)"', page)]


async def test_the_list_without_scripts_goes_on_by_a_link(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(*range(130)))
    page = await client.get("/?name=AsyncCompletions")
    assert ids(page.text) == list(range(129, 29, -1))
    more = next(str(link["href"]) for link in Elements(page.text).named("a") if "page_token" in str(link["href"]))
    rest = await client.get(more)
    assert ids(rest.text) == list(range(29, -1, -1))
    assert "page_token" not in rest.text


async def test_rows_follow_one_another_by_the_token_in_the_header(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    await store.write(simple(*range(5)))
    first = await client.get("/rows", params={"limit": 3})
    assert ids(first.text) == [4, 3, 2]
    second = await client.get("/rows", params={"limit": 3, "page_token": first.headers["x-next-page-token"]})
    assert ids(second.text) == [1, 0]
    assert "x-next-page-token" not in second.headers


async def test_a_view_keeps_its_state_in_every_link(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, tags={"env": "prod"}))
    page = Elements((await client.get("/?tag=env%3Dprod&text=&cols=name,cost&order_by=cost+asc")).text)
    sort = next(str(link["href"]) for link in page.named("a") if "order_by=duration" in str(link.get("href")))
    assert sort == "/?tag=env%3Dprod&cols=name%2Ccost&order_by=duration+desc"
    hidden = {
        (str(field["name"]), str(field["value"])) for field in page.named("input") if field.get("type") == "hidden"
    }
    assert hidden == {("tag", "env=prod"), ("cols", "name,cost"), ("order_by", "cost asc")}
    classes = str(next(table["class"] for table in page.named("table")))
    assert "hide-request" in classes.split()
    assert "hide-cost" not in classes.split()


async def test_a_broken_filter_is_told_in_the_page(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    answer = await client.get("/", params={"filter": "status = "})
    assert answer.status_code == 400
    assert "expected &#39;text&#39; in quotes" in answer.text
    assert "^" in answer.text
    assert ids(answer.text) == []


@pytest.mark.parametrize("wrong", ["since=yesterday", "limit=x", "page_token=x", "order_by=x", "status=x", "tag=x"])
async def test_a_wrong_parameter_is_told_in_the_page(client: httpx.AsyncClient, store: SqliteStore, wrong: str) -> None:
    await store.write(simple(1))
    answer = await client.get(f"/?{wrong}")
    assert answer.status_code == 400
    assert "must" in Elements(answer.text).text


TEMPLATES = Path(__file__).parent.parent.parent / "tracer" / "server" / "templates"
OUR_ELEMENTS = set(re.findall(r"<(\w+)", "".join(file.read_text() for file in TEMPLATES.glob("*.html"))))
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "</td></tr></table><iframe src=//evil.example>",
    "\u202egnp.exe",
    "<!--",
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_others_wrote_is_text_everywhere(
    client: httpx.AsyncClient, store: SqliteStore, payload: str
) -> None:
    words = ("name", "request_preview", "response_preview", "session_id", "user_id", "experiment", "model")
    rows = simple(1, **dict.fromkeys(words, payload), tags={payload: payload}, state=TraceState.ERROR)
    await store.write(rows)
    for path in ("/", "/rows", "/facets", "/overview", "/sessions", "/experiments"):
        hostile = Elements((await client.get(path)).text)
        assert payload.split("=")[0] in hostile.text
        assert {tag for tag, _ in hostile.found} <= OUR_ELEMENTS
        for tag, attributes in hostile.found:
            assert not [name for name in attributes if name.startswith("on")], tag
            for name in ("href", "src", "action"):
                assert str(attributes.get(name) or "/").startswith(("/", "#main")), attributes


async def test_no_page_has_inline_scripts_or_styles_or_foreign_addresses(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    await store.write(simple(1, session_id="s", model="m", name="<b>"))
    await store.write(simple(2))
    compared = f"/compare?a={trace_id(1)}&b={trace_id(2)}"
    lists = ["/", "/rows", "/facets", "/histogram", "/overview", "/sessions", "/experiments", "/storage"]
    ones = [f"/traces/{trace_id(1)}", "/sessions/s", "/sessions/none", "/nowhere"]
    comparisons = [compared, f"{compared}&show=rendered", f"/compare?a={trace_id(1)}", "/compare?a=x&b=y"]
    for path in [*lists, *ones, *comparisons]:
        page = Elements((await client.get(path)).text)
        assert not page.named("style")
        assert all(script.get("src") for script in page.named("script") if script.get("type") != "application/json")
        assert not [attributes for _, attributes in page.found if "style" in attributes]
        addresses = [attributes.get(name) for _, attributes in page.found for name in ("href", "src")]
        assert not [address for address in addresses if address and re.match(r"(\w+:)?//", address)]


async def test_a_running_trace_tells_since_when(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(batch([started(1)], [running(1)]))
    page = (await client.get("/")).text
    assert 'class="elapsed" data-since="1700000001000"' in page
    assert "Running" in page


async def test_the_page_of_an_unknown_trace_says_so(client: httpx.AsyncClient, store: SqliteStore) -> None:
    answer = await client.get("/traces/0123")
    assert answer.status_code == 404
    assert "No such trace" in answer.text


async def test_the_page_of_a_trace_shows_it(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(batch([span(1, outputs=b'"the answer"')], [patch(1)]))
    answer = await client.get(f"/traces/{trace_id(1)}")
    assert answer.status_code == 200
    assert "the answer" in answer.text


async def test_an_empty_database_shows_how_to_begin(client: httpx.AsyncClient, path: Path) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert f"sqlite:///{path}" in answer.text
    assert "tracer.autolog()" in answer.text
    narrowed = await client.get("/?status=ERROR")
    assert "No trace matches" in narrowed.text


async def test_facets_are_links_that_narrow_and_widen(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 2, model="gpt-5", tags={"env": "prod"}))
    await store.write(simple(3, model="it's", state=TraceState.ERROR))
    page = Elements((await client.get("/facets?cols=name")).text)
    links = {(str(link["data-field"]), str(link["data-value"])): str(link["href"]) for link in page.named("a")}
    for facet, numbers in {("model", "it's"): [3], ("status", "OK"): [2, 1], ("tags.env", "prod"): [2, 1]}.items():
        assert "cols=name" in links[facet]
        assert ids((await client.get(links[facet])).text) == numbers
        narrowed = Elements((await client.get(links[facet].replace("/?", "/facets?"))).text)
        held = [link for link in narrowed.named("a") if link.get("aria-current")]
        assert [str(link["href"]) for link in held] == ["/?cols=name"]


async def test_feedback_is_narrowed_by_through_the_filter(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 2))
    for number, value in ((1, "good 'un"), (2, True)):
        body = {"name": "verdict", "value": value}
        assert (await client.post(f"/api/traces/{trace_id(number)}/feedback", json=body)).status_code == 201
    page = Elements((await client.get("/facets?filter=name+%3D+'x'+OR+duration+>+0")).text)
    links = {
        str(link["data-value"]): str(link["href"]) for link in page.named("a") if "feedback" in str(link["data-field"])
    }
    assert ids((await client.get(links["good 'un"])).text) == [1]
    assert ids((await client.get(links["true"])).text) == [2]


async def test_the_histogram_shows_calls_and_errors(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(*range(20)))
    await store.write(simple(100, state=TraceState.ERROR))
    page = Elements((await client.get("/histogram")).text)
    (chart,) = page.named("svg")
    assert chart["aria-label"] == "21 traces over time, 1 of them errors"
    kinds = [str(bar.get("class")) for bar in page.named("rect")]
    assert kinds.count("chart-errors") == 1
    assert kinds.count("chart-calls") > 5
    assert (await client.get("/histogram?name=none")).text.strip() == ""


def is_there(path: Path) -> bool:
    return path.exists()


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


async def test_a_database_that_vanished_is_told_and_one_that_comes_back_is_shown(
    client: httpx.AsyncClient, store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await store.write(simple(1))
    await store.aclose()
    kept = shutil.copy(path, tmp_path / "kept.db")
    remove(path)
    gone = await client.get("/")
    assert gone.status_code == 503
    assert "is gone" in gone.text
    assert (await client.get("/api/traces")).json()["error"]["code"] == "store_unavailable"
    assert not is_there(path)  # nothing is made in its place
    shutil.copy(kept, path)
    assert ids((await client.get("/")).text) == [1]


async def test_a_file_that_was_replaced_is_opened_anew(client: httpx.AsyncClient, path: Path, tmp_path: Path) -> None:
    assert "first trace" in (await client.get("/")).text
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    await other.open()
    await other.write(simple(7))
    await other.aclose()
    remove(path)
    shutil.move(tmp_path / "other.db", path)
    assert ids((await client.get("/")).text) == [7]


def _make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def _make_garbage(path: Path) -> None:
    remove(path)
    path.write_bytes(b"not a database, but long enough to be looked at by SQLite" * 100)


@pytest.mark.parametrize(("spoil", "words"), [(_make_newer, "schema version"), (_make_garbage, "not a SQLite")])
async def test_a_file_that_cannot_be_ours_is_refused(
    store: SqliteStore, path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    await store.aclose()
    spoil(path)
    with pytest.raises(ConfigurationError, match=words):
        create_app(f"sqlite:///{path}")


async def test_any_open_store_can_be_shown(site: Site) -> None:
    """If somebody else opened the store, only they close it."""
    store = open_store("memory://")
    await store.open()
    await store.write(simple(1, 2))
    client = await site.start(create_app(store))
    assert ids((await client.get("/")).text) == [2, 1]
    assert "chart-calls" in (await client.get("/histogram")).text
    await store.aclose()


async def test_a_fault_of_ours_is_a_page_with_the_policy(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tracer_log: list[Any]
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("<b>oops</b>")

    monkeypatch.setattr(SqliteStore, "search_traces", fail)
    for path in ("/", "/api/traces"):
        answer = await client.get(path)
        assert answer.status_code == 500
        assert "content-security-policy" in answer.headers
        assert "<b>oops" not in answer.text or path.startswith("/api")
    assert (await client.get("/api/traces")).json()["error"]["code"] == "internal"
    assert [record.getMessage() for record in tracer_log] == ["GET / failed"] + ["GET /api/traces failed"] * 2
    tracer_log.clear()


async def test_pages_are_compressed_and_small(client: httpx.AsyncClient, store: SqliteStore) -> None:
    for number in range(100):
        text = f"The quick brown fox jumps over number {number} and is gone. " * 5
        await store.write(simple(number, request_preview=text, response_preview=text.upper()))
    async with client.stream("GET", "/", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert sum([len(piece) async for piece in answer.aiter_raw()]) < 60_000
