"""Async calls: three at once below one span, each with its own latency."""

import asyncio

from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI

import tracer

tracer.autolog()


@tracer.trace(span_type=tracer.SpanType.WORKFLOW)
async def capitals(client: AsyncOpenAI, countries: list[str]) -> list[str | None]:
    """Ask for several capitals at the same time."""
    answers = await asyncio.gather(
        *(
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": f"What is the capital of {country}?"}]
            )
            for country in countries
        )
    )
    return [answer.choices[0].message.content for answer in answers]


async def main() -> None:
    async with AsyncOpenAI() as client:
        print(await capitals(client, ["France", "Japan", "Peru"]))
        trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
