# /// script
# dependencies = ["instructor"]
# ///
"""Each retry after a failed validation is a call, and so a span."""

import instructor
import openai
from pydantic import BaseModel

from tests.beside.ways import way

HI = [{"role": "user", "content": "Paris"}]


class City(BaseModel):
    name: str


@way("create")
def create() -> None:
    client = instructor.from_openai(openai.OpenAI())
    client.chat.completions.create(model="gpt-5", messages=HI, response_model=City)


@way("create, async")
async def create_async() -> None:
    client = instructor.from_openai(openai.AsyncOpenAI())
    await client.chat.completions.create(model="gpt-5", messages=HI, response_model=City)


@way("create_partial")
def partial() -> None:
    client = instructor.from_openai(openai.OpenAI())
    list(client.chat.completions.create_partial(model="gpt-5", messages=HI, response_model=City))


@way("JSON schema mode")
def schema() -> None:
    client = instructor.from_openai(openai.OpenAI(), mode=instructor.Mode.JSON_SCHEMA)
    client.chat.completions.create(model="gpt-5", messages=HI, response_model=City)


@way("from_provider")
def provider() -> None:
    instructor.from_provider("openai/gpt-5").create(messages=HI, response_model=City)
