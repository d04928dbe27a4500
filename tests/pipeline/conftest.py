"""What the tests of the crash ring and of the spool need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tracer.pipeline import _ring_file
from tracer.store.sqlite.store import SqliteStore


@pytest.fixture
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for /dev/shm."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(_ring_file, "SHARED_MEMORY", tmp_path / "shm")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "t.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{database}")
    await store.open()
    yield store
    await store.aclose()
