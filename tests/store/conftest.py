"""Stores for these tests. aiosqlite speaks asyncio only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tracer.store import Store, open_store
from tracer.store.sqlite.store import SqliteStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    await store.open()
    yield store
    await store.aclose()


@pytest.fixture(params=["file", "memory", "postgres"])
async def any_store(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Store]:
    uris = {"file": lambda: f"sqlite:///{path}", "memory": lambda: "memory://"}
    uris["postgres"] = lambda: str(request.getfixturevalue("postgres_uri"))
    store = open_store(uris[request.param]())
    await store.open()
    yield store
    await store.aclose()
