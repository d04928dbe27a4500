"""What the programs in ``libraries/`` share: the server that they call, and the mark of what is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tracer.testing import FakeOpenAI

__all__ = ["CITY", "WAYS", "api", "way"]

T = TypeVar("T", bound=Callable[[], object])

api = FakeOpenAI()
"""The server; started before the program is imported, and named by ``OPENAI_BASE_URL``."""

CITY = "What is the weather in Paris?"
"""A question for which the fake model calls a tool ``get_weather``."""

WAYS: dict[str, Callable[[], object]] = {}
"""The functions that were marked, by what they were called."""


def way(name: str) -> Callable[[T], T]:
    """Mark a function, sync or async, that calls models in one way."""

    def mark(function: T) -> T:
        WAYS[name] = function
        return function

    return mark
