"""Which HTTP operations are traced, and as what.

The table is keyed by what the resource methods hand to ``BaseClient.request``: method and relative path, before
Azure rewrites it (span-semantics: "Operations").
"""

from __future__ import annotations

import functools
import re

import msgspec

from tracer._models import SpanType

__all__ = ["Operation", "find_operation"]


class Operation(msgspec.Struct, frozen=True):
    """One kind of call.

    Attributes:
        key: Picks the interpreter (`tracer.interpret`).
        resource: The SDK's resource class, which names the span.
        name: ``gen_ai.operation.name``; None where the conventions have none.
        only_streamed: Traced only when it streams (polling a response is no model call).
    """

    key: str
    resource: str
    span_type: str
    name: str | None
    only_streamed: bool = False

    @property
    def async_resource(self) -> str:
        """The name of the resource's async class."""
        return f"Async{self.resource}"


_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/chat/completions"): Operation("chat", "Completions", SpanType.CHAT_MODEL, "chat"),
    ("post", "/responses"): Operation("responses", "Responses", SpanType.CHAT_MODEL, "chat"),
    ("post", "/responses/compact"): Operation("responses", "Responses", SpanType.CHAT_MODEL, "chat"),
    ("get", "/responses/{id}"): Operation("responses", "Responses", SpanType.CHAT_MODEL, "chat", only_streamed=True),
    ("post", "/completions"): Operation("completions", "Completions", SpanType.LLM, "text_completion"),
    ("post", "/embeddings"): Operation("embeddings", "Embeddings", SpanType.EMBEDDING, "embeddings"),
}
_RESPONSE_ID = re.compile(r"^/responses/[^/]+$")


@functools.lru_cache(maxsize=1024)
def find_operation(method: str, url: str) -> Operation | None:
    """Return what a request is, or None if it is not traced."""
    method, path = method.lower(), "/" + url.partition("?")[0].strip("/")
    if method == "get" and _RESPONSE_ID.match(path):
        path = "/responses/{id}"
    return _OPERATIONS.get((method, path))
