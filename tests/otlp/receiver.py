"""Receivers of OTLP on loopback, over HTTP and over gRPC, that keep what they got and answer as they are told."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tracer.otlp.received import PROTOBUF, ReceivedSpan, read_spans


class Reply(NamedTuple):
    """An answer: over HTTP the status counts, over gRPC the code."""

    status: int = 200
    code: str = "OK"
    refused: int = 0
    message: str = ""
    retry_after: str | None = None

    @property
    def body(self) -> bytes:
        message: Any = self.answer if self.status == 200 else Status(message=self.message)
        return bytes(message.SerializeToString())

    @property
    def answer(self) -> ExportTraceServiceResponse:
        told = ExportTracePartialSuccess(rejected_spans=self.refused, error_message=self.message)
        return ExportTraceServiceResponse(partial_success=told)


class Receiver:
    """Keeps each request that it gets; takes replies from a list, and then takes everything.

    Attributes:
        url: As an endpoint of tracer.
        requests: The spans of each request, also of those that were refused.
        headers: Of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[list[ReceivedSpan]] = []
        self.headers: list[dict[str, str]] = []
        self.taken: list[ReceivedSpan] = []
        self.replies: list[Reply] = []
        self.decide: Callable[[list[ReceivedSpan]], Reply] = lambda _: Reply()
        self._news = threading.Condition()

    def receive(self, body: bytes, headers: Iterable[tuple[str, str]]) -> Reply:
        received = read_spans(body, PROTOBUF)
        assert not received.refused
        with self._news:
            self.requests.append(received.spans)
            self.headers.append({name.lower(): value for name, value in headers})
            reply = self.replies.pop(0) if self.replies else self.decide(received.spans)
            if reply.status == 200 and reply.code == "OK":
                self.taken += received.spans[reply.refused :]
            self._news.notify_all()
        return reply

    def wait_for(self, condition: Callable[[Receiver], bool], seconds: float = 30.0) -> None:
        """Wait until what was received meets a condition; fail if it never does."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self), seconds), f"got {self.requests!r:.2000}"

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.taken]


@contextmanager
def http_receiver(port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", PROTOBUF)
            reply = receiver.receive(body, self.headers.items())
            self.send_response(reply.status)
            self.send_header("content-type", PROTOBUF)
            self.send_header("content-length", str(len(reply.body)))
            if reply.retry_after is not None:
                self.send_header("retry-after", reply.retry_after)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    import grpc
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import RetryInfo
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
        TraceServiceServicer,
        add_TraceServiceServicer_to_server,
    )

    receiver = Receiver()

    class Servicer(TraceServiceServicer):
        def Export(  # noqa: N802  gRPC names it
            self, request: ExportTraceServiceRequest, context: Any
        ) -> ExportTraceServiceResponse:
            reply = receiver.receive(request.SerializeToString(), context.invocation_metadata())
            if reply.code == "OK":
                return reply.answer
            if reply.retry_after is not None:
                detail = AnyMessage()
                detail.Pack(RetryInfo(retry_delay=Duration(seconds=int(reply.retry_after))))
                status = Status(message=reply.message, details=[detail]).SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", status),))
            context.abort(getattr(grpc.StatusCode, reply.code), reply.message)
            raise AssertionError("abort has raised")

    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    receiver.url = f"grpc://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.stop(None).wait(20)
