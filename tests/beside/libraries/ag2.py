# /// script
# dependencies = ["ag2[openai]"]
# ///
"""Agents and tools have no spans of their own: mark tools with `@tracer.trace`."""

from ag2 import Agent
from ag2.config import OpenAIConfig

from tests.beside.ways import CITY, way


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("ask")
async def ask() -> None:
    await Agent("a", config=OpenAIConfig(model="gpt-5")).ask("Hi")


@way("ask, streamed")
async def ask_streamed() -> None:
    await Agent("a", config=OpenAIConfig(model="gpt-5", streaming=True)).ask("Hi")


@way("ask with a tool")
async def tool() -> None:
    await Agent("a", config=OpenAIConfig(model="gpt-5"), tools=[get_weather]).ask(CITY)
