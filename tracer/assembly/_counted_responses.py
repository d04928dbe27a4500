"""Which answers of the Responses API had their usage counted: one that is retrieved later must not count again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from tracer.interpret.jobs import is_running

__all__ = ["CountedResponses"]

MAX_RESPONSES = 10_000  # the latest responses whose usage was counted


class CountedResponses:
    """The ids of the latest responses whose usage was counted."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, response_ids: Iterable[str]) -> None:
        """Remember responses that were counted elsewhere."""
        for response_id in response_ids:
            self._ids[response_id] = None
            if len(self._ids) > MAX_RESPONSES:
                self._ids.popitem(last=False)

    def ids(self) -> list[str]:
        """Return them, the oldest first."""
        return [*self._ids]

    def __contains__(self, response_id: object) -> bool:
        return response_id in self._ids

    def is_new(self, operation: str | None, response_id: Any, *, status: Any, says: bool) -> bool:
        """Tell whether the usage of an answer must be counted, and remember it.

        Args:
            operation: Key of `tracer.interpret`.
            response_id: The answer's id.
            status: The answer's status. A job that runs is counted when its end is seen.
            says: There is more in the usage than zeros.
        """
        if is_running(status):
            return False
        if operation not in ("responses", "retrieved") or not isinstance(response_id, str) or not says:
            return True
        known = response_id in self._ids
        self.add([response_id])
        return not known or operation == "responses"
