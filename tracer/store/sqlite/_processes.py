"""Processes that write, and how far what they left beside the file is taken over."""

from __future__ import annotations

import sqlite3
import time

from tracer.store.base import SEEN

__all__ = ["end_process", "forget_source", "taken_over"]


def taken_over(connection: sqlite3.Connection, source: str) -> int:
    row = connection.execute("SELECT batches FROM taken_over WHERE source = ?", (source,)).fetchone()
    return 0 if row is None else int(row[0])


def forget_source(connection: sqlite3.Connection, source: str) -> None:
    """Forget a source, and what is noted of it while its batches come in pieces (`tracer.store.http.pieces`)."""
    connection.execute("DELETE FROM taken_over WHERE source IN (?, ? || '#')", (source, source))


def end_process(connection: sqlite3.Connection, process_id: str, sources: list[str]) -> None:
    sql = "UPDATE processes SET ended_ns = ? WHERE process_id = ?"
    connection.execute(sql, (time.time_ns(), process_id))
    for source in (*sources, SEEN + process_id):
        forget_source(connection, source)
