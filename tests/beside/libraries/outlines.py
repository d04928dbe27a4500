# /// script
# dependencies = ["outlines[openai]"]
# ///
"""Models that run in the process (transformers, llama.cpp) make no calls of the openai package, and no spans: use
`@tracer.trace(span_type="LLM")`.
"""

import openai
import outlines
from pydantic import BaseModel

from tests.beside.ways import way


class City(BaseModel):
    name: str


@way("call")
def call() -> None:
    outlines.from_openai(openai.OpenAI(), "gpt-4o")("Hi")


@way("structured output")
def structured() -> None:
    outlines.from_openai(openai.OpenAI(), "gpt-4o")("Paris", City)


@way("stream")
def stream() -> None:
    list(outlines.from_openai(openai.OpenAI(), "gpt-4o").stream("Hi"))


@way("call, async")
async def call_async() -> None:
    await outlines.from_openai(openai.AsyncOpenAI(), "gpt-4o")("Hi")
