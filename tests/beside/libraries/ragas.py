# /// script
# dependencies = ["ragas", "langchain-community<0.4"]
# ///
"""Metrics are many calls, each a span; an evaluation has no span of its own."""

import openai
from pydantic import BaseModel
from ragas.embeddings import OpenAIEmbeddings
from ragas.llms import llm_factory

from tests.beside.ways import way


class Answer(BaseModel):
    name: str


@way("llm_factory")
def generate() -> None:
    llm_factory("gpt-4o", client=openai.OpenAI()).generate("Paris", Answer)


@way("llm_factory, async")
async def generate_async() -> None:
    await llm_factory("gpt-4o", client=openai.AsyncOpenAI()).agenerate("Paris", Answer)


@way("embeddings")
def embeddings() -> None:
    OpenAIEmbeddings(client=openai.OpenAI(), model="text-embedding-3-small").embed_text("Hi")
