"""An async call of the Responses API."""

import asyncio

from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI

import tracer

tracer.autolog()


async def main() -> None:
    async with AsyncOpenAI() as client:
        response = await client.responses.create(model=MODEL, input="What is the capital of France?")
        print(response.output_text)
        trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
