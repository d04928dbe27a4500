"""What a client can't do to the others: hold the page up with a slow search, a slow request or a huge one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from tests.server.conftest import Site
from tests.store.rows import simple, trace_id
from tracer._exceptions import ConfigurationError
from tracer.server import create_app, run
from tracer.server._http import Protocol
from tracer.store.sqlite.store import SqliteStore

PATIENCE = 60.0  # seconds after which something counts as hanging
SLOW = " OR ".join(f"name RLIKE 'a*a*{letter}$'" for letter in "bcdefghijklmnopq")


@pytest.fixture
async def much(store: SqliteStore) -> SqliteStore:
    """So much that a search with SLOW takes many seconds."""
    await store.write(simple(*range(1_000), name="a" * 900, session_id="s"))
    return store


def readers_in_use(app: Starlette) -> int:
    store = app.state.source._store
    assert isinstance(store, SqliteStore)
    assert store._database._readers is not None
    return store._database._readers.taken


async def until(app: Starlette, *, in_use: bool) -> None:
    with anyio.fail_after(PATIENCE):
        while bool(readers_in_use(app)) != in_use:  # noqa: ASYNC110  the readers give no sign
            await anyio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[int]:
    """Serve over real sockets; yields the port."""
    ready = asyncio.Event()
    server = run._Server(app, "", False, lambda _: ready.set())
    with contextlib.closing(run._listen("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve([listener]))
        await ready.wait()
        yield listener.getsockname()[1]
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield reader, writer
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def ask(port: int, *pieces: bytes) -> bytes:
    """Send pieces of a request, and return everything that comes until the server closes the connection."""
    async with connected(port) as (reader, writer):
        with anyio.fail_after(PATIENCE), contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
    return b""


HEAD = b"Host: 127.0.0.1\r\n"


# --- slow searches ----------------------------------------------------------------------------------------------------


async def test_a_search_over_its_limit_is_answered_in_words(site: Site, much: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", read_timeout=0.2))
    answer = await client.get("/api/traces", params={"filter": SLOW})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "read_timeout")
    assert "took longer than 0.2 s and was stopped; ask for less" in answer.json()["error"]["message"]
    for page in ("/", "/sessions", "/overview"):
        answer = await client.get(page, params={"filter": SLOW})
        assert answer.status_code == 503, page
        assert "took longer than 0.2 s and was stopped" in answer.text
        assert 'id="filter"' in answer.text, "the filter can be changed"
    for part in ("/rows", "/facets", "/histogram"):
        answer = await client.get(part, params={"filter": SLOW})
        assert (answer.status_code, "took longer than 0.2 s" in answer.text) == (503, True), part
    assert len((await client.get("/api/traces", params={"limit": 5})).json()["traces"]) == 5


async def test_slow_searches_hold_up_no_other_request(site: Site, much: SqliteStore, path: Path) -> None:
    client = await site.start(create_app(f"sqlite:///{path}", read_timeout=2 * PATIENCE))
    slow = [asyncio.create_task(client.get("/facets", params={"filter": SLOW})) for _ in range(4)]
    slow += [asyncio.create_task(client.get("/api/traces", params={"filter": SLOW})) for _ in range(2)]
    await asyncio.wait(slow, timeout=0.1)
    with anyio.fail_after(PATIENCE):
        for path_ in ("/", "/api/traces", f"/traces/{trace_id(1)}", f"/api/traces/{trace_id(1)}"):
            assert (await client.get(path_)).status_code == 200, path_
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize("page", ["/api/traces", "/", "/facets", "/api/export", "/sessions"])
async def test_a_search_is_stopped_when_its_client_leaves(much: SqliteStore, path: Path, page: str) -> None:
    app = create_app(f"sqlite:///{path}", read_timeout=2 * PATIENCE)
    async with serving(app) as port:
        async with connected(port) as (_, writer):
            writer.write(f"GET {page}?filter={quote(SLOW)} HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
            await until(app, in_use=True)
        await until(app, in_use=False)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            assert (await client.get("/api/traces")).status_code == 200


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "5", True])
def test_a_limit_that_is_none_is_refused(path: Path, limit: float) -> None:
    with pytest.raises(ConfigurationError, match="read_timeout must be a number from"):
        create_app(f"sqlite:///{path}", read_timeout=limit)


# --- slow requests ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def port(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server that waits for a request for a short time."""
    monkeypatch.setattr(Protocol, "head_seconds", 0.3)
    monkeypatch.setattr(Protocol, "body_seconds", 0.3)
    await store.write(simple(1))
    async with serving(create_app(f"sqlite:///{path}")) as port:
        yield port


