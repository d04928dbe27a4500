"""What the server counts, as ``GET /metrics`` (Prometheus' text format), ``GET /healthz``, and the access log."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracer._exceptions import TracerError
from tracer.server._security import grant_of
from tracer.server._source import Source
from tracer.store.wire import METHODS

__all__ = ["ROUTES", "AccessLog", "Metrics"]

access_log = logging.getLogger("tracer.access")
_HEALTH_SECONDS = 2.0
_OWN_PATHS = ("/api/ingest", "/healthz", "/metrics")
_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts since the start of one server."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.batches = self.spans = self.sent_bytes = self.unpacked_bytes = 0
        self.write_seconds = 0.0
        self.requests: Counter[tuple[str, int]] = Counter()
        self.started = time.time()
        self.closing = False

    def wrote(self, spans: int, sent: int, unpacked: int, seconds: float) -> None:
        """Count a batch that was stored, or that had been stored already."""
        self.batches += 1
        self.spans += spans
        self.sent_bytes += sent
        self.unpacked_bytes += unpacked
        self.write_seconds += seconds

    def text(self) -> str:
        """Return all counts, as Prometheus reads them."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, kind, words, value in (
            ("ingest_batches_total", "counter", "Batches that were stored.", self.batches),
            ("ingest_spans_total", "counter", "Rows of spans in them; a start and an end are two.", self.spans),
            ("ingest_bytes_total", "counter", "Bytes of their bodies, as they were sent.", self.sent_bytes),
            ("ingest_unpacked_bytes_total", "counter", "Bytes of their bodies, unpacked.", self.unpacked_bytes),
            ("write_seconds_total", "counter", "Seconds in which they waited and were written.", self.write_seconds),
            ("in_flight_bytes", "gauge", "Bytes of bodies that are being worked on.", self.in_flight),
            ("start_time_seconds", "gauge", "When the server started.", self.started),
        ):
            yield f"# HELP tracer_{name} {words}"
            yield f"# TYPE tracer_{name} {kind}"
            yield f"tracer_{name} {value:.6f}" if isinstance(value, float) else f"tracer_{name} {value}"
        yield "# HELP tracer_requests_total Requests by what was asked and the status of the answer."
        yield "# TYPE tracer_requests_total counter"
        for (route, status), count in sorted(self.requests.items()):
            yield f'tracer_requests_total{{route="{route}",status="{status}"}} {count}'


class AccessLog:
    """The outermost middleware: counts requests, writes a line of JSON for each, and refuses new ones at the end.

    A line has neither a query string nor a header nor a body.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent, received, began = 0, 0, 0, time.monotonic()

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            if self._metrics.closing:
                headers = {"Retry-After": "1"}
                body = {"error": {"code": "closing", "message": "the server is about to stop"}}
                await JSONResponse(body, 503, headers)(scope, receive, counted_send)
            else:
                await self._app(scope, counted_receive, counted_send)
        finally:
            self._metrics.requests[_route(scope), status] += 1
            if access_log.isEnabledFor(logging.INFO):
                access_log.info("%s", _line(scope, status, sent, received, time.monotonic() - began))


def _route(scope: Scope) -> str:
    """Return a word for what was asked, one of few: it becomes a label."""
    path = str(scope["path"])
    if path in _OWN_PATHS or path.removeprefix("/api/store/") in METHODS:
        return path
    return "api" if path.startswith("/api/") else "page"


def _line(scope: Scope, status: int, sent: int, received: int, seconds: float) -> str:
    grant = grant_of(Request(scope))
    client = scope.get("client")
    told = {
        "time": round(time.time(), 3),
        "client": client[0] if client else None,
        "token": None if grant is None else grant.id,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "milliseconds": round(seconds * 1_000, 1),
        "bytes_in": received,
        "bytes_out": sent,
    }
    return json.dumps(told)


async def healthz(request: Request) -> Response:
    """Tell whether the store answers. Needs no token, and says nothing else."""
    source: Source = request.app.state.source
    try:
        with anyio.fail_after(_HEALTH_SECONDS):
            await (await source.ready()).taken_over("healthz")
    except (TracerError, TimeoutError):
        return JSONResponse({"status": "the store does not answer"}, 503)
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Return the counts, for Prometheus."""
    counted: Metrics = request.app.state.intake.metrics
    return Response(counted.text(), media_type=_TYPE)


ROUTES = (Route("/healthz", healthz), Route("/metrics", metrics))
