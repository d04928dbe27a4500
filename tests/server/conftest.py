"""The application over a store that the test writes to, asked by a real HTTP client in the same event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tracer.server import create_app
from tracer.store import open_store
from tracer.store.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """Who writes: a connection of its own, as another process has."""
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    await store.open()
    yield store
    await store.aclose()


class Site:
    """Starts applications and gives clients of them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, app: Starlette, **options: Any) -> httpx.AsyncClient:
        await self._stack.enter_async_context(app.router.lifespan_context(app))
        return await self.client(app, **options)

    async def client(self, app: Starlette, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:5151", **options)
        return await self._stack.enter_async_context(client)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack)


@pytest.fixture
async def client(site: Site, store: SqliteStore, path: Path) -> httpx.AsyncClient:
    """A client of a page without token."""
    return await site.start(create_app(f"sqlite:///{path}"))
