"""``search_traces`` in ClickHouse: pages that do not shift while traces keep arriving (see `tracer.store.search`)."""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

from tracer._exceptions import TraceNotFoundError
from tracer._models import TracePage
from tracer.store.base import TraceQuery
from tracer.store.clickhouse._compile import Known, compiled
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._links import linked_keys
from tracer.store.clickhouse._read import TRACE_COLUMNS, read_traces
from tracer.store.clickhouse._rows import places_of, trace_key
from tracer.store.clickhouse._sql import Clause, joined, live, slot
from tracer.store.clickhouse._words import words_that_begin
from tracer.store.orders import behind
from tracer.store.rows import TRACE_FIELDS
from tracer.store.search import (
    NUMERIC_ORDERS,
    Order,
    SortKeys,
    Token,
    checked_limit,
    fingerprint,
    parse_conditions,
    parse_order,
    read_token,
)
from tracer.store.summaries import Neighbours

__all__ = ["clauses", "neighbours", "newest_key", "search"]

_COLUMNS = {name: name for name in NUMERIC_ORDERS} | {"duration": "duration_ns"}
_FRACTIONS = ("cost", "time_to_first_token")
_PLAIN_ORDERS = {"start_time": "start_time_ns", "status": "toString(state)"}
_TRACE_KEY, _TRACE_ID = 0, TRACE_FIELDS.index("trace_id")
_LARGEST = 2**63 - 1
_LAST_LETTER = "char(244, 143, 191, 191)"  # U+10FFFF


class _Sort(NamedTuple):
    """A sort expression that is never NULL: what is unknown sorts last in either direction."""

    expression: str
    descending: bool
    is_text: bool = False

    @property
    def sql(self) -> str:
        return f"{self.expression} {'DESC' if self.descending else 'ASC'}"


def search(connection: Connection, query: TraceQuery) -> TracePage:
    """Return one page. Raises ConfigurationError naming the argument that is wrong."""
    limit = checked_limit(query.max_results)
    order = _sorts(query)
    told = fingerprint(query)
    token = read_token(query.page_token, told, [sort.is_text for sort in order])
    now_ns = token.now_ns if token else time.time_ns()
    conditions = clauses(connection, query, now_ns)
    newest = token.newest_key if token else newest_key(connection)
    conditions.append(Clause("born <= ?:Int64", (newest,)))
    rows = _select(connection, conditions, order, limit + 1, token.last if token else None)
    columns = [row[len(order) :] for row in rows[:limit]]
    traces = read_traces(connection, columns, spans=query.include_spans)
    if len(rows) <= limit:
        return TracePage(traces)
    last = list(rows[limit - 1][: len(order)])
    return TracePage(traces, next_page_token=Token(told, now_ns, newest, last).written())


def neighbours(connection: Connection, query: TraceQuery, trace_id: str) -> Neighbours:
    """Return what stands before and after a trace in a search's list, as if the trace met the conditions."""
    order, now_ns = _sorts(query), time.time_ns()
    sorts = ", ".join(sort.expression for sort in order)
    conditions = clauses(connection, query, now_ns)
    places = places_of(connection, [trace_key(trace_id)])
    own = f"{live('trace')} AND (born, trace_key) IN ?:Array(Tuple(Int64, Int64))"
    place = connection.row(f"SELECT {sorts} FROM traces WHERE {own} ORDER BY version DESC LIMIT 1", (places,))
    if place is None:
        raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
    backwards = [sort._replace(descending=not sort.descending) for sort in order]
    found = []
    for way in (backwards, order):
        rows = _select(connection, conditions, way, 1, list(place))
        found.append(str(rows[0][len(order) + _TRACE_ID]) if rows else None)
    return Neighbours(previous=found[0], next=found[1])


def _select(
    connection: Connection, conditions: list[Clause], order: list[_Sort], limit: int, last: SortKeys | None
) -> list[tuple[Any, ...]]:
    """Return the first rows, or those behind the row with the sort keys `last`. Each begins with its own sort keys."""
    where = joined([Clause(live("trace")), *conditions, *([Clause(*behind(order, last, slot))] if last else [])])
    sorts = ", ".join(sort.expression for sort in order)
    ordered = ", ".join(sort.sql for sort in order)
    sql = f"SELECT {sorts}, {TRACE_COLUMNS} FROM traces WHERE {where.sql} ORDER BY {ordered} LIMIT ?:Int64"
    asked = limit
    while True:
        rows = connection.fetch(sql, (*where.parameters, asked))
        # A row that was just replaced may still be there; then its trace is found twice.
        latest = {row[len(order) + _TRACE_KEY]: row for row in reversed(rows)}
        if len(latest) >= limit or len(rows) < asked:
            return [row for row in rows if latest.get(row[len(order) + _TRACE_KEY]) is row][:limit]
        asked *= 2


def clauses(connection: Connection, query: TraceQuery, now_ns: int) -> list[Clause]:
    """Return the conditions of a query on ``traces``. Raises ConfigurationError."""
    known = Known(functools.partial(linked_keys, connection), functools.partial(words_that_begin, connection))
    return [compiled(condition, known) for condition in parse_conditions(query, now_ns)]


def newest_key(connection: Connection) -> int:
    """Return when the trace was born that was stored last; 0 without any."""
    return int(connection.value("SELECT max(born) FROM traces") or 0)


def _sorts(query: TraceQuery) -> list[_Sort]:
    """Return what to sort by. Its last parts are unique: when the trace was born, and its key."""
    sorts = [_sort(order) for order in parse_order(query.order_by)]
    return [*sorts, *(_Sort(name, sorts[-1].descending) for name in ("born", "trace_key"))]


def _sort(order: Order) -> _Sort:
    name, descending = order
    if name in _PLAIN_ORDERS:
        return _Sort(_PLAIN_ORDERS[name], descending, is_text=name == "status")
    if name == "name":
        return _Sort(f"ifNull(toString(name), {chr(39) * 2 if descending else _LAST_LETTER})", descending, True)
    unknown = "-1" if descending else "inf" if name in _FRACTIONS else str(_LARGEST)
    return _Sort(f"ifNull({_COLUMNS[name]}, {unknown})", descending)
