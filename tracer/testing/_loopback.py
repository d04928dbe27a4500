"""What the fake servers have in common: a thread and an event loop of their own, an address, clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import anyio.to_thread

if TYPE_CHECKING:
    from types import TracebackType

    import openai
    from typing_extensions import Self

__all__ = ["WAIT", "Address", "LoopbackServer"]

WAIT = 5.0  # seconds that a test waits for what it expects

Address = tuple[str, int]


class LoopbackServer:
    """A server on loopback in a thread of its own, so that callers may use asyncio, trio or no event loop.

    Subclasses define in `_listening` what it serves. All methods may be called from any thread.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._changed = threading.Condition()
        self._clients: list[openai.OpenAI] = []
        self._async_clients: list[openai.AsyncOpenAI] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    # Life.

    def start(self) -> Self:
        """Listen; returns when clients can connect."""
        if self._thread is not None:
            raise RuntimeError(f"this {type(self).__name__} is already running")
        ready: Future[Address] = Future()
        thread = threading.Thread(target=self._run, args=(ready,), name="tracer-fake-openai", daemon=True)
        thread.start()
        self._address = ready.result()
        self._thread = thread
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; replies that are being sent are cut. May be called again."""
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

    def _close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    # Where it is, and clients for it.

    @property
    def url(self) -> str:
        """The server's root, such as `http://127.0.0.1:4711`; Azure's `azure_endpoint`."""
        host, port = self._address
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """The API's address for the client's `base_url`, such as `http://127.0.0.1:4711/v1`."""
        return f"{self.url}/v1"

    def env(self) -> dict[str, str]:
        """Environment variables that point the `openai` package here, for subprocesses."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": "sk-fake"}

    def client(self, **options: Any) -> openai.OpenAI:
        """A client for this server; closed on exit, if the caller has not closed it."""
        import openai

        client = openai.OpenAI(**{**self._client_options(), **options})
        self._clients.append(client)
        return client

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        """An async client for this server; `async with` closes it on exit, otherwise the caller must."""
        import openai

        client = openai.AsyncOpenAI(**{**self._client_options(), **options})
        self._async_clients.append(client)
        return client

    def _client_options(self) -> dict[str, Any]:
        return {"base_url": self.base_url, "api_key": "sk-fake"}

    # What happened.

    def _wait(self, predicate: Callable[[], bool], what: str, state: Callable[[], str], timeout: float) -> None:
        """Block until the predicate is true; `_changed` is notified of each change. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                raise TimeoutError(f"waited {timeout:g} s for {what}; {state()}")

    # In the server's thread.

    def _listening(self) -> AbstractAsyncContextManager[Address]:
        """Serve while the block lasts; yield the address. `start` raises any error from before that."""
        raise NotImplementedError

    def _run(self, ready: Future[Address]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[Address]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with self._listening() as address:
            ready.set_result(address)
            await self._stopping.wait()
