"""What is sent to the server: ``POST /api/ingest`` and ``POST /api/store/{method}``, with limits before work.

Every answer comes after the commit. A batch that is sent again, because its answer was lost, is not written again
(`Batch.once`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tracer._exceptions import ConfigurationError, StoreError
from tracer.assembly.raw_batches import interpret
from tracer.pipeline._error_log import ErrorLog
from tracer.server._batch_checks import check_records, check_rows, read_batch
from tracer.server._errors import RefusedError
from tracer.server._metrics import Metrics
from tracer.server._security import grant_of
from tracer.server._source import store_of
from tracer.server.tokens import Grant
from tracer.store.batch import Batch
from tracer.store.http.encodings import BodyTooLargeError, EncodingError, decompress, encodings
from tracer.store.raw import Learnt, RawBatch
from tracer.store.wire import (
    CONTENT_TYPE,
    MAX_COMPRESSED,
    MAX_UNPACKED,
    METHODS,
    VERSION_HEADER,
    VERSIONS,
    encode,
    read_arguments,
)

__all__ = ["MAX_IN_FLIGHT", "ROUTES", "Intake"]

T = TypeVar("T")
MAX_IN_FLIGHT = 256 * 1024 * 1024  # bytes of bodies, compressed and unpacked, that are being worked on
MAX_ARGUMENTS = 1024 * 1024  # bytes of a call's arguments
_SMALL = 64 * 1024  # a body that is unpacked at once; others are unpacked in a thread


class Intake:
    """What the requests of one server share. Belongs to its event loop.

    Attributes:
        writing: Held while a batch is written: a store takes one at a time.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.writing = asyncio.Lock()
        self.metrics = metrics
        self._unpacking = asyncio.Semaphore(2)  # each may make MAX_UNPACKED bytes before they are counted
        self._buckets: dict[str, tuple[float, float]] = {}
        self._errors = ErrorLog()

    @contextlib.contextmanager
    def room(self) -> Iterator[_Taken]:
        """Count the bytes of one request until the block ends."""
        taken = _Taken(self.metrics)
        try:
            yield taken
        finally:
            self.metrics.in_flight -= taken.size

    async def unpack(self, body: bytes, encoding: str) -> bytes:
        """Undo the Content-Encoding. Raises RefusedError."""
        try:
            if len(body) < _SMALL and encoding in ("", "identity"):
                return body
            async with self._unpacking:
                return await anyio.to_thread.run_sync(decompress, body, encoding, MAX_UNPACKED)
        except BodyTooLargeError as error:
            raise RefusedError(413, "too_large", str(error)) from None
        except EncodingError as error:
            raise RefusedError(415, "unknown_encoding", str(error)) from None

    def interpret(self, batch: Batch, raw: RawBatch) -> tuple[Batch, Learnt]:
        """Return a batch of records as rows, and what its sender must know. Raises RefusedError: one is no record."""
        rows, learnt = interpret(batch, raw, self._errors.report)
        if "undecodable" in learnt.counts:
            check_records(raw)
        return rows, learnt

    def pass_rate(self, grant: Grant | None, spans: int) -> None:
        """Count spans against a token's rate; what one batch has too many, the next pays for. Raises RefusedError."""
        if grant is None or grant.rate is None or not spans:
            return
        now = time.monotonic()
        left, then = self._buckets.get(grant.id, (grant.rate, now))
        left = min(grant.rate, left + (now - then) * grant.rate)
        if left <= 0:
            self._buckets[grant.id] = (left, now)
            message = f"this token may write {grant.rate:g} spans a second"
            raise RefusedError(429, "rate_exceeded", message, retry_after=max(-left, 1.0) / grant.rate)
        self._buckets[grant.id] = (left - spans, now)


class _Taken:
    def __init__(self, metrics: Metrics) -> None:
        self.size = 0
        self._metrics = metrics

    def add(self, size: int) -> None:
        if self._metrics.in_flight + size > MAX_IN_FLIGHT:
            raise RefusedError(503, "busy", "the server has too much to do at the moment", retry_after=1.0)
        self.size += size
        self._metrics.in_flight += size


async def ingest(request: Request) -> Response:
    """Store a batch."""
    intake: Intake = request.app.state.intake
    with intake.room() as room:
        body = await _body(request, room, MAX_COMPRESSED)
        encoding = request.headers.get("content-encoding", "").strip().lower()
        unpacked = await intake.unpack(body, encoding)
        if unpacked is not body:
            room.add(len(unpacked))
        batch = read_batch(unpacked)
        answer: object = None
        if batch.raw is not None:
            batch, answer = await anyio.to_thread.run_sync(intake.interpret, batch, batch.raw)
        check_rows(batch)
        intake.pass_rate(grant_of(request), len(batch.spans))
        store = await store_of(request)
        began = time.monotonic()
        async with intake.writing:
            try:
                await store.write(batch)
            except StoreError as error:
                if "Integrity" in type(error.__cause__).__name__:  # PEP 249: not the store is at fault, but the batch
                    raise RefusedError(422, "bad_record", str(error), index=0) from error
                raise
        intake.metrics.wrote(len(batch.spans), len(body), len(unpacked), time.monotonic() - began)
    accepted = {"Accept-Encoding": ", ".join(encodings())}  # RFC 9110, 12.5.3: what the next body may be in
    return Response(encode(len(batch.spans) if answer is None else answer), media_type=CONTENT_TYPE, headers=accepted)


async def call_store(request: Request) -> Response:
    """Call a method of the store."""
    method = METHODS.get(request.path_params["method"])
    if method is None:
        raise RefusedError(404, "unknown_method", f"this server has no method {request.path_params['method'][:40]!r}")
    given = request.headers.get(VERSION_HEADER, "")
    if given not in map(str, VERSIONS):
        known = ", ".join(map(str, VERSIONS))
        raise RefusedError(422, "unknown_version", f"this server speaks version {known}, got version {given[:20]!r}")
    intake: Intake = request.app.state.intake
    with intake.room() as room:
        body = await _body(request, room, MAX_ARGUMENTS)
    try:
        arguments = read_arguments(method, body)
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise ConfigurationError(f"the arguments of {method.name} can't be read: {error}") from None
    store = await store_of(request)
    called = getattr(store, method.name)(**arguments)
    result = await (_unless_left(request, called) if method.scope == "read" else called)
    return Response(encode(result), media_type=CONTENT_TYPE)


async def _body(request: Request, room: _Taken, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        room.add(len(piece))
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too_large", f"a body must have at most {limit:,} bytes as it is sent")


async def _unless_left(request: Request, reading: Awaitable[T]) -> T:
    """Return the result; cancel it, and its query, when the client closes the connection."""
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    task = asyncio.ensure_future(reading)
    watching = asyncio.create_task(watch())
    try:
        return await task
    except asyncio.CancelledError:
        if has_left:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
        task.cancel()


ROUTES = (
    Route("/api/ingest", ingest, methods=["POST"]),
    Route("/api/store/{method}", call_store, methods=["POST"]),
)
