"""When a stream's output items began and ended, by its events."""

from __future__ import annotations

from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer.interpret._json import as_dict, as_text
from tracer.interpret._views import ChildView
from tracer.interpret.item_places import ItemPlaces, Place

__all__ = ["ItemTime", "ItemTimes"]

_ADDED, _DONE = "response.output_item.added", "response.output_item.done"
_ENDS = ("completed", "failed", "incomplete")


class ItemTime(msgspec.Struct, gc=False):
    """The times of one item, nanoseconds since the epoch.

    Attributes:
        phases: When each of its own events came first: ``searching``, ``interpreting``, ``partial_image``, ….
    """

    kind: str | None = None
    item_id: str | None = None
    start: int | None = None
    end: int | None = None
    phases: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def ended(self) -> int | None:
        """When it was done. If the stream was cut off right before that event: when the item's status became final."""
        return self.end or next((self.phases[phase] for phase in _ENDS if phase in self.phases), None)


class ItemTimes:
    """The times of all items of a stream, by their place in the output."""

    def __init__(self) -> None:
        self._items: dict[Place, ItemTime] = {}
        self._places = ItemPlaces()

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> None:
        """Forget all items."""
        self._items.clear()
        self._places = ItemPlaces()

    def note(self, time_ns: int, kind: str, event: dict[str, Any]) -> None:
        """Take the time of an event, if it is about an item and not a delta."""
        subject, _, phase = kind.removeprefix("response.").rpartition(".")
        if kind in (_ADDED, _DONE):
            item = as_dict(event.get("item"))
            place = self._places.find(event, None, phase)
            if place is None:
                return
            time = self._items.setdefault(place, ItemTime())
            time.kind, time.item_id = as_text(item.get("type")), as_text(item.get("id"))
            if kind == _DONE:
                time.end = time_ns
            else:
                time.start = time_ns
            return
        place = self._places.peek(event, subject)
        known = None if place is None else self._items.get(place)
        if known is not None:
            known.phases.setdefault(phase, time_ns)

    def apply(self, child: ChildView, output: list[dict[str, Any]], position: int, result: int | None) -> None:
        """Give a child its times. A tool has ended when its result is there, even if the result is an item of its own.

        Args:
            child: Filled in.
            output: The response's items.
            position: The index of the call in `output`.
            result: The index of its result, if that is an item of its own.
        """
        time = self._find(output, position)
        if time is None:
            return
        child.start_time_ns = time.start
        last = time if result is None else self._find(output, result)
        child.end_time_ns = None if last is None else last.ended
        if child.start_time_ns is not None and time.phases:
            child.attributes[sc.TOOL_PHASES] = {
                phase: round((at - child.start_time_ns) / 1e9, 6) for phase, at in time.phases.items()
            }

    def _find(self, output: list[dict[str, Any]], position: int) -> ItemTime | None:
        """Return an item's times: found by its id if only one item has this id, otherwise by its place.

        Some hosts give items new ids in the last event, and a rebuilt output may lack some items.
        """
        item = output[position]
        same = [time for time in self._items.values() if time.item_id and time.item_id == item.get("id")]
        if len(same) == 1:
            return same[0]
        place = sorted(self._items)[position] if len(self._items) == len(output) else (position, 0)
        time = self._items.get(place)
        return time if time is not None and time.kind == item.get("type") else None