async def test_a_head_that_does_not_end_is_answered_with_408(port: int) -> None:
    assert (await ask(port, b"GET / HTTP/1.1\r\n", HEAD)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


async def test_a_head_that_drips_is_answered_with_408(port: int) -> None:
    async with connected(port) as (reader, writer):

        async def drip() -> None:
            writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
            while not writer.is_closing():
                writer.write(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        with anyio.fail_after(PATIENCE):
            assert (await reader.readline()) == b"HTTP/1.1 408 Request Timeout\r\n"
        dripping.cancel()


async def test_a_connection_without_a_request_is_closed(port: int) -> None:
    assert await ask(port) == b""


async def test_a_second_request_has_its_time_too(port: int) -> None:
    answer = await ask(port, b"GET /api/fields HTTP/1.1\r\n" + HEAD + b"\r\n", b"GET /api/fields HTTP/1.1\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"HTTP/1.1 408 " in answer


@pytest.mark.parametrize("length", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_end_is_answered_with_408(port: int, length: bytes) -> None:
    url = f"/api/traces/{trace_id(1)}/feedback".encode()
    answer = await ask(port, b"POST " + url + b" HTTP/1.1\r\n" + HEAD + length + b"\r\n\r\n", b"1\r\n{\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_nobody_reads_ends_the_connection(port: int) -> None:
    answer = await ask(port, b"GET /api/fields HTTP/1.1\r\n" + HEAD + b"Content-Length: 500\r\n\r\n", b"a")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_whoever_waits_for_an_answer_is_not_slow(much: SqliteStore, path: Path, port: int) -> None:
    app = create_app(f"sqlite:///{path}", read_timeout=1.0)
    async with serving(app) as other:
        request = f"GET /api/traces?filter={quote(SLOW)} HTTP/1.1\r\nConnection: close\r\n".encode() + HEAD + b"\r\n"
        assert (await ask(other, request)).startswith(b"HTTP/1.1 503 ")


async def test_an_event_stream_lasts(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /api/live HTTP/1.1\r\n" + HEAD + b"\r\n")
        with anyio.fail_after(PATIENCE):
            await reader.readuntil(b"event: hello")
            await reader.readuntil(b"\n\n")
            await asyncio.sleep(1)  # longer than a request may take
            assert not reader.at_eof()


# --- large requests ---------------------------------------------------------------------------------------------------


async def test_a_huge_head_is_refused(port: int) -> None:
    answer = await ask(port, b"GET / HTTP/1.1\r\n" + HEAD + b"X-Large: " + b"a" * 1_000_000)
    assert answer.startswith(b"HTTP/1.1 400 ") or not answer  # closed with bytes unread, which may discard the answer


async def test_a_body_without_end_is_refused(port: int) -> None:
    url = f"/api/traces/{trace_id(1)}/feedback".encode()
    head = b"POST " + url + b" HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert (await ask(port, head, *[chunk] * 4)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_refused_unread(client: httpx.AsyncClient, store: SqliteStore, coding: str) -> None:
    await store.write(simple(1))
    body, headers = gzip.compress(b'{"name": "a", "value": true}'), {"content-encoding": coding}
    for url in (f"/api/traces/{trace_id(1)}/feedback", f"/traces/{trace_id(1)}/feedback"):
        answer = await client.post(url, content=body, headers=headers)
        assert answer.status_code == 415
        assert "without Content-Encoding" in answer.text
    assert (await store.get_trace(trace_id(1))).info.feedback == []


async def test_a_body_that_says_it_is_not_compressed_is_taken(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    headers = {"content-encoding": "identity"}
    url = f"/api/traces/{trace_id(1)}/feedback"
    assert (await client.post(url, json={"name": "a", "value": True}, headers=headers)).status_code == 201
