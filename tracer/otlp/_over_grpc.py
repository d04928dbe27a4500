"""OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/#otlpgrpc)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracer.otlp._sender import PartialSuccess, RejectedError, StoppedError, TryLaterError
from tracer.otlp.endpoint import Endpoint

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["GrpcSender"]

# The specification's list; RESOURCE_EXHAUSTED only if the receiver says when to come back.
_RETRYABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
_WRONG_PLACE = ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
_DETAILS = "grpc-status-details-bin"


class GrpcSender:
    """A `tracer.otlp.sending.Sender` over gRPC, by grpcio."""

    def __init__(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        import grpc.aio
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

        self._target = endpoint.target
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        if endpoint.is_secure:
            self._channel = grpc.aio.secure_channel(self._target, grpc.ssl_channel_credentials())
        else:
            self._channel = grpc.aio.insecure_channel(self._target)
        stub: Any = TraceServiceStub
        self._export = stub(self._channel).Export
        self._error = grpc.RpcError

    async def post(self, request: ExportTraceServiceRequest, seconds: float) -> PartialSuccess:
        """Send a request."""
        try:
            answer = await self._export(request, timeout=seconds, metadata=self._metadata)
        except self._error as error:
            raise self._meaning(error) from error
        return PartialSuccess(answer.partial_success.rejected_spans, answer.partial_success.error_message)

    def _meaning(self, error: Any) -> Exception:
        code = error.code().name
        words = f"grpc://{self._target} answered {code}: {error.details()}"
        pause = _retry_after(error)
        if code in _RETRYABLE or (code == "RESOURCE_EXHAUSTED" and pause is not None):
            return TryLaterError(words, pause)
        if code in _WRONG_PLACE:
            return StoppedError(words)
        return RejectedError(words, is_too_large=code == "RESOURCE_EXHAUSTED")

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _retry_after(error: Any) -> float | None:
    """Return the seconds that a RetryInfo in the answer asks for."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    for name, value in error.trailing_metadata() or ():
        if name != _DETAILS:
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    delay = info.retry_delay
                    return float(delay.seconds + delay.nanos / 1e9)
        except (DecodeError, TypeError):
            return None
    return None
