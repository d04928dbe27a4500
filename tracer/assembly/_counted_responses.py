"""Which answers of the Responses API had their usage counted: one that is retrieved later must not count again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["CountedResponses"]

MAX_RESPONSES = 10_000  # the latest responses whose usage was counted


class CountedResponses:
    """The ids of the latest responses whose usage was counted."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, operation: str | None, response_id: Any) -> bool:
        """Tell whether the usage of an answer must be counted, and remember it."""
        if operation not in ("responses", "retrieved") or not isinstance(response_id, str):
            return True
        known = response_id in self._ids
        self._ids[response_id] = None
        if len(self._ids) > MAX_RESPONSES:
            self._ids.popitem(last=False)
        return not known or operation == "responses"
