# /// script
# dependencies = ["magentic"]
# ///
"""Streamed calls report token usage, because the library asks for it."""

from magentic import AsyncStreamedStr, StreamedStr, prompt
from pydantic import BaseModel

from tests.beside.ways import way


class City(BaseModel):
    name: str


@prompt("Say {word}")
def say(word: str) -> str: ...


@prompt("Say {word}")
async def say_async(word: str) -> str: ...


@prompt("Name the city {name}")
def city(name: str) -> City: ...


@prompt("Say {word}")
def say_in_parts(word: str) -> StreamedStr: ...


@prompt("Say {word}")
async def say_in_parts_async(word: str) -> AsyncStreamedStr: ...


@way("prompt")
def plain() -> None:
    say("Hi")


@way("prompt, async")
async def plain_async() -> None:
    await say_async("Hi")


@way("structured output")
def structured() -> None:
    city("Paris")


@way("StreamedStr")
def streamed() -> None:
    list(say_in_parts("Hi"))


@way("AsyncStreamedStr")
async def streamed_async() -> None:
    [part async for part in await say_in_parts_async("Hi")]
