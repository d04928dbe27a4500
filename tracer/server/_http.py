"""HTTP/1.1 with time limits for requests, which uvicorn does not have: it waits for ever for the rest of a request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Protocol"]

_TOO_SLOW = b"the request did not arrive in time\n"
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b"
) % (len(_TOO_SLOW), _TOO_SLOW)


class Protocol(H11Protocol):
    """One connection. A client that needs too long for the head of a request, or for its body, gets a 408.

    A client that waits for an answer, or that reads one, is not limited. uvicorn bounds the size of a head (64 KiB) and
    what it keeps of a body that nobody reads, and closes a connection that is idle after an answer.

    Attributes:
        head_seconds: From the beginning of the connection, or the end of the last answer, to the end of the head.
        body_seconds: From there to the end of the body.
    """

    head_seconds = 15.0
    body_seconds = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaited: object = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        # asyncio sets this only for sockets made with IPPROTO_TCP, which ours are not. Without it, an answer in two
        # pieces waits 40 ms: for an acknowledgement that the client delays (Nagle's algorithm).
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None, 0)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        """Begin to wait for a head or a body if this is what the connection awaits now, and was not before."""
        state = self.conn.their_state
        if state is not self._awaited:
            self._wait(state, {h11.IDLE: self.head_seconds, h11.SEND_BODY: self.body_seconds}.get(state, 0))

    def _wait(self, awaited: object, seconds: float) -> None:
        self._awaited = awaited
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._end) if seconds else None

    def _end(self) -> None:
        has_begun = self._awaited is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        if has_begun and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            self.transport.write(_ANSWER)
        self.transport.close()
