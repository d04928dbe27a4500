"""A real store (SQLite in memory) that a test can hold, slow down and make fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio

from tracer._models import Trace
from tracer._runtime import runtime
from tracer.capture.records import Ending, SpanEnded, SpanStarted, encode
from tracer.store.batch import Batch
from tracer.store.sqlite.store import SqliteStore


class ScriptedStore(SqliteStore):
    """Raises the next of `errors` in each write while there are any; waits while `gate` is not set."""

    def __init__(self) -> None:
        super().__init__("memory://")
        self.gate = threading.Event()
        self.gate.set()
        self.errors: list[BaseException] = []
        self.always: BaseException | None = None
        self.closed = 0
        self.attempts: list[float] = []
        self.batches: list[Batch] = []

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()

    async def _pass_gate(self) -> None:
        while not self.gate.is_set():  # noqa: ASYNC110  the gate is the test's, in another thread
            await anyio.sleep(0.002)

    async def write(self, batch: Batch) -> None:
        self.attempts.append(time.monotonic())
        await self._pass_gate()
        if self.errors or self.always:
            raise self.errors.pop(0) if self.errors else self.always  # type: ignore[misc]  # one of them is there
        await super().write(batch)
        self.batches.append(batch)

    async def get_trace(self, trace_id: str) -> Trace:
        await self._pass_gate()
        return await super().get_trace(trace_id)

    @property
    def ended(self) -> list[str]:
        """The ids of the spans whose end was written, in that order."""
        return [span.span_id for batch in self.batches for span in batch.spans if span.end_time_ns is not None]


def use(store: SqliteStore) -> None:
    """Have the current pipeline write to this store, and read from it."""
    worker = runtime.pipeline._worker
    worker.store = worker.writer._store = store


def started(number: int, **fields: Any) -> bytes:
    """The start of span `number`, a trace of its own."""
    return encode(SpanStarted(f"{number:032x}", f"{number:016x}", None, "span", "UNKNOWN", 1_000, "Default", **fields))


def ended(number: int) -> bytes:
    """The end of span `number`."""
    return encode(SpanEnded(f"{number:016x}", 2_000, Ending.RETURNED))


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `condition` holds, and fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
