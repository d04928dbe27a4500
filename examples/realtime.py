"""A Realtime session: one span for the connection, one below it for each response, with its transcript and usage.

Audio is counted and not stored, unless you ask for it: `tracer.openai.autolog(capture_audio=True)`. The model is fake,
and so is its voice; set OPENAI_API_KEY to talk to the real one. Needs `pip install 'openai[realtime]'`.
"""

import asyncio
import os
from contextlib import AsyncExitStack

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

import tracer
from tracer.testing import FakeWebSockets

tracer.autolog()


async def ask(connection: AsyncRealtimeConnection, text: str) -> str:
    """Say something in writing, and return what the model says aloud."""
    await connection.conversation.item.create(
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    )
    await connection.response.create()
    said = ""
    async for event in connection:
        if event.type == "response.output_audio_transcript.delta":
            said += event.delta
        elif event.type == "response.done":
            break
    return said


async def main() -> None:
    async with AsyncExitStack() as stack:
        if os.environ.get("OPENAI_API_KEY"):
            print("Server: https://api.openai.com\n")
            client = await stack.enter_async_context(AsyncOpenAI())
        else:
            print("Server: the bundled fake one, since OPENAI_API_KEY is not set\n")
            server = stack.enter_context(FakeWebSockets())
            client = await stack.enter_async_context(server.async_client())
        async with client.realtime.connect(model="gpt-realtime") as connection:
            print(await ask(connection, "What is the capital of France?"))
            print(await ask(connection, "And of Peru?"))

    trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
    for span in trace.data.spans:
        audio = span.get_attribute("tracer.audio.output_bytes")
        print(f"{span.name}: {audio} bytes of audio")


if __name__ == "__main__":
    asyncio.run(main())
