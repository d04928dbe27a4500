"""Snapshots of users' values: what ``set_inputs`` or ``@trace`` saw, at the moment it saw it.

Plain data takes one C call. If the value contains something that msgspec does not know or refuses (pydantic models,
objects of any other kind, cycles, lone surrogates, integers beyond 64 bits), the whole value is first copied by hand,
bounded in depth and size. Never raises.

The C call takes no ``enc_hook``, because a hook is Python code. While it runs, another thread may run and shorten the
very list that msgspec is walking through. Then msgspec reads freed memory (seen with msgspec 0.22: segmentation fault).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from tracer.capture.records import Codec, Payload
from tracer.capture.text import clean_text, safe_repr, safe_str

__all__ = ["encode_attributes", "snapshot"]

MAX_DEPTH = 100
ITEM_BYTES = 1  # what a list's item or a dict's pair costs at least

CYCLE = "<cycle>"
TOO_DEEP = "<too deep>"

_encode = msgspec.msgpack.Encoder().encode


def snapshot(value: object, limit: int) -> Payload:
    """Return `value` as msgpack, at most about `limit` bytes, and how many bytes were left out."""
    try:
        data = _encode(value)
    except Exception:  # TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError
        data = None
    if data is not None and len(data) <= limit:
        return Payload(Codec.VALUE, data)
    copier = _Copier(limit)
    shortened = _encode(copier.copy(value))
    if data is None or not copier.left_out:
        return Payload(Codec.VALUE, shortened, copier.left_out)
    return Payload(Codec.VALUE, shortened, max(1, len(data) - len(shortened)))


def encode_attributes(attributes: Mapping[str, object], limit: int) -> dict[str, Any]:
    """Return attributes that any encoder accepts, at most about `limit` bytes. Values are kept as in `snapshot`."""
    copier = _Copier(limit)
    return {safe_str(key): copier.copy(value) for key, value in attributes.items()}


class _Copier:
    """Copies a value into plain data. Reads containers with the methods of their built-in type; never reads iterators.

    Attributes:
        left_out: How many bytes of texts, and items of containers, were beyond the limit.
    """

    def __init__(self, limit: int) -> None:
        self.left_out = 0
        self._bytes_left = limit
        self._above: set[int] = set()

    def copy(self, value: object, depth: int = 0) -> Any:
        """Return a copy that msgpack can encode."""
        try:
            return self._copy(value, depth)
        except Exception:  # a user's class may raise anything
            return self._cut(safe_repr(value))

    def _copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if issubclass(kind, str):
            return self._cut(clean_text(value))
        if issubclass(kind, int):
            return self._plain_int(int.__add__(value, 0))
        if issubclass(kind, float):
            return float.__add__(value, 0.0)
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return self._cut_bytes(bytes(value))
        if hasattr(kind, "__pydantic_serializer__") and (dumped := self._dump(value)) is not None:
            return dumped
        items = _contents(value)
        if items is None:
            return self._cut(_describe(value))
        return self._copy_container(value, items, depth + 1)

    def _copy_container(self, value: object, items: Mapping[Any, Any] | list[Any], depth: int) -> Any:
        if depth > MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self._above:
            return CYCLE
        self._above.add(id(value))
        try:
            if isinstance(items, list):
                return [self.copy(item, depth) for item in self._within_limit(items, len(items))]
            pairs = self._within_limit(items.items(), len(items))
            return {self._cut(safe_str(key)): self.copy(item, depth) for key, item in pairs}
        finally:
            self._above.discard(id(value))

    def _dump(self, model: Any) -> msgspec.Raw | None:
        """Encode a pydantic model as it dumps itself; None if its serializers fail or the result is too large."""
        try:
            dumped = model.__pydantic_serializer__.to_python(model, mode="json", warnings=False, fallback=safe_repr)
            data = _encode(dumped)
        except Exception:
            return None
        if len(data) > self._bytes_left:
            return None
        self._bytes_left -= len(data)
        return msgspec.Raw(data)

    def _plain_int(self, number: int) -> int | str:
        if -(2**63) <= number < 2**64:
            self._bytes_left -= number.bit_length() >> 3
            return number
        try:
            return self._cut(str(number))
        except ValueError:  # beyond sys.get_int_max_str_digits()
            return self._cut(hex(number))

    def _within_limit(self, items: Iterable[Any], count: int) -> Iterator[Any]:
        for index, item in enumerate(items):
            if self._bytes_left <= 0:
                self.left_out += count - index
                return
            self._bytes_left -= ITEM_BYTES
            yield item

    def _cut(self, text: str) -> str:
        size = len(text) if text.isascii() else len(text.encode())
        if size <= self._bytes_left:
            self._bytes_left -= size
            return text
        kept = text.encode()[: max(0, self._bytes_left)].decode("utf-8", "ignore")
        self._bytes_left = 0
        self.left_out += size - len(kept.encode())
        return f"{kept}… [{len(text) - len(kept)} more characters]"

    def _cut_bytes(self, data: bytes) -> bytes:
        kept = data[: max(0, self._bytes_left)]
        self._bytes_left -= len(kept)
        self.left_out += len(data) - len(kept)
        return kept


def _contents(value: Any) -> dict[Any, Any] | list[Any] | None:
    """Return a container's items, or an object's fields, copied in one C call; None if the value has neither.

    They are copied because another thread may change the container while we look at its items.
    """
    kind = type(value)
    if issubclass(kind, dict):
        return dict.copy(value)
    if issubclass(kind, (list, tuple, set, frozenset, deque)):
        base = next(base for base in (list, tuple, set, frozenset, deque) if issubclass(kind, base))
        return list(base.__iter__(value))
    if issubclass(kind, type):
        return None
    if isinstance(value, Mapping):
        return dict(value)
    return _fields(value)


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass, an attrs class, a msgspec Struct or a pydantic model.

    A pydantic model comes here if it is of pydantic v1, or if `_dump` returned None for it.
    """
    kind = type(value)
    if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "__fields_set__"):
        return {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
    for marker in ("__dataclass_fields__", "__struct_fields__"):
        if hasattr(kind, marker):
            return {name: getattr(value, name, None) for name in getattr(kind, marker)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name, None) for field in kind.__attrs_attrs__}
    return None


def _describe(value: object) -> str:
    """Return what msgspec writes for a scalar it knows (dates, UUIDs, decimals, enums, …); otherwise a bounded repr."""
    try:
        return safe_str(msgspec.to_builtins(value))
    except Exception:
        return safe_repr(value)
