"""The replay server, and one replay of the whole corpus that most tests look at.

Half of the records are sent by async and half by sync clients; ``TRACER_CONFORMANCE=all`` sends all by both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.corpus import FOLDER, Corpus, Record, serve_corpus
from tests.conformance.replay import Replay
from tests.conformance.traced import Run, run

HERE = Path(__file__).parent
THEIRS = (  # of the SDK: assistants, variations of images
    "ignore:The Assistants API is deprecated:DeprecationWarning",
    "ignore:deprecated:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*THEIRS))


@pytest.fixture(scope="session")
def corpus() -> Iterator[Corpus]:
    if not (FOLDER / "dev.jsonl").exists():
        pytest.skip(f"the corpus of recorded exchanges is not beside the repository: {FOLDER}")
    with serve_corpus() as served:
        yield served


@pytest.fixture(scope="session", params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which clients send: the parameter of most tests here."""
    return str(request.param)


@pytest.fixture(scope="session")
def share(corpus: Corpus, kind: str) -> list[Record]:
    """The model calls of the corpus that this kind of client sends."""
    records = corpus.select(lambda record: record.operation is not None)
    if os.environ.get("TRACER_CONFORMANCE") == "all":
        return records
    return [record for record in records if int(record.id, 16) % 2 == (kind == "async")]


@pytest.fixture(scope="session")
def untraced(corpus: Corpus, share: list[Record], kind: str) -> Run:
    """The replay without tracing."""
    return run(Replay(corpus), share, kind, None)


@pytest.fixture(scope="session")
def traced(
    corpus: Corpus, share: list[Record], kind: str, untraced: Run, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The same with tracing. It runs after `untraced`, so that the requests of the two don't mix at the server."""
    return run(Replay(corpus), share, kind, tmp_path_factory.mktemp("conformance"))
