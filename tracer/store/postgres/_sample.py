"""Chooses which traces to read for a question about very many: all of them, or an even sample.

As in SQLite's store (`tracer.store.sqlite._sample`): the candidates are counted in one index; up to 10,000 all are
looked at, otherwise some that a hash of their keys chooses, so that the same question has the same answer.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer.store.base import TraceQuery
from tracer.store.figures import Share
from tracer.store.postgres._query import FEW, clauses
from tracer.store.postgres._sql import Clause, fetch, fetch_row, fetch_value, joined
from tracer.store.search import in_one_index
from tracer.store.summaries import Scope

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["SIZE", "Sample", "choose"]

SIZE = 10_000
_MOST = 0.2  # of all keys; with fewer candidates, most drawn keys would match nothing: reading the index is quicker
_HASH = "(traces.key % 2147483648) * 2654435761 % 4294967296"  # Knuth's multiplicative hash: spreads any keys evenly


class Sample(NamedTuple):
    """Which traces to look at.

    Attributes:
        chosen: Selects the traces to look at.
        matching: Selects all that match the query.
        candidates: Selects all that match, and maybe others, through one index.
        share: Which share of the matching traces is chosen; 1.0 for all.
        size: How many candidates there are; None if they were not counted, because reading `chosen` is quicker.
        is_indexed: The candidates are those that match.
    """

    chosen: Clause
    matching: Clause
    candidates: Clause
    share: float
    size: int | None
    is_indexed: bool

    @property
    def exact(self) -> bool:
        """All that match are chosen."""
        return self.share == 1.0

    @property
    def counted(self) -> int | None:
        """How many traces match; None if no index tells."""
        return self.size if self.is_indexed else None

    @property
    def told(self) -> Share:
        """What turns numbers counted in the sample into estimates for all matching traces."""
        return Share(self.share)

    async def fixed(self, connection: Connection[Any]) -> Sample:
        """Return the same sample with `chosen` as a list of keys, for callers that use it more than once."""
        rows = await fetch(connection, f"SELECT key FROM traces WHERE {self.chosen.sql}", self.chosen.parameters)
        return self._replace(chosen=_listed([row[0] for row in rows]))

    def scope(self, matched: int) -> Scope:
        """Return what users are told when `matched` of the chosen traces match."""
        traces = self.told.scaled(matched) if self.counted is None else self.counted
        examined = matched if self.size is None else round(self.size * self.share)
        return Scope(traces=traces, examined=examined, exact=self.exact)


async def choose(connection: Connection[Any], query: TraceQuery, now_ns: int, case: str) -> Sample:
    """Decide which traces to look at. Raises ConfigurationError for a bad query."""
    given = clauses(query, now_ns, case)
    settled = [await condition.chosen(connection, FEW) for condition in given]
    matching = joined(settled)
    narrower = in_one_index(query)
    candidates = joined(clauses(narrower, now_ns, case))
    is_indexed = candidates == joined(given)
    if any(before.keys and not after.keys for before, after in zip(given, settled, strict=True)):
        return Sample(matching, matching, candidates, 1.0, None, False)
    size = int(
        await fetch_value(connection, f"SELECT count(*) FROM traces WHERE {candidates.sql}", candidates.parameters)
    )
    if size <= SIZE:
        return Sample(matching, matching, candidates, 1.0, size, is_indexed)
    share, some = await _some(connection, candidates, size)
    return Sample(joined([some, *settled]), matching, candidates, share, size, is_indexed)


async def _some(connection: Connection[Any], candidates: Clause, size: int) -> tuple[float, Clause]:
    """Return which share of the candidates is chosen, and the condition that chooses it."""
    ends = await fetch_row(connection, "SELECT min(key), max(key) FROM traces")
    assert ends is not None
    blocks = range(ends[0] >> 2, (ends[1] >> 2) + 1)
    if size > _MOST * 4 * len(blocks):
        drawn = random.Random(0).sample(blocks, min(len(blocks), SIZE * len(blocks) // size))
        keys = [4 * block + neighbour for block in drawn for neighbour in range(4)]
        return len(drawn) / len(blocks), joined([_listed(keys), candidates])
    share = SIZE / size
    return share, joined([candidates, Clause(f"{_HASH} < ?::bigint", (round(share * 2**32),))])


def _listed(keys: list[int]) -> Clause:
    return Clause("traces.key = ANY(?::bigint[])", (keys,))
