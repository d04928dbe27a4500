"""OTLP over HTTP, as protobuf (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tracer._http import HttpAnswer, NoAnswerError, Poster
from tracer.otlp._sender import PartialSuccess, RejectedError, StoppedError, TryLaterError
from tracer.otlp.endpoint import Endpoint
from tracer.otlp.received import PROTOBUF

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["HttpSender"]

_RETRYABLE = (429, 502, 503, 504)  # the specification's list; nothing else may be tried again
_WRONG_PLACE = (401, 403, 404, 405, 407)  # not about what was sent, but where and by whom
_TOO_LARGE = 413
_REASON_CHARS = 200


class HttpSender:
    """A `tracer.otlp.sending.Sender` over HTTP. Requests to other machines are compressed with gzip."""

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        self._url = endpoint.target
        self._poster = Poster(endpoint.target)
        self._headers = {"accept": PROTOBUF, **headers, "content-type": PROTOBUF}
        if not self._poster.is_near:
            self._headers["content-encoding"] = "gzip"

    async def post(self, request: ExportTraceServiceRequest, seconds: float) -> PartialSuccess:
        """Send a request."""
        body = request.SerializeToString()
        if not self._poster.is_near:
            packer = zlib.compressobj(1, wbits=31)
            body = packer.compress(body) + packer.flush()
        try:
            answer = await self._poster.post(self._url, self._headers, body, seconds=seconds)
        except NoAnswerError as error:
            raise TryLaterError(f"{self._url} did not answer: {error}") from error
        if 200 <= answer.status < 300:
            return _partial_success(answer)
        words = f"{self._url} answered {answer.status}{_reason(answer)}"
        if answer.status in _RETRYABLE:
            raise TryLaterError(words, answer.retry_after)
        if answer.status in _WRONG_PLACE or 300 <= answer.status < 400:
            raise StoppedError(words)
        raise RejectedError(words, is_too_large=answer.status == _TOO_LARGE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()


def _partial_success(answer: HttpAnswer) -> PartialSuccess:
    """Read what was refused; an answer in any other form says that all was taken."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        told = ExportTraceServiceResponse.FromString(answer.body)
    except DecodeError:
        return PartialSuccess(0, "")
    return PartialSuccess(told.partial_success.rejected_spans, told.partial_success.error_message)


def _reason(answer: HttpAnswer) -> str:
    """Return the message of a google.rpc.Status, which failures should have as their body."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    if not answer.headers.get("content-type", "").startswith(PROTOBUF):
        return ""
    try:
        message = Status.FromString(answer.body).message
    except DecodeError:
        return ""
    return f": {message[:_REASON_CHARS]}" if message else ""
