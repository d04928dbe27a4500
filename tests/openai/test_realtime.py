"""Realtime sessions over a real WebSocket: what is recorded of them, sync and async."""

from __future__ import annotations

import base64
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tracer
from tests.openai.calling import collect, finish, only_trace, traces
from tests.openai.talking import Json, Talker, created, delta, done, responses_of, sending, sessions_of
from tests.reading import stored_bytes, stored_rows
from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError
from tracer.openai import _websocket_session
from tracer.pipeline.throttle import Throttle
from tracer.spans import guard
from tracer.testing import FakeConnection, FakeWebSockets
from tracer.testing._answer import deltas
from tracer.testing._realtime import BYTES_PER_WORD

REALTIME = "openai.resources.realtime.realtime"
RealtimeConnection = pytest.importorskip(REALTIME, reason="this openai has no realtime").RealtimeConnection

needs_handlers = pytest.mark.skipif(
    not hasattr(RealtimeConnection, "on"), reason="this openai neither reconnects nor has handlers"
)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(params=["sync", "asyncio"])
def mode(request: pytest.FixtureRequest) -> Any:
    """Which client a test uses; the websockets package knows asyncio only."""
    return request.param


@pytest.fixture(scope="module")
def websockets() -> Iterator[FakeWebSockets]:
    with FakeWebSockets() as server:
        yield server


@pytest.fixture
def server(websockets: FakeWebSockets) -> FakeWebSockets:
    websockets.clear()
    return websockets


@pytest.fixture
async def talker(mode: str, server: FakeWebSockets) -> AsyncIterator[Talker]:
    tracer.autolog()
    talker = Talker(server, is_async=mode != "sync")
    yield talker
    await talker.aclose()


# --- what a session is ----------------------------------------------------------------------------------------------


