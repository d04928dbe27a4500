"""`TraceMiddleware`: one root span for each request, to its last byte."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import tracer
from tests.reading import last_span, last_trace
from tracer import asgi
from tracer.asgi import TraceMiddleware
from tracer.pipeline.throttle import Throttle
from tracer.spans import guard
from tracer.spans.context import read_traceparent
from tracer.testing import FakeOpenAI

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
HTTP = {"type": "http", "method": "GET", "path": "/raw", "headers": []}
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"one"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def hello(request: Request) -> PlainTextResponse:
    with tracer.start_span("inside"):
        return PlainTextResponse("hello")


async def fail(request: Request) -> PlainTextResponse:
    raise ValueError("wrong")


async def refuse(request: Request) -> PlainTextResponse:
    return PlainTextResponse("sorry", status_code=503)


async def later(request: Request) -> PlainTextResponse:
    def work() -> None:
        with tracer.start_span("afterwards"):
            pass

    return PlainTextResponse("hello", background=BackgroundTask(work))


async def talk(connection: WebSocket) -> None:
    await connection.accept()
    with tracer.start_span("inside"):
        await connection.send_text(await connection.receive_text())
    await connection.close()


APP = Starlette(
    routes=[
        Route("/hello/{name}", hello),
        Route("/fail", fail),
        Route("/refuse", refuse),
        Route("/later", later),
        Mount("/below", routes=[Route("/{number:int}", hello, methods=["POST"], name="another")]),
        Mount("/sub", app=Starlette(routes=[Route("/{number}", refuse, name="in a sub-application")])),
        WebSocketRoute("/talk", talk),
    ],
    middleware=[Middleware(TraceMiddleware)],
)


def browser(app: Any = APP) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service:81")


async def get(path: str, app: Any = APP, **headers: str) -> tracer.Span:
    """Ask once, and return the request's span."""
    async with browser(app) as client:
        await client.get(path, headers=headers)
    return (await last_trace()).data.spans[0]


def finish(span: tracer.Span) -> object:
    return span.get_attribute("tracer.finish")


async def test_a_request_is_a_root_named_by_its_route_with_the_attributes_of_the_conventions() -> None:
    with tracer.start_span("of the caller, in the same process"):
        span = await get("/hello/ann?secret=1")
    assert (span.name, span.span_type, span.parent_id) == ("GET /hello/{name}", "CHAIN", None)
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/hello/{name}",
        "network.protocol.version": "1.1",
        "server.address": "service",
        "server.port": 81,
        "tracer.finish": "completed",
        "url.path": "/hello/ann",
        "url.scheme": "http",
    }
    trace = await tracer.get_trace(span.trace_id)
    assert [span.name for span in trace.data.spans] == ["GET /hello/{name}", "inside"]
    assert tracer.get_current_active_span() is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, the SDK's own generators warn
async def test_an_answer_that_is_streamed_is_inside_the_request(server: FakeOpenAI) -> None:
    @tracer.trace
    async def words() -> AsyncGenerator[str, None]:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        async for chunk in stream:
            yield chunk.choices[0].delta.content or "" if chunk.choices else ""

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(words())

    tracer.autolog()
    async with server.async_client() as client:
        app = TraceMiddleware(Starlette(routes=[Route("/", endpoint)]))
        await get("/", app)
    tracer.autolog(disable=True)
    [trace] = await tracer.search_traces()
    assert [span.name for span in trace.data.spans] == ["GET /", "words", "AsyncCompletions"]
    root, *below = trace.data.spans
    assert all(span.end_time_ns <= root.end_time_ns for span in below)  # type: ignore[operator]  # all have ended


@pytest.mark.parametrize(
    ("path", "name", "code", "description"),
    [
        ("/refuse", "GET /refuse", 503, "HTTP 503"),
        ("/fail", "GET /fail", None, "ValueError: wrong"),
        ("/sub/1", "GET /sub/{number}", 503, "HTTP 503"),
    ],
)
async def test_a_request_that_fails(path: str, name: str, code: int | None, description: str) -> None:
    span = await get(path)
    assert (finish(span), span.status.status_code, span.status.description) == ("failed", "ERROR", description)
    assert span.get_attribute("http.response.status_code") == code
    assert span.name == name


