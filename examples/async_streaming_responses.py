"""An async streamed response that is left half-way: its trace says so, and keeps what had arrived until then."""

import asyncio

from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI

import tracer

tracer.autolog()


async def main() -> None:
    async with AsyncOpenAI() as client:
        stream = await client.responses.create(
            model=MODEL, input="How fast would a glass of water freeze on Titan?", stream=True
        )
        async with stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    print(event.delta, "… that is enough")
                    break
        trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()
        print("In the trace:", trace.info.response_preview)


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
