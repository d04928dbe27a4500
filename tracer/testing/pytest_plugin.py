"""pytest fixtures; enable them with ``pytest_plugins = ["tracer.testing.pytest_plugin"]`` in your ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tracer.testing._clock import FakeClock, SequentialIds
from tracer.testing._server import FakeOpenAI

__all__ = ["fake_clock", "fake_openai", "sequential_ids"]


@pytest.fixture
def fake_openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    """A fake OpenAI server for one test; `OPENAI_BASE_URL` and `OPENAI_API_KEY` point to it."""
    with FakeOpenAI() as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def sequential_ids() -> SequentialIds:
    """Trace and span ids that count from 1."""
    return SequentialIds()
