"""A client that leaves before it is answered: what was begun for it is cancelled."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Leaving"]

_READING = ("GET", "HEAD")


class Leaving:
    """The middleware. A request that only reads is cancelled when its client closes the connection, and its query too.

    Otherwise the query would run on for nobody, and the next request would wait for it. A request that changes
    something is left to its end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _READING:
            await self._app(scope, receive, send)
            return
        task, gone = asyncio.current_task(), asyncio.Event()
        assert task is not None
        told = False

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass  # a body, which means nothing here
            gone.set()
            task.cancel()

        async def receive_nothing() -> Message:
            nonlocal told
            if not told:
                told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, receive_nothing, send)
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
        finally:
            watching.cancel()
