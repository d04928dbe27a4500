from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tracer.testing import FakeOpenAI


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def client(server: FakeOpenAI) -> openai.OpenAI:
    return server.client(max_retries=0)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param
