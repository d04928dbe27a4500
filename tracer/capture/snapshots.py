"""Snapshots of users' values: what ``set_inputs`` or ``@trace`` saw, at the moment it saw it.

Plain data takes one C call, after a look at how much it is. If it is too much, or if the value contains something that
msgspec does not know or refuses (pydantic models, objects of any other kind, cycles, lone surrogates, integers beyond
64 bits), then as much of it as the limits allow is first copied by hand. Never raises, never changes the value.

The C call takes no ``enc_hook``, because a hook is Python code. While it runs, another thread may run and shorten the
very list that msgspec is walking through. Then msgspec reads freed memory (seen with msgspec 0.22: segmentation fault).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from tracer.capture.limits import COPIED_ITEMS, DEPTH, VALUE_ITEMS
from tracer.capture.records import Codec, Payload
from tracer.capture.text import clean_text, render_bounded, safe_repr, safe_str
from tracer.capture.weight import fields_of, fits

__all__ = ["encode_attributes", "snapshot"]

ITEM_BYTES = 1  # what a list's item or a dict's pair costs at least
DESCRIBED = 4  # items that an object counts for whose text must be made

CYCLE = "<cycle>"
TOO_DEEP = "<too deep>"

_encode = msgspec.msgpack.Encoder().encode


def snapshot(value: object, limit: int) -> Payload:
    """Return `value` as msgpack, at most about `limit` bytes, and how many bytes were left out."""
    data = None
    try:
        if fits(value, VALUE_ITEMS, limit):
            data = _encode(value)
    except Exception:  # TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError
        pass
    if data is not None and len(data) <= limit:
        return Payload(Codec.VALUE, data)
    copier = _Copier(limit)
    shortened = _encode(copier.copy(value))
    if data is None or not copier.left_out:
        return Payload(Codec.VALUE, shortened, copier.left_out)
    return Payload(Codec.VALUE, shortened, max(1, len(data) - len(shortened)))


def encode_attributes(attributes: Mapping[str, object], limit: int) -> tuple[dict[str, Any], int]:
    """Return attributes that any encoder accepts, at most about `limit` bytes, and how much was left out.

    Values are kept as in `snapshot`.
    """
    copier = _Copier(limit)
    copied = {safe_str(key): copier.copy(value) for key, value in islice(attributes.items(), COPIED_ITEMS)}
    return copied, copier.left_out + len(attributes) - len(copied)


class _Copier:
    """Copies a value into plain data. Reads containers with the methods of their built-in type; never reads iterators.

    Attributes:
        left_out: How many characters of texts, and items of containers, were beyond the limits.
    """

    def __init__(self, limit: int) -> None:
        self.left_out = 0
        self._bytes_left = limit
        self._items_left = COPIED_ITEMS
        self._above: set[int] = set()

    def copy(self, value: object, depth: int = 0) -> Any:
        """Return a copy that msgpack can encode."""
        if type(value) is str and value.isascii() and len(value) <= self._bytes_left:  # the usual case, made quick
            self._bytes_left -= len(value)
            return value
        try:
            return self._copy(value, depth)
        except Exception:  # a user's class may raise anything
            return self._cut(self._rendered(repr, value))

    def _copy(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if issubclass(kind, str):
            return self._cut(value)
        if issubclass(kind, int):
            return self._plain_int(int.__add__(value, 0))
        if issubclass(kind, float):
            return float.__add__(value, 0.0)
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return self._cut_bytes(value)
        if hasattr(kind, "__pydantic_serializer__") and (dumped := self._dump(value)) is not None:
            return dumped
        contents = _contents(value, self._items_left)
        if contents is None:
            self._items_left -= DESCRIBED
            return self._cut(self._described(value))
        return self._copy_container(value, contents, depth + 1)

    def _copy_container(self, value: object, contents: _Contents, depth: int) -> Any:
        if depth > DEPTH:
            return TOO_DEEP
        if id(value) in self._above:
            return CYCLE
        self._above.add(id(value))
        items = iter(contents.items)
        copied: list[Any] = []
        try:
            for item in items:
                if self._bytes_left <= 0 or self._items_left <= 0:
                    self.left_out += _length(item) + sum(map(_length, items))
                    break
                self._bytes_left -= ITEM_BYTES
                self._items_left -= 1
                copied.append(self._copy_pair(item, depth) if contents.are_pairs else self.copy(item, depth))
        finally:
            self._above.discard(id(value))
        self.left_out += contents.beyond
        return dict(copied) if contents.are_pairs else copied

    def _copy_pair(self, pair: tuple[object, object], depth: int) -> tuple[str, Any]:
        key, value = pair
        return self.copy(key if type(key) is str else safe_str(key)), self.copy(value, depth)

    def _described(self, value: object) -> str:
        """Return what msgspec writes for a scalar it knows (dates, UUIDs, decimals, enums, …); otherwise a repr."""
        try:
            return self._rendered(str, msgspec.to_builtins(value))
        except Exception:
            return self._rendered(repr, value)

    def _rendered(self, render: Callable[[object], str], value: object) -> str:
        text, left_out = render_bounded(render, value)
        self.left_out += left_out
        return text

    def _dump(self, model: Any) -> msgspec.Raw | None:
        """Encode a pydantic model as it dumps itself; None if its serializers fail or the result is too large."""
        if not fits(model, self._items_left, self._bytes_left):
            return None
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

    def _cut(self, text: str) -> str:
        room = max(0, self._bytes_left)
        # A character is at least one byte. So a long text is shortened before it is looked at as a whole.
        kept = clean_text(str.__getitem__(text, slice(room)))
        size = len(kept) if kept.isascii() else len(kept.encode())
        if size > room:
            kept = kept.encode()[:room].decode("utf-8", "ignore")
        elif str.__len__(text) <= room:
            self._bytes_left -= size
            return kept
        more = max(1, str.__len__(text) - len(kept))
        self._bytes_left = 0
        self.left_out += more
        return f"{kept}… [{more} more characters]"

    def _cut_bytes(self, data: bytes | bytearray | memoryview) -> bytes:
        view = memoryview(data)
        kept = bytes(view if view.nbytes <= self._bytes_left else view.cast("B")[: max(0, self._bytes_left)])
        self._bytes_left -= len(kept)
        self.left_out += view.nbytes - len(kept)
        return kept


class _Contents(NamedTuple):
    """The first items, or pairs of key and value, of a container; `beyond` counts those that come after them."""

    items: Collection[Any]
    are_pairs: bool = False
    beyond: int = 0


def _length(item: object) -> int:
    return max(1, len(item)) if type(item) is str else 1


def _contents(value: Any, most: int) -> _Contents | None:
    """Return what is in a container, or an object's fields; None if it has neither.

    Built-in containers are copied in one C call, because another thread may change them while we look at the items.
    """
    kind = type(value)
    if issubclass(kind, dict):
        beyond = dict.__len__(value) - most
        if beyond <= 0:
            return _Contents(dict.copy(value).items(), True)
        return _Contents(list(islice(dict.items(value), most)), True, beyond)
    for base in (list, tuple, set, frozenset, deque):
        if issubclass(kind, base):
            items = list(islice(base.__iter__(value), most))
            return _Contents(items, beyond=base.__len__(value) - len(items))
    if issubclass(kind, type):
        return None
    if isinstance(value, Mapping):
        pairs = [(key, value[key]) for key in islice(iter(value), most)]
        return _Contents(pairs, True, max(0, len(value) - len(pairs)))
    fields = fields_of(value)
    return None if fields is None else _Contents(fields.items(), True)
