from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tracer.store.postgres.store import PostgresStore


@pytest.fixture
async def store(postgres_uri: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_uri)
    await store.open()
    yield store
    await store.aclose()
