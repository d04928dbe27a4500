"""Which class watches a request."""

from __future__ import annotations

from collections.abc import Mapping

from tracer.openai._calls import Call
from tracer.openai._embeddings import EmbeddingsCall
from tracer.openai._jobs import JobCall, Poll
from tracer.openai._media import MediaCall
from tracer.openai._operations import Kind, Operation

__all__ = ["call_class"]

_CLASSES: dict[Kind, type[Call]] = {
    "background": Call,
    "call": Call,
    "job": JobCall,
    "media": MediaCall,
    "poll": Poll,
    "vectors": EmbeddingsCall,
}


def call_class(operation: Operation, body: object, *, streamed: bool) -> type[Call]:
    """Return the class that watches a call.

    Args:
        operation: What the request is.
        body: The request's body as the resource method made it.
        streamed: The caller asked for a stream. A poll that streams is treated like any other call.
    """
    kind = operation.kind
    if kind == "background" and isinstance(body, Mapping) and body.get("background"):
        return JobCall
    return Call if kind == "poll" and streamed else _CLASSES[kind]
