"""How a payload goes over the wire, faults and all."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator

from tracer.testing._answer import Json
from tracer.testing._wire import DONE, Payload, frame
from tracer.testing.reply import Reply

__all__ = ["Step", "body_steps", "wire_pieces"]


class Step(enum.Enum):
    """What may happen between two writes."""

    HOLD = enum.auto()
    CUT = enum.auto()


def wire_pieces(reply: Reply, payload: Payload, *, named: bool) -> list[bytes]:
    """The body's pieces as they are sent: with the error, without the `[DONE]`, compressed.

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
    """What to write, where to wait and where to cut; an end without a cut is the body's proper end."""
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
