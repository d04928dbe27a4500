"""A tracer of its own for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracer._runtime import runtime
from tracer.pipeline.clock import Clock, Ids

__all__ = ["isolated"]


@contextmanager
def isolated(uri: str = "memory://", *, clock: Clock | None = None, ids: Ids | None = None) -> Iterator[None]:
    """Give the block a fresh tracer: own store, default settings, no last trace; put the old one back after it.

    Everything that was recorded inside is written when the block ends. Not for concurrent use: a process has only one
    tracer.

    Args:
        uri: Where the block's traces go.
        clock: Replaces the clocks, for example by a `FakeClock`.
        ids: Replaces the ids, for example by `SequentialIds`.

    Raises:
        AssertionError: Records could not be written within five seconds of the block's end.
    """
    restore = runtime.isolate(uri, clock, ids)
    try:
        yield
    finally:
        left = restore()
    assert not left, f"{left} records could not be written"
