"""How plain calls end: the word, the status, and the caller's exception, which is the same as without tracer."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
from pydantic import BaseModel

import tracer
from tests.openai.calling import CHAT, Caller, finish, only_span, only_trace, said, traces
from tests.sdk import httpx2, requires_sdk
from tracer import _semconv as sc
from tracer.testing import FakeOpenAI, reply


class City(BaseModel):
    inhabitants: int


def tail(error: BaseException) -> list[tuple[str, str]]:
    """The frames of an exception below the SDK's ``request``, without line numbers, and without ours."""
    frames = [(frame.filename, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    return [frame for frame in frames if "/tests/" not in frame[0] and "/tracer/openai/" not in frame[0]]


def described(error: BaseException) -> dict[str, Any]:
    public = {"status_code", "code", "param", "type", "body"}
    return {
        "type": type(error),
        "message": str(error),
        "attributes": {name: value for name, value in vars(error).items() if name in public},
        "names": set(vars(error)),
        "cause": type(error.__cause__),
        "context": type(error.__context__),
        "suppressed": error.__suppress_context__,
        "tail": tail(error),
    }


def script_error(status: int) -> Callable[[Caller], dict[str, Any]]:
    def script(caller: Caller) -> dict[str, Any]:
        caller.server.enqueue(reply.error(status, "No.", code="nope").with_headers({"x-request-id": "req_1"}))
        return {}

    return script


def refuse_connections(caller: Caller) -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    caller.client = caller.make_client(base_url=f"http://127.0.0.1:{port}/v1")
    return {}


def time_out(caller: Caller) -> dict[str, Any]:
    caller.server.enqueue(reply.held())
    return {"timeout": 0.05}


def cut_off(caller: Caller) -> dict[str, Any]:
    caller.server.enqueue(reply.default().cut())
    return {}


def send_no_json(caller: Caller) -> dict[str, Any]:
    return {"user": object()}


FAILURES: dict[str, tuple[Callable[[Caller], dict[str, Any]], type[Exception]]] = {
    "400": (script_error(400), openai.BadRequestError),
    "401": (script_error(401), openai.AuthenticationError),
    "429": (script_error(429), openai.RateLimitError),
    "500": (script_error(500), openai.InternalServerError),
    "refused": (refuse_connections, openai.APIConnectionError),
    "timeout": (time_out, openai.APITimeoutError),
    "cut": (cut_off, openai.APIConnectionError),
    "unserialisable": (send_no_json, TypeError),
}


async def raised(caller: Caller, kind: type[BaseException], **options: Any) -> BaseException:
    with pytest.raises(kind) as caught:
        await caller.chat(**options)
    return caught.value


@pytest.mark.parametrize(("script", "kind"), FAILURES.values(), ids=FAILURES)
async def test_a_failed_call_is_recorded_and_raises_what_it_would_without_tracing(
    caller: Caller, script: Callable[[Caller], dict[str, Any]], kind: type[Exception]
) -> None:
    error = await raised(caller, kind, **script(caller))
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "failed"
    assert trace.info.state == "ERROR"
    assert span.status.status_code == "ERROR"
    assert span.status.description == f"{kind.__name__}: {error}"
    assert span.attributes[sc.ERROR_TYPE] == kind.__name__
    has_answered = isinstance(error, openai.APIStatusError)
    assert (span.outputs is not None) == has_answered
    assert span.inputs["messages"] == CHAT["messages"]
    [event] = [event for event in span.events if event.name == sc.EVENT_EXCEPTION]
    assert event.attributes[sc.EXCEPTION_TYPE] == kind.__name__
    assert event.attributes[sc.EXCEPTION_MESSAGE] == str(error)
    assert "Traceback" in event.attributes[sc.EXCEPTION_STACKTRACE]
    if isinstance(error, openai.APIStatusError):
        assert span.attributes[sc.HTTP_STATUS_CODE] == error.status_code
        assert span.attributes[sc.REQUEST_ID] == error.request_id == "req_1"
    tracer.autolog(disable=True)
    untraced = await raised(caller, kind, **script(caller))
    assert described(error) == described(untraced)


async def test_parsing_that_fails_after_an_answer_keeps_the_answer(caller: Caller) -> None:
    caller.server.enqueue(reply.text('{"inhabitants": "many"}'), reply.text("Once", truncated=True))
    with pytest.raises(ValueError, match="inhabitants"):
        await caller.settle(caller.client.chat.completions.parse, **CHAT, response_format=City)
    with pytest.raises(openai.LengthFinishReasonError):
        await caller.settle(caller.client.chat.completions.parse, **CHAT, response_format=City)
    first, second = [trace.data.spans[0] for trace in await traces()]
    assert said(first) == '{"inhabitants": "many"}'
    assert said(second) == "Once"
    assert finish(first) == finish(second) == "failed"
    assert first.status.description.startswith("ValidationError")


async def test_an_answer_cut_at_the_token_limit_is_incomplete(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Once upon", truncated=True))
    await caller.chat()
    trace = await only_trace()
    assert finish(trace.data.spans[0]) == "incomplete"
    assert trace.info.state == "OK"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_response_that_says_it_failed_is_failed(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.failed("The model failed.", text="Half a"))
    answer = await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=stream)
    if stream:
        await caller.items(answer)
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "failed"
    assert trace.info.state == "ERROR"
    assert "The model failed." in span.status.description
    assert span.outputs["status"] == "failed"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_response_that_is_incomplete_is_incomplete(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.text("Once upon", truncated=True))
    answer = await caller.settle(caller.client.responses.create, model="m", input="Hi", stream=stream)
    if stream:
        await caller.items(answer)
    assert finish(await only_span()) == "incomplete"


@requires_sdk("openai.OpenAI._refresh_api_key")
async def test_an_exception_whose_response_is_none_of_httpx_ends_the_span(caller: Caller) -> None:
    class OddError(Exception):
        response = "a string"

    def fail() -> str:
        raise OddError("odd")

    async def fail_async() -> str:
        raise OddError("odd")

    client = caller.make_client(api_key=fail_async if caller.is_async else fail)
    with pytest.raises(OddError, match="odd"):
        await caller.settle(client.chat.completions.create, **CHAT)
    span = await only_span()
    assert finish(span) == "failed"
    assert span.inputs == CHAT


async def test_an_interrupt_from_the_keyboard_is_a_failure_and_passes(caller: Caller) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    async def interrupt_async(*_: Any) -> Any:
        raise KeyboardInterrupt

    caller.client._client.event_hooks = {"request": [interrupt_async if caller.is_async else interrupt]}
    try:
        await caller.chat()
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("KeyboardInterrupt was swallowed")
    span = await only_span()
    assert finish(span) == "failed"
    assert span.status.description.startswith("KeyboardInterrupt")


class TestCancelled:
    @pytest.fixture(params=["asyncio", "trio"])
    def mode(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    async def test_a_call_cancelled_while_it_waits(self, caller: Caller, server: FakeOpenAI) -> None:
        server.enqueue(reply.held())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.chat)
            await server.async_wait_for_held()
            tasks.cancel_scope.cancel()
        trace = await only_trace()
        [span] = trace.data.spans
        assert finish(span) == "cancelled"
        assert (span.status.status_code, span.status.description) == ("ERROR", "cancelled")
        assert trace.info.state == "ERROR"
        assert span.inputs == CHAT
        assert span.end_time_ns is not None
        assert not span.events

    async def test_a_call_that_runs_into_a_deadline(self, caller: Caller, server: FakeOpenAI) -> None:
        server.enqueue(reply.held())
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.05):
                await caller.chat()
        assert finish(await only_span()) == "cancelled"

    async def test_a_coroutine_that_is_closed_half_way(self, caller: Caller) -> None:
        class Parked:
            def __await__(self) -> Any:
                yield

        async def answer(request: httpx2.Request) -> httpx2.Response:
            await Parked()
            raise AssertionError("nobody lets it go on")

        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        client = caller.make_client(http_client=http_client)
        client._platform = "Linux"  # else its first call would ask a thread
        coroutine = client.chat.completions.create(**CHAT)
        coroutine.send(None)
        coroutine.close()
        assert finish(await only_span()) == "cancelled"
        assert tracer.get_current_active_span() is None

    async def test_a_coroutine_that_is_never_awaited_opens_no_span(self, caller: Caller) -> None:
        caller.chat().close()
        assert await traces() == []


LOST = {"finish_reason": "error", "error": {"code": 502, "message": "Upstream lost"}}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_error_on_a_choice_fails_the_call_that_the_sdk_lets_pass(caller: Caller, stream: bool) -> None:
    said = {"role": "assistant", "content": "The cap"}
    if stream:
        choice = {"index": 0, "delta": said, "finish_reason": None}
        chunks = [{"id": "c", "object": "chat.completion.chunk", "choices": [{**choice, **end}]} for end in ({}, LOST)]
        caller.server.enqueue(reply.sse([*chunks, "[DONE]"]))
    else:
        caller.server.enqueue(reply.json_body(200, {"id": "c", "choices": [{"index": 0, "message": said, **LOST}]}))
    answer = await caller.chat(stream=stream)
    if stream:
        await caller.items(answer)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), trace.info.state) == ("failed", "ERROR")
    assert (span.status.status_code, span.status.description) == ("ERROR", "Upstream lost")
    assert span.attributes[sc.ERROR_TYPE] == "502"
    assert sc.EVENT_EXCEPTION not in [event.name for event in span.events]  # nothing was raised
    assert span.outputs["choices"][0]["message"]["content"].startswith("The cap")


PAGE = "<html><head><title>502 Bad Gateway</title></head></html>"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_page_under_200_is_no_completion(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.raw(PAGE.encode(), "text/html"))
    answer = await caller.chat(stream=stream)  # the SDK hands the page out as a text, or as a stream without events
    if stream:
        assert await caller.items(answer) == []
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), trace.info.state, span.outputs) == ("failed", "ERROR", PAGE)
    assert "text/html" in span.status.description
