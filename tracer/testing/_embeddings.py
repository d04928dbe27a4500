"""`/embeddings`: vectors of unit length in which texts that share words lie close."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from functools import lru_cache
from typing import Any

from tracer.testing._answer import Json
from tracer.testing._chat import prompt_words
from tracer.testing._wire import RefusedError

__all__ = ["embeddings", "vector"]

_NATIVE_DIMENSIONS = {"text-embedding-3-large": 3072}
_SLOTS_PER_WORD = 16
_NOISE = 0.02


def embeddings(body: Json) -> Json:
    """A list of embeddings, in `float` or `base64` (little-endian 32-bit floats), as the request asks."""
    texts = _texts(body.get("input"))
    dimensions = body.get("dimensions") or _NATIVE_DIMENSIONS.get(body["model"], 1536)
    write = _base64 if body.get("encoding_format") == "base64" else list
    words = prompt_words(body["input"])
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": write(vector(text, dimensions))}
            for index, text in enumerate(texts)
        ],
        "model": body["model"],
        "usage": {"prompt_tokens": words, "total_tokens": words},
    }


@lru_cache(maxsize=1024)
def vector(text: str, dimensions: int) -> tuple[float, ...]:
    """The embedding of a text: each word adds to a few dimensions of its own, and some noise makes all texts differ."""
    noise = hashlib.shake_128(text.encode()).digest(dimensions)
    values = [(byte - 127.5) / 127.5 * _NOISE for byte in noise]
    for word in re.findall(r"\w+", text.lower()):
        for slot in struct.unpack(f"<{_SLOTS_PER_WORD}H", hashlib.shake_128(word.encode()).digest(2 * _SLOTS_PER_WORD)):
            values[slot % dimensions] += 1.0 if slot & 0x8000 else -1.0
    norm = math.sqrt(sum(value * value for value in values))
    return tuple(value / norm for value in values)


def _base64(values: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _texts(given: Any) -> list[str]:
    """One text for each embedding asked for; tokens are written out as text."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise RefusedError("'$.input' is invalid. Please check the API reference.", param="input")
    if isinstance(given[0], int):
        return [" ".join(map(str, given))]
    return [part if isinstance(part, str) else " ".join(map(str, part)) for part in given]
