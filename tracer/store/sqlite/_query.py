"""``search_traces``: arguments to SQL, and pages that do not shift while traces keep arriving.

A page's token carries the sort keys of its last trace, the highest trace key at the time of the first page (what came
later is on no page of that search) and that time itself, so that "one hour ago" means the same on each page.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, NamedTuple

import msgspec

from tracer._exceptions import ConfigurationError, TraceNotFoundError
from tracer._models import TracePage, TraceState
from tracer.process import forks
from tracer.store.base import TraceQuery
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._links import LINKED_KEYS
from tracer.store.sqlite._read import TRACE_COLUMNS, read_traces
from tracer.store.sqlite._sql import Condition, did_you_mean
from tracer.store.sqlite._words import match_expression, trace_id_range
from tracer.store.summaries import Neighbours

__all__ = ["neighbours", "search"]

MAX_RESULTS = 10_000
_FEW = 10_000
"""Up to this many matches of a condition are fetched and sorted; with more, traces are tested in order, one by one."""

_NUMERIC_ORDERS = {
    "duration": "duration_ns",
    "total_tokens": "total_tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "time_to_first_token": "time_to_first_token",
    "cost": "cost",
}
# NULL for most traces, so rows are read in parts (`_parts`). For other columns that would take half as long again.
_SPARSE_ORDERS = ("cache_read_input_tokens", "time_to_first_token")
_DENSE_ORDERS = ("input_tokens", "output_tokens")  # known for most traces, and without an index of their own
_LOOKED_AT = 20_000  # of the newest traces, to learn how good the first page is: see `_good_enough`
_INFINITE = "9e999"
_PLAIN_ORDERS = {"start_time": "start_time_ns", "status": "state"}
_ORDER_ALIASES = {
    "timestamp": "start_time",
    "timestamp_ms": "start_time",
    "execution_time": "duration",
    "execution_time_ms": "duration",
    "state": "status",
}
_ORDERS = (*_PLAIN_ORDERS, "name", *_NUMERIC_ORDERS)
_DEFAULT_ORDER = "start_time desc"
_TRACE_ID = TRACE_COLUMNS.split(", ").index("trace_id")

_LATEST_NS = 2**63 - 1  # SQLite's largest integer: in the year 2262
_MOMENTS = (datetime(1678, 1, 1, tzinfo=timezone.utc), datetime(2262, 1, 1, tzinfo=timezone.utc))
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_Keys = list[Annotated[int, msgspec.Meta(ge=-_LATEST_NS, le=_LATEST_NS)] | float | str]
"""A trace's values of all sort expressions."""


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


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    fingerprint: bytes
    now_ns: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_NS)]
    newest_key: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_NS)]
    last: _Keys


def search(connection: sqlite3.Connection, query: TraceQuery) -> TracePage:
    """Return one page. Raises ConfigurationError naming the argument that is wrong."""
    limit = _checked_limit(query.max_results)
    order = _parse_order(query.order_by)  # its last part is unique: the trace's key
    fingerprint = _fingerprint(query)
    token = _decode_token(query.page_token, fingerprint, [sort.is_text for sort in order])
    now_ns = token.now_ns if token else time.time_ns()
    conditions = list(_conditions(query, now_ns))
    with transaction(connection, "DEFERRED"):  # one snapshot for traces, tags and spans
        newest = token.newest_key if token else _newest_key(connection)
        conditions.append(Condition("+key <= ?", (newest,)))  # "+" keeps SQLite from walking by key
        conditions = [condition.chosen(connection, _FEW) for condition in conditions]
        rows = _select(connection, conditions, order, limit + 1, token.last if token else None)
        columns = [row[len(order) :] for row in rows[:limit]]
        traces = read_traces(connection, columns, spans=query.include_spans)
    if len(rows) <= limit:
        return TracePage(traces)
    last = list(rows[limit - 1][: len(order)])
    return TracePage(traces, next_page_token=_encode(_Token(fingerprint, now_ns, newest, last)))


