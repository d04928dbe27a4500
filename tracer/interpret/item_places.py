"""Which output item an event of a Responses stream is about, also where servers leave the index out or repeat it.

By the API, ``output_index`` says it. Some servers send no index (lemonade-sdk/lemonade#3607), some give one index to
several items (BerriAI/litellm#36375), and some give every event of one item another ``item_id``
(BerriAI/litellm#30071). So an id that is known wins, then the index together with the kind of the item, then the item
that is still open.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tracer.interpret._json import as_dict, as_index, as_text

__all__ = ["ItemPlaces", "Place"]

Place = tuple[int, int]
"""The item's index, and how many items had this index before it. Places sort in the order of the output."""


class _Item(msgspec.Struct, gc=False, eq=False):
    place: Place
    kind: str | None
    item_id: str | None
    is_announced: bool = False
    is_done: bool = False

    def may_be(self, kind: str | None) -> bool:
        return kind is None or self.kind is None or kind == self.kind


class ItemPlaces:
    """The output items of one stream, as far as its events told of them. Give it the events in their order."""

    def __init__(self) -> None:
        self._items: list[_Item] = []
        self._by_id: dict[str, list[_Item]] = {}
        self._ids_are_stable = False

    def find(self, event: dict[str, Any], kind: str | None, phase: str = "") -> Place | None:
        """Return the place of the item that an event is about; None if it is about none.

        Args:
            event: Its ``item``, ``item_id`` and ``output_index`` are looked at.
            kind: The type of the item, as far as the event's name tells.
            phase: ``added`` or ``done`` for the events that bring the whole item.
        """
        given = as_dict(event.get("item"))
        kind = as_text(given.get("type")) or kind
        item_id = as_text(given.get("id")) or as_text(event.get("item_id"))
        index = _index(event)
        item = self._known(index, item_id, kind, phase) or self._match(index, item_id, kind, phase)
        if item is None:
            if kind is None and not phase and index is None:
                return None
            item = self._begin(index, item_id, kind)
        item.kind = item.kind or kind
        item.is_announced = item.is_announced or phase == "added"
        item.is_done = item.is_done or phase == "done"
        if item_id is not None:
            item.item_id = item.item_id or item_id
            if item not in (named := self._by_id.setdefault(item_id, [])):
                named.append(item)
        return item.place

    def peek(self, event: dict[str, Any], kind: str) -> Place | None:
        """Return the place of a known item of this kind that an event is about, without taking note of the event."""
        named, index = self._by_id.get(as_text(event.get("item_id")) or "", self._items), _index(event)
        same = [item for item in named if item.kind == kind and index in (None, item.place[0])]
        return same[-1].place if same else None

    def _known(self, index: int | None, item_id: str | None, kind: str | None, phase: str) -> _Item | None:
        """Return the item with this id; if several have it, or the event brings a whole item, the index must fit."""
        named = [item for item in self._by_id.get(item_id or "", ()) if item.may_be(kind)]
        here = [item for item in named if index in (None, item.place[0])]
        if not here and (phase or len(named) != 1):
            return None
        self._ids_are_stable = True
        return (here or named)[-1]

    def _match(self, index: int | None, item_id: str | None, kind: str | None, phase: str) -> _Item | None:
        """Return the item that an event with an unknown id, or with none, goes on with."""
        same = [item for item in self._items if (index is None or item.place[0] == index) and item.may_be(kind)]
        if self._ids_are_stable and item_id is not None:  # then it would be known
            same = [item for item in same if item.item_id is None]
        waiting = [item for item in same if not (item.is_announced if phase == "added" else item.is_done)]
        if phase or index is None:
            return waiting[-1] if waiting else None
        found = waiting or same
        return found[-1] if found else None

    def _begin(self, index: int | None, item_id: str | None, kind: str | None) -> _Item:
        if index is None:
            index = max((item.place[0] for item in self._items), default=-1) + 1
        turn = sum(item.place[0] == index for item in self._items)
        item = _Item((index, turn), kind, item_id)
        self._items.append(item)
        return item


def _index(event: dict[str, Any]) -> int | None:
    index = as_index(event.get("output_index"))
    return None if index is None or index < 0 else index
