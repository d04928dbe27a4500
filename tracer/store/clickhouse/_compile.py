"""From the conditions of a search to ClickHouse's SQL. Every value is bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tracer._exceptions import ConfigurationError
from tracer.store.clickhouse._patterns import UntranslatableError, translated
from tracer.store.clickhouse._places import Place, feedback_keys, place_of, span_keys
from tracer.store.clickhouse._sql import Clause, joined, slot, type_of
from tracer.store.clickhouse._words import Begins, search_clause
from tracer.store.conditions import And, Comparison, Condition, Linked, Not, Or, Text
from tracer.store.patterns import MAX_SUBJECT
from tracer.store.words import folded, trace_id_range

__all__ = ["Known", "compiled"]


class Known(NamedTuple):
    """What is asked of the database before there is a condition.

    Attributes:
        linked: Returns the keys of the traces that are linked to the one with this id.
        begins: Returns the words that begin so (`tracer.store.clickhouse._words`).
    """

    linked: Callable[[str], list[int]]
    begins: Begins


def compiled(condition: Condition, known: Known) -> Clause:
    """Return the clause that says the same of a row of ``traces``."""
    match condition:
        case And(parts):
            return joined([compiled(part, known) for part in parts])
        case Or(parts):
            return joined([compiled(part, known) for part in parts], " OR ")
        case Not(part):
            inner = compiled(part, known)
            return Clause(f"NOT ifNull({inner.sql}, 0)", inner.parameters)  # NULL counts as false
        case Text(words, prefixes):
            return _text(words, prefixes, known.begins)
        case Linked(trace_id):
            return Clause("trace_key IN ?:Array(Int64)", (known.linked(trace_id),))
        case Comparison():
            return _comparison(condition)


def _comparison(condition: Comparison) -> Clause:
    comparator, place = condition.comparator, place_of(condition.field)
    if comparator == "IS NOT NULL":
        return _exists(place, Clause(f"{place.sql} IS NOT NULL"))
    texts = [value for value in condition.values if isinstance(value, str)]
    numbers = [value for value in condition.values if not isinstance(value, str)]
    # Texts are compared with texts, numbers with numbers; a list may hold both.
    tests = []
    if texts:
        tests.append(_text_test(place.as_text or place.sql, comparator, texts))
    if numbers:
        tests.append(_number_test(place, comparator, numbers))
    if len(tests) == 1:
        return _exists(place, tests[0])
    # What is no number is in no list of numbers.
    word, unlike = ("AND", 1) if comparator == "NOT IN" else ("OR", 0)
    values = (*tests[0].parameters, *tests[1].parameters)
    return _exists(place, Clause(f"({tests[0].sql} {word} ifNull({tests[1].sql}, {unlike}))", values))


def _number_test(place: Place, comparator: str, values: list[Any]) -> Clause:
    sql = place.as_number or place.sql
    if place.as_number is not None:
        values = [float(value) for value in values]
    if comparator in ("IN", "NOT IN"):
        tests = [f"{sql} = {slot(value)}" for value in values]
        test = " OR ".join(tests)
        return Clause(f"({test})" if comparator == "IN" else f"NOT ({test})", tuple(values))
    return Clause(f"{sql} {comparator} {slot(values[0])}", (values[0],))


def _text_test(sql: str, comparator: str, values: list[str]) -> Clause:
    value = values[0]
    if comparator in ("IN", "NOT IN"):
        given = f"({', '.join(slot(value) for value in values)})"
        return Clause(f"({sql} IS NOT NULL AND {sql} {comparator} {given})", tuple(values))
    if comparator == "LIKE":
        return Clause(f"{sql} LIKE ?:{type_of(value)}", (_escaped(value),))
    if comparator == "ILIKE":
        return Clause(f"caseFoldUTF8(normalizeUTF8NFC({sql})) LIKE ?:String", (_escaped(folded(value)),))
    if comparator == "RLIKE":
        return _regular(sql, value)
    return Clause(f"{sql} {comparator} ?:String", (value,))


def _escaped(pattern: str) -> str:
    return pattern.replace("\\", "\\\\")  # to LIKE it is no character like any other


def _regular(sql: str, pattern: str) -> Clause:
    try:
        ours = translated(pattern)
    except UntranslatableError as error:
        raise ConfigurationError(
            f"filter_string: RLIKE {pattern!r} can't be asked of ClickHouse: {error}; write it in another way"
        ) from None
    return Clause(f"match(substringUTF8({sql}, 1, {MAX_SUBJECT}), ?:String)", (ours,))


def _exists(place: Place, test: Clause) -> Clause:
    """Return the condition that a value at a place meets a test."""
    taken = 0 if place.array is None else place.array.count("?:")
    if place.array is not None:
        values = (*test.parameters, *place.parameters[:taken])
        test = Clause(f"arrayExists(v -> ifNull({test.sql}, 0), {place.array})", values)
    if place.where is not None:
        test = joined([Clause(place.where, place.parameters[taken:]), test])
    if place.of == "span":
        return span_keys(test)
    return feedback_keys(test) if place.of == "feedback" else test


def _text(words: str, prefixes: bool, begins: Begins) -> Clause:
    tests = search_clause(words, begins, prefixes=prefixes)
    clause = Clause("0") if tests is None else span_keys(*tests)
    if (ids := trace_id_range(words)) is None:
        return clause
    return joined([clause, Clause("trace_id >= ?:String AND trace_id < ?:String", ids)], " OR ")
