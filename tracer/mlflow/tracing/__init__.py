"""``mlflow.tracing``: recording switched on and off, and what traces have from their start."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import tracer
from tracer.mlflow._missing import missing
from tracer.mlflow.tracing import constant
from tracer.spans.context import format_traceparent

__all__ = [
    "constant",
    "context",
    "disable",
    "disable_notebook_display",
    "enable",
    "enable_notebook_display",
    "get_tracing_context_headers_for_http_request",
    "reset",
]


def disable() -> None:
    """Record no trace that begins from now on: ``tracer.configure(enabled=False)``."""
    tracer.configure(enabled=False)


def enable() -> None:
    """Record traces again."""
    tracer.configure(enabled=True)


def reset() -> None:
    """Record traces again: tracer keeps no other state that this could reset."""
    enable()


def context(
    metadata: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    enabled: bool | None = None,
    session_id: str | None = None,
    user: str | None = None,
) -> AbstractContextManager[None]:
    """Give metadata, tags, session and user to the traces that begin in the block: `tracer.context`."""
    return tracer.context(metadata=metadata, tags=tags, enabled=enabled, session_id=session_id, user_id=user)


def get_tracing_context_headers_for_http_request() -> dict[str, str]:
    """Return the ``traceparent`` header of the current span; empty if there is none."""
    span = tracer.get_current_active_span()
    if span is None:
        return {}
    return {"traceparent": format_traceparent(span.trace_id, span.span_id, sampled=span.is_recording)}


def disable_notebook_display() -> None:
    """Do nothing: a trace shows itself in a notebook only where it is a cell's value."""


def enable_notebook_display() -> None:
    """Do nothing: see `disable_notebook_display`."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    missing(f"tracing.{name}")
