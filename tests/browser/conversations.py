"""Fills a database with conversations by the real pipeline: what the tests of sessions and of the overview look at.

``python -m tests.browser.conversations traces.db``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import openai

import tracer
from tracer import SpanType
from tracer.testing import FakeOpenAI, reply

CHAT = "chats/2026 <b>ä</b>/../1"
LONG = "long"
LONG_TURNS = 60
OTHERS = 55
ANSWER = (
    "A mutex is a **lock** with an owner:\n\n```python\nwith lock:\n    counter += 1\n```\n\n"
    "1. One holder at a time\n2. Others wait\n"
)


@tracer.trace(span_type=SpanType.TOOL)
async def get_weather(city: str) -> str:
    return "rainy" if city == "Paris" else "unknown"


@tracer.trace(span_type=SpanType.AGENT)
async def support_agent(client: openai.AsyncOpenAI, server: FakeOpenAI, question: str, session: str) -> dict[str, Any]:
    """Asks for a tool, calls it, and answers; returns an object, as agents do."""
    tracer.update_current_trace(session_id=session, user_id="ada")
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})))
    first = await client.chat.completions.create(model="gpt-5-mini", messages=messages)
    message = first.choices[0].message
    assert message.tool_calls
    weather = await get_weather("Paris")
    messages += [message.to_dict(), {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": weather}]
    server.enqueue(reply.text(f"Paris is *{weather}* today. <script>alert(1)</script>"))
    last = await client.chat.completions.create(model="gpt-5", messages=messages)
    return {"id": last.id}


@tracer.trace
async def lookup(customer: str, session: str) -> None:
    tracer.update_current_trace(session_id=session)
    raise KeyError(customer)


@tracer.trace
async def echo(question: str, session: str) -> str:
    tracer.update_current_trace(session_id=session, user_id="grace")
    return f"You said: {question}"


@tracer.trace
async def chat(client: openai.AsyncOpenAI, messages: Any, session: str, model: str) -> str:
    tracer.update_current_trace(session_id=session, user_id="ada")
    made = await client.chat.completions.create(model=model, messages=messages)
    return made.choices[0].message.content or ""


async def main(path: Path) -> None:
    tracer.set_tracking_uri(f"sqlite:///{path}")
    tracer.autolog()
    with FakeOpenAI() as server:
        async with server.async_client() as client:
            for number in range(LONG_TURNS):
                await echo(f"question {number + 1}", LONG)
            for number in range(OTHERS):
                await echo("Hello", f"session-{number}")
            await echo("Where does this lead?", "..")
            history: Any = [{"role": "system", "content": "You teach."}, {"role": "user", "content": "What's a mutex?"}]
            server.enqueue(reply.text(ANSWER))
            history.append({"role": "assistant", "content": await chat(client, history, CHAT, "gpt-4o")})
            history.append({"role": "user", "content": "And a semaphore?\nIn one line."})
            server.enqueue(reply.text("A lock with a count."))
            await chat(client, history, CHAT, "gpt-4o-mini")
            await support_agent(client, server, "What's the weather in Paris?", CHAT)
            with contextlib.suppress(KeyError):
                await lookup("A-1009", CHAT)
    await tracer.shutdown(timeout=30)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve()))
