"""An async streamed chat completion, read to its end: the trace holds the whole answer and each chunk's time."""

import asyncio

from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI

import tracer

tracer.autolog()


async def main() -> None:
    async with AsyncOpenAI() as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "How fast would a glass of water freeze on Titan?"}],
            stream=True,
        )
        async for chunk in stream:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()
        trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
