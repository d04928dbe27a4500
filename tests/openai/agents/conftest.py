"""The Agents SDK runs on asyncio only, and its set-up is global: each test has a provider of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import tracer
from tracer.testing import FakeOpenAI

collect_ignore_glob = [] if find_spec("agents") else ["test_*.py"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A provider without processors, for the time of the test."""
    from agents.tracing import setup
    from agents.tracing.provider import DefaultTraceProvider

    for name in ("OPENAI_API_KEY", "OPENAI_AGENTS_DISABLE_TRACING"):
        monkeypatch.delenv(name, raising=False)
    before, fresh = setup.GLOBAL_TRACE_PROVIDER, DefaultTraceProvider()
    setup.GLOBAL_TRACE_PROVIDER = fresh
    yield fresh
    tracer.autolog(disable=True)
    setup.GLOBAL_TRACE_PROVIDER = before


@pytest.fixture
def traced(provider: Any) -> None:
    """Tracing is on."""
    tracer.autolog()


@pytest.fixture
async def client(server: FakeOpenAI) -> AsyncIterator[Any]:
    """A real client for the fake server."""
    async with server.async_client(max_retries=0) as client:
        yield client
