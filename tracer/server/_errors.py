"""Errors in one shape: ``{"error": {"code", "message"}}`` for programs, a page for people."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracer._exceptions import TracerError
from tracer.server._templates import render
from tracer.store.wire import CODES

__all__ = [
    "HANDLERS",
    "ForbiddenError",
    "RefusedError",
    "SessionNotFoundError",
    "error_response",
    "fault_response",
    "status_of",
    "wants_json",
]

logger = logging.getLogger("tracer")


class SessionNotFoundError(TracerError, LookupError):
    """No trace of this session is stored."""


class ForbiddenError(TracerError):
    """The token does not allow this."""


class RefusedError(TracerError):
    """A request that is not taken, with the HTTP status and the code of the answer.

    Attributes:
        index: The place of the row that is wrong, in its list.
        retry_after: Seconds after which it may be taken.
    """

    def __init__(
        self, status: int, code: str, message: str, *, index: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.index, self.retry_after = status, code, index, retry_after


_CODES: dict[type[TracerError], tuple[int, str]] = {
    **CODES,
    SessionNotFoundError: (404, "session_not_found"),
    ForbiddenError: (403, "forbidden"),
}


def wants_json(path: str) -> bool:
    """Tell whether this path is for programs."""
    return path == "/api" or path.startswith(("/api/", "/v1/", "/healthz", "/metrics"))


def error_response(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    index: int | None = None,
) -> Response:
    """Answer with an error, as JSON below ``/api`` and as a page elsewhere."""
    if wants_json(request.url.path):
        place = {} if index is None else {"index": index}
        return JSONResponse({"error": {"code": code, "message": message, **place}}, status, headers)
    return render(request, "error.html", status=status, headers=headers, code=code, message=message)


def status_of(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and the code for one of tracer's errors."""
    kind = next((kind for kind in type(error).__mro__ if kind in _CODES), None)
    return _CODES[kind] if kind else (500, "internal")


async def _on_tracer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RefusedError):
        headers = {} if error.retry_after is None else {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
        return error_response(request, error.status, error.code, str(error), headers, index=error.index)
    status, code = status_of(error)
    return error_response(request, status, code, str(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code, message = status.phrase.lower().replace(" ", "_"), error.detail
    if status == HTTPStatus.NOT_FOUND and message == status.phrase:
        message = f"there is nothing at {request.url.path}"
    return error_response(request, status, code, message, dict(error.headers or {}))


def fault_response(request: Request, error: Exception) -> Response:
    """Answer after an error in our own code: the error is logged, and the answer says that it is a fault in tracer."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(request, 500, "internal", f"this is a fault in tracer: {type(error).__name__}: {error}")


HANDLERS = {TracerError: _on_tracer_error, HTTPException: _on_http_error}
