"""Reads tables of another tool's SQLite database, without changing it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tracer._exceptions import StoreError

__all__ = ["Tables"]


class Tables:
    """A database of another program. What a version of that program does not have yet, or no longer, reads as empty.

    Raises:
        StoreError: There is no such file, or it is no SQLite database.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise StoreError(f"there is no {path}")
        self._path = path
        try:
            self._connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
            self._connection.text_factory = lambda data: data.decode("utf-8", "replace")
            names = self._connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            self._columns = {name: self._columns_of(name) for (name,) in names}
        except sqlite3.Error as error:
            raise StoreError(f"{path} can't be read: {error}") from error

    def _columns_of(self, table: str) -> set[str]:
        return {row[1] for row in self._connection.execute(f"PRAGMA table_xinfo({_quoted(table)})")}

    def require(self, tool: str, **columns: str) -> None:
        """Make sure that the tables are there, each with a column. Raises StoreError."""
        for table, column in columns.items():
            if column not in self._columns.get(table, ()):
                raise StoreError(f"{self._path} is no database of {tool}: it has no table {table} with {column}")

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self._connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0])

    def rows(self, table: str, columns: Sequence[str], *, order: str = "1", **equal: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a table in which columns have these values. A column that is not there reads as None.

        Raises:
            StoreError: The file can't be read.
        """
        known = self._columns.get(table, set())
        if not known or not known.issuperset(equal):
            return
        shown = ", ".join(_quoted(name) if name in known else "NULL" for name in columns)
        where = " AND ".join(f"{_quoted(name)} = ?" for name in equal) or "TRUE"
        sql = f"SELECT {shown} FROM {_quoted(table)} WHERE {where} ORDER BY {order}"
        try:
            yield from self._connection.execute(sql, tuple(equal.values()))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} can't be read: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
