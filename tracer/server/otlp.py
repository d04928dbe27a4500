"""``POST /v1/traces`` and ``/v1/logs``: spans of other instrumentations, by OpenTelemetry's protocol (OTLP/HTTP).

(https://opentelemetry.io/docs/specs/otlp/#otlphttp). An answer is sent when the spans are stored. Spans that can't be
stored are named in ``partial_success``; the others are stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracer._exceptions import ReadTimeoutError, TracerError, TransientStoreError
from tracer.assembly.foreign_spans import make_batch
from tracer.otlp.installed import check_installed
from tracer.otlp.received import JSON, PROTOBUF, Received, read_logs, read_spans
from tracer.server._errors import status_of
from tracer.server._source import store_of
from tracer.store.batch import Batch
from tracer.store.process import current_process

__all__ = ["ROUTES", "check_installed"]

_MOST_BODY = 32 * 1024 * 1024
_MOST_UNPACKED = 64 * 1024 * 1024
_SHOWN = 3  # reasons for refused spans, in an answer
_RETRY_SECONDS = "2"


async def receive_traces(request: Request) -> Response:
    """Store the spans of an ExportTraceServiceRequest, in protobuf or JSON, which may be compressed with gzip."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()

    def refuse(count: int) -> None:
        answer.partial_success.rejected_spans = count

    return await _receive(request, read_spans, answer, refuse)


async def receive_logs(request: Request) -> Response:
    """Store what an ExportLogsServiceRequest says of spans."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    answer = ExportLogsServiceResponse()

    def refuse(count: int) -> None:
        answer.partial_success.rejected_log_records = count

    return await _receive(request, read_logs, answer, refuse)


async def _receive(
    request: Request, read: Callable[[bytes, str], Received], answer: Any, refuse: Callable[[int], None]
) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        received, batch = await anyio.to_thread.run_sync(_rows, read, await _body(request), kind)
        if received.spans:
            await (await store_of(request)).write(batch)
    except HTTPException as error:
        return _failure(kind, error.status_code, error.detail)
    except TracerError as error:
        return _failure(kind, 415 if kind not in (PROTOBUF, JSON) else status_of(error)[0], str(error), error)
    if received.refused:
        refuse(len(received.refused))
        answer.partial_success.error_message = "; ".join(received.refused[:_SHOWN])
    return _encoded(kind, answer)


def _rows(read: Callable[[bytes, str], Received], body: bytes, kind: str) -> tuple[Received, Batch]:
    """Do what may take a second, in a thread, while the loop serves others."""
    received = read(body, kind)
    return received, make_batch(received.spans, current_process())


async def _body(request: Request) -> bytes:
    """Return the request's body, unpacked. Raises HTTPException if it is too large, or packed in an unknown way."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _MOST_BODY:
            raise HTTPException(413, f"a request must have at most {_MOST_BODY:,} bytes")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return bytes(content)
    if coding != "gzip":
        raise HTTPException(415, f"Content-Encoding must be gzip, or none, got {coding[:40]!r}")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(content, _MOST_UNPACKED)
    except zlib.error as error:
        raise HTTPException(400, f"the body is not gzip: {error}") from None
    if unpacker.unconsumed_tail:
        raise HTTPException(413, f"a request must have at most {_MOST_UNPACKED:,} bytes when it is unpacked")
    if not unpacker.eof:
        raise HTTPException(400, "the body is not gzip: it ends too early")
    return unpacked


def _failure(kind: str, status: int, message: str, error: TracerError | None = None) -> Response:
    """Answer with a google.rpc.Status, as OTLP asks for; what may be tried again says so."""
    from google.rpc.status_pb2 import Status

    headers = {}
    if isinstance(error, (TransientStoreError, ReadTimeoutError)):
        headers["Retry-After"] = _RETRY_SECONDS
    return _encoded(kind, Status(message=message), status, headers)


def _encoded(kind: str, message: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    from google.protobuf.json_format import MessageToJson

    if kind == JSON:
        return Response(MessageToJson(message, indent=None), status, headers, JSON)
    return Response(message.SerializeToString(), status, headers, PROTOBUF)


ROUTES = (
    Route("/v1/traces", receive_traces, methods=["POST"]),
    Route("/v1/logs", receive_logs, methods=["POST"]),
)