async def test_session_is_a_span_and_each_response_a_child(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.ask(connection, "Hi")
        await talker.ask(connection, "And again")
    trace = await only_trace()
    session, first, second = trace.data.spans
    assert session.name == f"{talker.prefix}Realtime.connect"
    assert session.parent_id is None
    assert [span.name for span in (first, second)] == [f"{talker.prefix}Realtime_1", f"{talker.prefix}Realtime_2"]
    assert {first.parent_id, second.parent_id} == {session.span_id}
    assert [finish(span) for span in trace.data.spans] == ["completed"] * 3
    assert session.start_time_ns <= first.start_time_ns <= second.start_time_ns
    assert second.end_time_ns is not None
    assert session.end_time_ns is not None
    assert second.end_time_ns <= session.end_time_ns


async def test_session_says_where_it_went_and_how_it_was_set_up(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.settle(connection.session.update(session={"type": "realtime", "instructions": "Be kind"}))
        await talker.until(connection, "session.updated")
    [session] = (await only_trace()).data.spans
    assert session.inputs == {"model": "gpt-realtime"}
    assert session.outputs["session"]["instructions"] == "Be kind"
    expected = {
        sc.REQUEST_MODEL: "gpt-realtime",
        sc.PROVIDER_NAME: "openai",
        sc.SERVER_ADDRESS: "127.0.0.1",
        sc.HTTP_STATUS_CODE: 101,
        sc.WEBSOCKET_SESSION_ID: session.outputs["session"]["id"],
        sc.WEBSOCKET_EVENTS_SENT: 1,
        sc.WEBSOCKET_EVENTS_RECEIVED: 2,
    }
    assert {key: session.attributes.get(key) for key in expected} == expected
    assert isinstance(session.attributes[sc.SERVER_PORT], int)


async def test_response_has_usage_model_and_transcript(talker: Talker) -> None:
    async with talker.realtime() as connection:
        *_, last = await talker.ask(connection, "Hi there")
    trace = await only_trace()
    [response] = responses_of(trace.data.spans)
    assert response.outputs["output"][0]["content"] == [{"type": "output_audio", "transcript": "You said: Hi there"}]
    assert response.outputs["id"] == last.response.id == response.attributes[sc.RESPONSE_ID]
    assert response.token_usage is not None
    usage = response.token_usage
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (2, 4, 6)
    assert usage["output_audio_tokens"] == 4
    assert response.attributes[sc.REQUEST_MODEL] == "gpt-realtime"
    assert response.attributes[sc.OPERATION_NAME] == "chat"
    assert trace.info.token_usage is not None
    assert trace.info.token_usage["total_tokens"] == 6  # once, though the session saw it too


async def test_input_of_a_response_is_what_was_said_since_the_last_one(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.ask(connection, "First", response={"instructions": "Be brief", "max_output_tokens": 7})
        await talker.ask(connection, "Second")
    first, second = responses_of((await only_trace()).data.spans)
    assert first.inputs["instructions"] == "Be brief"
    assert first.attributes[sc.REQUEST_MAX_TOKENS] == 7
    assert [item["content"][0]["text"] for item in first.inputs["input"]] == ["First"]
    assert [item["content"][0]["text"] for item in second.inputs["input"]] == ["Second"]


async def test_text_stream_keeps_each_event_with_its_time(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel"), delta("lo"), done(text="Hello")))
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
    [response] = responses_of((await only_trace()).data.spans)
    chunks = [event for event in response.events if event.name == sc.EVENT_CHUNK]
    assert len(chunks) == 4
    assert [event.timestamp_ns for event in chunks] == sorted(event.timestamp_ns for event in chunks)
    assert 0 <= response.attributes[sc.TIME_TO_FIRST_CHUNK] <= response.attributes[sc.TIME_TO_FIRST_TOKEN]


async def test_tool_call_of_the_model_and_tool_span_of_the_user_are_there(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.settle(connection.session.update(session={"type": "realtime", "tools": [WEATHER]}))
        *_, last = await talker.ask(connection, "The weather in Paris?")
        [call] = last.response.output
        with tracer.start_span("get_weather", tracer.SpanType.TOOL) as span:
            span.set_outputs("rainy")
        await talker.settle(
            connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call.call_id, "output": "rainy"}
            )
        )
        await talker.settle(connection.response.create())
        await talker.until(connection, "response.done")
    spans = (await only_trace()).data.spans
    session, first, tool, second = spans
    assert first.attributes[sc.TOOL_CALLS] == [
        {"id": call.call_id, "name": "get_weather", "arguments": '{"city":"Paris"}'}
    ]
    assert tool.parent_id == session.span_id  # the block of `with` is the session's
    assert second.inputs["input"] == [{"type": "function_call_output", "call_id": call.call_id, "output": "rainy"}]
    assert "rainy" in second.outputs["output"][0]["content"][0]["transcript"]


async def test_session_nests_below_the_span_around_it_and_leaves_it_current(talker: Talker) -> None:
    with tracer.start_span("around") as around:
        async with talker.realtime() as connection:
            await talker.ask(connection, "Hi")
        assert tracer.get_current_active_span() is around
    by_name = {span.name: span for span in (await only_trace()).data.spans}
    assert by_name[f"{talker.prefix}Realtime.connect"].parent_id == around.span_id


async def test_connection_without_a_with_is_not_current_and_ends_when_it_is_closed(talker: Talker) -> None:
    connection = await talker.settle(talker.client.realtime.connect(model="gpt-realtime").enter())
    assert tracer.get_current_active_span() is None
    await talker.ask(connection, "Hi")
    await talker.settle(connection.close())
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("completed", "completed")
    assert response.parent_id == session.span_id


async def test_session_in_a_generator_is_not_made_current_for_its_reader(talker: Talker) -> None:
    async def events() -> AsyncIterator[Any]:
        if talker.is_async:
            async with talker.client.realtime.connect(model="gpt-realtime") as connection:
                yield await connection.recv()
        else:
            with talker.client.realtime.connect(model="gpt-realtime") as connection:
                yield connection.recv()

    reading = events()
    await anext(reading)
    assert tracer.get_current_active_span() is None
    await reading.aclose()  # type: ignore[attr-defined]
    [session] = (await only_trace()).data.spans
    assert finish(session) == "abandoned"


# --- audio ----------------------------------------------------------------------------------------------------------

SPEECH = bytes(range(256)) * 20
PACKED = base64.b64encode(SPEECH).decode()


async def speak(talker: Talker, connection: Any) -> list[Any]:
    await talker.settle(connection.input_audio_buffer.append(audio=PACKED))
    await talker.settle(connection.input_audio_buffer.append(audio=PACKED))
    await talker.settle(connection.input_audio_buffer.commit())
    await talker.settle(connection.response.create())
    return await talker.until(connection, "response.done")


async def test_audio_is_counted_and_not_stored(talker: Talker, tmp_path: Path) -> None:
    async with talker.realtime() as connection:
        await speak(talker, connection)
    session, response = (await only_trace()).data.spans
    words = len(deltas(response.outputs["output"][0]["content"][0]["transcript"]))
    assert session.attributes[sc.AUDIO_INPUT_BYTES] == response.attributes[sc.AUDIO_INPUT_BYTES] == 2 * len(SPEECH)
    assert session.attributes[sc.AUDIO_OUTPUT_BYTES] == words * BYTES_PER_WORD
    assert response.attributes[sc.AUDIO_OUTPUT_BYTES] == words * BYTES_PER_WORD
    assert response.attributes[sc.TIME_TO_FIRST_AUDIO] >= 0
    assert response.inputs["input"] == [{"type": "message", "role": "user", "content": [{"type": "input_audio"}]}]
    assert "truncated" not in str(session.attributes)
    rows = stored_rows(tmp_path)
    assert PACKED[:100] not in rows
    assert base64.b64encode(b"\0\1" * 20).decode()[:50] not in rows


async def test_audio_in_an_item_is_replaced_by_its_size(talker: Talker, tmp_path: Path) -> None:
    content = [{"type": "input_audio", "audio": PACKED, "transcript": "Hi"}]
    async with talker.realtime() as connection:
        item: Any = {"type": "message", "role": "user", "content": content}
        await talker.settle(connection.conversation.item.create(item=item))
        await talker.settle(connection.response.create())
        await talker.until(connection, "response.done")
    [response] = responses_of((await only_trace()).data.spans)
    [part] = response.inputs["input"][0]["content"]
    assert part == {"type": "input_audio", "audio": f"[{len(SPEECH)} bytes of audio]", "transcript": "Hi"}
    assert PACKED[:100] not in stored_rows(tmp_path)


async def test_audio_is_stored_on_request(talker: Talker) -> None:
    tracer.openai.autolog(capture_audio=True)
    async with talker.realtime() as connection:
        await speak(talker, connection)
    trace = await only_trace()
    session, response = trace.data.spans
    [part] = response.outputs["output"][0]["content"]
    words = len(deltas(part["transcript"]))
    assert (await trace.media(part["audio"])).data == b"\0\1" * (BYTES_PER_WORD // 2 * words)
    chunks: list[Any] = [event.attributes["data"] for event in session.events]
    sent = [chunk["audio"] for chunk in chunks if chunk["type"] == "input_audio_buffer.append"]
    assert [(await trace.media(audio)).data for audio in sent] == [SPEECH, SPEECH]


async def test_no_audio_is_stored_without_content(talker: Talker, tmp_path: Path) -> None:
    tracer.openai.autolog(capture_audio=True, capture_content=False)
    async with talker.realtime() as connection:
        await talker.say(connection, "A secret")
        await speak(talker, connection)
    session, response = (await only_trace()).data.spans
    assert response.attributes[sc.AUDIO_INPUT_BYTES] == 2 * len(SPEECH)
    assert response.token_usage is not None
    assert session.attributes[sc.REQUEST_MODEL] == "gpt-realtime"
    rows = stored_rows(tmp_path)
    assert PACKED[:100] not in rows
    assert "secret" not in rows
    assert "You said" not in rows


def test_capture_audio_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="capture_audio must be True or False, got 'yes'"):
        tracer.openai.autolog(capture_audio="yes")  # type: ignore[arg-type]


# --- responses that nobody asked for, several at a time -------------------------------------------------------------


def committed(item_id: str) -> Json:
    return {"type": "input_audio_buffer.committed", "event_id": "event_x", "item_id": item_id}


def transcribed(item_id: str, transcript: str) -> Json:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "event_id": "event_t", "item_id": item_id, "content_index": 0, "transcript": transcript}


async def test_response_that_the_server_began_has_what_was_heard_as_input(
    talker: Talker, server: FakeWebSockets
) -> None:
    server.enqueue(
        sending(
            *(committed("item_a"), transcribed("item_a", "What time is it?"), created("resp_1"), done("resp_1")),
            *(committed("item_b"), created("resp_2"), transcribed("item_b", "Thanks"), done("resp_2")),
        )
    )
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
        await talker.until(connection, "response.done")
    session, first, second = (await only_trace()).data.spans
    [heard] = first.inputs["input"]
    assert heard["content"] == [{"type": "input_audio", "transcript": "What time is it?"}]
    assert second.inputs["input"][0]["id"] == "item_b"
    assert second.attributes[sc.INPUT_TRANSCRIPT] == "Thanks"  # it came while the answer was under way
    assert [item["content"][0]["transcript"] for item in session.outputs["input"]] == ["What time is it?", "Thanks"]


async def test_responses_that_run_at_the_same_time_are_told_apart(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(
        sending(
            *(created("resp_1"), created("resp_2"), delta("one", "resp_1"), delta("two", "resp_2")),
            *(done("resp_2", "two"), done("resp_1", "one")),
        )
    )
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
        await talker.until(connection, "response.done")
    responses = responses_of((await only_trace()).data.spans)
    assert [span.outputs["id"] for span in responses] == ["resp_1", "resp_2"]
    assert [len(span.events) for span in responses] == [3, 3]


@pytest.mark.parametrize(
    ("status", "details", "finished", "code"),
    [
        ("cancelled", {"reason": "turn_detected"}, "incomplete", "OK"),
        ("cancelled", {"reason": "client_cancelled"}, "cancelled", "ERROR"),
        ("incomplete", {"reason": "max_output_tokens"}, "incomplete", "OK"),
        ("failed", {"error": {"type": "server_error", "code": "oops", "message": "It broke"}}, "failed", "ERROR"),
    ],
)
async def test_response_ends_as_it_says(
    status: str, details: Json, finished: str, code: str, talker: Talker, server: FakeWebSockets
) -> None:
    server.enqueue(sending(created(), delta("Hel"), done(status=status, status_details=details)))
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
    session, response = (await only_trace()).data.spans
    assert finish(response) == finished
    assert str(response.status) == code
    assert finish(session) == "completed"
    if status == "failed":
        assert response.status.description == "It broke"
        assert response.attributes[sc.ERROR_TYPE] == "oops"


async def test_error_about_a_request_fails_the_response_that_it_asked_for(
    talker: Talker, server: FakeWebSockets
) -> None:
    async def play(connection: FakeConnection) -> None:
        await connection.receive("response.create")
        event = await connection.receive("response.create")
        error = {"type": "invalid_request_error", "code": "bad", "message": "No", "event_id": event["event_id"]}
        await connection.send({"type": "error", "event_id": "event_1", "error": error}, created(), done())
        await connection.receive()

    server.enqueue(play)
    async with talker.realtime() as connection:
        await talker.settle(connection.response.create(event_id="mine_1"))
        await talker.settle(connection.response.create(event_id="mine_2"))
        await talker.until(connection, "response.done")
    session, first, second = (await only_trace()).data.spans
    assert [finish(span) for span in (session, first, second)] == ["completed", "completed", "failed"]
    assert second.status.description == "No"


async def test_error_of_the_session_is_kept_and_ends_nothing(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.settle(connection.send({"type": "nonsense", "event_id": "mine"}))
        [_, error] = await talker.until(connection, "error")
        await talker.ask(connection, "Hi")
    session, response = (await only_trace()).data.spans
    assert [each["event_id"] for each in session.outputs["errors"]] == [error.error.event_id] == ["mine"]
    assert (finish(session), finish(response)) == ("completed", "completed")


# --- how sessions end -----------------------------------------------------------------------------------------------


async def test_response_that_runs_when_the_block_is_left_is_abandoned(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel"), delta("lo")))
    async with talker.realtime() as connection:
        for _ in range(3):
            await talker.settle(connection.recv())
    session, response = (await only_trace()).data.spans
    assert finish(session) == "completed"
    assert finish(response) == "abandoned"
    assert response.outputs["output"][0]["content"] == [{"type": "output_text", "text": "Hello"}]
    assert str(response.status) == "OK"


async def test_exception_that_leaves_the_block_fails_the_session_and_goes_on(
    talker: Talker, server: FakeWebSockets
) -> None:
    server.enqueue(sending(created()))
    mine = RuntimeError("mine")
    with pytest.raises(RuntimeError) as caught:  # noqa: PT012  # it leaves the block
        async with talker.realtime() as connection:
            await talker.settle(connection.recv())
            raise mine
    assert caught.value is mine
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("failed", "abandoned")
    assert session.status.description == "RuntimeError: mine"


async def test_line_that_is_cut_fails_session_and_response(talker: Talker, server: FakeWebSockets) -> None:
    from websockets.exceptions import ConnectionClosedError

    server.enqueue(sending(created(), delta("Hel"), then_close=1006))
    with pytest.raises(ConnectionClosedError):
        async with talker.realtime() as connection:
            await talker.until(connection, "response.done")
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("failed", "failed")
    assert session.attributes[sc.ERROR_TYPE] == "ConnectionClosedError"
    assert session.attributes[sc.WEBSOCKET_CLOSE_CODE] == 1006
    assert response.outputs["output"][0]["content"][0]["text"] == "Hel"


async def test_server_that_closes_in_good_order_ends_the_session(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel"), then_close=1000))
    async with talker.realtime() as connection:
        events = await talker.items(connection)
    assert [event.type for event in events] == ["response.created", "response.output_text.delta"]
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("completed", "incomplete")
    assert session.attributes[sc.WEBSOCKET_CLOSE_CODE] == 1000
    assert session.attributes[sc.WEBSOCKET_CLOSE_REASON] == "enough"


async def test_connection_that_fails_is_a_failed_session(talker: Talker) -> None:
    client = talker.client.with_options(websocket_base_url="ws://127.0.0.1:9/v1")
    with pytest.raises(ConnectionRefusedError if not talker.is_async else OSError, match="onnect"):
        async with talker.entered(client.realtime.connect(model="gpt-realtime")):
            raise AssertionError("connected to nothing")
    [session] = (await only_trace()).data.spans
    assert finish(session) == "failed"
    assert session.inputs == {"model": "gpt-realtime"}
    assert tracer.get_current_active_span() is None


async def test_handshake_that_is_refused_tells_the_status(talker: Talker, server: FakeWebSockets) -> None:
    from websockets.exceptions import InvalidStatus

    server.refuse(401)
    with pytest.raises(InvalidStatus):
        async with talker.realtime():
            raise AssertionError("was let in")
    [session] = (await only_trace()).data.spans
    assert (finish(session), session.attributes[sc.HTTP_STATUS_CODE]) == ("failed", 401)


async def test_connection_that_is_dropped_is_abandoned(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel")))
    connection = await talker.settle(talker.client.realtime.connect(model="gpt-realtime").enter())
    await talker.until(connection, "response.output_text.delta")
    websocket = connection._connection
    del connection
    gc.collect()
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("abandoned", "abandoned")
    assert not {"recv", "send"} & set(vars(websocket))
    await talker.settle(websocket.close())


@needs_handlers
async def test_lost_connection_that_is_made_again_is_one_session(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created("resp_1"), delta("Hel", "resp_1"), then_close=1006))
    server.enqueue(sending(created("resp_2"), done("resp_2"), then_close=1000))
    events: list[Any] = []
    options: Json = {"on_reconnecting": lambda event: None, "initial_delay": 0.01, "max_delay": 0.01}
    async with talker.realtime(**options) as connection:
        while not events or events[-1].type != "response.done":
            # `recv` does not reconnect, iteration does.
            events.append(await anext(aiter(connection)) if talker.is_async else next(iter(connection)))
    assert [event.type for event in events] == [
        "response.created",
        "response.output_text.delta",
        "response.created",
        "response.done",
    ]
    session, first, second = (await only_trace()).data.spans
    assert session.attributes[sc.WEBSOCKET_RECONNECTS] == 1
    assert [event.name for event in session.events].count(sc.EVENT_RECONNECT) == 1
    assert [finish(span) for span in (session, first, second)] == ["completed", "failed", "completed"]


@needs_handlers
async def test_connection_that_cannot_be_made_again_fails_the_session(talker: Talker, server: FakeWebSockets) -> None:
    from websockets.exceptions import ConnectionClosedError

    server.enqueue(sending(created(), then_close=1006))
    options: Json = {"on_reconnecting": lambda event: {"abort": True}}
    with pytest.raises(ConnectionClosedError):
        async with talker.realtime(**options) as connection:
            await talker.items(connection)
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("failed", "failed")


# --- bounds, harmlessness -------------------------------------------------------------------------------------------


async def test_events_of_a_long_session_are_counted_beyond_its_room(
    talker: Talker, server: FakeWebSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_websocket_session, "SESSION_ROOM", 1000)
    limits = [{"type": "rate_limits.updated", "event_id": f"event_{n}", "rate_limits": []} for n in range(50)]
    server.enqueue(sending(*limits, created(), done()))
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
    trace = await only_trace()
    session, response = trace.data.spans
    assert 0 < len(session.events) < 50
    assert session.attributes[sc.WEBSOCKET_EVENTS_RECEIVED] == 52
    assert session.attributes[sc.TRUNCATED]["chunks"] > 0
    assert trace.info.dropped["chunks"] == 50 - len(session.events)
    assert finish(response) == "completed"
    assert len(response.events) == 2


async def test_long_response_keeps_its_end(talker: Talker, server: FakeWebSockets) -> None:
    tracer.configure(max_payload_bytes=4096)
    server.enqueue(sending(created(), *[delta("x" * 100) for _ in range(100)], done(text="the end")))
    async with talker.realtime() as connection:
        await talker.until(connection, "response.done")
    [response] = responses_of((await only_trace()).data.spans)
    assert finish(response) == "completed"
    assert response.outputs["output"][0]["content"][0]["text"] == "the end"
    assert response.attributes[sc.TRUNCATED]["chunks"] > 0


async def test_broken_events_pass_and_are_kept(talker: Talker, server: FakeWebSockets) -> None:
    odd = [b"", b"\xff\xfe", b"[1, 2]", b"nonsense", b'{"type": 7}', b'{"type": "response.created", "response": []}']

    async def play(connection: FakeConnection) -> None:
        await connection.send(*odd, created(), done())
        await connection.receive()

    server.enqueue(play)
    async with talker.realtime() as connection:
        got = [await talker.settle(connection.recv_bytes()) for _ in odd]
        await talker.until(connection, "response.done")
    assert got == odd
    session, response = (await only_trace()).data.spans
    assert session.attributes[sc.WEBSOCKET_EVENTS_RECEIVED] == len(odd) + 2
    assert finish(response) == "completed"


async def test_events_and_requests_are_the_same_traced_and_untraced(talker: Talker, server: FakeWebSockets) -> None:
    script = [created(), {**delta("é\u2028"), "unknown": [None, 1.5]}, done()]

    async def converse() -> tuple[list[bytes], list[Json]]:
        async def play(connection: FakeConnection) -> None:
            for _ in range(3):
                await connection.receive()
            await connection.send(*script)
            await connection.receive()

        server.clear()
        server.enqueue(play)
        async with talker.realtime() as connection:
            await talker.settle(connection.input_audio_buffer.append(audio=PACKED))
            await talker.say(connection, "é")
            await talker.settle(connection.response.create(response={"temperature": 0.5}))
            got = [await talker.settle(connection.recv_bytes()) for _ in script]
            assert [type(data) for data in got] == [bytes] * 3
        return got, server.events

    traced = await converse()
    tracer.autolog(disable=True)
    assert traced == await converse()
    assert len(await traces()) == 1


@needs_handlers
async def test_handlers_get_their_events(talker: Talker, server: FakeWebSockets) -> None:
    server.enqueue(sending(created(), delta("Hel"), done(), then_close=1000))
    seen: list[str] = []
    async with talker.realtime() as connection:
        connection.on("response.output_text.delta", lambda event: seen.append(event.delta))
        connection.on("event", lambda event: seen.append(event.type))
        await talker.settle(connection.dispatch_events())
    assert seen == ["response.created", "Hel", "response.output_text.delta", "response.done"]
    assert finish(responses_of((await only_trace()).data.spans)[0]) == "completed"


async def test_failing_tracer_harms_no_session(
    talker: Talker, monkeypatch: pytest.MonkeyPatch, tracer_log: list[Any]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(guard, "_throttle", Throttle())
    monkeypatch.setattr(_websocket_session, "read_head", fail)
    async with talker.realtime() as connection:
        *_, last = await talker.ask(connection, "Hi")
    assert last.response.status == "completed"
    assert {record.levelname for record in tracer_log} == {"ERROR"}
    tracer_log.clear()


async def test_session_that_is_open_when_tracing_stops_is_recorded_to_its_end(talker: Talker) -> None:
    async with talker.realtime() as connection:
        tracer.autolog(disable=True)
        await talker.ask(connection, "Hi")
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("completed", "completed")


async def test_classes_are_as_they_were_after_disabling(talker: Talker) -> None:
    from openai.resources.realtime import realtime

    names = [name for name in vars(realtime) if "Connection" in name and "Resource" not in name]
    methods = ("__init__", "__enter__", "__aenter__", "enter", "__exit__", "__aexit__", "close")

    def state() -> dict[str, Any]:
        return {
            f"{name}.{method}": vars(base).get(method)
            for name in names
            if isinstance(cls := getattr(realtime, name), type)
            for base in cls.__mro__[:-1]
            for method in methods
        }

    tracer.autolog(disable=True)
    before = state()
    tracer.autolog()
    assert state() != before
    tracer.autolog()
    tracer.autolog(disable=True)
    assert state() == before


async def test_key_is_nowhere_in_the_database(talker: Talker, tmp_path: Path) -> None:
    client = talker.client.with_options(api_key="sk-sentinel-4711")
    async with talker.entered(client.realtime.connect(model="gpt-realtime")) as connection:
        await talker.ask(connection, "Hi")
    await only_trace()
    assert b"sk-sentinel" not in stored_bytes(tmp_path)
    assert "sk-sentinel" not in stored_rows(tmp_path)


async def test_beta_client_is_traced_as_well(talker: Talker, server: FakeWebSockets) -> None:
    beta = getattr(talker.client.beta, "realtime", None)
    if beta is None:
        pytest.skip("this version of openai has no beta.realtime")
    from openai.resources.beta.realtime.realtime import AsyncRealtime, Realtime

    spoken = {"type": "response.audio_transcript.delta", "response_id": "resp_1", "item_id": "item_1"}
    sound = {"type": "response.audio.delta", "response_id": "resp_1", "item_id": "item_1", "delta": PACKED}
    place = {"output_index": 0, "content_index": 0, "event_id": "event_1"}
    server.enqueue(sending(created(), {**spoken, **place, "delta": "Hel"}, {**sound, **place}))
    assert isinstance(beta, (Realtime, AsyncRealtime))
    async with talker.entered(beta.connect(model="gpt-4o-realtime-preview")) as connection:
        await talker.until(connection, "response.audio.delta")
    session, response = (await only_trace()).data.spans
    assert session.name == f"{talker.prefix}Realtime.connect"
    assert response.outputs["output"][0]["content"] == [{"type": "audio", "transcript": "Hel"}]
    assert response.attributes[sc.AUDIO_OUTPUT_BYTES] == len(SPEECH)


async def test_sessions_of_two_connections_do_not_mix(talker: Talker) -> None:
    async with talker.realtime() as one, talker.realtime() as two:
        await talker.say(one, "One")
        await talker.ask(two, "Two")
        await talker.settle(one.response.create())
        await talker.until(one, "response.done")
    spans = (await only_trace()).data.spans
    outer, inner = sessions_of(spans)
    assert inner.parent_id == outer.span_id  # opened in its block
    first, second = responses_of(spans)
    assert (first.parent_id, second.parent_id) == (inner.span_id, outer.span_id)
    assert second.outputs["output"][0]["content"][0]["transcript"] == "You said: One"


async def test_session_leaves_nothing_behind(talker: Talker) -> None:
    async with talker.realtime() as connection:
        await talker.ask(connection, "Hi")
        left = weakref.ref(vars(connection)["_tracer_session"])
        websocket = connection._connection
    assert not {"recv", "send"} & set(vars(websocket))
    del connection, websocket
    await collect()
    assert left() is None


async def test_session_left_out_by_sampling_is_not_looked_at(talker: Talker) -> None:
    tracer.configure(sample_rate=0)
    async with talker.realtime() as connection:
        await talker.ask(connection, "Hi")
    assert await traces() == []
    assert tracer.stats().accepted == 0


@pytest.mark.parametrize("resource", ["translations", "live"])
async def test_session_without_responses_has_transcripts_and_counts(
    resource: str, talker: Talker, server: FakeWebSockets
) -> None:
    owner = talker.client.realtime if resource == "translations" else talker.client
    if not hasattr(owner, resource):
        pytest.skip(f"this version of openai has no {resource}")
    server.enqueue(
        sending(
            {
                "type": "session.created",
                "event_id": "e",
                "session": {"id": "sess_1", "model": "gpt-realtime-translate"},
            },
            {"type": "session.input_transcript.delta", "event_id": "e", "delta": "Guten "},
            {"type": "session.input_transcript.delta", "event_id": "e", "delta": "Tag"},
            {"type": "session.output_audio.delta", "event_id": "e", "delta": PACKED},
            {"type": "session.output_transcript.delta", "event_id": "e", "delta": "Good day"},
            then_close=1000,
        )
    )
    options: Json = {"model": "gpt-realtime-translate"} if resource == "translations" else {}
    async with talker.entered(getattr(owner, resource).connect(**options)) as connection:
        events = await talker.items(connection)
    assert len(events) == 5
    [session] = (await only_trace()).data.spans
    assert session.name == f"{talker.prefix}{resource.title()}.connect"
    assert (session.outputs["input_transcript"], session.outputs["output_transcript"]) == ("Guten Tag", "Good day")
    assert session.attributes[sc.AUDIO_OUTPUT_BYTES] == len(SPEECH)
    assert finish(session) == "completed"
