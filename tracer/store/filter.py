r"""``filter_string``: MLflow's search grammar (https://mlflow.org/docs/latest/genai/tracing/search-traces) to a tree.

``trace.status = 'ERROR' AND tags.`env.name` = 'prod' AND NOT (duration < 1.5 OR span.name LIKE '%search%')``

The grammar is ``filter.lark``. A field is looked up in `tracer.store.fields` and nowhere else. What the tree means,
`tracer.store.conditions` says.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.store.conditions import And, Comparison, Condition, Field, Not, Or, Unit, Value
from tracer.store.fields import find_field
from tracer.store.patterns import checked_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from lark import Lark, Token, Tree

__all__ = ["parse_filter"]

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


class _Written(NamedTuple):
    value: str | int | float | bool
    at: int
    written: str


def parse_filter(text: str) -> Condition:
    """Return the condition that a filter string states.

    Raises:
        ConfigurationError: Its message has the position, what was found and expected there, and the marked line.
        MissingDependencyError: lark is not installed.
    """
    _check_size(text)
    text = text.encode("utf-8", "replace").decode()  # half a surrogate pair can't be passed to a database
    try:
        return _condition(_parse(text))
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
    grammar = resources.files("tracer.store").joinpath("filter.lark").read_text("utf-8")
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


# --- from lark's tree to ours ----------------------------------------------------------------------------------------
def _condition(node: Any) -> Condition:
    if node.data in ("and_expression", "or_expression"):
        kind = And if node.data == "and_expression" else Or
        return kind(tuple(_condition(child) for child in node.children))
    if node.data == "negation":
        return Not(_condition(node.children[0]))
    return _comparison(node)


def _comparison(node: Any) -> Condition:
    named, *compared = node.children
    keys = [_key(key) for key in named.children]
    try:
        field = find_field(keys)
    except ValueError as error:
        raise _FilterError(named.meta.start_pos, str(error)) from None
    if node.data in ("is_null", "is_not_null"):
        known = Comparison(field, "IS NOT NULL")
        return Not(known) if node.data == "is_null" else known
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
    return _compared(field, comparator, tuple(_checked(name, field, comparator, value) for value in values))


def _compared(field: Field, comparator: str, values: tuple[Value, ...]) -> Condition:
    if comparator in _NEGATED and not field.each:
        return Not(Comparison(field, _NEGATED[comparator], values))
    return Comparison(field, comparator, values)


def _key(node: Any) -> str:
    token = str(node.children[0])
    return token if node.data == "plain_key" else _unquoted(token)


def _value(node: Any) -> _Written:
    token = str(node.children[0])
    return _Written(_VALUES[node.data](token), node.meta.start_pos, token)


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


# --- what can be compared with what -----------------------------------------------------------------------------------
def _check_operator(name: str, field: Field, operator: str, at: int, value: _Written) -> None:
    """Refuse an operator that makes no sense for this field or this value."""
    is_pattern, is_order = operator.endswith("LIKE"), operator[0] in "<>"
    if field.unit is not None and is_pattern:
        raise _FilterError(at, f"{name} is {field.unit.words}: compare it with = != > >= < <= or IN, not {operator}")
    if field.words and is_order:
        raise _FilterError(at, f"{name} has no order: compare it with = != or IN, not {operator}")
    if field.mixed and isinstance(value.value, bool) and (is_pattern or is_order):
        raise _FilterError(at, f"{value.written} has no order: compare it with = or !=, not {operator}")


def _checked(name: str, field: Field, comparator: str, value: _Written) -> Value:
    """Return the value as it is stored."""
    try:
        if field.unit is not None:
            return _as_number(name, field.unit, value.value)
        return _as_stored(name, field, comparator, value)
    except ValueError as error:
        raise _FilterError(value.at, f"{error}, got {value.written}") from None


def _as_stored(name: str, field: Field, comparator: str, value: _Written) -> Value:
    """Return text, or also a number if the field can have any type; in such a field true and false are words."""
    if comparator == "RLIKE" and isinstance(value.value, str):
        return checked_pattern(value.value)
    if comparator.endswith("LIKE") and isinstance(value.value, str):
        return value.value
    if field.words:
        stored = {word.upper(): word for word in field.words}
        if (word := str(value.value).upper()) not in stored:
            raise ValueError(f"{name} is one of {', '.join(field.words)}")
        return stored[word]
    if isinstance(value.value, str):
        return value.value
    if not field.mixed or comparator.endswith("LIKE"):
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
