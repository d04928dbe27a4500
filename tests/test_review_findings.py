"""What a review found: a hook that asks tracer itself, errors inside streams, spans below a refused one."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import anyio
import pytest

import tracer
from tests.reading import last_span
from tracer import _semconv as sc
from tracer._runtime import runtime
from tracer.capture.records import Rank
from tracer.testing import FakeOpenAI, reply


async def test_a_hook_that_asks_tracer_itself_is_told_so_instead_of_waiting_for_ever() -> None:
    def ask(text: str) -> str:
        tracer.sync.search_traces()
        return text

    tracer.configure(redact=ask)
    with tracer.start_span("asks") as span:
        span.set_inputs({"text": "secret"})
    read = await last_span()
    assert "secret" not in str(read.inputs)
    assert tracer.stats().redaction_failed > 0


async def test_an_error_inside_a_chat_stream_is_one_exception_event(server: FakeOpenAI) -> None:
    tracer.autolog()
    server.enqueue(reply.text("one two three four").failing(after_events=2, message="out of order"))
    async with server.async_client(max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(Exception, match="out of order"):
            async for _ in stream:
                pass
    read = await last_span()
    [event] = [event for event in read.events if event.name == sc.EVENT_EXCEPTION]
    assert event.attributes[sc.EXCEPTION_TYPE] == "APIError"
    assert "out of order" in event.attributes[sc.EXCEPTION_MESSAGE]


async def test_calls_below_a_refused_span_are_counted_too(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer.autolog()
    queue = runtime.pipeline.queue
    push = queue.push

    def full(record: bytes, rank: Rank, skeleton: bytes | None = None) -> bool:
        if rank is Rank.START:
            queue.refuse(rank)
            return False
        return push(record, rank, skeleton)

    monkeypatch.setattr(queue, "push", full)
    async with server.async_client() as client:
        with tracer.start_span("refused"):
            for _ in range(2):
                await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    assert tracer.stats().dropped["start"] == 3


async def test_text_is_indexed_when_the_worker_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.pipeline.worker.BUSY_FOR", 0.01)
    with tracer.start_span("words") as span:
        span.set_inputs("a needle")
    assert await tracer.flush()
    with anyio.fail_after(10), contextlib.closing(sqlite3.connect(tmp_path / "tracer.db")) as database:
        while database.execute("SELECT indexed_to FROM text_index").fetchone()[0] == 0:  # noqa: ASYNC110  another thread does it
            await anyio.sleep(0.01)
