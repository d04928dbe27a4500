# /// script
# dependencies = ["marvin"]
# ///
"""marvin's functions are agents of Pydantic AI; they have no spans of their own."""

import marvin

from tests.beside.ways import api, way
from tracer.testing import reply


def say(value: object) -> None:
    """Script what ends marvin's agent."""
    api.enqueue(lambda request: reply.tool_calls((_end(request), {"result": value})))


def _end(request: object) -> str:
    names = [tool["function"]["name"] if "function" in tool else tool["name"] for tool in request.json["tools"]]
    return next(name for name in names if "success" in name)


@way("generate")
def generate() -> None:
    say([2, 3])
    marvin.generate(int, 2, "primes")


@way("extract")
def extract() -> None:
    say([30])
    marvin.extract("I found 30 dollars", int)


@way("run_async")
async def run_async() -> None:
    say("Hi")
    await marvin.run_async("Say hi")
