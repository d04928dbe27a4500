"""The fake OpenAI's WebSockets, used as a test of a user's would: the real client, no tracing."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from openai.resources.responses.responses import Responses
from openai.types.realtime import RealtimeServerEvent, ResponseDoneEvent

from tracer.testing import FakeConnection, FakeWebSockets


@pytest.fixture
def websockets() -> Iterator[FakeWebSockets]:
    with FakeWebSockets() as server:
        yield server


def until(connection: Any, kind: str) -> list[RealtimeServerEvent]:
    events: list[Any] = []
    while not events or events[-1].type != kind:
        events.append(connection.recv())
    return events


def test_small_model_speaks_and_counts(websockets: FakeWebSockets) -> None:
    with websockets.client().realtime.connect(model="gpt-realtime") as connection:
        content: Any = [{"type": "input_text", "text": "Good morning"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        connection.response.create()
        events = until(connection, "response.done")
    done = events[-1]
    assert isinstance(done, ResponseDoneEvent)
    assert done.response.output is not None
    assert done.response.usage is not None
    assert done.response.usage.total_tokens == 2 + 4
    deltas = [event for event in events if event.type == "response.output_audio_transcript.delta"]
    assert "".join(event.delta for event in deltas) == "You said: Good morning"
    audio = [event for event in events if event.type == "response.output_audio.delta"]
    assert all(base64.b64decode(event.delta) for event in audio)
    assert [event["type"] for event in websockets.events] == ["conversation.item.create", "response.create"]


def test_small_model_writes_where_text_is_wanted(websockets: FakeWebSockets) -> None:
    with websockets.client().realtime.connect(model="gpt-realtime") as connection:
        connection.response.create(response={"output_modalities": ["text"], "input": []})
        events = until(connection, "response.done")
    assert "response.output_text.delta" in {event.type for event in events}
    assert "response.output_audio.delta" not in {event.type for event in events}


@pytest.mark.skipif(not hasattr(Responses, "connect"), reason="this openai has none")
def test_responses_remember_what_was_said(websockets: FakeWebSockets) -> None:
    weather: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    with websockets.client().responses.connect() as connection:
        connection.response.create(model="gpt-5", input="The weather?", tools=[weather])
        first: Any = until(connection, "response.completed")[-1]
        [call] = first.response.output
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rainy"}
        connection.response.create(
            model="gpt-5", input=[output], previous_response_id=first.response.id, tools=[weather]
        )
        second: Any = until(connection, "response.completed")[-1]
    assert call.name == "get_weather"
    assert second.response.output_text == "According to get_weather: rainy."


def test_scripted_sessions_play_in_turn_and_then_the_model_again(websockets: FakeWebSockets) -> None:
    async def play(connection: FakeConnection) -> None:
        assert (connection.path, connection.query) == ("/v1/realtime", {"model": "m"})
        await connection.send({"type": "session.created", "session": {"id": "scripted"}})

    websockets.enqueue(play)
    client = websockets.client()
    for expected in ("scripted", "sess_000000000001"):
        with client.realtime.connect(model="m") as connection:
            created: Any = connection.recv()
            assert created.session.id == expected
    assert websockets.connections == 2


def test_handshake_can_be_refused(websockets: FakeWebSockets) -> None:
    from websockets.exceptions import InvalidStatus

    websockets.refuse(429)
    manager = websockets.client().realtime.connect(model="m")
    with pytest.raises(InvalidStatus, match="429"):
        manager.enter()


def test_what_never_came_is_told(websockets: FakeWebSockets) -> None:
    with pytest.raises(TimeoutError, match=r"waited 0\.01 s for 1 events; 0 came"):
        websockets.wait_for_events(timeout=0.01)


def test_server_can_be_started_once() -> None:
    with FakeWebSockets() as server, pytest.raises(RuntimeError, match="already running"):
        server.start()
