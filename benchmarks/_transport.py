"""The real SDK without a network: clients whose transport answers from memory, with a body that is still to be read.

The SDK, httpx2's client and its reading of the body all run; sockets, TLS and HTTP parsing don't. This makes the
un-traced call cheaper than a real one, and so tracing's share in percent looks larger than it would in a real call.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai

from benchmarks import _payloads as payloads

__all__ = ["CannedTransport", "aclose", "async_client", "client"]


class _Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body of several reads. A second reader goes on where the first one stopped, as with a connection."""

    def __init__(self, reads: list[bytes]) -> None:
        self._reads = iter(reads)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._reads

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in self._reads:
            yield data


class CannedTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers chat completions, Responses and embeddings, plain and streamed, sync and async.

    Args:
        latency: Seconds until an async response comes; None answers without giving the event loop a turn.
        chunks: Events of a stream.
    """

    def __init__(self, latency: float | None = None, chunks: int = payloads.STREAM_CHUNKS) -> None:
        self._latency = latency
        self._streams = payloads.streams(chunks)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer at once."""
        return self._answer(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer after the latency."""
        if self._latency is not None:
            await asyncio.sleep(self._latency)
        return self._answer(request)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        streamed = payloads.asks_for_stream(request.content)
        reads = self._streams[path] if streamed else [payloads.PLAIN[path]]
        return httpx2.Response(200, headers=payloads.headers(streamed), stream=_Body(reads))


_OPTIONS: dict[str, Any] = {"api_key": "sk-benchmark", "base_url": "http://benchmark.test/v1", "max_retries": 0}


def client() -> openai.OpenAI:
    """Return a sync client; close it."""
    return openai.OpenAI(http_client=openai.DefaultHttpxClient(transport=CannedTransport()), **_OPTIONS)


def async_client(latency: float | None = None, chunks: int = payloads.STREAM_CHUNKS) -> openai.AsyncOpenAI:
    """Return an async client; close it. Arguments as for `CannedTransport`."""
    transport = CannedTransport(latency, chunks)
    return openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(transport=transport), **_OPTIONS)


async def aclose(sdk: openai.AsyncOpenAI) -> None:
    """Close the client, and let generators that were dropped unfinished (the SDK stops at ``[DONE]``) close too."""
    await sdk.close()
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
