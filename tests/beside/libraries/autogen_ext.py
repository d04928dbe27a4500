# /// script
# dependencies = ["autogen-ext[openai]", "autogen-agentchat"]
# ///
"""Agents and tools have no spans of their own: mark tools with `@tracer.trace`."""

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

from tests.beside.ways import CITY, way

model = OpenAIChatCompletionClient(model="gpt-4o")


async def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("create")
async def create() -> None:
    await model.create([UserMessage(content="Hi", source="user")])


@way("create_stream")
async def stream() -> None:
    [chunk async for chunk in model.create_stream([UserMessage(content="Hi", source="user")])]


@way("agent")
async def agent() -> None:
    await AssistantAgent("a", model, tools=[get_weather], reflect_on_tool_use=True).run(task=CITY)


@way("team")
async def team() -> None:
    agents = [AssistantAgent("a", model), AssistantAgent("b", model)]
    await RoundRobinGroupChat(agents, termination_condition=MaxMessageTermination(3)).run(task="Hi")
