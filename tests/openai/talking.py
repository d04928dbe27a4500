"""What tests of WebSocket sessions share: one way to talk, sync and async, and scripted servers."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tracer._models import Span
from tracer.testing import FakeConnection, FakeWebSockets

Json = dict[str, Any]


class Talker:
    """A client of either kind, driven in one way."""

    def __init__(self, server: FakeWebSockets, *, is_async: bool) -> None:
        self.server = server
        self.is_async = is_async
        self.prefix = "Async" if is_async else ""
        self.client: Any = server.async_client() if is_async else server.client()

    async def aclose(self) -> None:
        await self.settle(self.client.close())

    async def settle(self, result: Any) -> Any:
        """Await what is awaitable."""
        return await result if inspect.isawaitable(result) else result

    @asynccontextmanager
    async def realtime(self, **options: Any) -> AsyncIterator[Any]:
        """Open a Realtime session."""
        async with self.entered(self.client.realtime.connect(**{"model": "gpt-realtime", **options})) as connection:
            yield connection

    @asynccontextmanager
    async def entered(self, manager: Any) -> AsyncIterator[Any]:
        """Enter a context manager of either kind."""
        if self.is_async:
            async with manager as value:
                yield value
        else:
            with manager as value:
                yield value

    async def say(self, connection: Any, text: str) -> None:
        """Add what a user says in writing."""
        content = [{"type": "input_text", "text": text}]
        await self.settle(
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        )

    async def ask(self, connection: Any, text: str, **options: Any) -> list[Any]:
        """Say something and take the answer."""
        await self.say(connection, text)
        await self.settle(connection.response.create(**options))
        return await self.until(connection, "response.done")

    async def until(self, connection: Any, kind: str) -> list[Any]:
        """Receive events until one of this type."""
        events: list[Any] = []
        while not events or events[-1].type != kind:
            events.append(await self.settle(connection.recv()))
        return events

    async def items(self, iterable: Any) -> list[Any]:
        """Iterate to the end."""
        if hasattr(iterable, "__aiter__"):
            return [item async for item in iterable]
        return list(iterable)


def sessions_of(spans: list[Span]) -> list[Span]:
    """Return the spans of sessions."""
    return [span for span in spans if span.name.endswith(".connect")]


def responses_of(spans: list[Span]) -> list[Span]:
    """Return the spans of responses, in the order in which they began."""
    return [span for span in spans if span.span_type == "CHAT_MODEL"]


def created(response_id: str = "resp_1") -> Json:
    """The first event of a response."""
    response = {"object": "realtime.response", "id": response_id, "status": "in_progress", "output": []}
    return {"type": "response.created", "event_id": "event_c", "response": response}


def delta(text: str, response_id: str = "resp_1", *, index: int = 0) -> Json:
    """A piece of what a response says."""
    place = {"response_id": response_id, "item_id": "item_1", "output_index": index, "content_index": 0}
    return {"type": "response.output_text.delta", "event_id": "event_d", **place, "delta": text}


def done(response_id: str = "resp_1", text: str = "Hi", **fields: Any) -> Json:
    """The last event of a response."""
    content = [{"type": "output_text", "text": text}]
    response = {
        "object": "realtime.response",
        "id": response_id,
        "status": "completed",
        "status_details": None,
        "output": [{"id": "item_1", "type": "message", "role": "assistant", "content": content}],
        "usage": {"total_tokens": 3, "input_tokens": 1, "output_tokens": 2},
        **fields,
    }
    return {"type": "response.done", "event_id": "event_e", "response": response}


def sending(*events: Json, then_close: int | None = None) -> Any:
    """Return a session that sends events, and then waits for the client to go, closes, or (1006) cuts the line."""

    async def play(connection: FakeConnection) -> None:
        await connection.send(*events)
        if then_close == 1006:
            connection.abort()
        elif then_close is not None:
            await connection.close(then_close, "enough")
        else:
            while True:
                await connection.receive()

    return play
