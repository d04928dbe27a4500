r"""``filter_string``: MLflow's search grammar (https://mlflow.org/docs/latest/genai/tracing/search-traces) to SQL.

``trace.status = 'ERROR' AND tags.`env.name` = 'prod' AND NOT (duration < 1.5 OR span.name LIKE '%search%')``

The grammar is ``filter.lark``. A field is looked up in `tracer.store.sqlite._fields` and nowhere else; a value is
always bound and never becomes SQL text.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.store.sqlite._fields import Field, Unit, find_field
from tracer.store.sqlite._regexp import checked_pattern
from tracer.store.sqlite._sql import Condition
from tracer.store.sqlite._words import folded

if TYPE_CHECKING:
    from collections.abc import Callable

    from lark import Lark, Token, Tree

__all__ = ["filter_conditions", "parse_filter"]

_MAX_CHARS = 10_000
_MAX_COMPARISONS = 200
_MAX_NESTING = 16  # parentheses and NOTs; SQLite 3.40's own parser gives up at 18, if each is a NOT or holds an AND
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`", re.DOTALL)
_NEGATED = {"!=": "=", "NOT IN": "IN"}
_TERMINALS = {
    "$END": "the end",
    "STRING": "'text' in quotes",
    "DOUBLE_QUOTED": "",
    "NUMBER": "a number",
    "BOOLEAN": "",
    "NAME": "a field",
    "QUOTED_KEY": "",
    "COMPARATOR": "= != > >= < <= LIKE ILIKE RLIKE",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "DOT": ".",
}
_SLIPS = tuple(
    (wanted, re.compile(pattern, re.IGNORECASE), remedy)
    for wanted, pattern, remedy in (
        ("STRING", r"=", "; equality is a single ="),
        ("STRING", r"(?<=<)>", "; inequality is !="),
        ("STRING", r"NULL\b", "; write IS NULL or IS NOT NULL"),
        ("STRING", r"['\"]", "; this quote is never closed"),
        ("STRING", "[\u2018\u2019\u201c\u201d`]", "; text stands in straight quotes, ' or \""),
        ("STRING", r"[\w.-]*[^\W\d][\w.-]*", "; write '{found}' in quotes if it is text"),
        ("_AND", r"(?<=\d)(\w|,\d)", "; write a number without unit and separators"),
        ("_AND", r"&", "; write AND"),
        ("_AND", r"\|", "; write OR"),
        ("COMPARATOR", r"BETWEEN\b", "; write … >= low AND … <= high"),
        ("_IN", r"\w?LIKE\b", "; write the NOT before the field"),
        ("NAME", r"['\"\d]", "; the field comes first"),
        ("LPAR", r"['\"\d]", "; IN takes a list in parentheses"),
    )
)
"""Common mistakes: the terminal that is expected, the text that is found in its place, and what to do."""


class _FilterError(Exception):
    """Something is wrong at a place in the filter, counted from 0."""

    def __init__(self, at: int, words: str) -> None:
        self.at = at
        self.words = words


class _Value(NamedTuple):
    value: str | int | float | bool
    at: int
    written: str


def parse_filter(text: str) -> Condition:
    """Return the condition that a filter string states. Raises as `filter_conditions` does."""
    return _joined(filter_conditions(text), " AND ")


def filter_conditions(text: str) -> list[Condition]:
    """Return the conditions that a filter string joins by AND; each may be answered by an index of its own.

    Raises:
        ConfigurationError: Its message has the position, what was found and expected there, and the marked line.
        MissingDependencyError: lark is not installed.
    """
    _check_size(text)
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be passed to SQLite
    try:
        tree = _parse(text)
        return [_condition(part) for part in (tree.children if tree.data == "and_expression" else [tree])]
    except _FilterError as problem:
        raise ConfigurationError(
            f"filter_string, position {problem.at + 1}: {problem.words}\n{_marked(text, problem.at)}"
        ) from None


def _marked(text: str, at: int) -> str:
    """Return the line, or the part around the place if it is long, with a mark below the place."""
    begin, end = max(text.rfind("\n", 0, at) + 1, at - 60), at + 60
    line = text[begin:end].partition("\n")[0].replace("\t", " ")
    return f"    {line}\n    {' ' * (at - begin)}^"


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
        # The error for a misplaced token has `accepts`; the error for characters that form no token has `allowed`.
        expected = getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()
        at_end = getattr(getattr(error, "token", None), "type", "") == "$END"
        raise _unexpected(text, len(text) if at_end else error.pos_in_stream or 0, set(expected)) from None


@functools.cache
def _parser() -> Lark:
    try:
        from lark import Lark
    except ImportError as error:
        raise MissingDependencyError("filter_string", package="lark", extra="search") from error
    grammar = resources.files(__package__ or "tracer.store").joinpath("filter.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True)


def _unexpected(text: str, at: int, expected: set[str]) -> _FilterError:
    wanted = sorted({_TERMINALS.get(name, name.strip("_")) for name in expected} - {""})
    found = repr(text[at : at + 20].partition("\n")[0]) if at < len(text) else "the end"
    hints = (
        remedy.format(found=match[0])
        for terminal, pattern, remedy in _SLIPS
        if terminal in expected and (match := pattern.match(text, at))
    )
    return _FilterError(at, f"found {found}, expected {' or '.join(wanted) or 'something else'}{next(hints, '')}")


# --- from the tree to SQL -----------------------------------------------------------------------------------------
def _condition(node: Any) -> Condition:
    """Build the SQL of a node: a connective or a comparison."""
    if node.data in ("and_expression", "or_expression"):
        return _joined([_condition(child) for child in node.children], " AND " if node.data[0] == "a" else " OR ")
    if node.data == "negation":
        inner = _condition(node.children[0])
        return Condition(f"NOT ifnull(({inner.sql}), 0)", inner.parameters)  # NULL counts as false, so its NOT is true
    return _comparison(node)


def _joined(parts: list[Condition], word: str) -> Condition:
    if len(parts) == 1:
        return parts[0]
    values = tuple(value for part in parts for value in part.parameters)
    return Condition(word.join(f"({part.sql})" for part in parts), values)


def _comparison(node: Any) -> Condition:
    named, *compared = node.children
    keys = [_key(key) for key in named.children]
    try:
        field = find_field(keys)
    except ValueError as error:
        raise _FilterError(named.meta.start_pos, str(error)) from None
    if node.data in ("is_null", "is_not_null"):
        return _exists(field, f"{field.sql} IS NOT NULL", (), negated=node.data == "is_null")
    name = ".".join(keys)
    if node.data == "compare":
        operator, value = compared
        comparator, values = str(operator).upper(), [_value(value)]
        _check_operator(name, field, comparator, operator.start_pos, values[0])
    else:
        comparator, values = (
            "IN" if node.data == "is_in" else "NOT IN",
            [_value(value) for value in compared[0].children],
        )
    return _compare(field, comparator, [_bindable(name, field, comparator, value) for value in values])


def _key(node: Any) -> str:
    token = str(node.children[0])
    return token if node.data == "plain_key" else _unquoted(token)


def _value(node: Any) -> _Value:
    token = str(node.children[0])
    return _Value(_VALUES[node.data](token), node.meta.start_pos, token)


def _number(token: str) -> float | int:
    return int(token) if len(token.lstrip("+-")) < 20 and not re.search(r"[.eE]", token) else float(token)


def _unquoted(token: str) -> str:
    """Take the quotes off, and undo escapes: a doubled single quote, or a backslash before a quote or backslash."""
    body = token[1:-1]
    if token[0] == "`":
        return body
    return re.sub(r"\\(['\"\\])", r"\1", body.replace("''", "'") if token[0] == "'" else body)


_VALUES: dict[str, Callable[[str], str | float | bool]] = {
    "string": _unquoted,
    "number": _number,
    "boolean": lambda token: token.lower() == "true",
}


def _compare(field: Field, comparator: str, bound: list[Any]) -> Condition:
    negated = comparator in _NEGATED and field.rows is not None and field.unit is None and not field.each
    comparator = _NEGATED[comparator] if negated else comparator
    if field.sql == "state" and comparator in ("=", "!="):
        return Condition.state(comparator, bound[0])
    texts = [value for value in bound if isinstance(value, str)]
    numbers = [value for value in bound if not isinstance(value, str)]
    # Texts are compared with texts, numbers with numbers; a list may hold both.
    parts = [(field.as_text or field.sql, texts), (field.as_number or field.sql, numbers)]
    tests = [_test(sql, comparator, values) for sql, values in parts if values]
    if len(tests) == 2:  # what is no number is in no list of numbers
        word, unlike = ("AND", 1) if comparator == "NOT IN" else ("OR", 0)
        tests = [f"({tests[0]} {word} ifnull({tests[1]}, {unlike}))"]
    return _exists(field, tests[0], (*texts, *numbers), negated=negated)


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


def _exists(field: Field, test: str, bound: tuple[Any, ...], *, negated: bool = False) -> Condition:
    parameters = (*field.parameters, *bound)
    keys = f"{field.keys} AND {test}" if field.keys and not negated else None
    if field.rows is not None:
        test = f"EXISTS (SELECT 1 FROM {field.rows} AND {test})"
    return Condition(f"NOT ({test})" if negated else test, parameters, keys)


# --- what can be compared with what -----------------------------------------------------------------------------------
def _check_operator(name: str, field: Field, operator: str, at: int, value: _Value) -> None:
    """Refuse an operator that makes no sense for this field or this value."""
    is_pattern, is_order = operator.endswith("LIKE"), operator[0] in "<>"
    if field.unit is not None and is_pattern:
        raise _FilterError(at, f"{name} is {field.unit.words}: compare it with = != > >= < <= or IN, not {operator}")
    if field.words and is_order:
        raise _FilterError(at, f"{name} has no order: compare it with = != or IN, not {operator}")
    if field.as_text and isinstance(value.value, bool) and (is_pattern or is_order):
        raise _FilterError(at, f"{value.written} has no order: compare it with = or !=, not {operator}")


def _bindable(name: str, field: Field, comparator: str, value: _Value) -> Any:
    """Return the value as it is stored."""
    try:
        if field.unit is not None:
            return _as_number(name, field.unit, value.value)
        return _as_stored(name, field, comparator, value)
    except ValueError as error:
        raise _FilterError(value.at, f"{error}, got {value.written}") from None


def _as_stored(name: str, field: Field, comparator: str, value: _Value) -> Any:
    """Return text, or also a number if the field can have any type; in such a field true and false are words."""
    if comparator == "RLIKE" and isinstance(value.value, str):
        return checked_pattern(value.value)
    if comparator.endswith("LIKE") and isinstance(value.value, str):
        return _glob(value.value) if comparator == "LIKE" else folded(value.value)
    if field.words:
        stored = {word.upper(): word for word in field.words}
        if (word := str(value.value).upper()) not in stored:
            raise ValueError(f"{name} is one of {', '.join(field.words)}")
        return stored[word]
    if isinstance(value.value, str):
        return value.value
    if not field.as_text or comparator.endswith("LIKE"):
        raise ValueError(f"{name} is compared with text here: write '{value.written}' in quotes")
    return str(value.value).lower() if isinstance(value.value, bool) else _bounded(value.value)


def _as_number(name: str, unit: Unit, value: str | float | bool) -> int | float:
    if isinstance(value, (str, bool)):
        is_number = re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", str(value))
        raise ValueError(f"{name} is {unit.words}" + (": write it without quotes" if is_number else ""))
    number = _bounded(value * unit.factor)
    return number if unit.factor == 1 else round(number)


def _bounded(number: int | float) -> int | float:
    if not abs(number) < 2**63:
        raise ValueError("the number is too large")
    return number


def _glob(pattern: str) -> str:
    escaped = re.sub(r"[*?\[]", r"[\g<0>]", pattern)
    return escaped.replace("%", "*").replace("_", "?")
