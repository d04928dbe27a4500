"""What the list of traces shows of a traced function: what it was asked, not which client it used."""

from __future__ import annotations

from typing import Any

import pytest

import tracer
from tests.openai.calling import Caller, only_trace, traces
from tracer.testing import reply


async def ask(caller: Caller, question: str) -> Any:
    return await caller.chat(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    )


async def preview() -> str | None:
    return (await only_trace()).info.request_preview


async def test_a_function_without_arguments_shows_what_its_first_model_call_was_asked(caller: Caller) -> None:
    @tracer.trace
    async def answer() -> None:
        with tracer.start_span("plan"):
            await ask(caller, "First?")
        await ask(caller, "Second?")

    await answer()
    assert await preview() == "First?"


async def test_it_is_shown_while_the_function_runs(caller: Caller) -> None:
    @tracer.trace
    async def answer() -> str | None:
        await ask(caller, "First?")
        return await preview()

    assert await answer() == "First?"


async def test_a_client_and_nulls_are_no_arguments(caller: Caller) -> None:
    @tracer.trace
    async def answer(client: Any, limit: int | None = None) -> None:
        await ask(caller, "First?")

    await answer(caller.client)
    assert await preview() == "First?"


async def test_a_single_text_is_shown_as_it_is(caller: Caller) -> None:
    @tracer.trace
    async def answer(question: str, client: Any = None) -> None:
        await ask(caller, "Be brief: " + question)

    await answer("What is up?")
    assert await preview() == "What is up?"


async def test_a_function_without_a_model_call_has_no_preview() -> None:
    @tracer.trace
    def nothing() -> None: ...

    nothing()
    assert await preview() is None


async def test_texts_that_are_withheld_are_in_no_preview(caller: Caller) -> None:
    tracer.configure(capture_content=False)

    @tracer.trace
    async def answer() -> None:
        await ask(caller, "First?")

    await answer()
    assert await preview() is None


async def test_a_call_in_another_trace_says_nothing_of_this_one(caller: Caller) -> None:
    @tracer.trace
    def nothing() -> None: ...

    nothing()
    await ask(caller, "First?")
    assert [trace.info.request_preview for trace in await traces()] == [None, "First?"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_response_that_is_only_a_picture_is_named(caller: Caller, stream: bool) -> None:
    picture = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "AAAA", "size": "1x1"}
    body = {"id": "r", "object": "response", "model": "m", "status": "completed", "output": [picture]}
    event = {"type": "response.completed", "response": body}
    caller.server.enqueue(reply.sse([event]) if stream else reply.json_body(200, body))
    answer = await caller.settle(caller.client.responses.create, model="m", input="Draw.", stream=stream)
    if stream:
        await caller.items(answer)
    assert (await only_trace()).info.response_preview == "1 image 1x1"
