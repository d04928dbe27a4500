"""The records of calls of many kinds, as they came from the queue; and the traces that a store has of them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import msgspec
import openai
import pytest

import tracer
from tracer.capture.records import Encoded
from tracer.pipeline._queue import RecordQueue
from tracer.store import Store, TraceQuery
from tracer.testing import FakeOpenAI, isolated, reply

__all__ = ["Records", "everything", "record_calls"]


async def work(server: FakeOpenAI) -> None:
    """Make calls of many kinds, three at a time."""
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as client:
        await make_calls(client, server)


async def make_calls(client: openai.AsyncOpenAI, server: FakeOpenAI) -> None:

    def response(status: str, **more: Any) -> reply.Reply:
        usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7} if status == "completed" else None
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "an answer"}]}
        body = {"id": "resp_7", "object": "response", "created_at": 1, "model": "gpt-5", "status": status, **more}
        return reply.json_body(200, {**body, "usage": usage, "output": [item] if usage else []})

    async def ask(text: str, **options: Any) -> Any:
        return await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": text}], **options
        )

    @tracer.trace
    async def agent() -> str:
        """A root without arguments, whose preview is what the first call below it was asked."""
        span = tracer.get_current_active_span()
        assert span is not None
        await ask("first of the agent")
        span.set_attributes({"step": 1})
        tracer.update_current_trace(tags={"kind": "agent"}, session_id="s")
        await step(2)
        span.add_event("between", {"n": 1})
        await ask("last of the agent")
        span.set_attributes({"step": 2})
        return "done"

    @tracer.trace
    async def step(number: int) -> None:
        async for _ in await ask(f"streamed {number}", stream=True):
            await asyncio.sleep(0)

    @tracer.trace
    async def items(count: int) -> Any:
        for number in range(count):
            yield {"item": number}

    async def background() -> None:
        server.enqueue(response("queued", background=True), path="/v1/responses")
        server.enqueue(response("in_progress", background=True), path="/v1/responses/resp_7")
        server.enqueue(*2 * [response("completed", background=True)], path="/v1/responses/resp_7")
        await client.responses.create(model="gpt-5", input="in the background", background=True)
        for _ in range(3):
            await client.responses.retrieve("resp_7")

    async def again() -> None:
        first = await client.responses.create(model="gpt-5", input="at once")
        await client.responses.retrieve(first.id)

    async def wrong() -> None:
        server.enqueue(reply.error(400, "there is no such thing"), path="/v1/moderations")
        with pytest.raises(openai.BadRequestError):
            await client.moderations.create(input="x")
        with tracer.start_span("with a status") as span:
            span.set_status("ERROR", "not good")

    async with anyio.create_task_group() as tasks:
        for job in (agent, background, again, wrong):
            tasks.start_soon(job)
        async for _ in items(3):
            await asyncio.sleep(0)
        await client.embeddings.create(model="text-embedding-3-small", input="words")


class Records(list[Encoded]):
    """A list whose failures can be read."""

    def __repr__(self) -> str:
        return f"{len(self)} records"


def record_calls() -> Records:
    """The records of all that, in the order in which they came."""
    records = Records()
    drain = RecordQueue.drain

    def noted(self: RecordQueue, *limits: int) -> list[Encoded]:
        taken = drain(self, *limits)
        records.extend(taken)
        return taken

    with pytest.MonkeyPatch.context() as patch, FakeOpenAI() as server, isolated():
        patch.setattr(RecordQueue, "drain", noted)
        tracer.autolog()
        try:
            anyio.run(work, server)
            assert tracer.sync.flush()
        finally:
            tracer.autolog(disable=True)
    return records


async def everything(store: Store) -> list[Any]:
    """All traces, as plain data."""
    page = await store.search_traces(TraceQuery(max_results=100))
    return [msgspec.to_builtins(await store.get_trace(trace.info.trace_id)) for trace in page]
