r"""Regular expressions of `re` (``RLIKE``) written as PostgreSQL's.

The syntax of both is alike, and differs where one does not see it: ``\Z``, ``\b``, ``(?i)``, what ``.`` and ``$`` mean.
So a pattern is not handed over as it is written: Python's own parser reads it, and it is written anew from what that
found. What PostgreSQL lacks is refused. Only whether a text matches counts, so greedy and lazy are the same.
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

_MOST = 255  # repetitions, to PostgreSQL
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_CLASSES = {
    constants.CATEGORY_DIGIT: "[:digit:]",
    constants.CATEGORY_SPACE: "[:space:]",
    constants.CATEGORY_WORD: "[:alnum:]_",
}
_NOT_CLASSES = {
    constants.CATEGORY_NOT_DIGIT: "[:digit:]",
    constants.CATEGORY_NOT_SPACE: "[:space:]",
    constants.CATEGORY_NOT_WORD: "[:alnum:]_",
}


class UntranslatableError(Exception):
    """PostgreSQL has nothing that means the same."""


def translated(pattern: str) -> str:
    """Return the pattern as PostgreSQL's. Raises UntranslatableError."""
    tree = parser.parse(pattern)
    return "***:" + _sequence(tree, tree.state.flags)


def _sequence(items: Iterable[Any], flags: int) -> str:
    return "".join(_WRITERS.get(operation, _unknown(operation))(value, flags) for operation, value in items)


def _unknown(operation: Any) -> Callable[[Any, int], str]:
    def refuse(_: Any, __: int) -> str:
        raise UntranslatableError(f"it has no {str(operation).lower().replace('_', ' ')}")

    return refuse


def _literal(code: int, flags: int) -> str:
    forms = _forms(code, flags)
    return _escaped(forms[0]) if len(forms) == 1 else f"[{''.join(map(_in_brackets, forms))}]"


def _not_literal(code: int, flags: int) -> str:
    return f"[^{''.join(map(_in_brackets, _forms(code, flags)))}]"


def _any(_: Any, flags: int) -> str:
    return "." if flags & re.DOTALL else "[^\\n]"


def _in(items: list[Any], flags: int) -> str:
    negated = bool(items) and items[0][0] is constants.NEGATE
    inside, alternatives = "", []
    for operation, value in items[1:] if negated else items:
        if operation is constants.LITERAL:
            inside += "".join(map(_in_brackets, _forms(value, flags)))
        elif operation is constants.RANGE:
            inside += _range(value, flags)
        elif value in _CLASSES:
            inside += _CLASSES[value]
        else:
            alternatives.append(f"[^{_NOT_CLASSES[value]}]")
    if inside:
        alternatives.append(f"[{inside}]")
    one = alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"
    return f"(?!{one})." if negated else one


def _range(bounds: tuple[int, int], flags: int) -> str:
    low, high = bounds
    written = f"{_in_brackets(chr(low))}-{_in_brackets(chr(high))}"
    if flags & re.IGNORECASE:
        if high - low > 1_000:
            raise UntranslatableError("(?i) with a range of more than 1,000 characters")
        others = {form for code in range(low, high + 1) for form in _forms(code, flags)}
        written += "".join(_in_brackets(form) for form in sorted(others) if not low <= ord(form) <= high)
    return written


def _branch(value: tuple[Any, list[Any]], flags: int) -> str:
    return f"(?:{'|'.join(_sequence(items, flags) for items in value[1])})"


def _group(value: tuple[Any, int, int, Any], flags: int) -> str:
    _, added, removed, items = value
    return f"(?:{_sequence(items, (flags | added) & ~removed)})"


def _repeat(value: tuple[int, Any, Any], flags: int) -> str:
    low, high, items = value
    one = f"(?:{_sequence(items, flags)})"
    if high is constants.MAXREPEAT:
        return _times(one, low, low) + f"{one}*"
    return _times(one, low, int(high))


def _times(one: str, low: int, high: int) -> str:
    """Repeat a pattern, in steps of as many times as PostgreSQL can count."""
    written = ""
    while high > _MOST:
        step = min(low, _MOST)
        written += f"{one}{{{step},{_MOST}}}"
        low, high = low - step, high - _MOST
    return written + (f"{one}{{{low},{high}}}" if high else "")


def _at(where: Any, flags: int) -> str:
    many = bool(flags & re.MULTILINE)
    if where is constants.AT_BEGINNING:
        return "(?:\\A|(?<=\\n))" if many else "\\A"
    if where is constants.AT_END:
        return "(?:\\Z|(?=\\n))" if many else "(?:\\Z|(?=\\n\\Z))"
    return {
        constants.AT_BEGINNING_STRING: "\\A",
        constants.AT_END_STRING: "\\Z",
        constants.AT_BOUNDARY: "\\y",
        constants.AT_NON_BOUNDARY: "\\Y",
    }[where]


def _assert(value: tuple[int, Any], flags: int) -> str:
    direction, items = value
    return f"(?{'=' if direction > 0 else '<='}{_sequence(items, flags)})"


def _assert_not(value: tuple[int, Any], flags: int) -> str:
    direction, items = value
    return f"(?{'!' if direction > 0 else '<!'}{_sequence(items, flags)})"


def _forms(code: int, flags: int) -> list[str]:
    """Return a character, and if case does not matter its other forms."""
    own = chr(code)
    if not flags & re.IGNORECASE:
        return [own]
    return sorted({form for form in (own, own.lower(), own.upper(), own.swapcase()) if len(form) == 1} | {own})


def _escaped(character: str) -> str:
    if character == "\0":
        return "\\ufffd"  # stands for it in what is stored
    return _SPECIAL.sub(r"\\\g<0>", character)


def _in_brackets(character: str) -> str:
    if character in "\\[]^-" or not character.isprintable():
        return f"\\U{ord(character) or 0xFFFD:08x}"
    return character


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
    constants.ASSERT: _assert,
    constants.ASSERT_NOT: _assert_not,
}
