# /// script
# dependencies = ["openai-agents"]
# ///
"""Runs, agents, tools, handoffs and guardrails are spans, too. See the README."""

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI

from tests.beside.ways import CITY, way


@function_tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


agent = Agent(name="Forecaster", tools=[get_weather], model="gpt-5")


@way("run")
async def run() -> None:
    await Runner.run(agent, CITY)


@way("run_sync")
def run_sync() -> None:
    Runner.run_sync(agent, CITY)


@way("run_streamed")
async def streamed() -> None:
    result = Runner.run_streamed(agent, CITY)
    [event async for event in result.stream_events()]


@way("Chat Completions")
async def chat() -> None:
    model = OpenAIChatCompletionsModel(model="gpt-5", openai_client=AsyncOpenAI())
    await Runner.run(Agent(name="Forecaster", tools=[get_weather], model=model), CITY)
