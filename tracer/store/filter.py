r"""``filter_string``: MLflow's search grammar (https://mlflow.org/docs/latest/genai/tracing/search-traces) to SQL.

``trace.status = 'ERROR' AND tags.`env.name` = 'prod' AND NOT (duration < 1.5 OR span.name LIKE '%search%')``

The grammar is ``filter.lark``. A field is looked up in the tables below and nowhere else; a value is only ever bound.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer._models import USAGE_KEYS, SpanStatusCode, TraceState
from tracer.store._regexp import checked_pattern
from tracer.store._sql import Condition, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lark import Lark, Token, Tree

__all__ = ["parse_filter"]

_MAX_CHARS = 10_000
_MAX_COMPARISONS = 200
_MAX_NESTING = 50  # parentheses and NOTs; SQLite's own parser gives up at 100
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)


class _Field(NamedTuple):
    """What a field name stands for.

    Attributes:
        sql: The expression to compare.
        unit: What a number of the field's unit is multiplied by; None for text.
        rows: The table of many-a-trace rows that `sql` belongs to, up to its WHERE clause; None for ``traces``.
        parameters: Bound in `rows` or `sql`, before the value.
        words: The only values it can have.
        each: ``!=`` asks for a row with another value, as in MLflow, not for no row with this one.
    """

    sql: str
    unit: float | None = None
    rows: str | None = None
    parameters: tuple[Any, ...] = ()
    words: tuple[str, ...] = ()
    each: bool = True


_STATES = tuple(state.value for state in TraceState)
_MS, _S = 1e6, 1e9
_TRACE_FIELDS = {
    "status": _Field("state", words=_STATES),
    "state": _Field("state", words=_STATES),
    "name": _Field("name"),
    "trace_id": _Field("trace_id"),
    "request_id": _Field("trace_id"),
    "experiment": _Field("experiment"),
    "session_id": _Field("session_id"),
    "user_id": _Field("user_id"),
    "timestamp": _Field("start_time_ns", _MS),
    "timestamp_ms": _Field("start_time_ns", _MS),
    "end_time_ms": _Field("end_time_ns", _MS),
    "execution_time": _Field("duration_ns", _MS),
    "execution_time_ms": _Field("duration_ns", _MS),
    "duration": _Field("duration_ns", _S),
    "latency": _Field("duration_ns", _S),
    "cost": _Field("cost", 1),
    "request": _Field("request_preview"),
    "response": _Field("response_preview"),
    "model": _Field("model", rows="spans WHERE trace_key = traces.key AND model IS NOT NULL", each=False),
    "text": _Field("text", rows="spans WHERE trace_key = traces.key", each=False),
    **{f"usage.{key}": _Field(key, 1) for key in USAGE_KEYS},
    **{key: _Field(key, 1) for key in USAGE_KEYS},
}
_SPANS = "spans WHERE trace_key = traces.key"
_SPAN_FIELDS = {
    "name": _Field("name", rows=_SPANS),
    "type": _Field("span_type", rows=_SPANS),
    "status": _Field("ifnull(status_code, 'UNSET')", rows=_SPANS, words=tuple(code.value for code in SpanStatusCode)),
    "model": _Field("model", rows=_SPANS),
    "content": _Field("ifnull(inputs, '') || ' ' || ifnull(outputs, '')", rows=_SPANS),
    "text": _Field("text", rows=_SPANS),
    "duration": _Field("end_time_ns - start_time_ns", _S, rows=_SPANS),
}
_SPAN_ATTRIBUTES = "spans, json_each(spans.attributes) AS attribute WHERE trace_key = traces.key AND attribute.key = ?"
_KEYED = {
    "tag": "tags WHERE trace_key = traces.key AND key = ?",
    "metadata": "json_each(traces.metadata) WHERE key = ?",
}
_PREFIXES = {
    "trace": "trace",
    "attribute": "trace",
    "attributes": "trace",
    "tag": "tag",
    "tags": "tag",
    "metadata": "metadata",
    "request_metadata": "metadata",
    "span": "span",
}
_NEGATED = {"!=": "=", "NOT IN": "IN"}
_SHOWN = (
    *_TRACE_FIELDS,
    *(f"span.{name}" for name in _SPAN_FIELDS),
    "span.attributes.<key>",
    "tags.<key>",
    "metadata.<key>",
)
_KNOWN = (*_SHOWN, *(f"trace.{name}" for name in _TRACE_FIELDS))


def parse_filter(text: str) -> Condition:
    """Return the condition that a filter string states.

    Raises:
        ConfigurationError: With the position, what stands there, and what could.
        MissingDependencyError: lark is not installed.
    """
    _check_size(text)
    return _condition(_parse(text), text)


def _check_size(text: str) -> None:
    """Refuse what would be too deep for the recursion here and in SQLite."""
    bare = _QUOTED.sub("''", text)
    nesting = bare.count("(") + len(re.findall(r"\bNOT\b", bare, re.IGNORECASE))
    comparisons = 1 + len(re.findall(r"\b(?:AND|OR)\b", bare, re.IGNORECASE))
    for count, limit, what in (
        (len(text), _MAX_CHARS, "characters"),
        (nesting, _MAX_NESTING, "parentheses and NOTs"),
        (comparisons, _MAX_COMPARISONS, "comparisons"),
    ):
        if count > limit:
            raise ConfigurationError(f"filter_string must have at most {limit:,} {what}, got {count:,}")


def _parse(text: str) -> Tree[Token]:
    parser = _parser()
    from lark import UnexpectedInput

    try:
        return parser.parse(text)
    except UnexpectedInput as error:
        # A token out of place knows what would be accepted, characters that are no token what was allowed.
        expected = getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()
        at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
        raise _unexpected(text, len(text) if at_end else error.pos_in_stream or 0, expected) from None


@functools.cache
def _parser() -> Lark:
    try:
        from lark import Lark
    except ImportError as error:
        raise MissingDependencyError("filter_string", package="lark", extra="search") from error
    grammar = resources.files(__package__ or "tracer.store").joinpath("filter.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True)


_TERMINALS = {
    "$END": "the end",
    "STRING": "'text' in quotes",
    "DOUBLE_QUOTED": "",
    "NUMBER": "a number",
    "NAME": "a field",
    "QUOTED_KEY": "",
    "COMPARATOR": "= != > >= < <= LIKE ILIKE RLIKE",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "DOT": ".",
}


def _unexpected(text: str, at: int, expected: Iterable[str]) -> ConfigurationError:
    wanted = sorted({_TERMINALS.get(name, name.strip("_")) for name in expected} - {""})
    found = repr(text[at : at + 20]) if at < len(text) else "the end"
    return _error(text, at, f"found {found}, expected {' or '.join(wanted) or 'something else'}")


def _error(text: str, at: int, problem: str) -> ConfigurationError:
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return ConfigurationError(f"filter_string, position {at + 1}: {problem}; got {shown!r}")


# --- from the tree to SQL -----------------------------------------------------------------------------------------
def _condition(node: Any, text: str) -> Condition:
    """Build the SQL of a node: a connective or a comparison."""
    if node.data in ("and_expression", "or_expression"):
        parts = [_condition(child, text) for child in node.children]
        word = " AND " if node.data == "and_expression" else " OR "
        return Condition(
            word.join(f"({part.sql})" for part in parts), tuple(value for part in parts for value in part.parameters)
        )
    if node.data == "negation":
        inner = _condition(node.children[0], text)
        return Condition(f"NOT ifnull(({inner.sql}), 0)", inner.parameters)  # unknown is not true, so its NOT is
    return _comparison(node, text)


def _comparison(node: Any, text: str) -> Condition:
    at = node.meta.start_pos
    try:
        field = _field([_key(key) for key in node.children[0].children])
        if node.data in ("is_null", "is_not_null"):
            return _exists(field, f"{field.sql} IS NOT NULL", (), negated=node.data == "is_null")
        if node.data == "compare":
            _, comparator, value = node.children
            return _compare(field, str(comparator).upper(), [_value(value)])
        values = [_value(value) for value in node.children[1].children]
        return _compare(field, "IN" if node.data == "is_in" else "NOT IN", values)
    except ValueError as error:
        raise _error(text, at, str(error)) from None


def _key(node: Any) -> str:
    token = str(node.children[0])
    return token if node.data == "plain_key" else _unquoted(token)


def _value(node: Any) -> str | float | int:
    token = str(node.children[0])
    if node.data == "string":
        return _unquoted(token)
    return float(token) if re.search(r"[.eE]", token) else int(token)


def _unquoted(token: str) -> str:
    """Take the quotes off: a doubled single quote or a backslash before a quote or backslash stands for the quote."""
    body = token[1:-1]
    if token[0] == "`":
        return body
    return re.sub(r"\\(['\"\\])", r"\1", body.replace("''", "'") if token[0] == "'" else body)


def _field(keys: list[str]) -> _Field:
    """Look a field up. Raises ValueError with what is known."""
    prefix = _PREFIXES.get(keys[0].lower()) if len(keys) > 1 else "trace"
    rest = keys[1:] if prefix and len(keys) > 1 else keys
    if prefix in _KEYED:
        return _Field("value", rows=_KEYED[prefix], parameters=(".".join(rest),))
    if prefix == "span" and rest[0].lower() in ("attributes", "attribute") and len(rest) > 1:
        return _Field("attribute.value", rows=_SPAN_ATTRIBUTES, parameters=(".".join(rest[1:]),))
    table = _SPAN_FIELDS if prefix == "span" else _TRACE_FIELDS
    if field := table.get(".".join(rest).lower()):
        return field
    name = ".".join(keys)
    raise ValueError(f"unknown field {name!r}{did_you_mean(name, _KNOWN)} (known: {', '.join(_SHOWN)})")


def _compare(field: _Field, comparator: str, values: list[Any]) -> Condition:
    negated = comparator in _NEGATED and field.rows is not None and field.unit is None and not field.each
    comparator = _NEGATED[comparator] if negated else comparator
    bound = tuple(_bindable(field, comparator, value) for value in values)
    if field.sql == "state" and comparator in ("=", "!="):
        return Condition.state(comparator, bound[0])
    sql = f"CAST({field.sql} AS TEXT)" if field.rows == _SPAN_ATTRIBUTES and isinstance(bound[0], str) else field.sql
    return _exists(field, f"{sql} {_operator(comparator, len(bound))}", bound, negated=negated)


def _operator(comparator: str, count: int) -> str:
    """MLflow's LIKE minds the case and ILIKE doesn't; SQLite's GLOB does and its LIKE doesn't (for ASCII letters)."""
    if comparator in ("IN", "NOT IN"):
        return f"{comparator} ({', '.join('?' * count)})"
    return {"LIKE": "GLOB ?", "ILIKE": "LIKE ?", "RLIKE": "REGEXP ?"}.get(comparator, f"{comparator} ?")


def _exists(field: _Field, test: str, bound: tuple[Any, ...], *, negated: bool = False) -> Condition:
    if field.rows is not None:
        test = f"EXISTS (SELECT 1 FROM {field.rows} AND {test})"
    return Condition(f"NOT ({test})" if negated else test, (*field.parameters, *bound))


def _bindable(field: _Field, comparator: str, value: Any) -> Any:
    """Return the value as it is stored. Raises ValueError if the field can't have such a value."""
    if field.unit is not None:
        if isinstance(value, str) or comparator.endswith("LIKE"):
            raise ValueError(f"a number must be compared with = != > >= < <= or IN, got {comparator} {value!r}")
        return value if field.unit == 1 else round(value * field.unit)
    if isinstance(value, (int, float)):
        if field.rows == _SPAN_ATTRIBUTES and not comparator.endswith("LIKE"):
            return value
        raise ValueError(f"text must be compared with 'text' in quotes, got {value!r}")
    if field.words and not comparator.endswith("LIKE"):
        if value.upper() not in field.words:
            raise ValueError(f"must be one of {', '.join(field.words)}, got {value!r}")
        return value.upper()
    if comparator == "RLIKE":
        return checked_pattern(value)
    return _glob(value) if comparator == "LIKE" else value


def _glob(pattern: str) -> str:
    escaped = re.sub(r"[*?\[]", r"[\g<0>]", pattern)
    return escaped.replace("%", "*").replace("_", "?")
