"""Server-sent events over a real connection: ASGI transports of HTTP clients wait for the whole body."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import httpx
import pytest

from tests.store.rows import batch, running, simple, started
from tracer.server._source import Source
from tracer.server.live import INTERVAL, Watch
from tracer.server.run import serve_ui
from tracer.store import ProcessRow
from tracer.store.sqlite.store import SqliteStore

TOKEN = "a-token-of-the-test"


@pytest.fixture
def address(path: Path, store: SqliteStore) -> Iterator[str]:
    """The printed address of ``serve_ui`` in a process of its own."""
    script = f"from tracer.server.run import serve_ui; serve_ui('sqlite:///{path}', port=0, token='{TOKEN}')"
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()
        assert process.wait(10) in (0, -15)


async def test_what_is_stored_is_told_to_whoever_listens(address: str, store: SqliteStore) -> None:
    base, _, query = address.partition("?")
    assert query == f"token={TOKEN}"
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=10) as client:
        async with client.stream("GET", "/api/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            with anyio.fail_after(10):
                await _until(lines, "event: hello")
                await anyio.sleep(1)  # it has looked once
                await store.write(batch([started(1)], [running(1)]))
                await _until(lines, "event: changed")
                await store.write(simple(1))
                await _until(lines, "event: changed")
        assert (await client.get("/api/traces")).json()["traces"][0]["state"] == "OK"


async def _until(lines: object, wanted: str) -> None:
    async for line in lines:  # type: ignore[attr-defined]  # an async iterator of text
        if line == wanted:
            return
    raise AssertionError(f"the stream ended before {wanted!r}")


def test_an_open_stream_does_not_keep_the_server_from_ending(path: Path) -> None:
    script = f"from tracer.server.run import serve_ui; serve_ui('sqlite:///{path}', port=0, token=None)"
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = process.stdout.readline().strip()
        with httpx.Client(base_url=base, timeout=10) as client, client.stream("GET", "/api/live") as answer:
            lines = answer.iter_lines()
            assert "event: hello" in (next(lines), next(lines))
            process.terminate()
            assert "event: changed" not in list(lines)  # it ends, and isn't cut: httpx would say so
        assert process.wait(10) in (0, -15)


async def test_nobody_looks_while_nobody_listens(store: SqliteStore, path: Path) -> None:
    source = Source(f"sqlite:///{path}")
    watch = Watch(source)
    looks = 0
    ready = source.ready

    async def counted() -> object:
        nonlocal looks
        looks += 1
        return await ready()

    source.ready = counted  # type: ignore[method-assign, assignment]
    assert looks == 0
    with watch.listening():
        with watch.listening():
            began = time.monotonic()
            await anyio.sleep(1.2)
        assert 1 <= looks <= 1 + (time.monotonic() - began) / INTERVAL  # one task for both
        assert watch.version == 0
        await store.write(simple(1))
        with anyio.fail_after(5):
            assert await watch.next(0, timeout=5) == 1
    seen = looks
    await store.write(simple(2))
    await anyio.sleep(0.7)
    assert looks == seen
    await watch.aclose()
    await source.aclose()


async def test_a_killed_process_is_noticed_while_nothing_is_written(store: SqliteStore, path: Path) -> None:
    """Its running trace becomes an interrupted one, and this counts as a change."""
    source = Source(f"sqlite:///{path}")
    watch, shown = Watch(source), await source.ready()
    gone = ProcessRow(process_id="here:1:1", host=socket.gethostname(), pid=2**22 + 1, started="1")
    trace = running(1, process_id=gone.process_id)
    with watch.listening(), anyio.fail_after(15):
        await store.write(batch([started(1)], [trace], process=gone))
        seen = 0
        while (await shown.get_trace(trace.trace_id)).info.state != "INTERRUPTED":
            seen = await watch.next(seen, timeout=15) or seen
    await watch.aclose()
    await source.aclose()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1"])
def test_an_address_that_others_reach_needs_a_token(host: str, path: Path) -> None:
    with pytest.raises(ValueError, match="token"):
        serve_ui(f"sqlite:///{path}", host=host, port=0, token=None)


def test_a_port_that_is_taken_is_an_error_at_once(path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        began = time.monotonic()
        with pytest.raises(OSError, match="in use"):
            serve_ui(f"sqlite:///{path}", port=taken.getsockname()[1])
        assert time.monotonic() - began < 5
