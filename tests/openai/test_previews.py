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


@tracer.trace
def by_other_names(*parts: Any, **options: Any) -> None:
    """Take any number of arguments."""


class Agent:
    @tracer.trace(attributes={"team": "a"})
    def answer(self, *parts: Any, **kwargs: Any) -> None:
        """Take any number of arguments."""


@tracer.trace
def usual_names(parts: Any = None, options: Any = None) -> None:
    """Take one argument for each."""


@pytest.mark.parametrize("function", [by_other_names, Agent().answer], ids=["function", "method"])
@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        (("Why?",), {}, "Why?"),
        ((None, object(), "Why?"), {}, "Why?"),
        ((), {"question": "Why?", "limit": None}, "Why?"),
        (("Why?", 3), {}, '{"parts":["Why?",3]}'),
        ((), {}, None),
    ],
    ids=["one", "with a client", "by name", "two", "none"],
)
async def test_any_number_of_arguments_are_shown_whatever_their_parameter_is_called(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shown: str | None
) -> None:
    function(*args, **kwargs)
    assert await preview() == shown
    [span] = (await only_trace()).data.spans
    assert "tracer.variable_parameters" not in span.attributes


async def test_a_list_that_is_one_argument_is_shown_as_a_list() -> None:
    usual_names(parts=["Why?"])
    assert await preview() == '{"parts":["Why?"]}'


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
