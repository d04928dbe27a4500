# /// script
# dependencies = ["pydantic-ai-slim[openai]"]
# ///
"""Agents and tools have no spans of their own: mark tools with `@tracer.trace`."""

from pydantic import BaseModel
from pydantic_ai import Agent

from tests.beside.ways import CITY, way


class City(BaseModel):
    name: str


agent = Agent("openai-chat:gpt-5")
responder = Agent("openai-responses:gpt-5")


@agent.tool_plain
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("run_sync")
def run_sync() -> None:
    agent.run_sync("Hi")


@way("run with a tool")
async def run() -> None:
    await agent.run(CITY)


@way("run_stream")
async def stream() -> None:
    async with agent.run_stream("Hi") as result:
        await result.get_output()


@way("structured output")
async def structured() -> None:
    await Agent("openai-chat:gpt-5").run("Paris", output_type=City)


@way("Responses")
async def responses() -> None:
    await responder.run("Hi")
