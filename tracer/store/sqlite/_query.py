"""``search_traces`` in SQL: pages that do not shift while traces keep arriving (see `tracer.store.search`)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from tracer._exceptions import TraceNotFoundError
from tracer._models import TracePage
from tracer.store.base import TraceQuery
from tracer.store.orders import behind
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
from tracer.store.sqlite._compile import compiled
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._read import TRACE_COLUMNS, read_traces
from tracer.store.sqlite._sql import Clause
from tracer.store.summaries import Neighbours

__all__ = ["FEW", "clauses", "neighbours", "newest_key", "search"]

FEW = 10_000
"""Up to this many matches of a condition are fetched and sorted; with more, traces are tested in order, one by one."""

_COLUMNS = {name: name for name in NUMERIC_ORDERS} | {"duration": "duration_ns"}
# NULL for most traces, so rows are read in parts (`_parts`). For other columns that would take half as long again.
_SPARSE_ORDERS = ("cache_read_input_tokens", "time_to_first_token")
_DENSE_ORDERS = ("input_tokens", "output_tokens")  # known for most traces, and without an index of their own
_LOOKED_AT = 20_000  # of the newest traces, to learn how good the first page is: see `_good_enough`
_INFINITE = "9e999"
_PLAIN_ORDERS = {"start_time": "start_time_ns", "status": "state"}
_TRACE_ID = TRACE_COLUMNS.split(", ").index("trace_id")


class _Sort(NamedTuple):
    """A sort expression that is never NULL: what is unknown sorts last in either direction.

    Attributes:
        unknown: The number that stands for NULL, if it divides the rows into parts to read (see `_parts`); otherwise
            None.
        bounded: Leave out, before sorting, rows that can't be among the first: see `_good_enough`.
        is_text: Its values are strings; otherwise they are numbers.
    """

    expression: str
    descending: bool
    unknown: str | None = None
    bounded: bool = False
    is_text: bool = False

    @property
    def sql(self) -> str:
        return f"{self.expression} {'DESC' if self.descending else 'ASC'}"


def search(connection: sqlite3.Connection, query: TraceQuery) -> TracePage:
    """Return one page. Raises ConfigurationError naming the argument that is wrong."""
    limit = checked_limit(query.max_results)
    order = _sorts(query)
    told = fingerprint(query)
    token = read_token(query.page_token, told, [sort.is_text for sort in order])
    now_ns = token.now_ns if token else time.time_ns()
    conditions = clauses(query, now_ns)
    with transaction(connection, "DEFERRED"):  # one snapshot for traces, tags and spans
        newest = token.newest_key if token else newest_key(connection)
        conditions.append(Clause("+key <= ?", (newest,)))  # "+" keeps SQLite from walking by key
        conditions = [condition.chosen(connection, FEW) for condition in conditions]
        rows = _select(connection, conditions, order, limit + 1, token.last if token else None)
        columns = [row[len(order) :] for row in rows[:limit]]
        traces = read_traces(connection, columns, spans=query.include_spans)
    if len(rows) <= limit:
        return TracePage(traces)
    last = list(rows[limit - 1][: len(order)])
    return TracePage(traces, next_page_token=Token(told, now_ns, newest, last).written())


def neighbours(connection: sqlite3.Connection, query: TraceQuery, trace_id: str) -> Neighbours:
    """Return what stands before and after a trace in a search's list, as if the trace met the conditions."""
    order, now_ns = _sorts(query), time.time_ns()
    sorts = ", ".join(sort.expression for sort in order)
    conditions = [condition.chosen(connection, FEW) for condition in clauses(query, now_ns)]
    with transaction(connection, "DEFERRED"):
        place = connection.execute(f"SELECT {sorts} FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
        if place is None:
            raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
        backwards = [sort._replace(descending=not sort.descending) for sort in order]
        found = [_first_after(connection, conditions, way, list(place)) for way in (backwards, order)]
    return Neighbours(previous=found[0], next=found[1])


def _first_after(
    connection: sqlite3.Connection, conditions: list[Clause], order: list[_Sort], place: SortKeys
) -> str | None:
    rows = _select(connection, conditions, order, 1, place)
    return str(rows[0][len(order) + _TRACE_ID]) if rows else None


def _select(
    connection: sqlite3.Connection, conditions: list[Clause], order: list[_Sort], limit: int, last: SortKeys | None
) -> list[tuple[Any, ...]]:
    """Return the first rows, or those behind the row with the sort keys `last`. Each begins with its own sort keys."""
    rows: list[tuple[Any, ...]] = []
    for part, sorts in _parts(order, last):
        rows += _select_part(connection, [*part, *conditions], order, sorts, limit - len(rows))
        if len(rows) == limit:
            break
    return rows


def _parts(order: list[_Sort], last: SortKeys | None) -> Iterator[tuple[list[Clause], list[_Sort]]]:
    """Cut a list into parts that follow one another, each with the sort expressions that it still needs.

    Few traces have cached tokens. All the others are equal in this order, and SQLite would put each of a million into
    its sorter, because each later key comes before the keys so far. As a part of their own they are read in the order
    of their keys, and only as many as are needed.
    """
    first, *rest = order
    if first.unknown is None:
        yield [Clause(*behind(order, last, _place))] if last else [], order
        return
    signs = ">=<" if first.descending else "<=>"
    begun = signs.index(_sign(last[0], float(first.unknown))) if last else 0
    for at, sign in enumerate(signs[begun:]):
        sorts = rest if sign == "=" else order
        after = [Clause(*behind(sorts, last[-len(sorts) :], _place))] if last and at == 0 else []
        if (sign, first.unknown) != (">", _INFINITE):
            yield [Clause(f"{first.expression} {sign} {first.unknown}"), *after], sorts


def _sign(value: Any, unknown: float) -> str:
    return "=" if value == unknown else ">" if value > unknown else "<"


def _select_part(
    connection: sqlite3.Connection, conditions: list[Clause], order: list[_Sort], by: list[_Sort], limit: int
) -> list[tuple[Any, ...]]:
    if order[0].bounded:
        conditions = [*conditions, _good_enough(conditions, order[0], limit)]
    where = _joined(conditions)
    sorts = ", ".join(sort.expression for sort in order)
    ordered = ", ".join(sort.sql for sort in by)
    matching = f"FROM traces WHERE {where} ORDER BY {ordered} LIMIT ?"
    if order[0].expression not in _PLAIN_ORDERS.values():  # an index may hold all that the sort needs
        matching = f"FROM traces WHERE key IN (SELECT key {matching}) ORDER BY {ordered}"
    parameters = [value for condition in conditions for value in condition.parameters]
    return connection.execute(f"SELECT {sorts}, {TRACE_COLUMNS} {matching}", [*parameters, limit]).fetchall()


def _good_enough(conditions: list[Clause], sort: _Sort, limit: int) -> Clause:
    """Return a condition: a row is at least as good as the last of the first `limit` rows among the newest traces.

    Of a million rows some thousands meet it. The others do not go through SQLite's sorter, which takes half of the
    time.
    """
    sign, nothing = (">=", f"-{_INFINITE}") if sort.descending else ("<=", _INFINITE)
    newest = f"key > (SELECT max(key) - {_LOOKED_AT} FROM traces)"
    bound = (
        f"SELECT {sort.expression} FROM traces WHERE {_joined(conditions)} AND {newest} "
        f"ORDER BY {sort.sql} LIMIT 1 OFFSET {limit - 1}"
    )
    parameters = tuple(value for condition in conditions for value in condition.parameters)
    return Clause(f"{sort.expression} {sign} ifnull(({bound}), {nothing})", parameters)


def _joined(conditions: list[Clause]) -> str:
    return " AND ".join(f"({condition.sql})" for condition in conditions)


def clauses(query: TraceQuery, now_ns: int) -> list[Clause]:
    """Return the conditions of a query on ``traces``. Raises ConfigurationError."""
    return [compiled(condition) for condition in parse_conditions(query, now_ns)]


def newest_key(connection: sqlite3.Connection) -> int:
    """Return the key of the trace that was stored last; 0 without any."""
    return int(connection.execute("SELECT ifnull(max(key), 0) FROM traces").fetchone()[0])


def _place(_: object) -> str:
    return "?"


def _sorts(query: TraceQuery) -> list[_Sort]:
    """Return what to sort by. Its last part is unique: the trace's key."""
    sorts = [_sort(order) for order in parse_order(query.order_by)]
    return [*sorts, _Sort("key", sorts[-1].descending)]


def _sort(order: Order) -> _Sort:
    """Write it as its index has it, if one exists in this direction; otherwise with columns of ``traces_numbers``."""
    column, descending = order
    if column in _PLAIN_ORDERS:
        return _Sort(_PLAIN_ORDERS[column], descending, is_text=column == "status")
    if column == "name":
        expression = "ifnull(name, '')" if descending else "ifnull(name, char(1114111))"
        return _Sort(expression, descending, is_text=True)
    value, unknown = _COLUMNS[column], "-1" if descending else _INFINITE
    if column == "duration" and not descending:
        value = "end_time_ns - start_time_ns"  # `duration_ns` is computed, so no index covers it
    expression = f"ifnull({value}, {unknown})"
    return _Sort(expression, descending, unknown if column in _SPARSE_ORDERS else None, column in _DENSE_ORDERS)
