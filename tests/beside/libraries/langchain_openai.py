# /// script
# dependencies = ["langchain-openai"]
# ///
"""With a `base_url`, streamed calls have no token usage unless you say `ChatOpenAI(stream_usage=True)`."""

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.beside.ways import CITY, way

chat = ChatOpenAI(model="gpt-5")


class City(BaseModel):
    name: str


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"rainy in {city}"


@way("invoke")
def invoke() -> None:
    chat.invoke("Hi")


@way("ainvoke")
async def ainvoke() -> None:
    await chat.ainvoke("Hi")


@way("stream")
def stream() -> None:
    list(chat.stream("Hi"))


@way("astream")
async def astream() -> None:
    [chunk async for chunk in chat.astream("Hi")]


@way("batch")
def batch() -> None:
    chat.batch(["Hi", "Ho"])


@way("abatch")
async def abatch() -> None:
    await chat.abatch(["Hi", "Ho"])


@way("tools")
def tools() -> None:
    chat.bind_tools([get_weather]).invoke(CITY)


@way("structured output")
def structured() -> None:
    chat.with_structured_output(City).invoke("Paris")


@way("Responses")
def responses() -> None:
    ChatOpenAI(model="gpt-5", use_responses_api=True).invoke("Hi")


@way("embeddings")
def embeddings() -> None:
    OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False).embed_documents(["Hi", "Ho"])
