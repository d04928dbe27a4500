"""Embeddings: whether the caller got the vectors as floats, or as the base64 that the server sent.

The SDK asks for base64 by itself, since that is shorter, and decodes it. A caller who asks for base64, or for what
compatible servers have beside it (``base64_int8``), gets it as it is; so does one who makes the request by hand.
The requests are the same, so only the SDK's parser of the response tells the two apart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.openai._calls import Call
from tracer.openai._operations import Operation

__all__ = ["EmbeddingsCall"]

PARAMETER, FLOAT = "encoding_format", "float"


class EmbeddingsCall(Call):
    """A call for vectors. If the caller gets them as base64, an attribute says so."""

    __slots__ = ()

    def __init__(self, client: Any, operation: Operation, request_options: Any, *rest: Any) -> None:
        body = request_options.json_data
        wanted = body.get(PARAMETER) if isinstance(body, Mapping) else None  # the SDK itself always names one
        if wanted != FLOAT and not _decodes(request_options.post_parser):
            operation = _as_base64(operation)
        super().__init__(client, operation, request_options, *rest)


@functools.lru_cache(maxsize=8)
def _as_base64(operation: Operation) -> Operation:
    return msgspec.structs.replace(operation, attributes=((sc.BASE64_VECTORS, True),))


def _decodes(parser: Any) -> bool:
    """Tell whether the SDK decodes vectors: it does if its parser was not given an encoding by the caller."""
    if isinstance(parser, functools.partial):
        known = parser.keywords
    else:  # openai before 3.57: a function inside `create`
        names = getattr(getattr(parser, "__code__", None), "co_freevars", ())
        cells = getattr(parser, "__closure__", None) or ()
        known = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
    return PARAMETER in known and not isinstance(known[PARAMETER], str)
