"""A piece of a WHERE clause with its bound values: what `query` and `filter` build with. No value becomes SQL text."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["Condition", "did_you_mean"]


class Condition(NamedTuple):
    """A condition on a row of ``traces``.

    Attributes:
        keys: The same condition as a SELECT of ``trace_key``, which an index answers; see `chosen`.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    keys: str | None = None

    @classmethod
    def of_keys(cls, keys: str, parameters: tuple[Any, ...]) -> Condition:
        """Return a condition on another table's rows, of which a trace may have many."""
        return cls(f"EXISTS ({keys} AND trace_key = traces.key)", parameters, keys)

    @classmethod
    def state(cls, comparator: str, state: str) -> Condition:
        """Compare the state with one of `TraceState`'s words, in a form that SQLite finds the partial index for."""
        if comparator == "=" and state != "OK":
            return cls("state <> 'OK' AND state = ?", (state,))
        return cls(f"state {comparator} ?", (state,))

    def chosen(self, connection: sqlite3.Connection, few: int) -> Condition:
        """Settle how to use `keys`: few are fetched first; many are probed for while traces are walked in order.

        Without this either a rare tag would walk all traces, or a common one would fetch and sort them all.
        """
        if self.keys is None:
            return self
        count = connection.execute(f"SELECT count(*) FROM ({self.keys} LIMIT {few + 1})", self.parameters).fetchone()[0]
        return Condition(f"key IN ({self.keys})", self.parameters) if count <= few else self


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
