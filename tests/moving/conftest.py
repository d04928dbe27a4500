"""Stores to move traces between. aiosqlite speaks asyncio only."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tracking import TrackingServer
from tracer.store import Store, open_store


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/source.db")
    yield store
    await store.aclose()


@pytest.fixture(params=["file", "http", "postgres", "clickhouse"])
async def target(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """Each kind of store that can be copied to; ``http`` is the real server, over a file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with contextlib.ExitStack() as stack:
        uri = f"sqlite:///{tmp_path}/target.db"
        if request.param == "http":
            uri = stack.enter_context(TrackingServer(uri)).url
        if request.param == "postgres":
            uri = request.getfixturevalue("postgres_uri")
        if request.param == "clickhouse":
            uri = request.getfixturevalue("clickhouse_uri")
        store = open_store(uri)
        yield store
        await store.aclose()
