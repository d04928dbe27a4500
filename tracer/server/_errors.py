"""Errors in one shape: ``{"error": {"code", "message"}}`` for programs, a page for people."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracer._exceptions import (
    ConfigurationError,
    MediaNotFoundError,
    MissingDependencyError,
    ReadTimeoutError,
    StoreError,
    TraceNotFoundError,
    TracerError,
)
from tracer.server._templates import render

__all__ = ["HANDLERS", "SessionNotFoundError", "error_response", "fault_response", "status_of", "wants_json"]

logger = logging.getLogger("tracer")


class SessionNotFoundError(TracerError, LookupError):
    """No trace of this session is stored."""


_CODES: dict[type[TracerError], tuple[int, str]] = {
    ConfigurationError: (400, "invalid_request"),
    TraceNotFoundError: (404, "trace_not_found"),
    MediaNotFoundError: (404, "media_not_found"),
    SessionNotFoundError: (404, "session_not_found"),
    MissingDependencyError: (501, "missing_dependency"),
    ReadTimeoutError: (503, "read_timeout"),
    StoreError: (503, "store_unavailable"),
}


def wants_json(path: str) -> bool:
    """Tell whether this path is for programs."""
    return path == "/api" or path.startswith(("/api/", "/v1/"))


def error_response(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Answer with an error, as JSON below ``/api`` and as a page elsewhere."""
    if wants_json(request.url.path):
        return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
    return render(request, "error.html", status=status, headers=headers, code=code, message=message)


def status_of(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and the code for one of tracer's errors."""
    kind = next((kind for kind in type(error).__mro__ if kind in _CODES), None)
    return _CODES[kind] if kind else (500, "internal")


async def _on_tracer_error(request: Request, error: Exception) -> Response:
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
