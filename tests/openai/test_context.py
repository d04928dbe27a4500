"""Whose child a call is, and what is current where."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

import tracer
from tests.openai.calling import CHAT, HELLO, Caller, finish, only_trace, traces
from tests.sdk import requires_sdk
from tracer.testing import FakeOpenAI, reply


async def test_a_call_is_the_child_of_the_span_around_it(caller: Caller) -> None:
    with tracer.start_span("outer") as outer:
        await caller.chat()
        assert tracer.get_current_active_span() is outer
        await caller.items(await caller.chat(stream=True))
    trace = await only_trace()
    root, *calls = trace.data.spans
    assert root.name == "outer"
    assert [call.parent_id for call in calls] == [root.span_id] * 2
    assert [call.name for call in calls] == [f"{caller.prefix}Completions_1", f"{caller.prefix}Completions_2"]


async def test_a_call_is_the_child_of_the_traced_function_around_it(caller: Caller) -> None:
    @tracer.trace
    async def ask() -> None:
        await caller.chat()

    await ask()
    root, call = (await only_trace()).data.spans
    assert (root.name, call.parent_id) == ("ask", root.span_id)


async def test_nothing_is_current_after_a_call_nor_while_its_stream_is_read(caller: Caller) -> None:
    await caller.chat()
    assert tracer.get_current_active_span() is None
    stream = await caller.chat(stream=True)
    assert tracer.get_current_active_span() is None
    await caller.first(stream)
    assert tracer.get_current_active_span() is None
    await caller.items(stream)
    with pytest.raises(TypeError):
        await caller.chat(metadata=object())
    assert tracer.get_current_active_span() is None


async def test_a_failed_child_that_was_caught_leaves_the_trace_ok(caller: Caller) -> None:
    caller.server.enqueue(reply.error(400))
    with tracer.start_span("outer"), pytest.raises(Exception, match="400"):
        await caller.chat()
    trace = await only_trace()
    assert trace.info.state == "OK"
    assert [str(span.status) for span in trace.data.spans] == ["OK", "ERROR"]


def with_hook(caller: Caller, work: Any) -> Any:
    """A client whose HTTP requests each run `work` first."""

    async def hook_async(_: Any) -> None:
        await work()

    def hook(_: Any) -> None:
        step = work()
        with pytest.raises(StopIteration):
            step.send(None)

    client = caller.make_client()
    client._client.event_hooks = {"request": [hook_async if caller.is_async else hook]}
    return client


async def test_a_call_from_inside_the_http_hook_of_another_is_its_child(caller: Caller) -> None:
    async def work() -> None:
        await caller.chat(messages=[{"role": "user", "content": "inner"}])

    client = with_hook(caller, work)
    await caller.settle(client.chat.completions.create, **CHAT)
    outer, inner = (await only_trace()).data.spans
    assert (outer.parent_id, inner.parent_id) == (None, outer.span_id)
    assert outer.inputs["messages"] == HELLO
    assert inner.inputs["messages"][0]["content"] == "inner"
    assert outer.outputs["choices"][0]["message"]["content"] == "You said: Hi"
    assert [finish(span) for span in (outer, inner)] == ["completed"] * 2


@pytest.mark.parametrize("mode", ["asyncio"])
async def test_a_call_of_a_task_that_outlives_the_call_it_began_in_is_a_trace_of_its_own(caller: Caller) -> None:
    tasks: list[asyncio.Task[Any]] = []
    is_over = asyncio.Event()

    async def later() -> None:
        await is_over.wait()
        assert tracer.get_current_active_span() is None
        await caller.chat(messages=[{"role": "user", "content": "later"}])

    async def work() -> None:
        if not tasks:
            tasks.append(asyncio.create_task(later()))

    client = with_hook(caller, work)
    await client.chat.completions.create(**CHAT)
    is_over.set()
    await tasks[0]
    recorded = await traces()
    assert sorted(trace.data.spans[0].inputs["messages"][0]["content"] for trace in recorded) == ["Hi", "later"]
    assert [len(trace.data.spans) for trace in recorded] == [1, 1]


async def test_a_management_call_from_inside_a_hook_disturbs_nothing(caller: Caller) -> None:
    caller.server.enqueue(reply.json_body(200, {"object": "list", "data": []}), path="/models")

    async def work() -> None:
        await caller.settle(caller.client.get, "/models", cast_to=object)

    client = with_hook(caller, work)
    await caller.settle(client.chat.completions.create, **CHAT)
    [span] = (await only_trace()).data.spans
    assert span.inputs["messages"] == HELLO
    assert span.outputs["choices"][0]["message"]["content"] == "You said: Hi"


@requires_sdk("openai.OpenAI._refresh_api_key")
async def test_a_call_from_inside_a_key_provider_is_recorded_below_the_call_that_asked(caller: Caller) -> None:
    def provide() -> str:
        caller.client.chat.completions.create(**CHAT)
        return "sk-fresh"

    async def provide_async() -> str:
        await caller.client.chat.completions.create(**CHAT)
        return "sk-fresh"

    client = caller.make_client(api_key=provide_async if caller.is_async else provide)
    await caller.settle(client.embeddings.create, model="m", input="Hi")
    spans = (await only_trace()).data.spans
    by_name = {span.name: span for span in spans}
    embedding, chat = by_name[f"{caller.prefix}Embeddings"], by_name[f"{caller.prefix}Completions"]
    assert (embedding.parent_id, chat.parent_id) == (None, embedding.span_id)


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
async def test_calls_of_fifty_tasks_never_cross(caller: Caller) -> None:
    async def ask(number: int) -> None:
        with tracer.start_span(f"task {number}"):
            await caller.chat(messages=[{"role": "user", "content": f"number {number}"}])
            stream = await caller.chat(stream=True, messages=[{"role": "user", "content": f"number {number}"}])
            await caller.items(stream)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, number)
    recorded = await traces()
    assert len(recorded) == 50
    for trace in recorded:
        root, plain, stream = trace.data.spans
        task = root.name.removeprefix("task ")
        for call in (plain, stream):
            assert call.parent_id == root.span_id
            assert call.inputs["messages"][0]["content"] == f"number {task}"
            assert call.outputs["choices"][0]["message"]["content"] == f"You said: number {task}"


@pytest.mark.parametrize("mode", ["sync"])
async def test_calls_of_threads_never_cross(caller: Caller, server: FakeOpenAI) -> None:
    def ask(number: int) -> None:
        with tracer.start_span(f"thread {number}"):
            for _ in range(3):
                caller.client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": f"number {number}"}]
                )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorded = await traces()
    assert len(recorded) == 8
    for trace in recorded:
        root, *calls = trace.data.spans
        assert len(calls) == 3
        assert {answered.parent_id for answered in calls} == {root.span_id}
        words = {answered.inputs["messages"][0]["content"] for answered in calls}
        assert words == {root.name.replace("thread", "number")}
