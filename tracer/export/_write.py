"""The formats of a file of traces, and writing the file while traces come."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

import anyio
import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import Trace
from tracer.export._rows import NESTED, TIME, columns_of, json_text, rows_of

__all__ = ["FORMATS", "encode_traces", "write_traces"]

FORMATS = ("jsonl", "csv", "parquet")
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)  # the last four are full-width


async def write_traces(
    traces: AsyncIterable[Trace] | Iterable[Trace],
    file: str | os.PathLike[str] | IO[bytes],
    format: str | None = None,  # noqa: A002  the word for it
    *,
    rows: str = "traces",
) -> int:
    """Write traces to a file as they come, with one page of them in memory, and return how many.

    Args:
        traces: From `iterate_traces`, or a page.
        file: Its path (made readable for you alone, as it holds prompts), or a binary file that stays open.
        format: ``jsonl`` (a trace a line, as in ``trace.to_dict()``), ``csv`` or ``parquet`` (extra ``pandas``); by
            default, the ending of the path decides.
        rows: For CSV and Parquet: ``traces`` or ``spans``. There, nested values are JSON text.

    Raises:
        ConfigurationError: An unknown format, or `rows`.
        MissingDependencyError: Parquet without pyarrow.
        OSError: The file can't be written. After any error, the part that was written stays.
    """
    encoder = _encoder(_format_of(file) if format is None else format, rows)
    if isinstance(file, (str, os.PathLike)):
        async with await anyio.open_file(file, "wb", opener=_private) as opened:
            return await _write(encoder, traces, opened)
    return await _write(encoder, traces, anyio.wrap_file(file))


async def encode_traces(
    traces: AsyncIterable[Trace] | Iterable[Trace],
    format: str = "jsonl",  # noqa: A002  the word for it
    *,
    rows: str = "traces",
) -> AsyncIterator[bytes]:
    """Yield the bytes that `write_traces` would write, piece by piece: for a response or a pipe.

    Raises:
        ConfigurationError: An unknown format, or `rows`; at the first step.
        MissingDependencyError: Parquet without pyarrow.
    """
    encoder = _encoder(format, rows)
    yield encoder.begin()
    async for trace in _each(traces):
        if encoded := encoder.add(trace):
            yield encoded
    yield encoder.end()


async def _write(
    encoder: _Encoder, traces: AsyncIterable[Trace] | Iterable[Trace], file: anyio.AsyncFile[bytes]
) -> int:
    count = 0
    await file.write(encoder.begin())
    async for trace in _each(traces):
        await file.write(encoder.add(trace))
        count += 1
    await file.write(encoder.end())
    await file.flush()
    return count


async def _each(traces: AsyncIterable[Trace] | Iterable[Trace]) -> AsyncIterator[Trace]:
    if isinstance(traces, AsyncIterable):
        async for trace in traces:
            yield trace
    else:
        for trace in traces:
            yield trace


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _format_of(file: Any) -> str:
    suffix = Path(file).suffix[1:].lower() if isinstance(file, (str, os.PathLike)) else ""
    if suffix not in FORMATS:
        raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}; {str(file)!r} doesn't tell which")
    return suffix


def _encoder(format: str, rows: str) -> _Encoder:  # noqa: A002
    columns_of(rows)
    if format == "jsonl":
        if rows != "traces":
            raise ConfigurationError(f"rows must be 'traces' for jsonl, whose traces hold their spans; got {rows!r}")
        return _JsonLines()
    if format == "csv":
        return _Csv(rows)
    if format == "parquet":
        from tracer.export._parquet import Parquet  # pyarrow is an extra

        return Parquet(rows)
    raise ConfigurationError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")


class _Encoder(Protocol):
    """Turns traces into bytes: those of the head, of each trace (these may be empty), and of the end."""

    def begin(self) -> bytes: ...
    def add(self, trace: Trace) -> bytes: ...
    def end(self) -> bytes: ...


class _JsonLines:
    def begin(self) -> bytes:
        return b""

    def add(self, trace: Trace) -> bytes:
        return msgspec.json.encode(trace) + b"\n"

    def end(self) -> bytes:
        return b""


class _Csv:
    """RFC 4180, UTF-8. Text that a spreadsheet would run as a formula gets an apostrophe in front."""

    def __init__(self, rows: str) -> None:
        self._rows = rows
        self._columns = columns_of(rows)

    def begin(self) -> bytes:
        return self._lines([list(self._columns)])

    def add(self, trace: Trace) -> bytes:
        return self._lines([self._cells(row) for row in rows_of(trace, self._rows)])

    def end(self) -> bytes:
        return b""

    def _cells(self, row: dict[str, Any]) -> list[Any]:
        return [_cell(row[name], kind) for name, kind in self._columns.items()]

    def _lines(self, cells: list[list[Any]]) -> bytes:
        import csv  # only needed to write CSV

        text = io.StringIO(newline="")
        csv.writer(text).writerows(cells)
        return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any, kind: type) -> Any:
    """Return a value that is safe in a CSV cell (https://owasp.org/www-community/attacks/CSV_Injection)."""
    if value is None:
        return ""
    if kind is TIME:
        return value.isoformat().replace("+00:00", "Z")
    text = json_text(value) if kind is NESTED else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
