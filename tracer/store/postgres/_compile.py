"""From the conditions of a search to PostgreSQL's SQL. Every value is bound."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer.store.conditions import And, Comparison, Condition, Linked, Not, Or, Text, Value
from tracer.store.postgres._links import LINKED
from tracer.store.postgres._patterns import UntranslatableError, translated
from tracer.store.postgres._places import SPANS, Place, place_of
from tracer.store.postgres._sql import Clause, hashed, joined, slot
from tracer.store.postgres._words import search_expression
from tracer.store.words import folded, trace_id_range

__all__ = ["compiled"]

# Letters whose form without case is another than their lower case, as far as texts have them. Python knows some more.
_SMALL = ("ςſᲀ", "σsв")
_LONG = {"ß": "ss", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}


def compiled(condition: Condition, case: str) -> Clause:
    """Return the clause that says the same of a row of ``traces``.

    Args:
        condition: Any node of the tree.
        case: The collation that knows upper and lower case of all letters, as SQL.
    """
    match condition:
        case And(parts):
            return joined([compiled(part, case) for part in parts])
        case Or(parts):
            return joined([compiled(part, case) for part in parts], " OR ")
        case Not(part):
            inner = compiled(part, case)
            return Clause(f"({inner.sql}) IS NOT TRUE", inner.parameters)  # NULL counts as false
        case Text(words, prefixes):
            return _text(words, prefixes)
        case Linked(trace_id):
            return Clause(f"traces.key IN ({LINKED})", (trace_id,))
        case Comparison():
            return _comparison(condition, case)


def _comparison(condition: Comparison, case: str) -> Clause:
    comparator, place = condition.comparator, place_of(condition.field)
    if comparator == "IS NOT NULL":
        return _exists(place, f"{place.sql} IS NOT NULL", ())
    if (condition.field.of, condition.field.name) == ("trace", "state") and comparator == "=":
        return _state(condition.values[0])
    texts = [value for value in condition.values if isinstance(value, str)]
    numbers = [value for value in condition.values if not isinstance(value, str)]
    # Texts are compared with texts, numbers with numbers; a list may hold both.
    tests = []
    if texts:
        tests.append(_text_test(place, comparator, texts, case))
    if numbers:
        tests.append(_number_test(place, comparator, numbers))
    if len(tests) == 2:  # what is no number is in no list of numbers
        word, unlike = ("AND", "TRUE") if comparator == "NOT IN" else ("OR", "FALSE")
        sql = f"({tests[0].sql} {word} coalesce({tests[1].sql}, {unlike}))"
        return _exists(place, sql, (*tests[0].parameters, *tests[1].parameters))
    return _exists(place, *tests[0][:2])


def _state(state: Value) -> Clause:
    """Compare the state in a form for which PostgreSQL uses the partial index."""
    return Clause(
        "traces.state = ?::text" if state == "OK" else "traces.state <> 'OK' AND traces.state = ?::text", (state,)
    )


def _number_test(place: Place, comparator: str, values: list[Any]) -> Clause:
    """Compare numbers. Where values may be of any type, they are compared as decimal numbers, exactly."""
    sql = place.as_number or place.sql
    if place.as_number is not None:
        values = [Decimal(repr(value)) for value in values]
    if comparator in ("IN", "NOT IN"):
        return Clause(f"{sql} {comparator} ({', '.join(map(slot, values))})", tuple(values))
    return Clause(f"{sql} {comparator} {slot(values[0])}", (values[0],))


def _text_test(place: Place, comparator: str, values: list[str], case: str) -> Clause:
    sql = place.as_text or place.sql
    value = values[0]
    if comparator == "NOT IN" or (comparator == "IN" and not place.is_hashed):
        return Clause(f"{sql} {comparator} ({', '.join(['?::text'] * len(values))})", tuple(values))
    if comparator in ("IN", "=") and place.is_hashed:
        slots = ", ".join(["?::text"] * len(values))
        hashes = ", ".join([hashed("?::text")] * len(values))
        return Clause(f"({hashed(sql)} IN ({hashes}) AND {sql} IN ({slots}))", (*values, *values))
    if comparator == "LIKE":
        return Clause(f"{sql} LIKE ?::text", (_escaped(value),))
    if comparator == "ILIKE":
        return _without_case(sql, value, case)
    if comparator == "RLIKE":
        return _regular(sql, value, case)
    return Clause(f"{sql} {comparator} ?::text", (value,))


def _escaped(pattern: str) -> str:
    return pattern.replace("\\", "\\\\")  # to LIKE it is no character like any other


def _without_case(sql: str, pattern: str, case: str) -> Clause:
    """MLflow's ILIKE ignores case. In bytes' order PostgreSQL knows the case of ASCII only."""
    wanted = _escaped(folded(pattern))
    if pattern.isascii() and "ss" not in pattern.lower():
        return Clause(f"{sql} ILIKE ?::text", (wanted,))
    small = f"translate(lower(normalize({sql}, NFC) COLLATE {case}), '{_SMALL[0]}', '{_SMALL[1]}')"
    for letter, letters in _LONG.items():
        small = f"replace({small}, '{letter}', '{letters}')"
    is_ascii = f"octet_length({sql}) = length({sql})"
    test = f'CASE WHEN {is_ascii} THEN lower({sql}) ELSE ({small}) COLLATE "C" END LIKE ?::text'
    return Clause(test, (wanted,))


def _regular(sql: str, pattern: str, case: str) -> Clause:
    try:
        ours = translated(pattern)
    except UntranslatableError as error:
        raise ConfigurationError(
            f"filter_string: RLIKE {pattern!r} can't be asked of PostgreSQL: {error}; write it in another way"
        ) from None
    return Clause(f"left({sql}, 1000) COLLATE {case} ~ ?::text", (ours,))


def _exists(place: Place, test: str, values: tuple[Any, ...]) -> Clause:
    keys = f"{place.keys} AND {test}" if place.keys else None
    if place.rows is not None:
        test = f"EXISTS (SELECT 1 FROM {place.rows} AND {test})"
    return Clause(test, (*place.parameters, *values), keys, (*place.key_parameters, *values))


def _text(words: str, prefixes: bool) -> Clause:
    expression = search_expression(words, prefixes=prefixes)
    found = f"EXISTS (SELECT 1 FROM {SPANS} AND spans.words @@ ?::text::tsquery)"
    keys = "SELECT trace_key FROM spans WHERE spans.words @@ ?::text::tsquery"
    # Without a word nothing is found; to PostgreSQL, an empty question is none.
    clause = Clause("FALSE") if expression is None else Clause(found, (expression,), keys, (expression,))
    if (ids := trace_id_range(words)) is None:
        return clause
    has_id = "traces.trace_id >= ?::text AND traces.trace_id < ?::text"
    both = (*clause.parameters, *ids)
    of_ids = f"SELECT key AS trace_key FROM traces WHERE {has_id}"
    all_keys = of_ids if clause.keys is None else f"{clause.keys} UNION ALL {of_ids}"
    return Clause(f"{clause.sql} OR ({has_id})", both, all_keys, both)
