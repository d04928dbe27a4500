"""Fills the full-text index, apart from writing.

Indexing a span's text costs about as much as storing the span. Done in steps of thousands, when the worker is idle or
before a text search, it is off the path that has to keep up, and FTS5 merges less.
"""

from __future__ import annotations

import sqlite3

from tracer.store._connection import transaction

__all__ = ["index_text"]

_BEHIND = """
SELECT EXISTS (SELECT 1 FROM text_changes) OR EXISTS (SELECT 1 FROM spans, text_index WHERE key > indexed_to)
"""
# A key that was freed and given again is in `text_changes` too, so its new text gets in with the changed ones.
_CATCH_UP = (
    """INSERT INTO span_text (span_text, rowid, text)
    SELECT 'delete', key, indexed_text FROM text_changes WHERE indexed_text IS NOT NULL""",
    """INSERT INTO span_text (rowid, text)
    SELECT key, text FROM spans JOIN text_changes USING (key) WHERE text IS NOT NULL""",
    "DELETE FROM text_changes",
)
_LAST = "SELECT max(key) FROM (SELECT key FROM spans, text_index WHERE key > indexed_to ORDER BY key LIMIT ?)"
_ADVANCE = """
INSERT INTO span_text (rowid, text)
SELECT key, text FROM spans, text_index WHERE key > indexed_to AND key <= ? AND text IS NOT NULL
"""


def index_text(connection: sqlite3.Connection, limit: int) -> bool:
    """Index what changed and up to `limit` new spans, in one transaction; return whether there is more to do."""
    if not connection.execute(_BEHIND).fetchone()[0]:
        return False
    with transaction(connection):
        for statement in _CATCH_UP:
            connection.execute(statement)
        if (last := connection.execute(_LAST, (limit,)).fetchone()[0]) is not None:
            connection.execute(_ADVANCE, (last,))
            connection.execute("UPDATE text_index SET indexed_to = ?", (last,))
    return bool(connection.execute(_BEHIND).fetchone()[0])
