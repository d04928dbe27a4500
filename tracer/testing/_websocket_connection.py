"""The server's end of a WebSocket connection, and the functions that play it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

__all__ = ["FakeConnection", "Json", "Session"]

Json = dict[str, Any]


class FakeConnection:
    """The server's end of one connection, for a scripted session; used in the server's event loop.

    Attributes:
        path: Such as ``/v1/realtime``.
        query: The URL's query, such as ``{"model": "gpt-realtime"}``.
    """

    def __init__(self, websocket: ServerConnection, record: Callable[[Json], None]) -> None:
        self._websocket = websocket
        self._record = record
        url = urlsplit(websocket.request.path if websocket.request is not None else "")
        self.path = url.path
        self.query = dict(parse_qsl(url.query))

    async def receive(self, *types: str) -> Json:
        """Wait for the client's next event; if types are given, for the next event of one of these types.

        Raises:
            ConnectionClosed: The client has gone (an exception of the websockets package).
        """
        while True:
            event: Json = json.loads(await self._websocket.recv())
            self._record(event)
            if not types or event.get("type") in types:
                return event

    async def send(self, *events: Json | str | bytes) -> None:
        """Send events; text and bytes are sent as they are."""
        for event in events:
            await self._websocket.send(json.dumps(event) if isinstance(event, dict) else event)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection properly."""
        await self._websocket.close(code, reason)

    def abort(self) -> None:
        """Cut the connection without a close frame, as when a network fails."""
        self._websocket.transport.abort()


Session = Callable[[FakeConnection], Awaitable[None]]
"""Plays the server in one connection; the connection is closed when this returns."""
