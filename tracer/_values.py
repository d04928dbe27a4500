"""Snapshots of users' values: what ``set_inputs`` or ``@trace`` saw, at the moment it saw it.

One C call for what msgspec knows; objects it does not know become their fields (pydantic) or a bounded ``repr``;
what it refuses altogether (cycles, lone surrogates, integers beyond 64 bits, …) is copied by hand, bounded in
depth, width and length. Never raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tracer._records import Codec, Payload

__all__ = ["encode_attributes", "safe_repr", "safe_str", "snapshot"]

REPR_CHARS = 1_000
MAX_DEPTH = 100
MAX_ITEMS = 100_000

CYCLE = "<cycle>"
TOO_DEEP = "<too deep>"


def snapshot(value: object, limit: int) -> Payload:
    """Return `value` as msgpack, at most about `limit` bytes, with what was left out counted."""
    try:
        data = _encode(value)
    except Exception:  # msgspec raises TypeError, ValueError, UnicodeEncodeError, RecursionError, and what hooks raise
        data = _encode(_Copier(limit).copy(value))
    if len(data) <= limit:
        return Payload(Codec.VALUE, data)
    shortened = _encode(_Copier(limit).copy(value))
    return Payload(Codec.VALUE, shortened, max(1, len(data) - len(shortened)))


def encode_attributes(attributes: Mapping[str, object]) -> dict[str, Any]:
    """Return attributes that any encoder takes: string keys; values as `snapshot` keeps them."""
    copier = _Copier(1_000_000)
    return {safe_str(key): copier.copy(value) for key, value in attributes.items()}


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, bounded, whatever it raises."""
    return _bounded(repr, value)


def safe_str(value: object) -> str:
    """Return ``str(value)``, bounded, whatever it raises."""
    return _bounded(str, value)


def _bounded(render: Callable[[object], str], value: object) -> str:
    try:
        text = _clean(render(value))
    except Exception as error:
        return f"<{type(value).__name__}: {render.__name__}() raised {type(error).__name__}>"
    return text if len(text) <= REPR_CHARS else f"{text[:REPR_CHARS]}… [{len(text) - REPR_CHARS} more characters]"


def _clean(text: str) -> str:
    """Return the text as UTF-8 can hold it: lone surrogates as their escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return str.__str__(text)


def _fields(value: object) -> dict[str, Any] | None:
    """Return a pydantic model's fields, by reference: its own dump costs ten times as much and may warn."""
    if getattr(type(value), "__pydantic_fields__", None) is None and not hasattr(type(value), "__fields__"):
        return None
    extra = getattr(value, "__pydantic_extra__", None)
    return {**vars(value), **extra} if extra else vars(value)


def _hook(value: object) -> Any:
    """Turn what msgspec does not know into what it does."""
    if isinstance(value, str):  # a subclass: Markup, a translation, an enum member of str
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    fields = _fields(value)
    return safe_repr(value) if fields is None else fields


_encode = msgspec.msgpack.Encoder(enc_hook=_hook).encode


class _Copier:
    """Copies a value into plain data by hand. Slow, so only for what the encoder refused or what is too large."""

    def __init__(self, limit: int) -> None:
        self._bytes_left = limit
        self._items_left = MAX_ITEMS
        self._above: set[int] = set()

    def copy(self, value: object, depth: int = 0) -> Any:
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            return int(value) if -(2**63) <= value < 2**64 else safe_str(value)
        if isinstance(value, str):
            return self._cut(_clean(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._cut(bytes(value))
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self._above:
            return CYCLE
        self._above.add(id(value))
        try:
            return self._copy_container(value, depth + 1)
        except Exception:
            return safe_repr(value)
        finally:
            self._above.discard(id(value))

    def _copy_container(self, value: object, depth: int) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        elif not isinstance(value, (Mapping, list, tuple, set, frozenset)):
            value = _fields(value)
        if isinstance(value, Mapping):
            pairs = self._bounded_items(value.items())
            return {safe_str(key): self.copy(item, depth) for key, item in pairs}
        if value is None:
            raise TypeError("no container")
        return [self.copy(item, depth) for item in self._bounded_items(value)]

    def _bounded_items(self, items: Any) -> Any:
        for item in items:
            if self._items_left <= 0 or self._bytes_left <= 0:
                return
            self._items_left -= 1
            yield item

    def _cut(self, text: Any) -> Any:
        kept = text[: max(0, self._bytes_left)]
        self._bytes_left -= len(kept)
        left_out = len(text) - len(kept)
        if left_out and isinstance(text, str):
            return f"{kept}… [{left_out} more characters]"
        return kept
