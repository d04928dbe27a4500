"""Every kind of client is seen: Azure's, the module's, older ones, subclasses, copies, other HTTP libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import tracer
from tests.openai.calling import CHAT, Caller, finish, only_span, said, traces
from tests.sdk import httpx2
from tracer import _semconv as sc
from tracer.testing import FakeOpenAI, reply


def client_class(caller: Caller) -> Any:
    return openai.AsyncOpenAI if caller.is_async else openai.OpenAI


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_azure_calls_are_known_as_such(caller: Caller, stream: bool) -> None:
    make = openai.AsyncAzureOpenAI if caller.is_async else openai.AzureOpenAI
    client: Any = caller.keep(make(azure_endpoint=caller.server.url, api_key="k", api_version="2024-10-21"))
    answer = await caller.settle(client.chat.completions.create, stream=stream, **CHAT)
    if stream:
        await caller.items(answer)
    assert caller.server.requests[-1].path == "/openai/deployments/gpt-5/chat/completions"
    span = await only_span()
    assert span.name == f"{caller.prefix}Completions"
    assert span.attributes[sc.PROVIDER_NAME] == "azure.ai.openai"
    assert said(span) == "You said: Hi"


async def test_an_azure_call_whose_body_names_no_model_has_that_of_its_deployment(caller: Caller) -> None:
    make = openai.AsyncAzureOpenAI if caller.is_async else openai.AzureOpenAI
    azure = make(azure_endpoint=caller.server.url, azure_deployment="my-gpt", api_key="k", api_version="2024-10-21")
    client: Any = caller.keep(azure)
    await caller.settle(client.chat.completions.create, **{**CHAT, "model": None})
    span = await only_span()
    assert span.attributes[sc.REQUEST_MODEL] == "my-gpt"
    assert said(span) == "You said: Hi"


async def test_the_address_of_the_server_is_recorded(caller: Caller) -> None:
    await caller.chat()
    span = await only_span()
    assert span.attributes[sc.PROVIDER_NAME] == "openai"
    assert f"{span.attributes[sc.SERVER_ADDRESS]}:{span.attributes[sc.SERVER_PORT]}" in caller.server.url
    assert span.attributes[sc.HTTP_STATUS_CODE] == 200
    assert span.attributes[sc.REQUEST_ID].startswith("req_")


async def test_what_existed_before_autolog_is_traced(caller: Caller) -> None:
    tracer.autolog(disable=True)
    completions = caller.client.chat.completions
    create, raw, streaming = completions.create, completions.with_raw_response, completions.with_streaming_response
    raw_create = raw.create
    tracer.autolog()
    await caller.settle(create, **CHAT)
    await caller.settle(completions.create, **CHAT)
    await caller.settle(raw_create, **CHAT)
    await caller.settle(caller.client.chat.completions.with_raw_response.create, **CHAT)
    async with caller.entered(streaming.create(**CHAT)) as response:
        await caller.settle(response.read)
    recorded = await traces()
    assert len(recorded) == 5
    assert {said(trace.data.spans[0]) for trace in recorded} == {"You said: Hi"}


async def test_a_subclass_that_overrides_request_is_seen_once(caller: Caller) -> None:
    base: Any = client_class(caller)

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        return base.request(self, *args, **kwargs)

    client = caller.keep(type("Tuned", (base,), {"request": request})(base_url=caller.server.base_url, api_key="k"))
    await caller.settle(client.chat.completions.create, **CHAT)
    assert said(await only_span()) == "You said: Hi"


async def test_a_subclass_that_overrides_the_pause_between_attempts_is_recorded_all_the_same(caller: Caller) -> None:
    def pause(self: Any, **_: Any) -> None: ...

    async def pause_async(self: Any, **_: Any) -> None: ...

    own = {"_sleep_for_retry": pause_async if caller.is_async else pause}
    hasty: Any = type("Hasty", (client_class(caller),), own)
    client = caller.keep(hasty(base_url=caller.server.base_url, api_key="k"))
    caller.server.enqueue(reply.error(500))
    await caller.settle(client.chat.completions.create, **CHAT)
    assert (await only_span()).attributes[sc.RETRIES] == 1


async def test_copies_with_other_options_are_traced(caller: Caller) -> None:
    await caller.settle(caller.client.with_options(timeout=5).chat.completions.create, **CHAT)
    assert finish(await only_span()) == "completed"


@pytest.fixture
def module_client(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "base_url", f"{server.base_url}/")
    yield openai
    loaded: Any = openai
    loaded._reset_client()


@pytest.mark.parametrize("mode", ["sync"])
async def test_the_client_of_the_module_is_traced(caller: Caller, module_client: Any) -> None:
    module_client.chat.completions.create(**CHAT)
    assert said(await only_span()) == "You said: Hi"
    module_client._client.close()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_injected_client_of_the_older_httpx_is_traced(caller: Caller, stream: bool) -> None:
    http_client: Any = httpx.AsyncClient() if caller.is_async else httpx.Client()
    client = caller.make_client(http_client=http_client)
    answer = await caller.settle(client.chat.completions.create, stream=stream, **CHAT)
    if stream:
        assert isinstance(answer.response, httpx.Response)
        await caller.items(answer)
        assert answer.response.elapsed.total_seconds() > 0
    assert said(await only_span()) == "You said: Hi"


async def test_an_abandoned_stream_of_the_older_httpx_ends(caller: Caller) -> None:
    http_client: Any = httpx.AsyncClient() if caller.is_async else httpx.Client()
    client = caller.make_client(http_client=http_client)
    stream = await caller.settle(client.chat.completions.create, stream=True, **CHAT)
    await caller.first(stream)
    await caller.settle(stream.close)
    assert finish(await only_span()) == "abandoned"


CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"Hey"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


async def test_a_stream_that_a_mock_transport_has_read_already_is_still_a_stream(caller: Caller) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=CHUNK, headers={"content-type": "text/event-stream"})

    transport = httpx2.MockTransport(answer)
    http_client: Any = (httpx2.AsyncClient if caller.is_async else httpx2.Client)(transport=transport)
    client = caller.make_client(http_client=http_client)
    await caller.items(await caller.settle(client.chat.completions.create, stream=True, **CHAT))
    span = await only_span()
    assert said(span) == "Hey"
    assert finish(span) == "completed"
    assert span.events[0].name == sc.EVENT_CHUNK


async def test_a_stream_class_that_is_both_sync_and_async_is_tapped(caller: Caller) -> None:
    class Both(httpx2.SyncByteStream, httpx2.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield CHUNK

        async def __aiter__(self) -> Any:
            yield CHUNK

    def send(self: Any, request: httpx2.Request, **_: Any) -> httpx2.Response:
        return httpx2.Response(200, stream=Both(), headers={"content-type": "text/event-stream"}, request=request)

    async def send_async(self: Any, request: httpx2.Request, **_: Any) -> httpx2.Response:
        return send(self, request)

    # httpx's own clients wrap the transport's stream; a client with its own `send` gives the SDK the stream as it is.
    base, own = (httpx2.AsyncClient, send_async) if caller.is_async else (httpx2.Client, send)
    client = caller.make_client(http_client=type("Sending", (base,), {"send": own})())
    await caller.items(await caller.settle(client.chat.completions.create, stream=True, **CHAT))
    assert said(await only_span()) == "Hey"


async def test_the_aiohttp_client_is_traced(server: FakeOpenAI, mode: str) -> None:
    pytest.importorskip("httpx_aiohttp", reason="the aiohttp transport is not installed")
    if mode != "asyncio":
        pytest.skip("aiohttp speaks asyncio only")
    tracer.autolog()
    async with server.async_client(http_client=openai.DefaultAioHttpClient()) as client:
        stream = await client.chat.completions.create(stream=True, **CHAT)
        async for _ in stream:
            pass
    assert said(await only_span()) == "You said: Hi"
