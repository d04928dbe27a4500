"""Chooses which traces to read for a question about very many: all of them, or an even sample.

An aggregate over a million rows takes seconds, and tells little more than one over ten thousand: a share counted on an
even sample of 10,000 is off by one percentage point at worst, in 19 of 20 cases. So first the candidates are counted in
one index, without reading a row. If they are few, all of them are looked at. Otherwise a hash of the trace's key
chooses some of them; it is computed in the same index. If the candidates are a large part of all traces, keys are
drawn at random instead. Only the chosen rows are read, and the rest of the query is tested on them. Four neighbouring
keys are chosen together, because their rows share a page.
"""

from __future__ import annotations

import json
import random
import sqlite3
from typing import Any, NamedTuple

from tracer.store.base import TraceQuery
from tracer.store.figures import Share
from tracer.store.search import in_one_index
from tracer.store.sqlite._query import FEW, clauses
from tracer.store.sqlite._sql import Clause
from tracer.store.summaries import Scope

__all__ = ["SIZE", "Sample", "Where", "choose", "one_row"]

SIZE = 10_000
_MOST = 0.2  # of all traces; with fewer candidates, most drawn keys would match nothing: reading the index is quicker
_HASH = "(key >> 2 & 2147483647) * 2654435761 & 4294967295"  # Knuth's multiplicative hash: spreads any keys evenly


class Where(NamedTuple):
    """Conditions on ``traces`` with their values."""

    sql: str
    parameters: tuple[Any, ...]

    @classmethod
    def of(cls, conditions: list[Clause]) -> Where:
        """Join conditions by AND."""
        sql = " AND ".join(f"({condition.sql})" for condition in conditions) or "TRUE"
        return cls(sql, tuple(value for condition in conditions for value in condition.parameters))


class Sample(NamedTuple):
    """Which traces to look at.

    Attributes:
        chosen: Selects the traces to look at.
        matching: Selects all that match the query.
        candidates: Selects all that match, and maybe others, through one index. Equal to `matching` if that index
            answers the whole query.
        share: Which share of the matching traces is chosen; 1.0 for all.
        size: How many candidates there are; None if they were not counted, because reading `chosen` is quicker.
    """

    chosen: Where
    matching: Where
    candidates: Where
    share: float
    size: int | None

    @property
    def exact(self) -> bool:
        """All that match are chosen."""
        return self.share == 1.0

    @property
    def counted(self) -> int | None:
        """How many traces match; None if no index tells."""
        return self.size if self.candidates == self.matching else None

    def fixed(self, connection: sqlite3.Connection) -> Sample:
        """Return the same sample with `chosen` as a list of keys, for callers that use it more than once."""
        sql = f"SELECT json_group_array(key) FROM traces WHERE {self.chosen.sql}"
        (keys,) = connection.execute(sql, self.chosen.parameters).fetchone()
        return self._replace(chosen=_listed(keys))

    @property
    def told(self) -> Share:
        """What turns numbers counted in the sample into estimates for all matching traces."""
        return Share(self.share)

    def scaled(self, number: float) -> int:
        """Turn a number counted in the sample into an estimate for all matching traces."""
        return self.told.scaled(number)

    def scope(self, matched: int) -> Scope:
        """Return what users are told when `matched` of the chosen traces match."""
        traces = self.scaled(matched) if self.counted is None else self.counted
        examined = matched if self.size is None else round(self.size * self.share)
        return Scope(traces=traces, examined=examined, exact=self.exact)


def choose(connection: sqlite3.Connection, query: TraceQuery, now_ns: int) -> Sample:
    """Decide which traces to look at. Raises ConfigurationError for a bad query."""
    given = clauses(query, now_ns)
    settled = [_settled(connection, condition) for condition in given]
    matching = Where.of(settled)
    candidates = Where.of(clauses(in_one_index(query), now_ns))
    if any(before.keys and not after.keys for before, after in zip(given, settled, strict=True)):
        return Sample(matching, matching, candidates, 1.0, None)
    size = _count(connection, candidates)
    if size <= SIZE:
        return Sample(matching, matching, candidates, 1.0, size)
    share, some = _some(connection, candidates, size)
    return Sample(Where.of([Clause(*some), *settled]), matching, candidates, share, size)


def _settled(connection: sqlite3.Connection, condition: Clause) -> Clause:
    """Fetch the traces of a condition if they are few, as all can be looked at then; otherwise test trace by trace."""
    fetched = condition._replace(span_keys=None).chosen(connection, FEW)
    return fetched if fetched.keys is None else condition.chosen(connection, FEW)


def _count(connection: sqlite3.Connection, where: Where) -> int:
    """Count the traces. Without a condition SQLite counts by pages, which is quicker than by rows."""
    sql = "SELECT count(*) FROM traces" + (f" WHERE {where.sql}" if where.parameters else "")
    return int(connection.execute(sql, where.parameters).fetchone()[0])


def _some(connection: sqlite3.Connection, candidates: Where, size: int) -> tuple[float, Where]:
    """Return which share of the candidates is chosen, and the condition that chooses it.

    The condition is a list of keys, which SQLite sorts, so that it reads each page once. Without the list it would scan
    the whole table.
    """
    first, last = connection.execute("SELECT (SELECT min(key) FROM traces), (SELECT max(key) FROM traces)").fetchone()
    blocks = range(first >> 2, (last >> 2) + 1)
    if size > _MOST * 4 * len(blocks):
        drawn = random.Random(0).sample(blocks, min(len(blocks), SIZE * len(blocks) // size))
        keys = [4 * block + neighbour for block in drawn for neighbour in range(4)]
        return len(drawn) / len(blocks), _with(_listed(json.dumps(keys)), candidates)
    share = SIZE / size
    keys_of_hash = f"key IN (SELECT key FROM traces WHERE {candidates.sql} AND {_HASH} < ?)"
    return share, Where(keys_of_hash, (*candidates.parameters, round(share * 2**32)))


def _listed(keys: str) -> Where:
    return Where("key IN (SELECT value FROM json_each(?))", (keys,))


def _with(first: Where, second: Where) -> Where:
    return Where(f"{first.sql} AND {second.sql}", (*first.parameters, *second.parameters))


def one_row(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    """Run a query that packs its answer into one row of JSON texts and numbers, and return them decoded.

    After each row sqlite3 must take the GIL back, which costs up to 5 ms beside a thread that computes.
    """
    row = connection.execute(sql, parameters).fetchone()
    return [json.loads(value) if isinstance(value, str) else value for value in row]