@pytest.mark.parametrize("wrap", [TraceMiddleware, lambda app: app], ids=["around the application", "inside"])
async def test_an_exception_is_on_the_span_wherever_the_middleware_stands(wrap: Any) -> None:
    inside = [Middleware(TraceMiddleware)] if wrap is not TraceMiddleware else []
    span = await get("/fail", wrap(Starlette(routes=[Route("/fail", fail)], middleware=inside)))
    assert (finish(span), span.status.status_code, span.status.description) == ("failed", "ERROR", "ValueError: wrong")
    assert span.get_attribute("error.type") == "ValueError"
    [event] = span.events
    assert event.attributes["exception.message"] == "wrong"
    assert "in fail" in event.attributes["exception.stacktrace"]


async def test_an_exception_that_a_handler_answers_is_on_the_span_and_what_runs_later_is_outside() -> None:
    async def answer(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", status_code=500)

    app = Starlette(routes=[Route("/fail", fail)], exception_handlers={Exception: answer})
    span = await get("/fail", TraceMiddleware(app))
    assert (span.status.description, span.get_attribute("http.response.status_code")) == ("ValueError: wrong", 500)
    app = Starlette(routes=[Route("/fail", fail)], exception_handlers={ValueError: answer})
    span = await get("/fail", TraceMiddleware(app))
    assert (finish(span), span.status.description) == ("failed", "HTTP 500")


async def test_a_failure_ends_with_the_last_byte_although_its_exception_comes_later() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            raise ValueError("wrong")
        except ValueError:
            await send({**START, "status": 500})
            await send(BODY)
            with tracer.start_span("later") as later:
                spans.append(later)
            raise

    spans: list[Any] = []
    with pytest.raises(ValueError, match="wrong"):
        await TraceMiddleware(app)(dict(HTTP), receiving(), ignore)
    root = (await tracer.get_trace(spans[0].trace_id)).data.spans[0]
    assert root.status.description == "ValueError: wrong"
    assert root.end_time_ns is not None
    assert root.end_time_ns <= spans[0].start_time_ns


async def test_an_exception_after_an_answer_that_is_no_failure_is_not_the_requests() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(BODY)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await TraceMiddleware(app)(dict(HTTP), receiving(), ignore)
    assert finish(await last_span()) == "completed"


async def test_a_missing_page_is_no_failure_of_the_service() -> None:
    span = await get("/nowhere")
    assert (span.name, finish(span), span.get_attribute("http.response.status_code")) == (
        "GET /nowhere",
        "completed",
        404,
    )


async def test_what_runs_after_the_last_byte_is_outside() -> None:
    await get("/later")
    page = await tracer.search_traces()
    assert sorted(len(trace.data.spans) for trace in page) == [1, 1]


async def test_a_request_continues_the_trace_of_its_caller() -> None:
    span = await get("/hello/ann", traceparent=TRACEPARENT)
    assert (span.trace_id, span.parent_id) == (TRACE_ID, SPAN_ID)
    trace = await tracer.get_trace(TRACE_ID)
    assert (len(trace.data.spans), trace.info.state) == (2, "OK")
    span = await get("/", TraceMiddleware(APP, continue_traces=False), traceparent=TRACEPARENT)
    assert span.trace_id != TRACE_ID


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (TRACEPARENT, (TRACE_ID, SPAN_ID)),
        (f" 00-{TRACE_ID}-{SPAN_ID}-00 ", (TRACE_ID, SPAN_ID)),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes", (TRACE_ID, SPAN_ID)),
        (f"00-{TRACE_ID}-{SPAN_ID}-01-more", None),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", None),
        (f"00-{'0' * 32}-{SPAN_ID}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (f"00-{TRACE_ID.upper()}-{SPAN_ID}-01", None),
        ("", None),
        ("00-é", None),
    ],
)
async def test_a_header_that_is_malformed_is_ignored(value: str, ids: tuple[str, str] | None) -> None:
    assert read_traceparent(value) == ids


async def test_a_middleware_around_another_makes_no_second_span() -> None:
    await get("/hello/ann", TraceMiddleware(TraceMiddleware(APP)))
    assert len((await last_trace()).data.spans) == 2


# --- who leaves -------------------------------------------------------------------------------------------------------


