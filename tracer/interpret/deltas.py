"""Merging stream deltas: the pieces of an object, each possibly incomplete, make one object.

The rules follow ``openai.lib.streaming._deltas.accumulate_delta``: texts concatenate, objects merge field by field,
lists of objects with an ``index`` merge by it, other lists append. With some real servers these rules give nonsense
(``role`` repeated in each chunk, numbers added up, tool calls without or with a repeated index). There this module
differs: labels (`_LABELS`) keep their first value, numbers keep their last value, and `tool_deltas` tells calls apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from tracer.interpret._json import as_index
from tracer.interpret.tool_deltas import call_keys

__all__ = ["merge_deltas"]

# Names and labels. Compatible servers repeat them in each chunk; concatenating would give "assistantassistant".
_LABELS = frozenset({"channel", "format", "id", "index", "object", "role", "type"})
_PARTS = frozenset({"content", "thinking"})  # fields that hold a text or a list of typed parts
_JOINED_PARTS = frozenset({"text", "thinking"})


def merge_deltas(deltas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge deltas in their order into one object; a null never overrides a value."""
    columns: dict[str, list[Any]] = {}
    for delta in deltas:
        for key, value in delta.items():
            column = columns.get(key)
            if column is None:
                column = columns[key] = []
            if value is not None:
                column.append(value)
    return {key: _merge(key, values) for key, values in columns.items()}


def _merge(key: str, values: list[Any]) -> Any:
    if not values:
        return None
    if key == "error":  # one that is repeated, not one in pieces
        return next((value for value in reversed(values) if value), None)
    kinds = set(map(type, values))
    if key in _PARTS and list in kinds:
        return _merge_parts(key, values)
    if len(kinds) > 1:
        return next((value for value in reversed(values) if value not in ("", [], {})), values[-1])
    merge = _MERGE.get(kinds.pop())
    return values[-1] if merge is None else merge(key, values)


def _merge_texts(key: str, values: list[str]) -> str:
    if key in _LABELS:
        return next(filter(None, values), "")
    if key == "name" and len(set(values)) == 1:
        return values[0]
    return "".join(values)


def _merge_objects(_key: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    return merge_deltas(values)


def _merge_lists(key: str, values: list[list[Any]]) -> list[Any]:
    values = [[entry for entry in value if entry is not None] for value in values]
    entries = [entry for value in values for entry in value]
    if not all(type(entry) is dict for entry in entries):
        return entries
    if key == "tool_calls":
        keys = call_keys(values)
    elif any("index" in entry for entry in entries):
        keys = [(as_index(entry.get("index")) or 0, 0) for entry in entries]
    else:
        return entries
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for group, entry in zip(keys, entries, strict=True):
        groups.setdefault(group, []).append(entry)
    return [merge_deltas(groups[group]) for group in sorted(groups)]


def _merge_parts(key: str, values: list[Any]) -> Any:
    """Join content that came as lists of parts (Mistral's). Neighbouring parts of one kind become one part.

    Content that consists only of text becomes a string, as in the plain response.
    """
    parts: list[Any] = []
    for value in values:
        parts.extend(value if type(value) is list else [{"type": "text", "text": value}])
    if not all(type(part) is dict for part in parts):
        return parts
    merged: list[dict[str, Any]] = []
    for kind, group in groupby(parts, key=lambda part: str(part.get("type"))):
        neighbours = list(group)
        merged.extend([merge_deltas(neighbours)] if kind in _JOINED_PARTS else neighbours)
    if key == "content" and all(part.keys() == {"type", "text"} and type(part["text"]) is str for part in merged):
        return "".join(part["text"] for part in merged)
    return merged


_MERGE: dict[type, Callable[[str, list[Any]], Any]] = {str: _merge_texts, dict: _merge_objects, list: _merge_lists}
