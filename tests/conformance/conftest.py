"""One replay server for the session, and the outcomes of all records without tracing to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.corpus import FOLDER, Corpus, serve_corpus


@pytest.fixture(scope="session")
def corpus() -> Iterator[Corpus]:
    if not (FOLDER / "dev.jsonl").exists():
        pytest.skip(f"the corpus of recorded exchanges is not beside the repository: {FOLDER}")
    with serve_corpus() as served:
        yield served