async def respond(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send({**BODY, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


def receiving(*messages: str) -> Callable[[], Any]:
    waiting = iter(messages)

    async def receive() -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return {"type": next(waiting)}

    return receive


async def ignore(message: Any) -> None:
    """Send to nobody."""


async def test_a_client_that_leaves_before_the_end() -> None:
    await TraceMiddleware(respond)(dict(HTTP), receiving("http.request", "http.disconnect"), ignore)
    span = await last_span()
    assert (finish(span), span.status.status_code) == ("abandoned", "OK")

    async def refuse_to_send(message: Any) -> None:
        raise OSError("the client has gone")

    with pytest.raises(OSError, match="gone"):
        await TraceMiddleware(respond)(dict(HTTP), receiving(), refuse_to_send)
    assert finish(await last_span()) == "abandoned"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn's
async def test_a_client_that_leaves_a_real_server() -> None:
    @tracer.trace
    async def words() -> AsyncGenerator[str, None]:
        yield "one"
        await anyio.sleep_forever()

    async def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(words())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await traced(scope, receive, send)
        finally:
            over.set()

    over = anyio.Event()
    traced = TraceMiddleware(Starlette(routes=[Route("/", endpoint)]))
    service = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(service.serve, [listener])
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
                assert await anext(response.aiter_bytes()) == b"one"
            await over.wait()
            service.should_exit = True
    root, below = (await last_trace()).data.spans
    assert [(span.name, finish(span)) for span in (root, below)] == [("GET /", "abandoned"), ("words", "cancelled")]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn's
@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("outside", [True, False], ids=["around the application", "inside"])
@pytest.mark.parametrize("fails", [False, True], ids=["answers", "fails"])
async def test_a_client_that_leaves_before_the_first_byte(http: Any, outside: bool, fails: bool) -> None:
    pytest.importorskip(http)
    has_begun, has_left, is_over = anyio.Event(), anyio.Event(), anyio.Event()

    async def endpoint(request: Request) -> PlainTextResponse:
        has_begun.set()
        await has_left.wait()
        if fails:
            raise ValueError("wrong")
        return PlainTextResponse("hello")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycles.append(receive.__self__)
        try:
            await traced(scope, receive, send)
        except ValueError:
            assert fails
        finally:
            is_over.set()

    cycles: list[Any] = []
    routes = [Route("/", endpoint)]
    traced: Any = TraceMiddleware(Starlette(routes=routes))
    if not outside:
        traced = Starlette(routes=routes, middleware=[Middleware(TraceMiddleware)])
    service = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, http=http))
    with socket.create_server(("127.0.0.1", 0)) as listener, anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(service.serve, [listener])
            async with await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1]) as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
                await has_begun.wait()
            while not cycles[0].disconnected:
                await anyio.lowlevel.checkpoint()
            has_left.set()
            await is_over.wait()
            service.should_exit = True
    assert finish(await last_span()) == ("failed" if fails else "abandoned")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # where Hypercorn and Daphne have asyncio's queues
@pytest.mark.parametrize("leaves", [True, False])
async def test_a_client_of_which_the_servers_queue_says_that_it_has_left(leaves: bool) -> None:
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        if leaves:
            messages.put_nowait({"type": "http.disconnect"})
        await send(BODY)

    async def send(message: Any) -> None:
        if message is BODY and not leaves:
            messages.put_nowait({"type": "http.disconnect"})  # as Hypercorn says of each request after its end

    messages.put_nowait({"type": "http.request", "body": b"nobody reads it"})
    await TraceMiddleware(answer)(dict(HTTP), messages.get, send)
    assert finish(await last_span()) == ("abandoned" if leaves else "completed")
    assert messages.qsize() == 2, "the messages are the application's"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("leaves", [True, False])
async def test_a_client_that_leaves_hypercorn(leaves: bool) -> None:
    hypercorn: Any = pytest.importorskip("hypercorn.asyncio")
    has_begun, is_over, stop = anyio.Event(), anyio.Event(), anyio.Event()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        has_begun.set()
        while leaves and not any(message["type"] == "http.disconnect" for message in queues[0]._queue):
            await anyio.lowlevel.checkpoint()
        await send({**START, "headers": [(b"content-length", b"3")]})
        await send(BODY)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        queues.append(receive.__self__)
        try:
            await TraceMiddleware(answer)(scope, receive, send)
        finally:
            is_over.set()

    queues: list[Any] = []
    config = hypercorn.Config()
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    config.bind = [f"fd://{listener.detach()}"]
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            serve = functools.partial(hypercorn.serve, mode="asgi", shutdown_trigger=stop.wait)
            group.start_soon(serve, Starlette(routes=[Mount("/", app)]), config)
            async with await anyio.connect_tcp(*address) as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
                await has_begun.wait()
                if not leaves:
                    assert (await client.receive()).startswith(b"HTTP/1.1 200")
            await is_over.wait()
            stop.set()
    assert finish(await last_span()) == ("abandoned" if leaves else "completed")


