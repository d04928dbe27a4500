"""The fake OpenAI server: uvicorn on loopback, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from tracer._exceptions import MissingDependencyError
from tracer.testing._app import API
from tracer.testing._script import RecordedRequest, ReplySource, Script
from tracer.testing.reply import Reply

if TYPE_CHECKING:
    from types import TracebackType

    import openai
    from typing_extensions import Self

    from tracer.testing._uvicorn import Connections

__all__ = ["FakeOpenAI"]

_WAIT = 5.0


class FakeOpenAI:
    """A server that speaks OpenAI's wire format over real HTTP, on loopback, without a key.

    ::

        with FakeOpenAI() as server, server.client() as client:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
            assert server.requests[-1].path == "/v1/chat/completions"

    Unscripted, a small deterministic model answers: it calls the tools that fit the question, fills schemas, echoes.
    `enqueue` scripts what comes next. Serves `/v1/chat/completions`, `/v1/responses` (also GET by id),
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
        max_recorded: Of `requests`, the latest so many are kept.

    Raises:
        MissingDependencyError: On start, when the extra `testing` is not installed.
        OSError: On start, when the port is taken.
    """

    def __init__(
        self, *, default: ReplySource | None = None, host: str = "127.0.0.1", port: int = 0, max_recorded: int = 10_000
    ) -> None:
        self._address = (host, port)
        self._script = Script()
        self._default = default or Reply()
        self._recorded: deque[RecordedRequest] = deque(maxlen=max_recorded)
        self._received = 0
        self._held = 0
        self._changed = threading.Condition()
        self._clients: list[openai.OpenAI] = []
        self._async_clients: list[openai.AsyncOpenAI] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._gate: asyncio.Semaphore

    # Life.

    def start(self) -> Self:
        """Listen; returns when requests can be sent."""
        if self._thread is not None:
            raise RuntimeError("this FakeOpenAI is already running")
        http = _load_uvicorn()
        listener = socket.create_server(self._address)
        self._address = listener.getsockname()[:2]
        ready: Future[None] = Future()
        thread = threading.Thread(
            target=self._run, args=(http, listener, ready), name="tracer-fake-openai", daemon=True
        )
        thread.start()
        ready.result()
        self._thread = thread
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; held replies are cut. May be called again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_clients()
        self.stop()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close_clients()
        # Shielded: a cancelled test must not leave the thread and its port behind.
        with anyio.CancelScope(shield=True):
            while self._async_clients:
                await self._async_clients.pop().close()
            await anyio.to_thread.run_sync(self.stop)

    # Where it is, and clients for it.

    @property
    def url(self) -> str:
        """The server's root, such as `http://127.0.0.1:4711`; Azure's `azure_endpoint`."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The API's address, such as `http://127.0.0.1:4711/v1`."""
        return f"{self.url}/v1"

    def env(self) -> dict[str, str]:
        """Environment variables that point the `openai` package here, for subprocesses."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": "sk-fake"}

    def client(self, **options: Any) -> openai.OpenAI:
        """A client for this server; closed on exit, if not by the caller."""
        import openai

        client = openai.OpenAI(**{"base_url": self.base_url, "api_key": "sk-fake", **options})
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        """An async client for this server; `async with` closes it on exit, else the caller must."""
        import openai

        client = openai.AsyncOpenAI(**{"base_url": self.base_url, "api_key": "sk-fake", **options})
        self._async_clients.append(client)
        return client

    # The script.

    def enqueue(self, *replies: ReplySource, path: str | None = None) -> None:
        """Answer the next requests with these replies, in order.

        Args:
            *replies: Replies, or functions that make one from the request.
            path: Only requests to this path take them, before any that are for all paths; `/v1` may be left out.
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
        """Let held replies go on, each `count` times one: those that wait now, or the next that will."""
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._gate.release)

    def clear(self) -> None:
        """Forget the script and the requests, let held replies go: a server as good as new."""
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

    def wait_for_requests(self, count: int = 1, *, timeout: float = _WAIT) -> list[RecordedRequest]:
        """Block until so many requests have come in since the start or `clear`.

        Raises:
            TimeoutError: Fewer came within `timeout` seconds.
        """
        self._wait(lambda: self._received >= count, f"{count} requests", timeout)
        return self.requests

    def wait_for_held(self, count: int = 1, *, timeout: float = _WAIT) -> None:
        """Block until exactly so many replies are held; 0 waits until those whose clients went away are gone too.

        Raises:
            TimeoutError: It was not so within `timeout` seconds.
        """
        self._wait(lambda: self._held == count, f"{count} held replies", timeout)

    async def async_wait_for_requests(self, count: int = 1, *, timeout: float = _WAIT) -> list[RecordedRequest]:
        """As `wait_for_requests`, without blocking the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.wait_for_requests(count, timeout=timeout))

    async def async_wait_for_held(self, count: int = 1, *, timeout: float = _WAIT) -> None:
        """As `wait_for_held`, without blocking the event loop."""
        await anyio.to_thread.run_sync(lambda: self.wait_for_held(count, timeout=timeout))

    def _wait(self, predicate: Callable[[], bool], what: str, timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                state = f"{self._received} requests came, {self._held} replies are held"
                raise TimeoutError(f"waited {timeout:g} s for {what}; {state}")

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    # In the server's thread.

    def _run(self, http: type[Connections], listener: socket.socket, ready: Future[None]) -> None:
        try:
            with listener:
                asyncio.run(self._serve(http, listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, http: type[Connections], listener: socket.socket, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._gate = asyncio.Semaphore(0)
        connections = http(API(self._script, self._default, self._record, self._hold))
        server = await self._loop.create_server(connections.open, sock=listener, backlog=1024)
        ready.set_result(None)
        await self._stopping.wait()
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
        """Let every held reply go, and take back the permits that nobody used."""
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
