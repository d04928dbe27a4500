"""``search_traces`` in PostgreSQL: pages that do not shift while traces keep arriving (see `tracer.store.search`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer._exceptions import TraceNotFoundError
from tracer._models import TracePage
from tracer.store.base import TraceQuery
from tracer.store.orders import behind
from tracer.store.postgres._compile import compiled
from tracer.store.postgres._read import TRACE_COLUMNS, read_traces
from tracer.store.postgres._sql import Clause, fetch, fetch_row, fetch_value, joined, slot
from tracer.store.rows import TRACE_FIELDS, Row
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

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["FEW", "chosen_clauses", "clauses", "neighbours", "newest_key", "search"]

FEW = 10_000
"""Up to this many matches of a condition are fetched and sorted; with more, traces are tested in order, one by one."""

_COLUMNS = {name: name for name in NUMERIC_ORDERS} | {"duration": "duration_ns"}
_FRACTIONS = ("cost", "time_to_first_token")
_PLAIN_ORDERS = {"start_time": "start_time_ns", "status": "state"}
_TRACE_ID = TRACE_FIELDS.index("trace_id")
_LARGEST = 2**63 - 1


class _Sort(NamedTuple):
    """A sort expression that is never NULL: what is unknown sorts last in either direction."""

    expression: str
    descending: bool
    is_text: bool = False

    @property
    def sql(self) -> str:
        return f"{self.expression} {'DESC' if self.descending else 'ASC'}"


async def search(connection: Connection[Any], query: TraceQuery, case: str) -> TracePage:
    """Return one page. Raises ConfigurationError naming the argument that is wrong."""
    limit = checked_limit(query.max_results)
    order = _sorts(query)
    told = fingerprint(query)
    token = read_token(query.page_token, told, [sort.is_text for sort in order])
    now_ns = token.now_ns if token else time.time_ns()
    conditions = await chosen_clauses(connection, query, now_ns, case)
    newest = token.newest_key if token else await newest_key(connection)
    conditions.append(Clause("traces.key <= ?::bigint", (newest,)))
    rows = await _select(connection, conditions, order, limit + 1, token.last if token else None)
    columns = [row[len(order) :] for row in rows[:limit]]
    traces = await read_traces(connection, columns, spans=query.include_spans)
    if len(rows) <= limit:
        return TracePage(traces)
    last = list(rows[limit - 1][: len(order)])
    return TracePage(traces, next_page_token=Token(told, now_ns, newest, last).written())


async def neighbours(connection: Connection[Any], query: TraceQuery, trace_id: str, case: str) -> Neighbours:
    """Return what stands before and after a trace in a search's list, as if the trace met the conditions."""
    order, now_ns = _sorts(query), time.time_ns()
    sorts = ", ".join(sort.expression for sort in order)
    conditions = await chosen_clauses(connection, query, now_ns, case)
    place = await fetch_row(connection, f"SELECT {sorts} FROM traces WHERE trace_id = ?::text", (trace_id,))
    if place is None:
        raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
    backwards = [sort._replace(descending=not sort.descending) for sort in order]
    found = []
    for way in (backwards, order):
        rows = await _select(connection, conditions, way, 1, list(place))
        found.append(str(rows[0][len(order) + _TRACE_ID]) if rows else None)
    return Neighbours(previous=found[0], next=found[1])


async def _select(
    connection: Connection[Any], conditions: list[Clause], order: list[_Sort], limit: int, last: SortKeys | None
) -> list[Row]:
    """Return the first rows, or those behind the row with the sort keys `last`. Each begins with its own sort keys."""
    where = joined([*conditions, Clause(*behind(order, last, slot))] if last else conditions)
    sorts = ", ".join(sort.expression for sort in order)
    ordered = ", ".join(sort.sql for sort in order)
    sql = f"SELECT {sorts}, {TRACE_COLUMNS} FROM traces WHERE {where.sql} ORDER BY {ordered} LIMIT ?::bigint"
    return await fetch(connection, sql, (*where.parameters, limit))


def clauses(query: TraceQuery, now_ns: int, case: str) -> list[Clause]:
    """Return the conditions of a query on ``traces``. Raises ConfigurationError."""
    return [compiled(condition, case) for condition in parse_conditions(query, now_ns)]


async def chosen_clauses(connection: Connection[Any], query: TraceQuery, now_ns: int, case: str) -> list[Clause]:
    """Return the conditions, each in the form that is quickest: see `Clause.chosen`."""
    return [await condition.chosen(connection, FEW) for condition in clauses(query, now_ns, case)]


async def newest_key(connection: Connection[Any]) -> int:
    """Return the key of the trace that was stored last; 0 without any."""
    return int(await fetch_value(connection, "SELECT coalesce(max(key), 0) FROM traces"))


def _sorts(query: TraceQuery) -> list[_Sort]:
    """Return what to sort by. Its last part is unique: the trace's key."""
    sorts = [_sort(order) for order in parse_order(query.order_by)]
    return [*sorts, _Sort("traces.key", sorts[-1].descending)]


def _sort(order: Order) -> _Sort:
    """Write it as its index has it, if one exists."""
    name, descending = order
    if name in _PLAIN_ORDERS:
        return _Sort(f"traces.{_PLAIN_ORDERS[name]}", descending, is_text=name == "status")
    if name == "name":
        return _Sort(
            "coalesce(traces.name, '')" if descending else "coalesce(traces.name, chr(1114111))", descending, True
        )
    unknown = "-1" if descending else "'Infinity'" if name in _FRACTIONS else str(_LARGEST)
    return _Sort(f"coalesce(traces.{_COLUMNS[name]}, {unknown})", descending)
