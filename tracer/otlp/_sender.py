"""What sends requests, and what can become of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["PartialSuccess", "RejectedError", "Sender", "StoppedError", "TryLaterError"]


class TryLaterError(Exception):
    """The receiver is away, or busy. Trying again may help.

    Attributes:
        retry_after: Seconds that it asked for; None if it did not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoppedError(Exception):
    """The receiver takes nothing before somebody changes something: a token, an address."""


class RejectedError(Exception):
    """The receiver can't take this request, and won't take it the next time either.

    Attributes:
        is_too_large: It may take it in parts.
    """

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


class PartialSuccess(NamedTuple):
    """How many spans of a request the receiver refused, and why."""

    refused: int
    message: str


class Sender(Protocol):
    """A connection to one receiver. Belongs to one event loop."""

    async def post(self, request: ExportTraceServiceRequest, seconds: float) -> PartialSuccess:
        """Send a request. Raises TryLaterError, StoppedError or RejectedError."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
