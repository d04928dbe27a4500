# /// script
# dependencies = ["guardrails-ai"]
# ///
"""guardrails calls models through litellm, so what is said of litellm holds here."""

from guardrails import AsyncGuard, Guard
from pydantic import BaseModel

from tests.beside.ways import way

HI = [{"role": "user", "content": "Hi"}]


class City(BaseModel):
    name: str


@way("Guard")
def guard() -> None:
    Guard()(model="openai/gpt-4o", messages=HI)


@way("Guard, streamed")
def streamed() -> None:
    list(Guard()(model="openai/gpt-4o", messages=HI, stream=True))


@way("AsyncGuard")
async def guard_async() -> None:
    await AsyncGuard()(model="openai/gpt-4o", messages=HI)
