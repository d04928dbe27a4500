# /// script
# dependencies = ["langfuse", "openai"]
# ///
"""`langfuse.openai` is the openai package with Langfuse's wrappers around its methods: both record each call."""

import os

from tests.beside.ways import way

os.environ["LANGFUSE_TRACING_ENABLED"] = "false"
from langfuse.openai import AsyncOpenAI, OpenAI

CHAT = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}


@way("create")
def create() -> None:
    OpenAI().chat.completions.create(**CHAT)


@way("create, async")
async def create_async() -> None:
    await AsyncOpenAI().chat.completions.create(**CHAT)


@way("create, streamed")
def streamed() -> None:
    list(OpenAI().chat.completions.create(**CHAT, stream=True))


@way("Responses")
def responses() -> None:
    OpenAI().responses.create(model="gpt-5", input="Hi")
