"""Fills the full-text index, separately from writing.

Indexing a span's text costs about as much as storing the span. So it is done in steps of thousands of spans, when the
worker is idle or before a text search. Then it does not slow down the write path, which has to keep up, and FTS5 merges
less.

FTS5 only marks words as deleted, until it merges the part of the index that has them: see `merge_text`.
"""

from __future__ import annotations

import math
import sqlite3

from tracer.store._connection import transaction, unless_locked

__all__ = ["count_steps", "follow_changes", "index_text", "merge_text"]

_BEHIND = """
SELECT EXISTS (SELECT 1 FROM text_changes) OR EXISTS (SELECT 1 FROM spans, text_index WHERE key > indexed_to)
"""
# A key that was freed and used again is in `text_changes` too, so its new text is indexed with the changed ones.
_CATCH_UP = (
    """INSERT INTO span_text (span_text, rowid, text)
    SELECT 'delete', key, indexed_text FROM text_changes WHERE indexed_text IS NOT NULL""",
    # CROSS JOIN, because SQLite would otherwise read all spans, and look each up among the few that changed.
    """INSERT INTO span_text (rowid, text)
    SELECT key, text FROM text_changes CROSS JOIN spans USING (key) WHERE text IS NOT NULL""",
    "DELETE FROM text_changes",
    # From now on nothing notes that these keys were freed, so a span that gets one of them again must count as new.
    "UPDATE text_index SET indexed_to = min(indexed_to, (SELECT ifnull(max(key), 0) FROM spans))",
)
_NEW = "SELECT count(*) FROM spans, text_index WHERE key > indexed_to"
_LAST = "SELECT max(key) FROM (SELECT key FROM spans, text_index WHERE key > indexed_to ORDER BY key LIMIT ?)"
_ADVANCE = """
INSERT INTO span_text (rowid, text)
SELECT key, text FROM spans, text_index WHERE key > indexed_to AND key <= ? AND text IS NOT NULL
"""


def count_steps(connection: sqlite3.Connection, limit: int) -> int:
    """Return how many calls of `index_text` index all that is stored now; more may come meanwhile."""
    if not _is_behind(connection):
        return 0
    new: int = connection.execute(_NEW).fetchone()[0]
    return max(1, math.ceil(new / limit))


def index_text(connection: sqlite3.Connection, limit: int) -> bool:
    """Index what changed and up to `limit` new spans, in one transaction; return whether there is more to do.

    If somebody else is writing just now, do nothing and return False: it can wait.
    """
    if not _is_behind(connection):
        return False
    with unless_locked(connection):
        _step(connection, limit)
        return _is_behind(connection)
    return False


def follow_changes(connection: sqlite3.Connection) -> None:
    """Index what was changed or deleted, in the open transaction."""
    for statement in _CATCH_UP:
        connection.execute(statement)


def merge_text(connection: sqlite3.Connection, limit: int) -> None:
    """Index everything, `limit` spans a step, then merge the index, which drops the words of what was deleted. Blocks.

    FTS5's option "secure-delete" would drop them at once, but SQLite before 3.42 can't read an index that has it.
    """
    while _is_behind(connection):
        _step(connection, limit)
    connection.execute("INSERT INTO span_text (span_text) VALUES ('optimize')")


def _step(connection: sqlite3.Connection, limit: int) -> None:
    with transaction(connection):
        follow_changes(connection)
        if (last := connection.execute(_LAST, (limit,)).fetchone()[0]) is not None:
            connection.execute(_ADVANCE, (last,))
            connection.execute("UPDATE text_index SET indexed_to = ?", (last,))


def _is_behind(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_BEHIND).fetchone()[0])
