# /// script
# dependencies = ["semantic-kernel"]
# ///
"""Agents and functions have no spans of their own: mark functions with `@tracer.trace`."""

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function

from tests.beside.ways import CITY, way

service = OpenAIChatCompletion(ai_model_id="gpt-5")
settings = OpenAIChatPromptExecutionSettings()


class Weather:
    @kernel_function(description="Tell the weather in a city.")
    def get_weather(self, city: str) -> str:
        return f"rainy in {city}"


def history() -> ChatHistory:
    chat = ChatHistory()
    chat.add_user_message("Hi")
    return chat


@way("get_chat_message_content")
async def content() -> None:
    await service.get_chat_message_content(history(), settings)


@way("streamed")
async def streamed() -> None:
    [part async for part in service.get_streaming_chat_message_content(history(), settings)]


@way("agent with a plugin")
async def agent() -> None:
    await ChatCompletionAgent(service=service, name="a", plugins=[Weather()]).get_response(CITY)


@way("embeddings")
async def embeddings() -> None:
    await OpenAITextEmbedding(ai_model_id="text-embedding-3-small").generate_embeddings(["Hi"])
