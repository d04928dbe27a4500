"""The fake OpenAI's WebSockets: `/v1/realtime` and `/v1/responses` on loopback, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio.to_thread

from tracer._exceptions import MissingDependencyError
from tracer.testing import _realtime
from tracer.testing._loopback import WAIT, Address, LoopbackServer
from tracer.testing._websocket_connection import FakeConnection, Json, Session

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

__all__ = ["FakeWebSockets"]


class FakeWebSockets(LoopbackServer):
    """A server that speaks OpenAI's WebSocket APIs on loopback, without a key.

    ::

        with FakeWebSockets() as server, server.client().realtime.connect(model="gpt-realtime") as connection:
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "Hi"}]})
            connection.response.create()
            for event in connection:
                if event.type == "response.done":
                    break

    Without a script, the same small deterministic model as in `FakeOpenAI` answers: on `/v1/realtime` in words and in a
    kind of audio, on `/v1/responses` as over HTTP. `enqueue` scripts the next connections. The server has its own
    thread and event loop; all methods may be called from any thread.

    Raises:
        MissingDependencyError: On start, when the websockets package is not installed (`openai[realtime]`).
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port))
        self._script: deque[Session] = deque()
        self._refusals: deque[int] = deque()
        self._events: list[Json] = []
        self._connections = 0

    @property
    def websocket_base_url(self) -> str:
        """The API's address for the client's `websocket_base_url`."""
        return f"ws{self.base_url.removeprefix('http')}"

    def _client_options(self) -> Json:
        return {**super()._client_options(), "websocket_base_url": self.websocket_base_url}

    def enqueue(self, *sessions: Session) -> None:
        """Let these sessions play the server in the next connections, in order."""
        self._script.extend(sessions)

    def refuse(self, status: int) -> None:
        """Refuse the next handshake with this HTTP status."""
        self._refusals.append(status)

    def clear(self) -> None:
        """Forget the script, and the connections and events so far."""
        with self._changed:
            self._script.clear()
            self._refusals.clear()
            self._events.clear()
            self._connections = 0

    @property
    def connections(self) -> int:
        """How many connections were made."""
        return self._connections

    @property
    def events(self) -> list[Json]:
        """The events that clients sent, oldest first."""
        with self._changed:
            return list(self._events)

    def wait_for_events(self, count: int = 1, *, timeout: float = WAIT) -> list[Json]:
        """Block until this many events have come from clients.

        Raises:
            TimeoutError: Fewer came within `timeout` seconds.
        """
        self._wait(lambda: len(self._events) >= count, f"{count} events", lambda: f"{len(self._events)} came", timeout)
        return self.events

    async def async_wait_for_events(self, count: int = 1, *, timeout: float = WAIT) -> list[Json]:
        """As `wait_for_events`, without blocking the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.wait_for_events(count, timeout=timeout))

    # In the server's thread.

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Address]:
        try:
            from websockets.asyncio.server import serve
        except ImportError as error:
            raise MissingDependencyError(
                "tracer.testing.FakeWebSockets", package="websockets", extra="testing"
            ) from error
        options: Json = {"compression": None, "max_size": None, "close_timeout": 1, "process_request": self._admit}
        async with serve(self._play, *self._address, **options) as server:
            yield next(iter(server.sockets)).getsockname()[:2]

    def _admit(self, websocket: ServerConnection, request: Request) -> Response | None:
        return websocket.respond(self._refusals.popleft(), "refused") if self._refusals else None

    async def _play(self, websocket: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        connection = FakeConnection(websocket, self._record)
        with self._changed:
            self._connections += 1
        default = _realtime.respond if connection.path.endswith("/responses") else _realtime.converse
        with suppress(ConnectionClosed):  # the client has gone
            await (self._script.popleft() if self._script else default)(connection)

    def _record(self, event: Json) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
