# /// script
# dependencies = ["llama-index-llms-openai", "llama-index-embeddings-openai"]
# ///
"""Streamed calls have no token usage: pass `additional_kwargs={"stream_options": {"include_usage": True}}`, or call
`tracer.openai.autolog(stream_usage=True)`.
"""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel

from tests.beside.ways import CITY, way

llm = OpenAI(model="gpt-4o-mini")
messages = [ChatMessage(role="user", content="Hi")]


class City(BaseModel):
    name: str


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("complete")
def complete() -> None:
    llm.complete("Hi")


@way("chat")
def chat() -> None:
    llm.chat(messages)


@way("achat")
async def achat() -> None:
    await llm.achat(messages)


@way("stream_chat")
def stream_chat() -> None:
    list(llm.stream_chat(messages))


@way("structured output")
def structured() -> None:
    llm.as_structured_llm(City).complete("Paris")


@way("agent")
async def agent() -> None:
    await FunctionAgent(tools=[get_weather], llm=llm).run(CITY)


@way("Responses")
def responses() -> None:
    OpenAIResponses(model="gpt-4o-mini").chat(messages)


@way("embeddings")
def embeddings() -> None:
    OpenAIEmbedding().get_text_embedding_batch(["Hi", "Ho"])
