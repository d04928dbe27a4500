"""Parquet, through pyarrow, in row groups that are written as they fill."""

from __future__ import annotations

import io
from typing import Any

from tracer._exceptions import MissingDependencyError
from tracer._models import Trace
from tracer.export._rows import NESTED, TIME, columns_of, json_text, rows_of

try:
    import pyarrow
    import pyarrow.parquet
except ImportError as error:
    raise MissingDependencyError("parquet", package="pyarrow", extra="pandas") from error

__all__ = ["Parquet"]

_GROUP = 1_000  # rows


class Parquet:
    """Encodes traces into Parquet. Nested values are JSON text; times are UTC, in microseconds."""

    def __init__(self, rows: str) -> None:
        self._rows = rows
        self._columns = columns_of(rows)
        self._waiting: list[dict[str, Any]] = []
        self._sink = _Sink()
        self._schema = pyarrow.schema([(name, _type(kind)) for name, kind in self._columns.items()])
        self._writer = pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(self._sink, "w"), self._schema)

    def begin(self) -> bytes:
        """Return the file's head."""
        return self._sink.take()

    def add(self, trace: Trace) -> bytes:
        """Return a row group if one is full."""
        for row in rows_of(trace, self._rows):
            self._waiting.append({name: _storable(row[name], kind) for name, kind in self._columns.items()})
        return self._group() if len(self._waiting) >= _GROUP else b""

    def end(self) -> bytes:
        """Return the last rows and the file's end."""
        last = self._group() if self._waiting else b""
        self._writer.close()
        return last + self._sink.take()

    def _group(self) -> bytes:
        self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting.clear()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """A file that hands over what was written to it: the writer only appends, and keeps track of its own position."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _type(kind: type) -> Any:
    types = {int: pyarrow.int64(), float: pyarrow.float64(), TIME: pyarrow.timestamp("us", tz="UTC")}
    return types.get(kind, pyarrow.string())


def _storable(value: Any, kind: type) -> Any:
    return json_text(value) if kind is NESTED else value
