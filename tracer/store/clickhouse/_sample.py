"""Chooses which traces to read for a question about very many: all of them, or an even sample.

As in SQLite's store (`tracer.store.sqlite._sample`): up to 10,000 traces all are looked at, otherwise some that a hash
of their ids chooses, so that the same question has the same answer.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.store.base import TraceQuery
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._query import clauses
from tracer.store.clickhouse._sql import Clause, joined, live
from tracer.store.figures import Share
from tracer.store.summaries import Scope

__all__ = ["SIZE", "Sample", "choose"]

SIZE = 10_000
_RANGE = 2**32  # the lower half of a trace's key is a hash


class Sample(NamedTuple):
    """Which traces to look at.

    Attributes:
        chosen: Selects the traces to look at.
        matching: Selects all that match the query.
        share: Which share of the matching traces is chosen; 1.0 for all.
        size: How many traces match.
    """

    chosen: Clause
    matching: Clause
    share: float
    size: int

    @property
    def exact(self) -> bool:
        """All that match are chosen."""
        return self.share == 1.0

    @property
    def told(self) -> Share:
        """What turns numbers counted in the sample into estimates for all matching traces."""
        return Share(self.share)

    def scope(self, matched: int) -> Scope:
        """Return what users are told when `matched` of the chosen traces match."""
        return Scope(traces=matched if self.exact else self.size, examined=matched, exact=self.exact)


def choose(connection: Connection, query: TraceQuery, now_ns: int) -> Sample:
    """Decide which traces to look at. Raises ConfigurationError for a bad query."""
    matching = joined([Clause(live("trace")), *clauses(connection, query, now_ns)])
    size = int(connection.value(f"SELECT count() FROM traces WHERE {matching.sql}", matching.parameters))
    if size <= SIZE:
        return Sample(matching, matching, 1.0, size)
    share = SIZE / size
    some = Clause("bitAnd(trace_key, 4294967295) < ?:Int64", (round(share * _RANGE),))
    return Sample(joined([some, matching]), matching, share, size)
