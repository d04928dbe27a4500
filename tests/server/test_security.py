from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount, Route

from tests.server.conftest import Site
from tests.store.rows import simple, trace_id
from tracer.server import create_app
from tracer.server._templates import static_url
from tracer.store.sqlite.store import SqliteStore

TOKEN = "a-token-of-the-test"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5151", "localhost:80", "LOCALHOST", "[::1]", "[::1]:5151"])
async def test_our_own_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/api/traces", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5151",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost,evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:evil",
        "10.0.0.1",
        "192.168.0.1:5151",
        "[::2]",
        "",
    ],
)
async def test_other_names_are_refused(client: httpx.AsyncClient, host: str) -> None:
    answer = await client.get("/api/traces", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "wrong_host"


async def test_two_names_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=[("host", "127.0.0.1"), ("host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),  # no browser
        ({"origin": "http://127.0.0.1:5151"}, True),
        ({"origin": "http://127.0.0.1:5151", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://127.0.0.1:9000"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://127.0.0.1:5151", "sec-fetch-site": "cross-site"}, False),
    ],
)
async def test_changes_come_from_our_own_page(
    client: httpx.AsyncClient, store: SqliteStore, headers: dict[str, str], passes: bool
) -> None:
    await store.write(simple(1))
    url = f"/api/traces/{trace_id(1)}/feedback"
    answer = await client.post(url, json={"name": "helpful", "value": True}, headers=headers)
    assert answer.status_code == (201 if passes else 403)
    assert len((await store.get_trace(trace_id(1))).info.feedback) == passes
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_answer_carries_the_policy(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api/traces", static_url("app.css"), "/nowhere", "/api/nowhere"):
        headers = (await client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_a_page_with_forms_lets_them_say_where_they_come_from(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    """Under no-referrer a browser sends a form with the origin "null", which is refused."""
    await store.write(simple(1))
    headers = (await client.get(f"/traces/{trace_id(1)}")).headers
    assert headers["referrer-policy"] == "same-origin"  # other hosts are still told nothing


async def test_every_route_needs_the_token(site: Site, store: SqliteStore, path: Path) -> None:
    """Also one that is added later: only what is listed here is open."""
    app = create_app(f"sqlite:///{path}", token=TOKEN)
    client = await site.start(app)
    asked = 0
    for route in app.routes:
        if isinstance(route, Mount):
            assert route.path.startswith("/static")
            continue
        assert isinstance(route, Route)
        url = route.path.replace("{trace_id}", trace_id(1)).replace("{", "").replace("}", "")
        for method in route.methods or ():
            assert (await client.request(method, url)).status_code == 401, (method, url)
            asked += 1
    assert asked > 10


async def test_a_bearer_token_is_taken_and_a_wrong_one_refused(site: Site, store: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", token=TOKEN))
    good = await client.get("/api/traces", headers={"authorization": f"Bearer {TOKEN}"})
    assert good.status_code == 200
    bad = await client.get("/api/traces", headers={"authorization": "Bearer guess"})
    assert (bad.status_code, bad.json()["error"]["code"]) == (401, "unauthorized")


async def test_the_token_in_the_address_becomes_a_cookie(site: Site, store: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", token=TOKEN))
    first = await client.get(f"/?status=OK&token={TOKEN}")
    assert (first.status_code, first.headers["location"]) == (303, "/?status=OK")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert (await client.get("/")).status_code == 200  # the client keeps cookies
    assert (await client.get("/?token=guess")).status_code == 401


async def test_the_exchange_leads_to_no_other_host(site: Site, store: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", token=TOKEN))
    answer = await client.get(f"http://127.0.0.1:5151//evil.example/?token={TOKEN}")
    assert answer.headers["location"] == "/evil.example/"


async def test_without_a_token_a_page_asks_for_it(site: Site, store: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", token=TOKEN))
    answer = await client.get("/")
    assert answer.status_code == 401
    assert '<input id="token"' in answer.text


@pytest.mark.parametrize(
    "name", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "a%00", "render/../../app.py", "render/%2e%2e/_page.py"]
)
async def test_static_files_are_those_of_the_folder(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/static/v/{name}")).status_code == 404
