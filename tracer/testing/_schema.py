"""Instances of JSON schemas, filled with values from a text: names, numbers, quotations."""

from __future__ import annotations

import math
import re
from typing import Any

from tracer.testing._answer import Json

__all__ = ["Clues", "fill", "proper_names"]

_MAX_DEPTH = 6

_NAME = re.compile(r"(?<!\w)[^\W\d_a-z][\w'’-]*(?: +[^\W\d_a-z][\w'’-]*)*(?:,\s[A-Z]{2}\b)?")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d+)?")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_OPENING_WORDS = (
    "a add an and answer are ask book by calculate call can check compare compute could describe do does draw extract"
    " fetch find for from generate get give hello hey hi how i if in is it list look make multiply my name of on please"
    " roll run say search send show sum summarize tell the then there this to translate use was we what what's when"
    " where which who whose why will with write you"
)
_OPENERS = frozenset(_OPENING_WORDS.split())
_FREE_TEXT = frozenset({"answer", "input", "message", "prompt", "query", "question", "text"})
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def proper_names(text: str) -> list[str]:
    """Names in a text in order, each once: runs of capitalised words, without words that often open a sentence."""
    found: list[str] = []
    for match in _NAME.finditer(text):
        words = match.group().removesuffix("'s").removesuffix("’s").split()
        while words and words[0].lower().replace("’", "'") in _OPENERS:
            words.pop(0)
        if words and words[0][0].isupper() and (name := " ".join(words)) not in found:
            found.append(name)
    return found


class Clues:
    """The values in a text for filling a schema. Each is used once, in order; the last one is used again and again.

    Args:
        text: Searched for numbers and quotations. It also fills string properties that no clue fits.
        names: The names to use instead of those in the text; quotations have priority.
    """

    def __init__(self, text: str, *, names: list[str] | None = None) -> None:
        self.text = text
        self._strings = _QUOTED.findall(text) or (proper_names(text) if names is None else list(names))
        self._numbers = [float(number) for number in _NUMBER.findall(text)]

    def string(self, key: str) -> str:
        """A text for the property `key`."""
        if key.lower() in _FREE_TEXT or not self._strings:
            return self.text or key
        return self._strings.pop(0) if len(self._strings) > 1 else self._strings[0]

    def number(self) -> float:
        """A number; 1 when the text has none."""
        if not self._numbers:
            return 1.0
        return self._numbers.pop(0) if len(self._numbers) > 1 else self._numbers[0]


def fill(schema: Json, clues: Clues) -> Any:
    """A small instance of a JSON schema: its required properties, or all if none is required.

    Knows the keywords that OpenAI's structured outputs allow, except `pattern`.
    """
    return _fill(schema, clues, schema, "", 0)


def _fill(schema: Json, clues: Clues, root: Json, key: str, depth: int) -> Any:
    schema = _resolved(schema, root, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _choice(schema["enum"], clues.text)
    kind = _kind(schema)
    if kind == "object":
        properties = schema.get("properties", {})
        names = schema.get("required", list(properties))
        return {name: _fill(properties.get(name, {}), clues, root, name, depth + 1) for name in names}
    if kind == "array":
        count = max(schema.get("minItems", 0), int(depth < _MAX_DEPTH))
        return [_fill(schema.get("items", {}), clues, root, key, depth + 1) for _ in range(count)]
    return _scalar(kind, schema, clues, key)


def _resolved(schema: Json, root: Json, depth: int) -> Json:
    """The schema with references and alternatives resolved; deep down, to the alternative that ends a recursion."""
    while True:
        if "$ref" in schema:
            schema = {**_lookup(schema["$ref"], root), **{k: v for k, v in schema.items() if k != "$ref"}}
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            nulls = [option for option in alternatives if option.get("type") == "null"]
            schema = nulls[0] if nulls and depth >= _MAX_DEPTH else alternatives[0]
        elif "allOf" in schema:
            rest = {k: v for k, v in schema.items() if k != "allOf"}
            for part in schema["allOf"]:
                rest = {**part, **rest}
            schema = rest
        else:
            return schema


def _lookup(reference: str, root: Json) -> Json:
    found: Any = root
    for part in reference.lstrip("#").strip("/").split("/"):
        found = found[part] if part else found
    return dict(found)


def _kind(schema: Json) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else kind)


def _choice(options: list[Any], text: str) -> Any:
    said = text.lower()
    return next((option for option in options if str(option).lower() in said), options[0])


def _scalar(kind: str, schema: Json, clues: Clues, key: str) -> Any:
    if kind == "string":
        return _string(schema, clues, key)
    if kind in {"number", "integer"}:
        number = _within(clues.number(), schema)
        return int(number) if kind == "integer" else number
    return {"boolean": True}.get(kind)


def _string(schema: Json, clues: Clues, key: str) -> str:
    text = _FORMATS.get(schema.get("format", "")) or clues.string(key)
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _within(number: float, schema: Json) -> float:
    """The number closest to `number` that a schema allows; for an open interval narrower than 1, its middle."""
    step = schema.get("multipleOf")
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    low = max(schema.get("minimum", -math.inf), above + (step or 1))
    high = min(schema.get("maximum", math.inf), below - (step or 1))
    if low > high:
        low = high = (max(schema.get("minimum", above), above) + min(schema.get("maximum", below), below)) / 2
    number = float(min(max(number, low), high))
    if not step:
        return number
    number = number // step * step
    return number if number >= low else number + step
