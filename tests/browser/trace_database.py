"""Fills a database for the tests of the trace's page by the real pipeline, and prints the traces' ids as JSON.

``python -m tests.browser.trace_database traces.db``
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import openai

import tracer
from tests.render.traces import png
from tracer import SpanType
from tracer.testing import FakeOpenAI, reply

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "mood",
        "schema": {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]},
    },
}
POEM = "Here is *one* line\nand **another**:\n\n```python\nprint('<script>alert(1)</script>')\n```\n"


@tracer.trace(span_type=SpanType.TOOL)
async def get_weather(city: str) -> str:
    return "rainy" if city == "Paris" else "unknown"


@tracer.trace(span_type=SpanType.TOOL)
async def look_up(order: str) -> str:
    return {"A-1": "tea"}[order]


@tracer.trace(span_type=SpanType.CHAIN)
async def refund(order: str) -> str:
    return await look_up(order)


@tracer.trace(span_type=SpanType.AGENT, name="weather_agent")
async def weather_agent(client: openai.AsyncOpenAI, server: FakeOpenAI) -> None:
    """A retried call that asks for a tool, the tool, a streamed answer with a pause, a structured one, vectors."""
    picture = "data:image/png;base64," + base64.b64encode(png(240, 160) + b"\0" * 2_000).decode()
    messages: Any = [
        {"role": "system", "content": "You are a weather service that answers politely. " * 12},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What's the weather\nin Paris?"},
                {"type": "image_url", "image_url": {"url": picture}},
            ],
        },
    ]
    server.enqueue(reply.error(429).with_headers({"retry-after-ms": "10"}))
    server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris", "units": {"temperature": "celsius"}})))
    first = await client.chat.completions.create(model="gpt-5", messages=messages, tools=[TOOL])
    message = first.choices[0].message
    assert message.tool_calls
    result = await get_weather("Paris")
    messages += [message.to_dict(), {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": result}]
    server.enqueue(reply.text(POEM).held(after_events=8))
    stream = await client.chat.completions.create(model="gpt-5", messages=messages, stream=True)
    asyncio.get_running_loop().call_later(0.6, server.release)
    async for _ in stream:
        pass
    server.enqueue(reply.text('{"mood": "fine"}'))
    await client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": "How are you?"}], response_format=SCHEMA
    )
    await client.embeddings.create(model="text-embedding-3-small", input=["a", "b", "c"])
    await refund("A-2")


async def last_id() -> str:
    found = tracer.get_last_active_trace_id()
    assert found is not None
    return found


async def main(path: Path) -> None:
    tracer.set_tracking_uri(f"sqlite:///{path}")
    tracer.autolog()
    ids = {}
    with FakeOpenAI() as server:
        async with server.async_client() as client:
            try:
                await weather_agent(client, server)
            except KeyError:
                ids["agent"] = await last_id()
            server.enqueue(reply.text("Hello!", reasoning="They greet me."))
            await client.responses.create(
                model="gpt-5", input="Hi", instructions="Be brief.", reasoning={"summary": "auto"}
            )
            ids["responses"] = await last_id()
    for name, count in (("wide", 500), ("widest", 5_000)):
        with tracer.start_span(name=name, span_type=SpanType.AGENT):
            for number in range(count - 1):
                with tracer.start_span(name=f"step {number}", span_type=SpanType.TOOL) as span:
                    span.set_inputs({"number": number})
        ids[name] = await last_id()
        await tracer.flush(timeout=30)
    await tracer.shutdown(timeout=30)
    print(json.dumps(ids))  # noqa: T201  for the fixture that runs this


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve()))
