"""Responses over a WebSocket (``client.responses.connect``), sync and async."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import tracer
from tests.openai.calling import finish, only_trace
from tests.openai.talking import Json, Talker, responses_of
from tests.sdk import requires_sdk
from tracer import _semconv as sc
from tracer.testing import FakeConnection, FakeWebSockets

pytestmark = requires_sdk("responses.connect")


@pytest.fixture(params=["sync", "asyncio"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def server() -> Iterator[FakeWebSockets]:
    with FakeWebSockets() as server:
        yield server


@pytest.fixture
async def talker(mode: str, server: FakeWebSockets) -> AsyncIterator[Talker]:
    tracer.autolog()
    talker = Talker(server, is_async=mode != "sync")
    yield talker
    await talker.aclose()


async def ask(talker: Talker, connection: Any, text: str, **options: Any) -> Any:
    await talker.settle(connection.response.create(**{"model": "gpt-5", "input": text, **options}))
    return (await talker.until(connection, "response.completed"))[-1].response


async def test_responses_are_recorded_as_over_http(talker: Talker) -> None:
    async with talker.entered(talker.client.responses.connect()) as connection:
        first = await ask(talker, connection, "Hi", temperature=0.5)
        await ask(talker, connection, "And?", previous_response_id=first.id)
    trace = await only_trace()
    session, one, two = trace.data.spans
    assert (trace.info.request_preview, trace.info.response_preview) == ("And?", "You said: And?")  # its latest
    name = f"{talker.prefix}Responses"
    assert [session.name, one.name, two.name] == [f"{name}.connect", f"{name}_1", f"{name}_2"]
    assert {one.parent_id, two.parent_id} == {session.span_id}
    assert one.inputs["input"] == "Hi"
    assert one.outputs["id"] == first.id
    assert one.outputs["output"][0]["content"][0]["text"] == "You said: Hi"
    assert one.attributes[sc.REQUEST_MODEL] == one.attributes[sc.RESPONSE_MODEL] == "gpt-5"
    assert one.attributes[sc.REQUEST_TEMPERATURE] == 0.5
    assert two.attributes[sc.PREVIOUS_RESPONSE_ID] == first.id
    assert one.token_usage is not None
    assert one.token_usage["total_tokens"] == 4
    assert [finish(span) for span in (session, one, two)] == ["completed"] * 3
    assert sum(event.name == sc.EVENT_CHUNK for event in one.events) > 5


async def test_tools_that_openai_ran_are_child_spans_with_times(talker: Talker) -> None:
    async with talker.entered(talker.client.responses.connect()) as connection:
        await ask(talker, connection, "Search the web for news", tools=[{"type": "web_search"}])
    _, response, search = (await only_trace()).data.spans
    assert (search.parent_id, search.name) == (response.span_id, "web_search")
    assert search.end_time_ns is not None
    assert response.end_time_ns is not None
    assert response.start_time_ns < search.start_time_ns <= search.end_time_ns < response.end_time_ns


async def test_requests_of_one_lane_are_answered_in_their_order(talker: Talker) -> None:
    async with talker.entered(talker.client.responses.connect()) as connection:
        for text in ("One", "Two", "Three"):
            await talker.settle(connection.response.create(model="gpt-5", input=text))
        for _ in range(3):
            await talker.until(connection, "response.completed")
    responses = responses_of((await only_trace()).data.spans)
    said = {span.inputs["input"]: span.outputs["output"][0]["content"][0]["text"] for span in responses}
    assert said == {text: f"You said: {text}" for text in ("One", "Two", "Three")}


def event(kind: str, lane: str, response: Json, **fields: Any) -> Json:
    return {"type": kind, "stream_id": lane, "sequence_number": 0, "response": response, **fields}


async def test_lanes_are_told_apart(talker: Talker, server: FakeWebSockets) -> None:
    async def play(connection: FakeConnection) -> None:
        lanes = [(await connection.receive())["stream_id"] for _ in range(2)]
        started: Json = {"object": "response", "status": "in_progress", "output": []}
        for lane in lanes:
            await connection.send(event("response.created", lane, {**started, "id": f"resp_{lane}"}))
        for lane in reversed(lanes):
            finished = {**started, "id": f"resp_{lane}", "status": "completed", "model": "gpt-5"}
            place = {"type": "response.output_text.delta", "stream_id": lane, "item_id": "m", "content_index": 0}
            await connection.send({**place, "output_index": 0, "delta": lane, "sequence_number": 1})
            await connection.send(event("response.completed", lane, finished))
        await connection.receive()

    server.enqueue(play)
    async with talker.entered(talker.client.responses.connect()) as connection:
        for lane in ("a", "b"):
            request = {"type": "response.create", "model": "gpt-5", "input": lane, "stream_id": lane}
            await talker.settle(connection.send(request))
        for _ in range(2):
            await talker.until(connection, "response.completed")
    first, second = responses_of((await only_trace()).data.spans)
    for span, lane in ((first, "a"), (second, "b")):
        assert (span.inputs["input"], span.outputs["id"]) == (lane, f"resp_{lane}")
        assert span.outputs["output"][0]["content"][0]["text"] == lane
        assert finish(span) == "completed"


async def test_error_fails_the_response_and_not_the_session(talker: Talker, server: FakeWebSockets) -> None:
    async def play(connection: FakeConnection) -> None:
        await connection.receive()
        error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "Not found"}
        await connection.send({"type": "error", "status": 400, "error": error})
        await connection.receive()

    server.enqueue(play)
    async with talker.entered(talker.client.responses.connect()) as connection:
        await talker.settle(connection.response.create(model="gpt-5", input="Hi", previous_response_id="resp_x"))
        await talker.until(connection, "error")
    session, response = (await only_trace()).data.spans
    assert (finish(session), finish(response)) == ("completed", "failed")
    assert response.status.description == "Not found"
    assert response.attributes[sc.ERROR_TYPE] == "previous_response_not_found"


async def test_response_that_follows_unasked_has_a_span(talker: Talker, server: FakeWebSockets) -> None:
    """A steered response ends incomplete, and the server goes on with another."""

    async def play(connection: FakeConnection) -> None:
        await connection.receive()
        for response_id, status in (("resp_1", "incomplete"), ("resp_2", "completed")):
            response = {"object": "response", "id": response_id, "status": "in_progress", "output": []}
            reason = {"incomplete_details": {"reason": "steered"}} if status == "incomplete" else {}
            await connection.send({"type": "response.created", "response": response})
            await connection.send({"type": f"response.{status}", "response": {**response, "status": status, **reason}})
        await connection.receive()

    server.enqueue(play)
    async with talker.entered(talker.client.responses.connect()) as connection:
        await ask(talker, connection, "Hi")
    first, second = responses_of((await only_trace()).data.spans)
    assert [finish(span) for span in (first, second)] == ["incomplete", "completed"]
    assert [span.outputs["id"] for span in (first, second)] == ["resp_1", "resp_2"]


async def test_managed_session_is_seen_though_it_writes_past_the_connection(talker: Talker) -> None:
    module = pytest.importorskip("openai.lib.responses_websocket", reason="openai 3.54 has sessions with lanes")
    limits = module.ResponsesWebSocketLimits(
        max_lanes=4, max_events_per_lane=1000, max_events=1000, max_bytes_per_lane=1 << 20, max_bytes=1 << 20
    )
    name = "AsyncResponsesWebSocketSession" if talker.is_async else "ResponsesWebSocketSession"
    async with (
        talker.entered(talker.client.responses.connect()) as connection,
        talker.entered(getattr(module, name)(connection, limits=limits)) as managed,
    ):
        lane = managed.lane("mine")
        await talker.settle(lane.send({"type": "response.create", "model": "gpt-5", "input": "Hi"}))
        final = await talker.settle(lane.get_final_response())
    session, response = (await only_trace()).data.spans
    assert response.parent_id == session.span_id
    assert response.inputs["stream_id"] == "mine"
    assert response.outputs["id"] == final.id
    assert (finish(session), finish(response)) == ("completed", "completed")


def test_sockets_are_traced_though_autolog_imports_none_of_their_modules() -> None:
    script = """
import sys, openai, tracer
from tracer.testing import FakeWebSockets
client_before = openai.OpenAI(api_key="sk-fake", base_url="http://x", websocket_base_url="http://x")
before = set(sys.modules)
tracer.set_tracking_uri("memory://")
tracer.autolog()
heavy = {"openai.resources.realtime.realtime", "openai.resources.responses.responses", "websockets"}
assert not heavy & (set(sys.modules) - before), heavy & (set(sys.modules) - before)
with FakeWebSockets() as server:
    client = server.client()
    with client.realtime.connect(model="m") as connection:
        connection.response.create()
        while connection.recv().type != "response.done": pass
    with client.responses.connect() as connection:
        connection.response.create(model="m", input="Hi")
        while connection.recv().type != "response.completed": pass
for trace in tracer.sync.search_traces():
    print(sorted(span.name for span in tracer.sync.get_trace(trace.info.trace_id).data.spans))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.splitlines()) == {"['Realtime', 'Realtime.connect']", "['Responses', 'Responses.connect']"}
