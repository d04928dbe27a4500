"""Pieces of SQL with their bound values. No value becomes SQL text."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["Clause", "bound", "fetch", "fetch_row", "fetch_value", "hashed", "joined", "json_of", "slot", "storable"]

_LARGEST = 2**63 - 1


class Clause(NamedTuple):
    """A condition on a row of ``traces``. Each ``?`` in it stands for a value.

    Attributes:
        keys: The same condition as a SELECT of ``trace_key``, which an index answers; see `chosen`.
    """

    sql: str
    parameters: tuple[Any, ...] = ()
    keys: str | None = None
    key_parameters: tuple[Any, ...] = ()

    async def chosen(self, connection: Connection[Any], few: int) -> Clause:
        """Decide how to use `keys`: if few, they are fetched first; if many, traces are tested in order, one by one.

        PostgreSQL decides wrongly here: it takes a rare word for a common one, and would test all traces.
        """
        if self.keys is None:
            return self
        limited = f"SELECT trace_key FROM ({self.keys}) AS matching LIMIT {few + 1}"
        found = [row[0] for row in await fetch(connection, limited, self.key_parameters)]
        return Clause("traces.key = ANY(?::bigint[])", (list(set(found)),)) if len(found) <= few else self


def joined(parts: Sequence[Clause], word: str = " AND ") -> Clause:
    """Return the parts as one condition; without parts, one that is always true."""
    if not parts:
        return Clause("TRUE")
    values = tuple(value for part in parts for value in part.parameters)
    return Clause(word.join(f"({part.sql})" for part in parts), values)


def slot(value: Any) -> str:
    """Return the placeholder for a value, with the type that PostgreSQL is to take it for."""
    if isinstance(value, str):
        return "?::text"
    if isinstance(value, Decimal):
        return "?::numeric"
    return "?::float8" if isinstance(value, float) else "?::bigint"


def hashed(sql: str) -> str:
    """Return what indexes hold in place of a text: an entry of a B-tree has room for 2,700 bytes only."""
    return f"hashtextextended({sql}, 0)"


def json_of(sql: str) -> str:
    """Return a text as JSON: NULL if it is none."""
    return f"tracer_json({sql})"


def storable(value: Any) -> Any:
    """Return a value as PostgreSQL takes it.

    It has no NUL character: U+FFFD stands for it. For half a surrogate pair stands ``?``, for an integer over 64 bits
    NULL, both as in SQLite's store.
    """
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\ufffd")
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    return None if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST else value


def bound(sql: str, parameters: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return a statement with numbered placeholders, and its values as PostgreSQL takes them."""
    numbers = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql), [storable(value) for value in parameters]


async def fetch(connection: Connection[Any], sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows."""
    numbered, values = bound(sql, parameters)
    return [tuple(row) for row in await connection.fetch(numbered, *values)]


async def fetch_row(connection: Connection[Any], sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """Return the first row; None without one."""
    numbered, values = bound(sql, parameters)
    row = await connection.fetchrow(numbered, *values)
    return None if row is None else tuple(row)


async def fetch_value(connection: Connection[Any], sql: str, parameters: Sequence[Any] = ()) -> Any:
    """Return the first column of the first row; None without one."""
    row = await fetch_row(connection, sql, parameters)
    return None if row is None else row[0]
