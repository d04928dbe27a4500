"""How a payload goes over the wire, faults and all."""

from __future__ import annotations

import asyncio
import enum
import zlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from tracer.testing._answer import Json
from tracer.testing._wire import DONE, Payload, frame
from tracer.testing.reply import Reply

__all__ = ["Headers", "Receive", "Send", "Step", "Transmission", "body_steps", "wire_pieces"]

Headers = list[tuple[bytes, bytes]]
_Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[_Message]]
Send = Callable[[_Message], Awaitable[None]]


class Step(enum.Enum):
    """What may happen between two writes."""

    HOLD = enum.auto()
    CUT = enum.auto()


def wire_pieces(reply: Reply, payload: Payload, *, named: bool) -> list[bytes]:
    """The body's pieces as they are sent: with the reply's error, without `[DONE]`, or compressed, as the reply says.

    `named` says that errors are events of the Responses API.
    """
    pieces = list(payload.pieces)
    if reply.fail_after is not None:
        count, error = reply.fail_after
        pieces = [*pieces[:count], _error_frame(error, count, named=named)]
    if not reply.done and pieces and pieces[-1] == DONE:
        pieces.pop()
    return list(_compressed(pieces)) if reply.compressed else pieces


def body_steps(reply: Reply, pieces: list[bytes]) -> Iterator[bytes | Step]:
    """What to write, where to wait and where to cut. If there is no cut, the body ends properly."""
    unit, limit = reply.cut_after or ("", 0)
    sent = 0
    for number, piece in enumerate([*pieces, b""]):
        if unit == "events" and number == min(limit, len(pieces)):
            yield Step.CUT
            return
        if reply.hold_after and number == min(reply.hold_after, len(pieces)):
            yield Step.HOLD
        for part in _parts(piece, reply.split_size):
            if unit == "bytes" and sent + len(part) >= limit:
                yield part[: limit - sent]
                yield Step.CUT
                return
            sent += len(part)
            yield part
    if unit == "bytes":
        yield Step.CUT


class Transmission:
    """Sends one reply; gives up as soon as the client has gone.

    Args:
        transport: The connection, to cut it.
        receive: From ASGI; tells when the client has gone.
        send: From ASGI.
        hold: Awaited at the point where the reply is held.
    """

    def __init__(
        self, transport: asyncio.Transport, receive: Receive, send: Send, hold: Callable[[], Awaitable[None]]
    ) -> None:
        self._transport = transport
        self._receive = receive
        self._send = send
        self._hold = hold

    async def run(self, reply: Reply, status: int, headers: Headers, pieces: list[bytes]) -> None:
        """Send a reply with these pieces as its body."""
        if reply.first_delay and not await self._while_connected(asyncio.sleep(reply.first_delay)):
            return
        if reply.hold_after == 0 and not await self._while_connected(self._hold()):
            return
        if reply.cut_after and reply.cut_after[0] == "response":
            self._transport.close()
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        if len(pieces) == 1 and reply.hold_after is None and not (reply.split_size or reply.cut_after):
            await self._send({"type": "http.response.body", "body": pieces[0]})
        else:
            await self._body(reply, pieces)

    async def _body(self, reply: Reply, pieces: list[bytes]) -> None:
        first = True
        for step in body_steps(reply, pieces):
            if step is Step.CUT:
                # close() sends what is buffered first, so the client gets all the bytes before the cut.
                self._transport.close()
                return
            if step is Step.HOLD:
                if not await self._while_connected(self._hold()):
                    return
                continue
            assert isinstance(step, bytes)
            if not first and not await self._between(reply):
                return
            first = False
            await self._send({"type": "http.response.body", "body": step, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _between(self, reply: Reply) -> bool:
        if reply.chunk_delay:
            return await self._while_connected(asyncio.sleep(reply.chunk_delay))
        # One turn of the loop lets these bytes leave as a packet of their own, and gives other connections their turn.
        await asyncio.sleep(0)
        return True

    async def _while_connected(self, waiting: Awaitable[None]) -> bool:
        """Wait for something or for the client to go; returns whether the client is still there."""
        waiter, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(self._departure())
        try:
            await asyncio.wait({waiter, gone}, return_when=asyncio.FIRST_COMPLETED)
            return waiter.done()
        finally:
            waiter.cancel()
            gone.cancel()

    async def _departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _error_frame(error: Json, number: int, *, named: bool) -> bytes:
    if not named:
        return frame({"error": error})
    event = {key: error[key] for key in ("message", "code", "param")}
    return frame({"type": "error", **event, "sequence_number": number}, "error")


def _compressed(pieces: list[bytes]) -> Iterator[bytes]:
    """gzip, flushed at the end of each piece so that a reader need not wait for the next."""
    packer = zlib.compressobj(wbits=31)
    for piece in pieces[:-1]:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.compress(b"".join(pieces[-1:])) + packer.flush()


def _parts(piece: bytes, size: int | None) -> Iterator[bytes]:
    step = size or len(piece) or 1
    return (piece[start : start + step] for start in range(0, len(piece), step))
