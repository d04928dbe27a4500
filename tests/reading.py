"""Reading back what a test recorded."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import tracer


async def last_trace() -> tracer.Trace:
    """Return the trace whose root ended last."""
    trace_id = tracer.get_last_active_trace_id()
    assert trace_id is not None
    return await tracer.get_trace(trace_id)


async def last_span() -> tracer.Span:
    """Return the only span of the last trace."""
    [span] = (await last_trace()).data.spans
    return span


async def last_spans() -> dict[str, tracer.Span]:
    """Return the last trace's spans by their names, which must differ."""
    spans = (await last_trace()).data.spans
    by_name = {span.name: span for span in spans}
    assert len(by_name) == len(spans)
    return by_name


def stored_bytes(folder: Path) -> bytes:
    """Return the bytes of every database file in a folder, the write-ahead log and what is compressed included."""
    files = [path.read_bytes() for path in sorted(folder.glob("tracer.db*"))]
    assert files
    return b"\n".join(files)


def stored_rows(folder: Path) -> str:
    """Return every value in the database as text, also of what is compressed."""
    if not (folder / "tracer.db").exists():  # nothing was recorded
        return ""
    connection = sqlite3.connect(f"file:{folder}/tracer.db?mode=ro", uri=True)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = [row for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    connection.close()
    return repr([_inflated(value) for row in rows for value in row])


def _inflated(value: object) -> object:
    try:
        return zlib.decompress(value) if isinstance(value, bytes) else value
    except zlib.error:
        return value