def neighbours(connection: sqlite3.Connection, query: TraceQuery, trace_id: str) -> Neighbours:
    """Return what stands before and after a trace in a search's list, as if the trace met the conditions."""
    order, now_ns = _parse_order(query.order_by), time.time_ns()
    sorts = ", ".join(sort.expression for sort in order)
    conditions = [condition.chosen(connection, _FEW) for condition in _conditions(query, now_ns)]
    with transaction(connection, "DEFERRED"):
        place = connection.execute(f"SELECT {sorts} FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
        if place is None:
            raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
        backwards = [sort._replace(descending=not sort.descending) for sort in order]
        found = [_first_after(connection, conditions, way, list(place)) for way in (backwards, order)]
    return Neighbours(previous=found[0], next=found[1])


def _first_after(
    connection: sqlite3.Connection, conditions: list[Condition], order: list[_Sort], place: _Keys
) -> str | None:
    rows = _select(connection, conditions, order, 1, place)
    return str(rows[0][len(order) + _TRACE_ID]) if rows else None


def _select(
    connection: sqlite3.Connection, conditions: list[Condition], order: list[_Sort], limit: int, last: _Keys | None
) -> list[tuple[Any, ...]]:
    """Return the first rows, or those behind the row with the sort keys `last`. Each begins with its own sort keys."""
    rows: list[tuple[Any, ...]] = []
    for part, sorts in _parts(order, last):
        rows += _select_part(connection, [*part, *conditions], order, sorts, limit - len(rows))
        if len(rows) == limit:
            break
    return rows


def _parts(order: list[_Sort], last: _Keys | None) -> Iterator[tuple[list[Condition], list[_Sort]]]:
    """Cut a list into parts that follow one another, each with the sort expressions that it still needs.

    Few traces have cached tokens. All the others are equal in this order, and SQLite would put each of a million into
    its sorter, because each later key comes before the keys so far. As a part of their own they are read in the order
    of their keys, and only as many as are needed.
    """
    first, *rest = order
    if first.unknown is None:
        yield [_after(order, last)] if last else [], order
        return
    signs = ">=<" if first.descending else "<=>"
    begun = signs.index(_sign(last[0], float(first.unknown))) if last else 0
    for at, sign in enumerate(signs[begun:]):
        sorts = rest if sign == "=" else order
        behind = [_after(sorts, last[-len(sorts) :])] if last and at == 0 else []
        if (sign, first.unknown) != (">", _INFINITE):
            yield [Condition(f"{first.expression} {sign} {first.unknown}"), *behind], sorts


def _sign(value: Any, unknown: float) -> str:
    return "=" if value == unknown else ">" if value > unknown else "<"


def _select_part(
    connection: sqlite3.Connection, conditions: list[Condition], order: list[_Sort], by: list[_Sort], limit: int
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


def _good_enough(conditions: list[Condition], sort: _Sort, limit: int) -> Condition:
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
    return Condition(f"{sort.expression} {sign} ifnull(({bound}), {nothing})", parameters)


def _joined(conditions: list[Condition]) -> str:
    return " AND ".join(f"({condition.sql})" for condition in conditions)


def _newest_key(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT ifnull(max(key), 0) FROM traces").fetchone()[0])


def _conditions(query: TraceQuery, now_ns: int) -> Iterator[Condition]:
    if query.status is not None:
        yield _state_is(query.status)
    for column in ("name", "experiment", "session_id", "user_id"):
        if (value := getattr(query, column)) is not None:
            yield Condition(f"{column} = ?", (_checked_text(column, value),))
    if query.model is not None:
        yield Condition.of_keys("SELECT trace_key FROM spans WHERE model = ?", (_checked_text("model", query.model),))
    if query.linked_to is not None:
        yield Condition.of_keys(LINKED_KEYS, (_checked_text("linked_to", query.linked_to),))
    for key, value in _checked_tags(query.tags).items():
        yield Condition.of_keys("SELECT trace_key FROM tags WHERE key = ? AND value = ?", (key, value))
    if not isinstance(query.text_prefix, bool):
        raise ConfigurationError(f"text_prefix must be True or False, got {query.text_prefix!r}")
    if query.text is not None:
        yield from _text_conditions(_checked_text("text", query.text), query.text_prefix)
    yield from _time_conditions(query, now_ns)
    if query.filter_string is not None and _checked_text("filter_string", query.filter_string).strip():
        with forks.delayed():  # this imports, and imports take locks
            from tracer.store.sqlite.filter import filter_conditions  # lark is an extra

            conditions = filter_conditions(query.filter_string)
        yield from conditions


def _time_conditions(query: TraceQuery, now_ns: int) -> Iterator[Condition]:
    if query.since is not None:
        yield Condition("start_time_ns >= ?", (_nanoseconds("since", query.since, now_ns),))
    if query.until is not None:
        yield Condition("start_time_ns < ?", (_nanoseconds("until", query.until, now_ns),))
    if query.min_duration is not None:
        seconds = query.min_duration
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
            raise ConfigurationError(f"min_duration must be seconds, 0 or more, got {seconds!r}")
        long = "ifnull(duration_ns, -1) >= ?"
        yield Condition(long, (round(seconds * 1e9),), f"SELECT key AS trace_key FROM traces WHERE {long}")


def _state_is(status: str) -> Condition:
    try:
        state = TraceState(str(status).upper()).value
    except ValueError:
        known = [state.value for state in TraceState]
        raise ConfigurationError(
            f"status must be one of {', '.join(known)}, got {status!r}{did_you_mean(str(status).upper(), known)}"
        ) from None
    return Condition.state("=", state)


def _text_conditions(text: str, prefixes: bool) -> Iterator[Condition]:
    """Yield the condition that a span has all these words, or that the trace has this id; nothing for a blank text."""
    match = match_expression(text, prefixes=prefixes)
    if match is None:
        if text.strip():
            raise ConfigurationError(f"text must hold a word to look for, got {text!r}")
        return
    keys = "SELECT trace_key FROM span_text JOIN spans ON spans.key = span_text.rowid WHERE span_text MATCH ?"
    span_keys = "SELECT rowid FROM span_text WHERE span_text MATCH ?"
    has_prefix = '"*' in match  # each time, FTS5 merges the lists of all words with this prefix
    found = Condition.of_keys(keys, (match,))._replace(span_keys=span_keys, lists=has_prefix)
    if (ids := trace_id_range(text)) is None:
        yield found
        return
    has_id = "trace_id >= ? AND trace_id < ?"
    yield Condition(
        f"{found.sql} OR {has_id}",
        (match, *ids),
        f"{keys} UNION ALL SELECT key FROM traces WHERE {has_id}",
        f"{span_keys} UNION ALL SELECT spans.key FROM traces JOIN spans ON trace_key = traces.key WHERE {has_id}",
        lists=True,
    )


def _nanoseconds(parameter: str, value: Any, now_ns: int) -> int:
    """Read a moment: datetime or ISO text (local time if without a zone), seconds since the epoch, timedelta ago."""
    try:
        moment = _moment(value, now_ns)
    except (OverflowError, OSError):  # year 1 or 9999 in another time zone; an integer that no float can hold
        moment = None
    except ValueError:
        raise ConfigurationError(
            f"{parameter} must be a datetime, ISO text such as '2026-11-22T13:00:00', seconds since the epoch or a "
            f"timedelta (that long ago), got {_shortened(value)}"
        ) from None
    earliest, latest = ((bound - _EPOCH) // timedelta(microseconds=1) * 1_000 for bound in _MOMENTS)
    if moment is None or not earliest <= moment < latest:
        years = f"{_MOMENTS[0].year} and {_MOMENTS[1].year - 1}"
        raise ConfigurationError(f"{parameter} must lie between the years {years}, got {_shortened(value)}")
    return moment


def _moment(value: Any, now_ns: int) -> int:
    """Return nanoseconds since the epoch. Raises ValueError, or OverflowError or OSError where Python can't compute."""
    if isinstance(value, timedelta):
        return now_ns - value // timedelta(microseconds=1) * 1_000
    if isinstance(value, str):
        value = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value.strip()))
    if isinstance(value, datetime):
        if value.tzinfo is None and not _MOMENTS[0].year <= value.year < _MOMENTS[1].year:
            raise OverflowError  # Python's error for it depends on the local time zone
        return (value.astimezone(timezone.utc) - _EPOCH) // timedelta(microseconds=1) * 1_000
    # In seconds any moment until the year 5138 is below 1e11: a larger number was meant as milli- or nanoseconds.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e11:
        raise ValueError
    return round(value * 1e9)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _parse_order(order_by: Any) -> list[_Sort]:
    """Read ``"duration desc"`` or MLflow's ``["status ASC", "timestamp_ms DESC"]``; equal traces are sorted by age."""
    items = [order_by] if isinstance(order_by, str) else order_by or [_DEFAULT_ORDER]
    if not isinstance(items, (list, tuple)):
        raise _wrong_order(items)
    columns: dict[str, bool] = {}
    for item in items:
        column, descending = _parse_sort(item)
        columns.setdefault(column, descending)  # sorting by it once more changes nothing
    sorts = [_sort(column, descending) for column, descending in columns.items()]
    return [*sorts, _Sort("key", sorts[-1].descending)]


def _parse_sort(item: Any) -> tuple[str, bool]:
    pattern = r"\s*(?:trace\.|attributes?\.)?(\w+)(?:\s+(asc|desc))?\s*"
    match = re.fullmatch(pattern, item, re.IGNORECASE) if isinstance(item, str) else None
    column = match[1].lower() if match else ""
    column = _ORDER_ALIASES.get(column, column)
    if match is None or column not in _ORDERS:
        raise _wrong_order(item, did_you_mean(column, (*_ORDERS, *_ORDER_ALIASES)))
    return column, (match[2] or "asc").lower() == "desc"


def _wrong_order(got: Any, hint: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"order_by must be one of {', '.join(_ORDERS)}, with asc or desc behind it, or a list of such, "
        f"got {got!r}{hint}"
    )


def _after(order: list[_Sort], last: _Keys) -> Condition:
    """Return the condition that a trace comes behind the one with these sort keys."""
    (sort, *rest), (value, *values) = order, last
    sign = "<" if sort.descending else ">"
    if not rest:
        return Condition(f"{sort.expression} {sign} ?", (value,))
    among_equals = _after(rest, values)
    # The first half follows from the second; it is there because an index can be searched for it.
    sql = f"{sort.expression} {sign}= ? AND ({sort.expression} {sign} ? OR ({among_equals.sql}))"
    return Condition(sql, (value, value, *among_equals.parameters))


def _sort(column: str, descending: bool) -> _Sort:
    """Write it as its index has it, if one exists in this direction; otherwise with columns of ``traces_numbers``."""
    if column in _PLAIN_ORDERS:
        return _Sort(_PLAIN_ORDERS[column], descending, is_text=column == "status")
    if column == "name":
        expression = "ifnull(name, '')" if descending else "ifnull(name, char(1114111))"
        return _Sort(expression, descending, is_text=True)
    value, unknown = _NUMERIC_ORDERS[column], "-1" if descending else _INFINITE
    if column == "duration" and not descending:
        value = "end_time_ns - start_time_ns"  # `duration_ns` is computed, so no index covers it
    expression = f"ifnull({value}, {unknown})"
    return _Sort(expression, descending, unknown if column in _SPARSE_ORDERS else None, column in _DENSE_ORDERS)


def _fingerprint(query: TraceQuery) -> bytes:
    """Return a hash of what must be equal on all pages: everything except how much of each page is read."""
    told = msgspec.structs.asdict(query)
    for free in ("page_token", "max_results", "include_spans"):
        told.pop(free)
    told["tags"] = sorted(_checked_tags(query.tags).items())
    return hashlib.blake2b(repr(told).encode(errors="replace"), digest_size=8).digest()


def _encode(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).rstrip(b"=").decode()


def _decode_token(text: str | None, fingerprint: bytes, texts: list[bool]) -> _Token | None:
    """Read a token; `texts` says of each sort key whether it is text. Nothing in a token can be trusted."""
    if text is None:
        return None
    try:
        padded = str(text) + "=" * (-len(str(text)) % 4)
        token = msgspec.msgpack.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Token)
    except (ValueError, msgspec.MsgspecError):
        raise ConfigurationError(
            f"page_token must be a page's next_page_token, got {str(text)[:60]!r}; leave it out for the first page"
        ) from None
    if token.fingerprint != fingerprint or [isinstance(key, str) for key in token.last] != texts:
        raise ConfigurationError(
            "page_token belongs to a search with other arguments; pass the same, or leave it out for the first page"
        )
    return token


def _checked_limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RESULTS:
        raise ConfigurationError(f"max_results must be a whole number from 1 to {MAX_RESULTS}, got {value!r}")
    return value


def _checked_text(parameter: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{parameter} must be a string, got {value!r}")
    return value.encode("utf-8", "replace").decode()  # half a surrogate pair can't be passed to SQLite


def _checked_tags(tags: Any) -> dict[str, str]:
    if tags is None:
        return {}
    if not isinstance(tags, dict):
        raise ConfigurationError(f"tags must be a dict of strings, as in {{'env': 'prod'}}, got {tags!r}")
    return {_checked_text("tags", key): _checked_text("tags", value) for key, value in tags.items()}
