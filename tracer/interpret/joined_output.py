"""One output out of two: the items that a Responses stream's terminal event names, and those that were streamed.

By the API, the terminal event has everything. Some hosts leave out items, or what they say, so both are joined: what
the terminal event says counts, and nothing that was streamed is missing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from tracer.interpret._json import as_dicts, as_text, encode_value, is_silent

__all__ = ["join_items", "says_the_same"]

_TEXTS = ("text", "refusal", "transcript", "arguments", "input", "code", "diff")
_TOLD = ("name", *_TEXTS, "action", "operation", "queries", "result")
_PARTS = ("content", "summary")
# They differ between the event that ends an item and the one that ends the stream; neither is wrong.
_UNSTEADY = frozenset({"id", "encrypted_content", "status"})
# What has no words was not seen by anybody.
_WORDY = frozenset({"message", "output_text", "reasoning_text", "refusal", "summary_text", "text"})

Item = dict[str, Any]


def says_the_same(told: Item, streamed: Item) -> bool:
    """Tell whether two forms of one item differ in nothing that matters."""
    if told == streamed:
        return True
    kept = [{key: value for key, value in item.items() if key not in _UNSTEADY} for item in (told, streamed)]
    return kept[0] == kept[1]


def join_items(told: list[Item], streamed: list[Item]) -> list[Item]:
    """Return all items in their order: those of the terminal event, and those that it leaves out.

    ::

        >>> join_items([{"type": "message", "id": "b"}], [{"type": "message", "id": "b", "content": "Hi"}])
        [{'type': 'message', 'id': 'b', 'content': 'Hi'}]
    """
    if not told:
        return streamed
    partners = _pair(told, streamed)
    filled = list(told)
    for place, at in partners.items():
        filled[at] = _filled(told[at], streamed[place])
    paired = set(partners.values())
    joined: list[Item] = []
    position = 0  # in `filled`: all before it are in `joined`
    for place, item in enumerate(streamed):
        if place not in partners:
            if item.get("type") in _WORDY and not _words(item):
                continue
            if position not in paired and position < len(filled) and _kind(filled[position]) == _kind(item):
                joined.append(filled[position])  # in its place, the terminal event says something else: that counts
                position += 1
            joined.append(item)
        elif partners[place] >= position:  # else the two have another order
            joined += filled[position : partners[place] + 1]
            position = partners[place] + 1
    return joined + filled[position:]


def _pair(told: list[Item], streamed: list[Item]) -> dict[int, int]:
    """Return for the index of a streamed item the index of the same item in `told`.

    An id tells it, then the id of the call, then the words; then the order, among items of one kind of which neither
    contradicts the other (hosts give items new ids, and leave out what they say).
    """
    pairs: dict[int, int] = {}
    free = set(range(len(told)))
    for key_of in (_id, _call, _content, _kind):
        waiting: dict[Any, deque[int]] = defaultdict(deque)
        for at in sorted(free):
            if (key := key_of(told[at])) is not None:
                waiting[key].append(at)
        for place, item in enumerate(streamed):
            if place in pairs or not (same := waiting.get(key_of(item))):
                continue
            if key_of is not _kind or _may_be_one(told[same[0]], item):
                pairs[place] = same.popleft()
                free.discard(pairs[place])
    return pairs


def _id(item: Item) -> str | None:
    return as_text(item.get("id"))


def _call(item: Item) -> tuple[Any, str] | None:
    call_id = as_text(item.get("call_id"))
    return None if call_id is None else (_kind(item), call_id)


def _content(item: Item) -> tuple[Any, str] | None:
    words = _words(item)
    return (_kind(item), words) if words and _call(item) is None else None


def _kind(item: Item) -> str:
    return str(item.get("type"))


def _may_be_one(told: Item, streamed: Item) -> bool:
    if _call(told) and _call(streamed):
        return False  # another call, or they would have been paired
    some, others = _words(told), _words(streamed)
    return some.startswith(others) or others.startswith(some)


def _words(item: Item) -> str:
    """Return what an item or a part of one says, or asks for."""
    values = [item.get(key) for key in _TOLD]
    said = [value if type(value) is str else encode_value(value).decode() for value in values if not is_silent(value)]
    for key in _PARTS:
        content = item.get(key)
        said += [content] if type(content) is str else map(_words, as_dicts(content))
    return " ".join(" ".join(said).split())


def _filled(told: Any, streamed: Any) -> Any:
    """Return what the terminal event says of an item, and what was streamed where it says nothing."""
    filled = {**streamed, **told}
    for key in told.keys() & streamed.keys():
        if is_silent(told[key]):
            filled[key] = streamed[key]
        elif key in _PARTS:
            filled[key] = _filled_parts(told[key], streamed[key])
        elif key in _TEXTS:
            filled[key] = _longer(told[key], streamed[key])
        elif type(told[key]) is type(streamed[key]) is dict:
            filled[key] = _filled(told[key], streamed[key])
    return filled


def _filled_parts(told: Any, streamed: Any) -> Any:
    if not all(map(_is_list_of_parts, (told, streamed))):
        return told
    if len(told) < len(streamed):
        return join_items(told, streamed)
    pairs = zip(told, streamed, strict=False)
    filled = [_filled(part, other) if _kind(part) == _kind(other) else part for part, other in pairs]
    return filled + told[len(streamed) :]


def _is_list_of_parts(value: Any) -> bool:
    return type(value) is list and all(type(part) is dict for part in value)


def _longer(told: Any, streamed: Any) -> Any:
    """Return the streamed text if the other one is only its beginning."""
    if type(told) is not str or type(streamed) is not str:
        return told
    return streamed if streamed.startswith(told) and streamed[len(told) :].strip() else told
