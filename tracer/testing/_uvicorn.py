"""uvicorn's HTTP protocol without its server: no signal handlers, no ticks, no log lines."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["Connections"]

# Connections are cut on purpose, which uvicorn would log as errors. This logger has no parent, so a program that runs
# its own uvicorn keeps its loggers as they are.
_SILENT = logging.Logger("tracer.testing", level=logging.CRITICAL + 1)


class _Protocol(H11Protocol):
    """A connection whose application can reach the transport, to cut it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _SILENT
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        # asyncio sets this only for sockets made with IPPROTO_TCP, which socket.create_server does not use. Without it,
        # Nagle's algorithm and delayed acknowledgements cost 40 ms a reply.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Connections:
    """The open connections of one application."""

    def __init__(self, app: Any) -> None:
        # No log_config and no log_level: either would set up logging for the whole process.
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=None,
            access_log=True,
            proxy_headers=False,
            timeout_keep_alive=60,
        )
        self._config.load()
        self._state = ServerState()

    def open(self) -> asyncio.Protocol:
        """A protocol for a new connection; the factory that `loop.create_server` takes."""
        return _Protocol(config=self._config, server_state=self._state, app_state={})

    async def aclose(self) -> None:
        """Cut what is still being answered and close every connection."""
        for connection in list(self._state.connections):
            connection.transport.abort()
        # The loop's next turn closes the sockets and tells the applications. Otherwise they would answer with a 500
        # when they are cancelled.
        await asyncio.sleep(0)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
