"""Server-sent events: tell open pages that something was stored, so that they look again.

One task checks the store for all pages, and only while a page listens: an idle server does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tracer._exceptions import TracerError
from tracer.server._source import Source
from tracer.store.base import TraceQuery

__all__ = ["ROUTES", "Watch"]

logger = logging.getLogger("tracer")

INTERVAL = 0.5
"""Seconds between two looks at the store while pages listen."""
_SWEEP_LOOKS = 10  # every so many looks, traces whose process is gone are searched for
_HEARTBEAT = 20.0  # seconds between comments that tell a page (and a proxy) that the connection is alive


class Watch:
    """Watches the store for everybody who waits. Belongs to one event loop.

    Attributes:
        version: Grows whenever something was stored.
    """

    def __init__(self, source: Source) -> None:
        self.version = 0
        self._source = source
        self._changed = asyncio.Event()
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._marker: object = None
        self._closed = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Keep looking until the block ends."""
        self._listeners += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    async def next(self, seen: int, timeout: float) -> int | None:
        """Return the version once it differs from `seen`; None if nothing was stored for `timeout` seconds."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            while self.version == seen and not self._closed:
                await asyncio.wait_for(self._changed.wait(), timeout)
        return None if self.version == seen else self.version

    async def aclose(self) -> None:
        """Wake everybody who waits, and stop watching."""
        self._closed = True
        self._tell()
        if self._task is not None:
            self._task.cancel()

    @property
    def closed(self) -> bool:
        """Whether the server is about to stop."""
        return self._closed

    async def _look_on(self) -> None:
        looks = 0
        known = False  # pages have already read what was stored before they listened
        while True:
            with contextlib.suppress(TracerError):  # if the store is gone, the pages say so at their next request
                store = await self._source.ready()
                if looks % _SWEEP_LOOKS == 0:
                    await store.search_traces(TraceQuery(status="IN_PROGRESS", max_results=1, include_spans=False))
                marker, known, knew = await store.change_marker(), True, known
                if knew and marker != self._marker:
                    self.version += 1
                    self._tell()
                self._marker = marker
            looks += 1
            await asyncio.sleep(INTERVAL)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _events(request: Request) -> Response:
    """Stream ``changed`` events. The first one is sent at once, so that a page that slept reloads its data."""
    watch: Watch = request.app.state.watch
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(watch), media_type="text/event-stream", headers=headers)


async def _stream(watch: Watch) -> AsyncIterator[str]:
    with watch.listening():
        seen = watch.version
        yield f"retry: 2000\nevent: hello\ndata: {seen}\n\n"
        while not watch.closed:
            version = await watch.next(seen, _HEARTBEAT)
            if version is None:
                yield ": still here\n\n"
            else:
                seen = version
                yield f"event: changed\ndata: {seen}\n\n"


ROUTES = (Route("/api/live", _events),)
