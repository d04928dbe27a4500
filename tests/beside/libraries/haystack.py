# /// script
# dependencies = ["haystack-ai"]
# ///
"""Components and pipelines have no spans of their own."""

from haystack import Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool

from tests.beside.ways import CITY, way

HI = [ChatMessage.from_user("Hi")]


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("generator")
def generator() -> None:
    OpenAIChatGenerator(model="gpt-5").run(HI)


@way("generator, async")
async def generator_async() -> None:
    await OpenAIChatGenerator(model="gpt-5").run_async(HI)


@way("generator, streamed")
def streamed() -> None:
    OpenAIChatGenerator(model="gpt-5", streaming_callback=lambda _: None).run(HI)


@way("pipeline")
def pipeline() -> None:
    pipe = Pipeline()
    pipe.add_component("prompt", ChatPromptBuilder(template=[ChatMessage.from_user("{{text}}")]))
    pipe.add_component("model", OpenAIChatGenerator(model="gpt-5"))
    pipe.connect("prompt.prompt", "model.messages")
    pipe.run({"prompt": {"text": "Hi"}})


@way("agent")
def agent() -> None:
    Agent(chat_generator=OpenAIChatGenerator(model="gpt-5"), tools=[get_weather]).run([ChatMessage.from_user(CITY)])


@way("embedder")
def embedder() -> None:
    OpenAITextEmbedder(model="text-embedding-3-small").run("Hi")
