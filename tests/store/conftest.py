"""Stores for these tests. aiosqlite speaks asyncio only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tracking import TrackingServer
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


@pytest.fixture(params=["file", "memory", "http", "postgres", "clickhouse"])
async def any_store(
    request: pytest.FixtureRequest, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """Each kind of store that there is; ``http`` is the real server, over a file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with contextlib.ExitStack() as stack:
        uri = "memory://" if request.param == "memory" else f"sqlite:///{path}"
        if request.param == "http":
            uri = stack.enter_context(TrackingServer(uri)).url
        if request.param == "postgres":
            uri = request.getfixturevalue("postgres_uri")
        if request.param == "clickhouse":
            uri = request.getfixturevalue("clickhouse_uri")
        store = open_store(uri)
        await store.open()
        yield store
        await store.aclose()
