# /// script
# dependencies = ["mirascope[openai]"]
# ///
"""Streamed calls report token usage, because the library asks for it."""

from mirascope import llm
from pydantic import BaseModel

from tests.beside.ways import CITY, way


class City(BaseModel):
    name: str


@llm.tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("call (Chat Completions)")
def call() -> None:
    llm.Model("openai/gpt-4o:completions").call("Hi")


@way("call (Responses)")
def responses() -> None:
    llm.Model("openai/gpt-4o:responses").call("Hi")


@way("call, async")
async def call_async() -> None:
    await llm.Model("openai/gpt-4o").call_async("Hi")


@way("stream")
def stream() -> None:
    list(llm.Model("openai/gpt-4o").stream("Hi").text_stream())


@way("tools")
def tools() -> None:
    response = llm.Model("openai/gpt-4o").call(CITY, tools=[get_weather])
    response.resume(response.execute_tools())


@way("structured output")
def structured() -> None:
    llm.Model("openai/gpt-4o").call("Paris", format=City)
