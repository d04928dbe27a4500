# /// script
# dependencies = ["chainlit", "openai"]
# ///
"""Call `tracer.autolog()` where the app's module is loaded. A message has no span of its own: mark the handler with
`@tracer.trace` below `@cl.on_message`. Here its calls were made without a browser.
"""

import chainlit as cl  # noqa: F401  it patches nothing of the openai package by itself
import openai

from tests.beside.ways import way

client = openai.AsyncOpenAI()


async def answer(text: str) -> None:
    stream = await client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": text}], stream=True
    )
    [chunk async for chunk in stream]


@way("what a handler calls")
async def handler() -> None:
    await answer("Hi")
