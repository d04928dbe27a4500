r"""Regular expressions of `re` (``RLIKE``) written as RE2's, which ClickHouse has.

A pattern is not handed over as it is written: Python's own parser reads it, and it is written anew from what that found
(as in `tracer.store.postgres._patterns`). What RE2 lacks, such as looking ahead, is refused. Only whether a text
matches counts, so greedy and lazy are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

try:
    from re import _constants as constants  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_constants as constants
    import sre_parse as parser

__all__ = ["UntranslatableError", "translated"]

_DIGIT, _WORD = r"\p{Nd}", r"\p{L}\p{N}_"
_SPACE = r"\t-\r\x1c-\x20\x{85}\p{Z}"
_CLASSES = {
    constants.CATEGORY_DIGIT: _DIGIT,
    constants.CATEGORY_SPACE: _SPACE,
    constants.CATEGORY_WORD: _WORD,
}
_NOT_CLASSES = {
    constants.CATEGORY_NOT_DIGIT: _DIGIT,
    constants.CATEGORY_NOT_SPACE: _SPACE,
    constants.CATEGORY_NOT_WORD: _WORD,
}


class UntranslatableError(Exception):
    """RE2 has nothing that means the same."""


def translated(pattern: str) -> str:
    """Return the pattern as RE2's. Raises UntranslatableError."""
    tree = parser.parse(pattern)
    return "(?-s)" + _sequence(tree, tree.state.flags)


def _sequence(items: Iterable[Any], flags: int) -> str:
    return "".join(_WRITERS.get(operation, _unknown(operation))(value, flags) for operation, value in items)


def _unknown(operation: Any) -> Callable[[Any, int], str]:
    def refuse(_: Any, __: int) -> str:
        raise UntranslatableError(f"it has no {str(operation).lower().replace('_', ' ')}")

    return refuse


def _cased(written: str, flags: int) -> str:
    return f"(?i:{written})" if flags & re.IGNORECASE else written


def _literal(code: int, flags: int) -> str:
    return _cased(_character(code), flags)


def _not_literal(code: int, flags: int) -> str:
    return _cased(f"[^{_character(code)}]", flags)


def _any(_: Any, flags: int) -> str:
    return "(?s:.)" if flags & re.DOTALL else "[^\\n]"


def _in(items: list[Any], flags: int) -> str:
    negated = bool(items) and items[0][0] is constants.NEGATE
    inside, others = "", []
    for operation, value in items[1:] if negated else items:
        if operation is constants.LITERAL:
            inside += _character(value)
        elif operation is constants.RANGE:
            inside += f"{_character(value[0])}-{_character(value[1])}"
        elif value in _CLASSES:
            inside += _CLASSES[value]
        else:
            others.append(_NOT_CLASSES[value])
    if not others:
        return _cased(f"[{'^' if negated else ''}{inside}]", flags)
    if not negated:
        return _cased(f"(?:{'|'.join([f'[{inside}]'] * bool(inside) + [f'[^{other}]' for other in others])})", flags)
    if inside or len(others) > 1:
        raise UntranslatableError("[^…] with \\D, \\S or \\W in it")
    return f"[{others[0]}]"


def _branch(value: tuple[Any, list[Any]], flags: int) -> str:
    return f"(?:{'|'.join(_sequence(items, flags) for items in value[1])})"


def _group(value: tuple[Any, int, int, Any], flags: int) -> str:
    _, added, removed, items = value
    return f"(?:{_sequence(items, (flags | added) & ~removed)})"


def _repeat(value: tuple[int, Any, Any], flags: int) -> str:
    low, high, items = value
    one = f"(?:{_sequence(items, flags)})"
    return f"{one}{{{low},}}" if high is constants.MAXREPEAT else f"{one}{{{low},{int(high)}}}"


def _at(where: Any, flags: int) -> str:
    many = bool(flags & re.MULTILINE)
    if where is constants.AT_BEGINNING:
        return "(?m:^)" if many else "\\A"
    if where is constants.AT_END:
        return "(?m:$)" if many else "\\n?\\z"
    return {
        constants.AT_BEGINNING_STRING: "\\A",
        constants.AT_END_STRING: "\\z",
        constants.AT_BOUNDARY: "\\b",
        constants.AT_NON_BOUNDARY: "\\B",
    }[where]


def _character(code: int) -> str:
    character = chr(code)
    return character if character.isalnum() and character.isascii() else f"\\x{{{code:x}}}"


_WRITERS: dict[Any, Callable[[Any, int], str]] = {
    constants.LITERAL: _literal,
    constants.NOT_LITERAL: _not_literal,
    constants.ANY: _any,
    constants.IN: _in,
    constants.BRANCH: _branch,
    constants.SUBPATTERN: _group,
    constants.MAX_REPEAT: _repeat,
    constants.MIN_REPEAT: _repeat,
    constants.AT: _at,
}
