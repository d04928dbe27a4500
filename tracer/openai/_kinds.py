"""Which class watches a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracer.openai._calls import Call
from tracer.openai._embeddings import EmbeddingsCall
from tracer.openai._jobs import JobCall, Poll
from tracer.openai._media import MediaCall
from tracer.openai._operations import Kind, Operation

__all__ = ["call_class"]

_CLASSES: dict[Kind, type[Call]] = {
    "call": Call,
    "job": JobCall,
    "media": MediaCall,
    "poll": Poll,
    "vectors": EmbeddingsCall,
}


def call_class(operation: Operation, request_options: Any, *, streamed: bool) -> type[Call]:
    """Return the class that watches a call.

    Args:
        operation: What the request is.
        request_options: What ``BaseClient.request`` was called with.
        streamed: The caller asked for a stream.
    """
    kind = operation.kind
    if kind == "background":
        return JobCall if _runs_in_background(request_options) else Call
    return JobCall if kind == "poll" and streamed else _CLASSES[kind]


def _runs_in_background(request_options: Any) -> bool:
    """Tell whether a request starts a job. What stands in ``extra_body`` replaces what the method was given."""
    extra = request_options.extra_json
    body = request_options.json_data
    if extra and isinstance(extra, Mapping) and "background" in extra:
        body = extra
    # A dict is told from other mappings first, since that is quicker.
    return bool((type(body) is dict or isinstance(body, Mapping)) and body.get("background"))
