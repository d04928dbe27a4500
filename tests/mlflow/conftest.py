from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.openai.calling import Caller
from tracer.testing import FakeOpenAI


@pytest.fixture(params=[False, True], ids=["sync", "async"])
async def caller(request: pytest.FixtureRequest, server: FakeOpenAI) -> AsyncIterator[Caller]:
    """A client of either kind, driven in one way."""
    async with Caller(server, is_async=request.param) as caller:
        yield caller
