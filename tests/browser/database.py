"""Fills a database by the real pipeline: the openai client, traced, against the fake server.

``python -m tests.browser.database traces.db``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import openai

import tracer
from tracer import SpanType
from tracer.testing import FakeOpenAI

ROUNDS = 30
EACH = 5  # traces of a round
LAST_QUESTION = "What's the weather like in Paris today?"


@tracer.trace(span_type=SpanType.TOOL)
async def get_weather(city: str) -> str:
    return "rainy" if city == "Paris" else "unknown"


@tracer.trace(span_type=SpanType.AGENT)
async def support_agent(client: openai.AsyncOpenAI, question: str) -> str:
    """Two calls, the second streamed, and a tool between them."""
    await client.responses.create(model="gpt-5-mini", input=question)
    weather = await get_weather("Paris")
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": f"{question} It is {weather}."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for _ in stream:
        pass
    return f"Paris is {weather}."


@tracer.trace
async def lookup(customer: str) -> None:
    tracer.update_current_trace(tags={"env": "prod", "release": "1.4"}, session_id="session-1", user_id="ada")
    raise KeyError(customer)


async def one_round(client: openai.AsyncOpenAI, number: int) -> None:
    await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    with contextlib.suppress(KeyError):
        await lookup(f"customer-{number}")
    await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Explain {number} mutexes"}],
    )
    async with client.responses.stream(model="gpt-5", input=f"<b>Haiku</b> number {number} & more") as stream:
        async for _ in stream:
            pass
    await support_agent(client, LAST_QUESTION)


async def main(path: Path) -> None:
    tracer.set_tracking_uri(f"sqlite:///{path}")
    tracer.autolog()
    with FakeOpenAI() as server:
        async with server.async_client() as client:
            for number in range(ROUNDS):
                tracer.set_experiment("Evals" if number % 3 == 0 else "Support")
                await one_round(client, number)
    await tracer.shutdown(timeout=30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve()))
