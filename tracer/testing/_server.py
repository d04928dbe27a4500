"""The fake OpenAI server: uvicorn on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from tracer._exceptions import MissingDependencyError
from tracer.testing._app import API
from tracer.testing._loopback import WAIT, Address, LoopbackServer
from tracer.testing._script import RecordedRequest, ReplySource, Script
from tracer.testing.reply import Reply

if TYPE_CHECKING:
    from tracer.testing._uvicorn import Connections

__all__ = ["FakeOpenAI"]


class FakeOpenAI(LoopbackServer):
    """A server that speaks OpenAI's wire format over real HTTP, on loopback, without a key.

    ::

        with FakeOpenAI() as server, server.client() as client:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
            assert server.requests[-1].path == "/v1/chat/completions"

    Without a script, a small deterministic model answers: it calls tools that fit the question, fills schemas, echoes.
    `enqueue` scripts the next replies. Serves `/v1/chat/completions`, `/v1/responses` (also GET by id),
    `/v1/embeddings`, `/v1/completions`, `/v1/images/*`, `/v1/audio/*`, `/v1/moderations`, `/v1/decisions`,
    `/v1/vector_stores/*/search`, `/v1/videos`, runs of assistants, and the same below `/openai/v1` and Azure's
    `/openai/deployments/{model}`; a scripted reply answers on any path. Jobs (background responses, videos, runs) are
    `queued` at the first look, `in_progress` at the second, ended at the third.

    The server has its own thread and event loop, so callers may use asyncio, trio or no event loop. `with` and
    `async with` both work, as do `start` and `stop`; all methods may be called from any thread.

    Args:
        default: What answers when the script is empty, instead of the small model.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        max_recorded: How many of the latest `requests` are kept.

    Raises:
        MissingDependencyError: On start, when the extra `testing` is not installed.
        OSError: On start, when the port is taken.
    """

    def __init__(
        self, *, default: ReplySource | None = None, host: str = "127.0.0.1", port: int = 0, max_recorded: int = 10_000
    ) -> None:
        super().__init__((host, port))
        self._script = Script()
        self._default = default or Reply()
        self._recorded: deque[RecordedRequest] = deque(maxlen=max_recorded)
        self._received = 0
        self._held = 0
        self._gate: asyncio.Semaphore

    # The script.

    def enqueue(self, *replies: ReplySource, path: str | None = None) -> None:
        """Answer the next requests with these replies, in order.

        Args:
            *replies: Replies, or functions that make one from the request.
            path: Only requests to this path get these replies, before any replies for all paths; `/v1` may be left out.
        """
        self._script.extend(replies, path)

    def script(self, replies: Iterable[ReplySource], *, path: str | None = None) -> None:
        """Enqueue replies; the same as `enqueue(*replies)`."""
        self._script.extend(replies, path)

    @property
    def unused(self) -> int:
        """How many scripted replies no request has taken yet."""
        return len(self._script)

    def release(self, count: int = 1) -> None:
        """Let `count` held replies go on: those that wait now, or else the next ones that will wait."""
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._gate.release)

    def clear(self) -> None:
        """Forget the script and the requests, and let held replies go: the server is then like a new one."""
        self._script.clear()
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._renew_gate)
        with self._changed:
            self._recorded.clear()
            self._received = 0

    # What happened.

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests received, oldest first."""
        with self._changed:
            return list(self._recorded)

    def wait_for_requests(self, count: int = 1, *, timeout: float = WAIT) -> list[RecordedRequest]:
        """Block until this many requests have come in since the start or `clear`.

        Raises:
            TimeoutError: Fewer came within `timeout` seconds.
        """
        self._wait(lambda: self._received >= count, f"{count} requests", self._state, timeout)
        return self.requests

    def wait_for_held(self, count: int = 1, *, timeout: float = WAIT) -> None:
        """Block until exactly this many replies are held; 0 also waits for held replies whose clients went away.

        Raises:
            TimeoutError: This did not happen within `timeout` seconds.
        """
        self._wait(lambda: self._held == count, f"{count} held replies", self._state, timeout)

    async def async_wait_for_requests(self, count: int = 1, *, timeout: float = WAIT) -> list[RecordedRequest]:
        """As `wait_for_requests`, without blocking the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.wait_for_requests(count, timeout=timeout))

    async def async_wait_for_held(self, count: int = 1, *, timeout: float = WAIT) -> None:
        """As `wait_for_held`, without blocking the event loop."""
        await anyio.to_thread.run_sync(lambda: self.wait_for_held(count, timeout=timeout))

    def _state(self) -> str:
        return f"{self._received} requests came, {self._held} replies are held"

    # In the server's thread.

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Address]:
        http = _load_uvicorn()
        self._gate = asyncio.Semaphore(0)
        with socket.create_server(self._address) as listener:
            connections = http(API(self._script, self._default, self._record, self._hold))
            server = await self._loop.create_server(connections.open, sock=listener, backlog=1024)
            yield listener.getsockname()[:2]
            server.close()
            await connections.aclose()

    def _record(self, request: RecordedRequest) -> None:
        with self._changed:
            self._recorded.append(request)
            self._received += 1
            self._changed.notify_all()

    async def _hold(self) -> None:
        self._count_held(1)
        try:
            await self._gate.acquire()
        finally:
            self._count_held(-1)

    def _renew_gate(self) -> None:
        """Let every held reply go, and take back unused permits."""
        gate, self._gate = self._gate, asyncio.Semaphore(0)
        for _ in range(self._held):
            gate.release()

    def _count_held(self, change: int) -> None:
        with self._changed:
            self._held += change
            self._changed.notify_all()


def _load_uvicorn() -> type[Connections]:
    try:
        from tracer.testing import _uvicorn
    except ImportError as error:
        raise MissingDependencyError("tracer.testing.FakeOpenAI", package="uvicorn", extra="testing") from error
    return _uvicorn.Connections
