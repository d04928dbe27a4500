"""What the databases' searches share: how a page finds the place where the one before has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

__all__ = ["Sort", "behind"]


class Sort(Protocol):
    """A sort expression that is never NULL."""

    @property
    def expression(self) -> str:
        """SQL."""
        ...

    @property
    def descending(self) -> bool:
        """The largest comes first."""
        ...


def behind(order: Sequence[Sort], last: Sequence[Any], place: Callable[[Any], str]) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that a trace comes behind the one with these sort keys, as SQL with its parameters.

    Args:
        order: What to sort by; the last is unique.
        last: The sort keys.
        place: Returns the placeholder of a value.
    """
    (sort, *rest), (value, *values) = order, last
    sign = "<" if sort.descending else ">"
    if not rest:
        return f"{sort.expression} {sign} {place(value)}", (value,)
    among_equals, parameters = behind(rest, values, place)
    # The first half follows from the second; it is there because an index can be searched for it.
    either = f"{sort.expression} {sign} {place(value)} OR ({among_equals})"
    return f"{sort.expression} {sign}= {place(value)} AND ({either})", (value, value, *parameters)
