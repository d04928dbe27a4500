"""``mlflow.tracing``: recording switched on and off, and what traces have from their start."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tracer
from tracer.mlflow._refusing import refuse_given
from tracer.mlflow.exceptions import raises_mlflow
from tracer.mlflow.tracing import constant, distributed
from tracer.mlflow.tracing.constant import SpanAttributeKey
from tracer.mlflow.tracing.distributed import (
    get_tracing_context_headers_for_http_request,
    set_tracing_context_from_http_request_headers,
)
from tracer.spans.live_span import LiveSpan

__all__ = [
    "configure",
    "constant",
    "context",
    "disable",
    "disable_notebook_display",
    "distributed",
    "enable",
    "enable_notebook_display",
    "get_tracing_context_headers_for_http_request",
    "reset",
    "set_span_chat_tools",
    "set_tracing_context_from_http_request_headers",
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


@raises_mlflow
def configure(span_processors: list[Any] | None = None) -> AbstractContextManager[None]:
    """Refuse span processors: ``tracer.configure(redact=…)`` changes what is stored. Without them nothing changes."""
    refuse_given("tracing.configure", span_processors=span_processors or None)
    return nullcontext()


def set_span_chat_tools(span: LiveSpan, tools: list[Any]) -> None:
    """Note on a span which tools a model could call: dicts as the chat API has them, or its objects."""
    span.set_attribute(SpanAttributeKey.CHAT_TOOLS, tools)


def disable_notebook_display() -> None:
    """Do nothing: a trace shows itself in a notebook only where it is a cell's value."""


def enable_notebook_display() -> None:
    """Do nothing: see `disable_notebook_display`."""
