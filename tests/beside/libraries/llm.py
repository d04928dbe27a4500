# /// script
# dependencies = ["llm"]
# ///
"""The command runs no code of yours that could call `tracer.autolog()`: start it with `tracer run -- llm …`."""

import contextlib
import io

import llm
from llm.cli import cli

from tests.beside.ways import way

MODEL = "gpt-4o-mini"


def command(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        cli(list(arguments), standalone_mode=False)


@way("prompt")
def prompt() -> None:
    llm.get_model(MODEL).prompt("Hi", stream=False).text()


@way("prompt, streamed")
def streamed() -> None:
    list(llm.get_model(MODEL).prompt("Hi"))


@way("prompt, async")
async def prompt_async() -> None:
    await llm.get_async_model(MODEL).prompt("Hi", stream=False).text()


@way("the command")
def run_command() -> None:
    command("prompt", "-m", MODEL, "--no-stream", "Hi")


@way("embed")
def embed() -> None:
    llm.get_embedding_model("3-small").embed("Hi")
