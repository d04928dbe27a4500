"""Scripted replies and faults, as the real client meets them."""

from __future__ import annotations

import gzip
import logging
import threading
from typing import Any

import anyio
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.testing import FakeOpenAI, RecordedRequest, Reply, reply
from tracer.testing._transmit import Step, body_steps, wire_pieces
from tracer.testing._wire import DONE, Payload

MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def say(client: openai.OpenAI) -> str | None:
    return client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content


def stream_text(client: openai.OpenAI) -> str:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def post(server: FakeOpenAI, body: Any, path: str = "/chat/completions") -> httpx.Response:
    return httpx.post(server.base_url + path, json=body)


def test_replies_are_taken_in_order_then_the_default_model_answers(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("one"), reply.text("two"))
    assert server.unused == 2
    assert [say(client), say(client), say(client)] == ["one", "two", "You said: Hi"]
    assert server.unused == 0


def test_replies_for_a_path_go_before_those_for_all_and_to_no_other(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.script([reply.text("any")])
    server.script([reply.text("chat"), reply.text("chat again")], path="/v1/chat/completions")
    assert say(client) == "chat"
    assert client.responses.create(model="m", input="Hi").output_text == "any"
    assert client.responses.create(model="m", input="Hi").output_text == "You said: Hi"
    assert say(client) == "chat again"


def test_a_reply_may_be_made_from_the_request(server: FakeOpenAI, client: openai.OpenAI) -> None:
    def shout(request: RecordedRequest) -> Reply:
        return reply.text(request.json["messages"][0]["content"].upper())

    server.enqueue(shout)
    assert say(client) == "HI"


def test_default_replaces_the_small_model() -> None:
    with FakeOpenAI(default=reply.text("Same")) as server, server.client() as client:
        assert [say(client), say(client)] == ["Same", "Same"]


def test_a_scripted_reply_answers_on_any_path(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.json_body(200, {"object": "list", "data": [{"id": "m", "object": "model"}]}))
    assert [model.id for model in client.models.list()] == ["m"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_errors_reach_the_client_as_its_own(
    server: FakeOpenAI, client: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    server.enqueue(reply.error(status, "Because", code="some_code"))
    with pytest.raises(error, match="Because") as caught:
        say(client)
    assert caught.value.code == "some_code"
    assert caught.value.request_id


def test_the_sdk_retries_and_the_server_counts_the_attempts(server: FakeOpenAI) -> None:
    server.enqueue(reply.error(429), reply.error(503), reply.text("At last"))
    with server.client(max_retries=2) as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.retries_taken == 2
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1", "2"]


def test_headers_are_added_replaced_and_taken_away(server: FakeOpenAI) -> None:
    server.enqueue(reply.text("x").with_headers({"X-Request-ID": "req_mine", "openai-version": None, "x-new": "1"}))
    headers = post(server, {"model": "m", "messages": []}).headers
    assert (headers["x-request-id"], headers["x-new"], headers.get("openai-version")) == ("req_mine", "1", None)


def test_raw_bytes_arrive_as_they_are(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.raw(b"\x00\xffRIFF", "audio/wav"))
    spoken = client.audio.speech.create(model="tts", voice="alloy", input="Hi")
    assert spoken.content == b"\x00\xffRIFF"
    assert spoken.response.headers["content-type"] == "audio/wav"


def test_scripted_events_arrive_verbatim(server: FakeOpenAI) -> None:
    server.enqueue(reply.sse([b": comment\n\n", {"id": 1}, {"type": "x.y", "z": "é"}, "[DONE]"]))
    response = post(server, {})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (
        response.text == ': comment\n\ndata: {"id":1}\n\nevent: x.y\ndata: {"type":"x.y","z":"é"}\n\ndata: [DONE]\n\n'
    )


FAULTLESS: dict[str, Reply] = {
    "split into bytes": reply.text("Grüße 🌍").split(1),
    "split": reply.text("Grüße 🌍").split(7),
    "gzipped": reply.text("Grüße 🌍").gzipped(),
    "gzipped and split": reply.text("Grüße 🌍").gzipped().split(3),
    "delayed": reply.text("Grüße 🌍").delayed(0.001, between=0.001),
    "without done": reply.text("Grüße 🌍").without_done(),
}


@pytest.mark.parametrize("scripted", FAULTLESS.values(), ids=FAULTLESS)
def test_odd_transport_changes_nothing_for_the_client(
    server: FakeOpenAI, client: openai.OpenAI, scripted: Reply
) -> None:
    server.enqueue(scripted, scripted)
    assert say(client) == "Grüße 🌍"
    assert stream_text(client) == "Grüße 🌍"


def test_gzip_is_really_sent_and_each_event_can_be_read_when_it_comes(server: FakeOpenAI) -> None:
    server.enqueue(reply.text("one two three").gzipped().held(after_events=2))
    body = {"model": "m", "messages": [], "stream": True}
    with httpx.stream("POST", server.base_url + "/chat/completions", json=body) as response:
        assert response.headers["content-encoding"] == "gzip"
        arriving = response.iter_lines()
        assert '"content":"one"' in next(line for line in arriving if "one" in line)
        server.release()
        assert [line for line in arriving if line][-1] == "data: [DONE]"


def test_missing_done_is_missing_on_the_wire(server: FakeOpenAI) -> None:
    body = {"model": "m", "messages": [], "stream": True}
    server.enqueue(reply.text("x").without_done())
    assert "[DONE]" not in post(server, body).text
    assert post(server, body).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "scripted",
    [reply.text("x").cut(), reply.text("x").cut(after_events=0), reply.text("x").cut(after_bytes=20)],
    ids=["no response", "headers only", "part of the body"],
)
def test_a_cut_connection_is_a_protocol_error_and_nothing_is_logged(
    server: FakeOpenAI, client: openai.OpenAI, scripted: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server.enqueue(scripted)
    with pytest.raises(openai.APIConnectionError) as caught:
        say(client)
    assert type(caught.value.__cause__).__name__ == "RemoteProtocolError"
    assert [record for record in caplog.records if not record.name.startswith("tracer")] == []
    assert say(client) == "You said: Hi"


def test_a_stream_is_cut_after_the_events_it_may_send(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("one two three").cut(after_events=3))
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    said: list[str | None] = []
    with pytest.raises(openai.APIConnectionError):
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert said == ["", "one", " two"]


def test_a_chat_stream_may_end_in_an_error(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("one two").failing(after_events=2, message="Overloaded"))
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "one"]
    with pytest.raises(openai.APIError, match="Overloaded"):
        next(stream)


def test_a_responses_stream_may_end_in_an_error_event(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("one two").failing(after_events=5, code="rate_limit_exceeded"))
    *_, last = client.responses.create(model="m", input="Hi", stream=True)
    assert last.type == "error"
    assert (last.code, last.sequence_number) == ("rate_limit_exceeded", 5)


def test_a_held_reply_waits_for_its_release(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.held())
    said: list[str | None] = []
    caller = threading.Thread(target=lambda: said.append(say(client)))
    caller.start()
    server.wait_for_held()
    assert said == []
    server.release()
    caller.join()
    assert said == ["You said: Hi"]


def test_a_release_may_come_before_the_request(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.release()
    server.enqueue(reply.held())
    assert say(client) == "You said: Hi"


def test_a_held_stream_shows_what_came_before(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.text("one two").held(after_events=2))
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "one"]
    server.release()
    assert [chunk.choices[0].delta.content for chunk in stream] == [" two", None]


def test_a_client_that_goes_away_frees_the_held_reply(server: FakeOpenAI) -> None:
    server.enqueue(reply.held(), reply.held())
    with server.client(max_retries=0, timeout=0.05) as client:
        with pytest.raises(openai.APITimeoutError):
            say(client)
        server.wait_for_held(0)
        with client.with_options(timeout=10) as patient:
            server.release()
            assert say(patient) == "You said: Hi"


def test_clear_lets_held_replies_go_and_takes_unused_permits_back(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.held(), reply.text("unused"))
    caller = threading.Thread(target=lambda: say(client))
    caller.start()
    server.wait_for_held()
    server.clear()
    caller.join()
    assert (server.requests, server.unused) == ([], 0)
    server.release()
    server.clear()
    server.enqueue(reply.held())
    with server.client(max_retries=0, timeout=0.05) as hasty, pytest.raises(openai.APITimeoutError):
        say(hasty)


async def test_a_cancelled_call_leaves_the_server_working() -> None:
    async with FakeOpenAI() as server:
        client = server.async_client()
        server.enqueue(reply.held())
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.responses.create(model="m", input="Hi"))
            await server.async_wait_for_held()
            group.cancel_scope.cancel()
        assert (await client.responses.create(model="m", input="Hi")).output_text == "You said: Hi"


def test_waiting_in_vain_says_what_came(server: FakeOpenAI, client: openai.OpenAI) -> None:
    say(client)
    with pytest.raises(TimeoutError, match="2 requests; 1 requests came, 0 replies are held"):
        server.wait_for_requests(2, timeout=0.01)


def test_a_reply_function_that_raises_tells_the_caller_at_once(server: FakeOpenAI) -> None:
    def broken(request: RecordedRequest) -> Reply:
        raise LookupError("no such fixture")

    server.enqueue(broken)
    with server.client() as client, pytest.raises(openai.InternalServerError, match="LookupError: no such fixture"):
        say(client)
    assert len(server.requests) == 1


def test_split_needs_a_size() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        reply.text("x").split(0)


PIECES = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6)


