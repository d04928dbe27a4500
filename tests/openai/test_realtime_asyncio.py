"""Realtime sessions on an event loop: cancellation and concurrency."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import tracer
from tests.openai.calling import finish, only_trace
from tests.openai.talking import Talker, created, delta, done, responses_of, sending
from tests.sdk import requires_sdk
from tracer import _semconv as sc
from tracer.testing import FakeConnection, FakeWebSockets

pytestmark = requires_sdk("realtime.connect")


@pytest.fixture
def mode() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[FakeWebSockets]:
    with FakeWebSockets() as server:
        yield server


@pytest.fixture
async def talker(server: FakeWebSockets) -> AsyncIterator[Talker]:
    tracer.autolog()
    talker = Talker(server, is_async=True)
    yield talker
    await talker.aclose()


async def test_wait_that_is_cancelled_ends_nothing_and_loses_no_event(talker: Talker, server: FakeWebSockets) -> None:
    async def play(connection: FakeConnection) -> None:
        await connection.send(created())
        await connection.receive()
        await connection.send(delta("Hel"), done())
        await connection.receive()

    server.enqueue(play)
    async with talker.realtime() as connection:
        await connection.recv()
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.01)
        await connection.input_audio_buffer.clear()
        assert [event.type for event in await talker.until(connection, "response.done")] == [
            "response.output_text.delta",
            "response.done",
        ]
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("completed", "completed")
    assert session.attributes[sc.WEBSOCKET_EVENTS_RECEIVED] == 3


async def test_task_that_is_cancelled_in_its_session_cancels_it(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel")))
    begun = asyncio.Event()

    async def listen() -> None:
        async with talker.client.realtime.connect(model="gpt-realtime") as connection:
            async for event in connection:
                if event.type == "response.output_text.delta":
                    begun.set()

    task = asyncio.create_task(listen())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("cancelled", "cancelled")
    assert response.outputs["output"][0]["content"][0]["text"] == "Hel"


async def test_connecting_that_is_cancelled_is_a_cancelled_session(talker: Talker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes the connection, and says nothing
        port = listener.getsockname()[1]
        client = talker.client.with_options(websocket_base_url=f"ws://127.0.0.1:{port}/v1")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.realtime.connect(model="gpt-realtime").enter(), 0.1)
    [session] = (await only_trace()).data.spans
    assert finish(session) == "cancelled"


async def test_one_task_speaks_and_another_listens(talker: Talker) -> None:
    """Voice applications do this. The spans stay below the session, whichever task sees their events."""
    audio = base64.b64encode(bytes(4800)).decode()

    async def speak(connection: Any) -> None:
        for _ in range(3):
            for _ in range(20):
                await connection.input_audio_buffer.append(audio=audio)
            await connection.input_audio_buffer.commit()
            await connection.response.create()

    async def listen(connection: Any) -> None:
        for _ in range(3):
            await talker.until(connection, "response.done")

    async with talker.realtime() as connection:
        await asyncio.gather(speak(connection), listen(connection))
    session, *rest = (await only_trace()).data.spans
    responses = responses_of(rest)
    assert [finish(span) for span in (session, *responses)] == ["completed"] * 4
    assert {span.parent_id for span in responses} == {session.span_id}
    assert [span.attributes[sc.AUDIO_INPUT_BYTES] for span in responses] == [20 * 4800] * 3
    assert session.attributes[sc.AUDIO_INPUT_BYTES] == 60 * 4800


async def test_many_sessions_at_once_do_not_mix(talker: Talker) -> None:
    async def converse(name: str) -> None:
        with tracer.start_span(name):
            async with talker.realtime() as connection:
                for turn in range(3):
                    await talker.ask(connection, f"{name} {turn}")

    await asyncio.gather(*(converse(f"caller {n}") for n in range(8)))
    page = await tracer.search_traces()
    assert len(page) == 8
    for info in page:
        trace = await tracer.get_trace(info.info.trace_id)
        said = [span.outputs["output"][0]["content"][0]["transcript"] for span in responses_of(trace.data.spans)]
        assert said == [f"You said: {trace.data.spans[0].name} {turn}" for turn in range(3)]
