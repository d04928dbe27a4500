"""SQLite's REGEXP operator, for ``RLIKE``. A pattern must not be able to stop the process that searches."""

from __future__ import annotations

import functools
import re
import sqlite3

__all__ = ["checked_pattern", "install"]

_MAX_PATTERN = 200
_MAX_SUBJECT = 4_000
_MAX_OPEN_ENDED = 2
_ATOM = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|.", re.DOTALL)


def install(connection: sqlite3.Connection) -> None:
    """Define ``subject REGEXP pattern`` on a connection: a search in the first 4,000 characters."""
    connection.create_function("regexp", 2, _regexp, deterministic=True)


def checked_pattern(pattern: str) -> str:
    """Return the pattern if it is one that `re` searches in reasonable time. Raises ValueError.

    Python's engine backtracks and holds the GIL meanwhile. So a group that is repeated must hold no repetition and no
    alternative (exponential time), and a pattern has at most two open-ended repetitions (cubic time is too much).
    """
    try:
        if len(pattern) > _MAX_PATTERN:
            raise ValueError(f"longer than {_MAX_PATTERN} characters")
        re.compile(pattern)
        _refuse_slow(_ATOM.findall(pattern))
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"RLIKE needs a regular expression that is quick to search, got {pattern!r}: {error}"
        ) from None
    return pattern


def _refuse_slow(atoms: list[str]) -> None:
    risky = [False]  # one a group that is open: does it hold a repetition or an alternative?
    closed_risky = False
    open_ended = 0
    for atom, following in zip(atoms, [*atoms[1:], ""], strict=True):
        repeated = following in ("*", "+", "{")
        open_ended += following in ("*", "+", "{") and atom not in ("*", "+", "?", "}")
        if atom == "(":
            risky.append(False)
        elif atom == ")":
            closed_risky = risky.pop()
            if closed_risky and repeated:
                raise ValueError("a repeated group holds a repetition or an alternative")
            risky[-1] |= closed_risky or repeated
        elif atom == "|" or repeated:
            risky[-1] = True
        elif len(atom) == 2 and atom[1].isdigit():
            raise ValueError("back references are not supported")
    if open_ended > _MAX_OPEN_ENDED:
        raise ValueError(f"more than {_MAX_OPEN_ENDED} repetitions")


_compiled = functools.lru_cache(maxsize=32)(re.compile)


def _regexp(pattern: str, subject: object) -> bool:
    return subject is not None and _compiled(pattern).search(str(subject)[:_MAX_SUBJECT]) is not None
