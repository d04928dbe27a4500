"""What tests of the seam share: calls that look the same sync and async, and ways to read what was recorded."""

from __future__ import annotations

import gc
import inspect
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio.lowlevel
import openai
from typing_extensions import Self

import tracer
from tracer import _semconv as sc
from tracer._models import Span, Trace
from tracer.testing import FakeOpenAI

HELLO: list[Any] = [{"role": "user", "content": "Hi"}]
TLS = ssl.create_default_context()  # each client would load all root certificates again, for plain HTTP
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": HELLO}


class Caller:
    """A client of either kind, driven in one way."""

    def __init__(self, server: FakeOpenAI, *, is_async: bool) -> None:
        self.server = server
        self.is_async = is_async
        self.prefix = "Async" if is_async else ""
        self._stack = AsyncExitStack()
        self.client = self.make_client()

    def make_client(self, **options: Any) -> Any:
        """Make one more client; closed with the caller."""
        make = self.server.async_client if self.is_async else self.server.client
        if "http_client" not in options:
            kind = openai.DefaultAsyncHttpxClient if self.is_async else openai.DefaultHttpxClient
            options["http_client"] = kind(verify=TLS)
        return self.keep(make(**{"max_retries": 0, **options}))

    def keep(self, client: Any) -> Any:
        """Close this client at the end."""
        self._stack.push_async_callback(self.settle, client.close)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def settle(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call, and await what is awaitable."""
        result = method(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def chat(self, **options: Any) -> Any:
        """Make the plainest of calls."""
        return await self.settle(self.client.chat.completions.create, **{**CHAT, **options})

    async def items(self, iterable: Any) -> list[Any]:
        """Iterate to the end."""
        if hasattr(iterable, "__aiter__"):
            return [item async for item in iterable]
        return list(iterable)

    async def first(self, iterable: Any, count: int = 1) -> list[Any]:
        """Take the first items one by one, and leave the iterator where it is."""
        if hasattr(iterable, "__anext__"):
            return [await iterable.__anext__() for _ in range(count)]
        return [next(iterable) for _ in range(count)]

    @asynccontextmanager
    async def entered(self, manager: Any) -> AsyncIterator[Any]:
        """Enter a context manager of either kind."""
        if hasattr(manager, "__aenter__"):
            async with manager as value:
                yield value
        else:
            with manager as value:
                yield value


async def collect() -> None:
    """Let the garbage collector, and what it makes the event loop do, finish."""
    for _ in range(3):
        gc.collect()
        await anyio.lowlevel.checkpoint()


async def traces() -> list[Trace]:
    """Return every trace with its spans, the oldest first."""
    page = await tracer.search_traces(order_by="start_time asc", max_results=1000)
    return [await tracer.get_trace(trace.info.trace_id) for trace in page]


async def only_trace() -> Trace:
    """Return the one trace there is."""
    [trace] = await traces()
    return trace


async def only_span() -> Span:
    """Return the one span there is, in the one trace."""
    [span] = (await only_trace()).data.spans
    return span


def finish(span: Span) -> Any:
    """How a span ended, in one word."""
    return span.attributes.get(sc.FINISH)


def said(span: Span, index: int = 0) -> Any:
    """What a chat span's choice says."""
    return span.outputs["choices"][index]["message"]["content"]
