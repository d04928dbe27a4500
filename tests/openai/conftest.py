"""One test, three ways to call: the sync client, the async one on asyncio, the async one on trio."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.openai.calling import Caller
from tracer.testing import FakeOpenAI

HERE = Path(__file__).parent
# On trio the SDK leaves the async generators of each stream to the garbage collector, and trio warns about this. No tap
# of ours may be among these generators. The collector may also run in the server's thread, where they can't be closed.
THEIRS = (
    "ignore:Async generator '(openai|httpx|httpx2|httpcore|httpcore2)\\.:ResourceWarning",
    "ignore:Exception ignored in. <async_generator object (?!.*Tap):pytest.PytestUnraisableExceptionWarning",
)


# trio differs from asyncio only where bodies are read and tasks cancelled. Other tests on trio would only take time.
ON_TRIO_TOO = {"test_path_variants.py", "test_endings.py", "test_stream_endings.py", "test_streams.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents and isinstance(item, pytest.Function)]
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings(*THEIRS))
    redundant = {item for item in ours if on_trio(item) and item.cls is None and item.path.name not in ON_TRIO_TOO}
    items[:] = [item for item in items if item not in redundant]


def on_trio(item: pytest.Function) -> bool:
    return hasattr(item, "callspec") and item.callspec.params.get("mode") == "trio"


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Let the garbage collector pass over what was there before, mostly imported modules.

    Many tests here drop streams and collect them; each collection would look at all modules' objects anew.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def mode(request: pytest.FixtureRequest) -> Any:
    """Which client a test uses, on which event loop."""
    return request.param


@pytest.fixture
def anyio_backend(mode: str) -> str:
    """The event loop of the mode; a module for one mode only overrides this."""
    return "trio" if mode == "trio" else "asyncio"


@pytest.fixture
async def caller(mode: str, server: FakeOpenAI) -> AsyncIterator[Caller]:
    """Tracing on, and the mode's client, which does not retry."""
    tracer.autolog()
    async with Caller(server, is_async=mode != "sync") as caller:
        yield caller