@given(PIECES, st.none() | st.integers(1, 5), st.booleans())
def test_pieces_survive_splitting_and_compression(pieces: list[bytes], size: int | None, compressed: bool) -> None:
    sent = wire_pieces(Reply(compressed=compressed), Payload(tuple(pieces)), named=False)
    steps = list(body_steps(Reply(split_size=size), sent))
    assert all(isinstance(step, bytes) and len(step) <= (size or len(step)) for step in steps)
    body = b"".join(step for step in steps if isinstance(step, bytes))
    assert (gzip.decompress(body) if compressed else body) == b"".join(pieces)


@given(PIECES, st.integers(0, 60), st.none() | st.integers(1, 5))
def test_a_cut_after_bytes_sends_exactly_these(pieces: list[bytes], count: int, size: int | None) -> None:
    *sent, last = body_steps(Reply(cut_after=("bytes", count), split_size=size), pieces)
    assert last is Step.CUT
    assert b"".join(step for step in sent if isinstance(step, bytes)) == b"".join(pieces)[:count]


@given(PIECES, st.integers(0, 8), st.integers(1, 8))
def test_holds_and_cuts_lie_between_events(pieces: list[bytes], cut: int, hold: int) -> None:
    steps = list(body_steps(Reply(hold_after=hold, cut_after=("events", cut)), pieces))
    sent = [step for step in steps if isinstance(step, bytes)]
    assert sent == pieces[:cut]
    assert steps[-1] is Step.CUT
    assert (Step.HOLD in steps) == (min(hold, len(pieces)) < min(cut, len(pieces)))


def test_done_is_left_out_only_where_there_is_one() -> None:
    assert wire_pieces(Reply(done=False), Payload((b"x", DONE)), named=False) == [b"x"]
    assert wire_pieces(Reply(done=False), Payload((b"x",)), named=False) == [b"x"]
