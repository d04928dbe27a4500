"""From the conditions of a search to SQLite's SQL. Every value is bound."""

from __future__ import annotations

import re
from typing import Any

from tracer.store.conditions import And, Comparison, Condition, Linked, Not, Or, Text, Value
from tracer.store.sqlite._fields import Place, place_of
from tracer.store.sqlite._links import LINKED_KEYS
from tracer.store.sqlite._sql import Clause
from tracer.store.sqlite._words import match_expression
from tracer.store.words import folded, trace_id_range

__all__ = ["compiled"]


def compiled(condition: Condition) -> Clause:
    """Return the clause that says the same of a row of ``traces``."""
    match condition:
        case And(parts):
            return _joined([compiled(part) for part in parts], " AND ")
        case Or(parts):
            return _joined([compiled(part) for part in parts], " OR ")
        case Not(part):
            inner = compiled(part)
            # NULL counts as false, so its NOT is true.
            return Clause(f"NOT ifnull(({inner.sql}), 0)", inner.parameters)
        case Text(words, prefixes):
            return _text(words, prefixes)
        case Linked(trace_id):
            return Clause.of_keys(LINKED_KEYS, (trace_id,))
        case Comparison():
            return _comparison(condition)


def _joined(parts: list[Clause], word: str) -> Clause:
    if len(parts) == 1:
        return parts[0]
    values = tuple(value for part in parts for value in part.parameters)
    return Clause(word.join(f"({part.sql})" for part in parts), values)


def _comparison(condition: Comparison) -> Clause:
    field, comparator, place = condition.field, condition.comparator, place_of(condition.field)
    if comparator == "IS NOT NULL":
        return _exists(place, f"{place.sql} IS NOT NULL", ())
    values = [_bound(comparator, value) for value in condition.values]
    if (field.of, field.name) == ("trace", "state") and comparator in ("=", "!="):
        return _state(comparator, values[0])
    if (field.of, field.name) == ("trace", "duration") and comparator in (">", ">=") and values[0] >= 0:
        return _lasted(comparator, values[0])
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if not isinstance(value, str)]
    # Texts are compared with texts, numbers with numbers; a list may hold both.
    parts = [(place.as_text or place.sql, texts), (place.as_number or place.sql, numbers)]
    tests = [_test(sql, comparator, values) for sql, values in parts if values]
    if len(tests) == 2:  # what is no number is in no list of numbers
        word, unlike = ("AND", 1) if comparator == "NOT IN" else ("OR", 0)
        tests = [f"({tests[0]} {word} ifnull({tests[1]}, {unlike}))"]
    return _exists(place, tests[0], (*texts, *numbers))


def _bound(comparator: str, value: Value) -> Any:
    if comparator == "LIKE":
        return _glob(str(value))
    return folded(str(value)) if comparator == "ILIKE" else value


def _state(comparator: str, state: str) -> Clause:
    """Compare the state in a form for which SQLite uses the partial index."""
    if comparator == "=" and state != "OK":
        return Clause("state <> 'OK' AND state = ?", (state,))
    return Clause(f"state {comparator} ?", (state,))


def _lasted(comparator: str, duration: Value) -> Clause:
    """Compare the duration in a form for which SQLite uses the index of the order by duration."""
    long = f"ifnull(duration_ns, -1) {comparator} ?"
    return Clause(long, (duration,), f"SELECT key AS trace_key FROM traces WHERE {long}")


def _test(sql: str, comparator: str, values: list[Any]) -> str:
    """MLflow's LIKE minds the case, so it becomes GLOB; ILIKE doesn't, so it becomes SQLite's LIKE.

    SQLite knows the case of ASCII only. Other texts go through Python, if the pattern can need it: `_needs_folding`.
    """
    if comparator in ("IN", "NOT IN"):
        return f"{sql} {comparator} ({', '.join('?' * len(values))})"
    if comparator == "ILIKE" and _needs_folding(values[0]):
        sql = f"CASE WHEN length({sql}) = length(CAST({sql} AS BLOB)) THEN {sql} ELSE folded({sql}) END"
    operator = {"LIKE": "GLOB", "ILIKE": "LIKE", "RLIKE": "REGEXP"}.get(comparator, comparator)
    return f"{sql} {operator} ?"


def _needs_folding(pattern: str) -> bool:
    """Tell whether case beyond ASCII matters to a pattern: ``ss`` is also the upper case of ``ß``."""
    return not pattern.isascii() or "ss" in pattern.lower()


def _glob(pattern: str) -> str:
    escaped = re.sub(r"[*?\[]", r"[\g<0>]", pattern)
    return escaped.replace("%", "*").replace("_", "?")


def _exists(place: Place, test: str, bound: tuple[Any, ...]) -> Clause:
    parameters = (*place.parameters, *bound)
    keys = f"{place.keys} AND {test}" if place.keys else None
    if place.rows is not None:
        test = f"EXISTS (SELECT 1 FROM {place.rows} AND {test})"
    return Clause(test, parameters, keys)


def _text(words: str, prefixes: bool) -> Clause:
    match = match_expression(words, prefixes=prefixes)
    keys = "SELECT trace_key FROM span_text JOIN spans ON spans.key = span_text.rowid WHERE span_text MATCH ?"
    span_keys = "SELECT rowid FROM span_text WHERE span_text MATCH ?"
    has_prefix = '"*' in match  # each time, FTS5 merges the lists of all words with this prefix
    found = Clause.of_keys(keys, (match,))._replace(span_keys=span_keys, lists=has_prefix)
    if (ids := trace_id_range(words)) is None:
        return found
    has_id = "trace_id >= ? AND trace_id < ?"
    return Clause(
        f"{found.sql} OR {has_id}",
        (match, *ids),
        f"{keys} UNION ALL SELECT key FROM traces WHERE {has_id}",
        f"{span_keys} UNION ALL SELECT spans.key FROM traces JOIN spans ON trace_key = traces.key WHERE {has_id}",
        lists=True,
    )