async def test_a_request_that_is_cancelled() -> None:
    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0):
        await TraceMiddleware(wait)(dict(HTTP), receiving(), ignore)
    assert finish(await last_span()) == "cancelled"
    assert tracer.get_current_active_span() is None


async def test_an_answer_that_was_sent_whole_is_complete_although_the_client_has_left() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(BODY)
        ended.append(tracer.get_last_active_trace_id())
        await receive()

    ended: list[str | None] = []
    await TraceMiddleware(answer)(dict(HTTP), receiving("http.disconnect"), ignore)
    span = await last_span()
    assert finish(span) == "completed"
    assert ended == [span.trace_id], "it ended with the last byte"


# --- what is no request -----------------------------------------------------------------------------------------------


def test_a_websocket_has_one_span_and_a_lifespan_none() -> None:
    with TestClient(APP) as client, client.websocket_connect("/talk") as connection:
        connection.send_text("hello")
        assert connection.receive_text() == "hello"
    [trace] = tracer.sync.search_traces()
    root, inside = trace.data.spans
    assert (root.name, inside.name, finish(root)) == ("WEBSOCKET /talk", "inside", "completed")
    assert root.get_attribute("http.response.status_code") == 101


async def listen(connection: WebSocket) -> None:
    await connection.accept()
    while True:
        await connection.receive_text()


async def fail_after_close(connection: WebSocket) -> None:
    await connection.accept()
    try:
        await connection.receive_text()
    except WebSocketDisconnect:
        raise ValueError("wrong") from None


async def speak_after_close(connection: WebSocket) -> None:
    await connection.accept()
    await connection.receive()
    raise OSError("the client has gone")


@pytest.mark.parametrize(
    ("endpoint", "code", "expected"),
    [
        (listen, 1000, ("completed", "OK", "")),
        (listen, 1001, ("completed", "OK", "")),
        (listen, 1005, ("completed", "OK", "")),
        (listen, 1006, ("abandoned", "OK", "")),
        (speak_after_close, 1000, ("completed", "OK", "")),
        (speak_after_close, 1006, ("abandoned", "OK", "")),
        (fail_after_close, 1000, ("failed", "ERROR", "ValueError: wrong")),
    ],
)
@pytest.mark.parametrize("outside", [True, False], ids=["around the application", "inside"])
def test_a_websocket_that_the_client_closes(endpoint: Any, code: int, expected: Any, outside: bool) -> None:
    inside = [] if outside else [Middleware(TraceMiddleware)]
    app: Any = Starlette(routes=[WebSocketRoute("/listen", endpoint)], middleware=inside)
    client = TestClient(TraceMiddleware(app) if outside else app)
    # The test client raises what the application did.
    with suppress(WebSocketDisconnect, ValueError, OSError), client.websocket_connect("/listen") as connection:
        connection.close(code)
    [trace] = tracer.sync.search_traces()
    [span] = trace.data.spans
    assert (finish(span), span.status.status_code, span.status.description or "") == expected


async def test_an_unknown_method_is_not_part_of_the_name() -> None:
    await TraceMiddleware(APP)({**HTTP, "method": "BREW"}, receiving("http.request"), ignore)
    span = await last_span()
    assert span.name == "HTTP /raw"
    assert span.get_attribute("http.request.method") == "_OTHER"
    assert span.get_attribute("http.request.method_original") == "BREW"


@pytest.mark.parametrize("name", ["open_root", "_route", "leave"])
async def test_a_fault_of_ours_changes_no_request(
    name: str, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(guard, "_throttle", Throttle())
    monkeypatch.setattr(asgi, name, planted)
    async with browser() as client:
        assert (await client.get("/hello/ann")).text == "hello"
    assert tracer_log
    tracer_log.clear()
