"""Embeddings: ``POST /embeddings``."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.interpret._json import as_dicts
from tracer.interpret._params import read_params
from tracer.interpret._views import RequestView, ResponseView
from tracer.interpret.choices import read_head
from tracer.interpret.completions import prompt_texts
from tracer.interpret.usage import usage_attributes

__all__ = ["decode_response", "read_request", "read_response"]

_FLOAT32_BYTES = 4


def read_request(body: dict[str, Any], view: RequestView) -> None:
    """Fill in parameters, preview and text of a request."""
    read_params(body, view)
    if encoding := body.get("encoding_format"):
        view.attributes[sc.REQUEST_ENCODING_FORMATS] = [encoding]
    view.preview, view.text = prompt_texts(body.get("input"), "inputs")


def read_response(body: dict[str, Any], view: ResponseView) -> None:
    """Fill in what a response says: how many vectors of how many dimensions."""
    read_head(body, view)
    if view.usage is not None and not view.usage["input_tokens"]:  # Voyage, Jina: only the total, which is all input
        view.usage["input_tokens"] = view.usage["total_tokens"]
        view.attributes.update(usage_attributes(view.usage))
    vectors = as_dicts(body.get("data"))
    if not vectors:
        return
    dimensions = _dimensions(vectors[0].get("embedding"))
    if dimensions:
        view.attributes[sc.EMBEDDINGS_DIMENSION_COUNT] = dimensions
    view.preview = f"{len(vectors)} × {dimensions}" if dimensions else f"{len(vectors)}"
    view.finish = view.finish or "completed"


def _dimensions(embedding: Any) -> int:
    """Count a vector's dimensions; base64 holds 32-bit floats."""
    if type(embedding) is list:
        return len(embedding)
    if type(embedding) is str:
        return (len(embedding) * 3 // 4 - embedding[-2:].count("=")) // _FLOAT32_BYTES
    return 0


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    model: Any = None
    usage: Any = None
    id: Any = None
    object: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Vectors)


def decode_response(data: bytes) -> dict[str, Any]:
    """Decode a response without its numbers, except those of the first vector.

    A batch holds millions of numbers, and decoding holds the GIL the whole time.

    Raises:
        msgspec.DecodeError: The body is not what the API documents: decode it whole.
    """
    found = _decoder.decode(data)
    body = {name: getattr(found, name) for name in ("model", "usage", "id", "object", "error")}
    first = [{"embedding": msgspec.json.decode(vector.embedding)} for vector in found.data[:1]]
    return {**body, "data": first + [{}] * (len(found.data) - 1)}
