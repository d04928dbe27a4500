"""Tells whether a value is small enough to be encoded or rendered, without reading more of it than the limits allow.

msgspec encodes an item in 20 ns, so the look at it before must not take much longer. It goes level by level: all
containers of a level, and what they hold (`gc.get_referents`), with a few calls of C for each level.
"""

from __future__ import annotations

import functools
import gc
import types
from collections import deque
from itertools import islice
from typing import Any

from tracer.capture.limits import COPIED_ITEMS

__all__ = ["fields_of", "fits", "may_be_rendered"]

RENDERED_BYTES = 1024 * 1024  # of the texts in an object whose ``repr()`` or ``str()`` is called
MAX_LEVELS = 2_000  # at most two for each container; deeper nesting can't be encoded
MAX_REPEATS = 1_000  # of objects that were seen before, until a value is taken for one that refers to itself
OBJECT_ITEMS = 5  # items that an object counts for, beside its fields, because Python has to look for these

_SCALARS = frozenset({int, float, bool, type(None)})
_TEXTS = frozenset({str, bytes, bytearray, memoryview})
_COLLECTIONS = (list, tuple, set, frozenset, deque)
_CONTAINERS = frozenset({dict, *_COLLECTIONS})
_LEAVES = _SCALARS | _TEXTS
_PLAIN = _LEAVES | _CONTAINERS
_METHOD = types.FunctionType
_CONTENTS = (dict, *_COLLECTIONS, bytes, bytearray)
# Classes that are written in C and render all that they hold.
_TALKATIVE: tuple[type, ...] = (
    *_CONTENTS, type({}.keys()), type({}.values()), type({}.items()), types.MappingProxyType, types.SimpleNamespace,
    functools.partial, BaseException,
)  # fmt: skip


def fits(value: object, max_items: int, max_bytes: int) -> bool:
    """Tell whether a value has at most `max_items` items, with texts of at most about `max_bytes` bytes.

    Counts the items of all containers inside one another; those of a container that occurs twice, twice. Keys count
    nothing. A value whose parts refer to each other has no end, so it does not fit. Never raises, reads no iterator.
    """
    try:
        return _fits(value, max_items, max_bytes)
    except Exception:  # a user's class may raise anything; a container may change while we look at it
        return False


def _fits(value: object, items_left: int, bytes_left: int) -> bool:
    if type(value) in _SCALARS:
        return True
    level: list[Any] = [value]
    kinds: set[type] = {type(value)}
    objects: dict[int, object] = {}  # which are kept alive, so that no other one gets their id
    repeats = 0
    for _ in range(MAX_LEVELS):
        if not kinds <= _PLAIN:
            others = [item for item in level if type(item) not in _PLAIN]
            items_left -= len(others) * OBJECT_ITEMS
            if items_left < 0:
                return False
            before = len(objects)
            objects.update((id(item), item) for item in others)
            repeats += len(others) - (len(objects) - before)
            if repeats > MAX_REPEATS:
                return False
            level = [item for item in level if type(item) in _PLAIN]
            level += [held for item in others if (held := _held_by(item, items_left)) is not None]
        elif kinds <= _CONTAINERS:  # the usual case, made quick, as is the next one
            items_left -= sum(map(len, level))
            if items_left < 0:
                return False
            level = gc.get_referents(*level)
        elif kinds <= _LEAVES:
            texts = level if kinds.isdisjoint(_SCALARS) else [item for item in level if type(item) in _TEXTS]
            return sum(map(len, texts)) <= bytes_left
        else:
            bytes_left -= sum([len(item) for item in level if type(item) in _TEXTS])
            if bytes_left < 0:
                return False
            level = [item for item in level if type(item) in _CONTAINERS]
        kinds = set(map(type, level))
        if kinds <= _SCALARS:
            return True
    return False


def _held_by(item: Any, most: int) -> Any:
    """Return what an object of a user's class holds, as plain data; None if it has nothing that we look into.

    Of a large container, one item more than `most` is returned, so it will not fit.
    """
    kind = type(item)
    if issubclass(kind, str):
        return str.__str__(item)
    if issubclass(kind, (bytes, bytearray)):
        return memoryview(item)
    if issubclass(kind, dict):
        return list(islice(dict.values(item), most + 1))
    for base in _COLLECTIONS:
        if issubclass(kind, base):
            return list(islice(base.__iter__(item), most + 1))
    fields = fields_of(item)
    return None if fields is None else list(fields.values())


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass, an attrs class, a msgspec Struct or a pydantic model; None if it is none."""
    kind = type(value)
    if issubclass(kind, type):
        return None
    if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "__fields_set__"):
        return {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
    for marker in ("__dataclass_fields__", "__struct_fields__"):
        if hasattr(kind, marker):
            return {name: getattr(value, name, None) for name in getattr(kind, marker)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name, None) for field in kind.__attrs_attrs__}
    return None


def may_be_rendered(value: object) -> bool:
    """Tell whether ``repr()`` or ``str()`` may be called: an object's own method may render all that it holds.

    Looks at what the object itself refers to, and into containers, but not into other objects: an object that is part
    of a large program refers to everything in the end. Never raises.
    """
    try:
        kind = type(value)
        if kind in _SCALARS:
            return True
        if (
            not issubclass(kind, _TALKATIVE)
            and type(kind.__repr__) is not _METHOD
            and type(kind.__str__) is not _METHOD
        ):
            return kind.__module__ != "array" or len(value) <= COPIED_ITEMS  # type: ignore[arg-type]
        held = value if issubclass(kind, _CONTENTS) else gc.get_referents(value)
        return fits(held, COPIED_ITEMS, RENDERED_BYTES)
    except Exception:
        return True
