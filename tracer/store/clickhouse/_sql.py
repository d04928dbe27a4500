"""Pieces of SQL with their bound values. No value becomes SQL text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Clause", "bound", "joined", "live", "slot", "storable", "type_of"]

_LARGEST = 2**63 - 1
_SLOT = re.compile(r"\?:([A-Z]\w*(?:\((?:[^()]|\([^()]*\))*\))?)")


class Clause(NamedTuple):
    """A condition on a row. Each ``?:Type`` in it stands for a value of that type."""

    sql: str
    parameters: tuple[Any, ...] = ()


def joined(parts: Iterable[Clause], word: str = " AND ") -> Clause:
    """Return the parts as one condition; without parts, one that is always true."""
    given = list(parts)
    if not given:
        return Clause("1")
    values = tuple(value for part in given for value in part.parameters)
    return Clause(word.join(f"({part.sql})" for part in given), values)


def type_of(value: Any) -> str:
    """Return ClickHouse's type of a value."""
    if isinstance(value, str):
        return "String"
    return "Float64" if isinstance(value, float) else "Int64"


def slot(value: Any) -> str:
    """Return the placeholder for a value."""
    return f"?:{type_of(value)}"


def live(kind: str, column: str = "row") -> str:
    """Return the condition that a row was neither replaced nor deleted.

    Such rows are noted in ``gone`` at once, and deleted later (`tracer.store.clickhouse._upkeep`): a DELETE of
    ClickHouse's takes seconds, however few rows it finds.
    """
    return f"{column} NOT IN (SELECT row FROM gone WHERE kind = '{kind}')"


def storable(value: Any) -> Any:
    """Return a value as ClickHouse takes it.

    For half a surrogate pair stands ``?``, for an integer over 64 bits NULL, both as in SQLite's store.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return None if not -_LARGEST <= value <= _LARGEST else value
    if isinstance(value, (list, tuple)):
        return [storable(each) if not isinstance(each, tuple) else each for each in value]
    return value


def bound(sql: str, parameters: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """Return a statement with named placeholders, as ClickHouse has them, and their values."""
    numbers = itertools.count()
    named = _SLOT.sub(lambda match: f"{{p{next(numbers)}:{match[1]}}}", sql)
    return named, {f"p{at}": storable(value) for at, value in enumerate(parameters)}
