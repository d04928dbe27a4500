"""Sends spans to a receiver of OTLP, in requests that it can take, and says what became of each span.

(https://opentelemetry.io/docs/specs/otlp/). A request is sent once: whoever calls decides when to try again.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from tracer._http import import_modules as http_modules
from tracer.otlp._sender import PartialSuccess, RejectedError, Sender, StoppedError, TryLaterError
from tracer.otlp.endpoint import Endpoint
from tracer.otlp.outgoing import Outgoing, encode_span, make_request

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

__all__ = [
    "Delivered", "PartialSuccess", "RejectedError", "Sender", "StoppedError", "TryLaterError", "deliver",
    "import_modules", "make_sender",
]  # fmt: skip

MAX_BYTES = 3_500_000  # of one request: gRPC servers take 4 MiB unless they are told otherwise
SECONDS = 10.0  # for an answer, as OpenTelemetry's own exporters wait


class Delivered(msgspec.Struct):
    """What became of some spans.

    Attributes:
        spans: They need not be sent any more.
        refused: How many of them the receiver did not take, and why.
    """

    spans: list[Outgoing]
    refused: int = 0
    reason: str = ""


def make_sender(endpoint: Endpoint, headers: Mapping[str, str]) -> Sender:
    """Return what sends to an endpoint. It connects when it is first used."""
    if endpoint.is_grpc:
        from tracer.otlp._over_grpc import GrpcSender

        return GrpcSender(endpoint, headers)
    from tracer.otlp._over_http import HttpSender

    return HttpSender(endpoint, headers)


def import_modules(endpoint: Endpoint) -> None:
    """Import what sending to an endpoint needs: in a set-up call, and not later in the worker's thread."""
    make_request([])
    if endpoint.is_grpc:
        for name in ("tracer.otlp._over_grpc", "grpc.aio", "google.rpc.error_details_pb2"):
            importlib.import_module(name)
        importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    else:
        importlib.import_module("tracer.otlp._over_http")
        http_modules()
    importlib.import_module("google.rpc.status_pb2")


async def deliver(
    sender: Sender,
    spans: Iterable[Outgoing],
    keys: tuple[str, ...],
    done: Callable[[Delivered], Awaitable[None]],
    *,
    offer: Callable[[], None] = lambda: None,
    seconds: float = SECONDS,
) -> None:
    """Send spans, and tell of each request that was taken or refused for good.

    Args:
        sender: Where they go.
        spans: Any number of them; what is too much for one request is sent in several.
        keys: Whose keys are sent beside OpenTelemetry's.
        done: Called after each request.
        offer: Called after each span, so that the caller can let other threads go first.
        seconds: For the answer to one request.

    Raises:
        TryLaterError: What `done` was not told of is to be sent again.
        StoppedError: Likewise, but not before somebody changes something.
    """
    some: list[tuple[Outgoing, SentSpan]] = []
    size = 0
    for span in spans:
        offer()
        try:
            sent = encode_span(span, keys)
        except Exception as error:  # such as a time before 1970: the others must not wait for it for ever
            await done(Delivered([span], 1, f"{span.span.name!r} can't be encoded: {error}"))
            continue
        if some and size + sent.ByteSize() > MAX_BYTES:
            await _post(sender, some, keys, done, seconds)
            some, size = [], 0
        some.append((span, sent))
        size += sent.ByteSize()
    if some:
        await _post(sender, some, keys, done, seconds)


async def _post(
    sender: Sender,
    some: list[tuple[Outgoing, SentSpan]],
    keys: tuple[str, ...],
    done: Callable[[Delivered], Awaitable[None]],
    seconds: float,
) -> None:
    """Send a request; in halves if it is too large for the receiver."""
    spans = [span for span, _ in some]
    try:
        answer = await sender.post(make_request(some, keys), seconds)
    except RejectedError as error:
        if error.is_too_large and len(some) > 1:
            for half in (some[: len(some) // 2], some[len(some) // 2 :]):
                await _post(sender, half, keys, done, seconds)
            return
        await done(Delivered(spans, len(spans), str(error)))
        return
    await done(Delivered(spans, min(len(spans), max(0, answer.refused)), answer.message))
