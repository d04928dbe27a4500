"""A piece of a WHERE clause with its bound values. No value becomes SQL text."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

__all__ = ["Clause"]

_FEW_SPANS = 1_000
_MOST_LISTED = 200_000
"""Up to this many spans are listed, once in a query; to list a million took 0.3 s."""


class Clause(NamedTuple):
    """A condition on a row of ``traces``.

    Attributes:
        keys: The same condition as a SELECT of ``trace_key``, which an index answers; see `chosen`.
        span_keys: The same condition as a SELECT of the keys of spans, where that is much quicker than `keys`.
        lists: Testing one trace takes about as long as listing all `span_keys`.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    keys: str | None = None
    span_keys: str | None = None
    lists: bool = False

    @classmethod
    def of_keys(cls, keys: str, parameters: tuple[Any, ...]) -> Clause:
        """Return a condition on another table's rows, of which a trace may have many."""
        return cls(f"EXISTS ({keys} AND trace_key = traces.key)", parameters, keys)

    def chosen(self, connection: sqlite3.Connection, few: int) -> Clause:
        """Decide how to use `keys`: if few, they are fetched first; if many, traces are tested in order, one by one.

        Without this choice, either a search for a rare tag would test all traces, or a search for a common tag would
        fetch and sort them all.
        """
        if self.keys is None:
            return self
        if self.span_keys is not None:
            return self._chosen_by_spans(connection, self.span_keys, min(few, _FEW_SPANS))
        count = connection.execute(f"SELECT count(*) FROM ({self.keys} LIMIT {few + 1})", self.parameters).fetchone()[0]
        return Clause(f"key IN ({self.keys})", self.parameters) if count <= few else self

    def _chosen_by_spans(self, connection: sqlite3.Connection, span_keys: str, few: int) -> Clause:
        """With a million traces and matches in 1 %, to test each trace took 3 to 9 s, and to list the matches 0.1 s."""
        limited = f"SELECT count(*) FROM ({span_keys} LIMIT {_MOST_LISTED + 1})"
        count = connection.execute(limited, self.parameters).fetchone()[0]
        if count <= few:
            return Clause(f"key IN ({self.keys})", self.parameters)
        if count > _MOST_LISTED and not self.lists:  # so common that testing in order soon finds one
            return self
        listed = f"SELECT 1 FROM spans WHERE trace_key = traces.key AND spans.key IN ({span_keys})"
        return self._replace(sql=f"EXISTS ({listed})")
