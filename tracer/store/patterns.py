"""Regular expressions of searches (``RLIKE``): a pattern must not be able to stop the process that searches."""

from __future__ import annotations

import functools
import re

__all__ = ["MAX_SUBJECT", "checked_pattern", "compiled_pattern"]

_MAX_PATTERN = 200
MAX_SUBJECT = 1_000  # characters: `.*.*x` took 0.4 s in 1,000 and 22 s in 4,000
_MAX_COUNT = 1_000
_MAX_WAYS = 40_000  # enough for two open-ended repetitions and two choices, or fifteen `?`: at worst 2 s for a text
_OPEN_ENDED = 100  # ways that an open-ended repetition counts for: it is tried much faster than as many alternatives
_UNIT = re.compile(
    r"(?P<atom>\(\?[aims]+\)|\((?:\?(?:[:=!]|<[=!]|P<\w+>|[aims-]+:))?|\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|.)"
    r"(?:(?P<repeat>[*+?]|\{(?!\})(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\})[?+]?)?",
    re.DOTALL,
)


def checked_pattern(pattern: str) -> str:
    """Return the pattern if it is one that `re` searches in reasonable time. Raises ValueError.

    Python's engine backtracks and holds the GIL meanwhile. So a group that is repeated must hold no repetition and no
    alternative (exponential time). In the rest of the pattern the possible ways are counted, because these multiply
    too: ``a?`` thirty times in a row has 2**30 ways.
    """
    try:
        if len(pattern) > _MAX_PATTERN:
            raise ValueError(f"longer than {_MAX_PATTERN} characters")
        re.compile(pattern)
        if _count_ways(list(_UNIT.finditer(pattern))) > _MAX_WAYS:
            raise ValueError("more than 2 repetitions without an end, or too many choices (? or | or {m,n})")
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"RLIKE needs a regular expression that is quick to search ({error})") from None
    return pattern


def _count_ways(units: list[re.Match[str]]) -> int:
    """Count the ways through a pattern: alternatives are added, parts in a row are multiplied."""
    groups = [(0, 1)]  # for each open group: the ways through its earlier alternatives, and through the current one
    counted = 0
    for unit in units:
        atom, before, ways = unit["atom"], *groups[-1]
        if _opens_group(unit):
            groups.append((0, 1))
            continue
        if atom == "|":
            groups[-1] = (before + ways, 1)
            continue
        inner = 1
        if atom == ")":
            inner = sum(groups.pop())
            before, ways = groups[-1]
        counted += int(unit["high"] or unit["low"] or 0)
        groups[-1] = (before, ways * _repeated(inner, unit))
    if counted > _MAX_COUNT:
        raise ValueError(f"repetitions of {counted} in all, at most {_MAX_COUNT}")
    return sum(groups[0])


def _opens_group(unit: re.Match[str]) -> bool:
    """Tell whether a group begins. Raises ValueError for syntax that can't be judged here."""
    atom = unit["atom"]
    if len(atom) == 2 and atom[0] == "\\" and atom[1].isdigit():
        raise ValueError("back references are not supported")
    if atom == "(" and unit["repeat"]:  # the ? of (?P=name), (?(1)…), (?>…), (?#…) or (?x)
        raise ValueError("of the groups that begin with (? only (?: (?i) (?= (?! (?<= (?<! (?P<name> are supported")
    return atom[0] == "(" and not atom.endswith(")")


def _repeated(ways: int, unit: re.Match[str]) -> int:
    """Return the ways through a unit, its repetition included. Every repetition counts as a choice."""
    repeat = unit["repeat"]
    if repeat is None:
        return ways
    if repeat == "?":
        return ways + 1
    if ways > 1:
        raise ValueError("a repeated group holds a repetition or an alternative")
    if repeat in ("*", "+") or (unit["comma"] and not unit["high"]):
        return _OPEN_ENDED
    return max(2, int(unit["high"] or unit["low"]) - int(unit["low"] or 0) + 1)


@functools.lru_cache(maxsize=32)
def compiled_pattern(pattern: str) -> tuple[re.Pattern[str], bool]:
    """Return a pattern, and whether it can be slow: more than one repetition without an end, or many choices."""
    return re.compile(pattern), _count_ways(list(_UNIT.finditer(pattern))) > _OPEN_ENDED
