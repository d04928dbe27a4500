"""Fills the full-text index, separately from writing.

Indexing a span's text costs about as much as storing the span. So it is done in steps of thousands of spans, when the
worker is idle or before a text search. Then it does not slow down the write path, which has to keep up, and FTS5 merges
less.

FTS5 only marks words as deleted, until it merges the part of the index that has them: see `merge_text`.
"""

from __future__ import annotations

import math
import sqlite3

import msgspec

from tracer import _semconv as sc
from tracer.store.sqlite._connection import transaction, unless_locked
from tracer.store.sqlite._schema import INDEXED_TEXT
from tracer.store.words import spaced

__all__ = ["count_steps", "follow_changes", "index_text", "merge_text"]

_BEHIND = """
SELECT EXISTS (SELECT 1 FROM text_changes) OR EXISTS (SELECT 1 FROM spans, text_index WHERE key > indexed_to)
    OR EXISTS (SELECT 1 FROM text_index WHERE plain_to > 0)
"""
_FOUND_BY = (sc.ERROR_TYPE, sc.TOOL_NAME, sc.TOOL_CALL_ID, sc.RESPONSE_ID, sc.REQUEST_ID)
"""Attributes by which a span is found. A change needs an index made anew: words are removed as they were added."""


def _words(text: str, row: str) -> str:
    told = " || ".join(f"ifnull(' ' || json_extract({row}.attributes, '$.\"{key}\"'), '')" for key in _FOUND_BY)
    return f"{text} || CASE WHEN json_valid({row}.attributes) THEN {told} ELSE '' END AS words"


_SPAN_WORDS = _words(INDEXED_TEXT.format(row="spans"), "spans")

# A key that was freed and used again is in `text_changes` too, so its new words are indexed with the changed ones.
_OUTDATED = f"SELECT key, {_words('indexed_text', 'text_changes')} FROM text_changes, text_index WHERE key > plain_to"
# CROSS JOIN, because SQLite would otherwise read all spans, and look each up among the few that changed.
_CHANGED = f"SELECT key, {_SPAN_WORDS} FROM text_changes CROSS JOIN spans USING (key), text_index WHERE key > plain_to"
_FOLLOWED = (
    "DELETE FROM text_changes",
    # From now on nothing notes that these keys were freed, so a span that gets one of them again must count as new.
    """UPDATE text_index SET (indexed_to, plain_to) = (
        SELECT min(indexed_to, ifnull(max(key), 0)), min(plain_to, ifnull(max(key), 0)) FROM spans
    )""",
)
_NEW = "SELECT count(*) FROM spans, text_index WHERE key > indexed_to"
# Subqueries here and below, since SQLite would otherwise read all spans, and compare each with the limit.
_LAST = """
SELECT max(key) FROM (SELECT key FROM spans WHERE key > (SELECT indexed_to FROM text_index) ORDER BY key LIMIT ?)
"""
_ADVANCE = f"SELECT key, {_SPAN_WORDS} FROM spans, text_index WHERE key > indexed_to AND key <= ?"

# Before version 9 the text alone was indexed, as it is. Such spans are indexed anew, the newest first.
_PLAIN = "SELECT plain_to FROM text_index"
_FIRST_PLAIN = f"SELECT min(key) FROM (SELECT key FROM spans WHERE key <= ({_PLAIN}) ORDER BY key DESC LIMIT ?)"
_PLAIN_OUTDATED = """
SELECT key, indexed_text AS words FROM text_changes, text_index WHERE key <= plain_to AND indexed_text IS NOT NULL
"""
_PLAIN_CHANGED = """
SELECT key, text AS words FROM text_changes CROSS JOIN spans USING (key), text_index
WHERE key <= plain_to AND text IS NOT NULL
"""
_PLAIN_TEXTS = f"SELECT key, text AS words FROM spans WHERE key BETWEEN ? AND ({_PLAIN}) AND text IS NOT NULL"
_ANEW = f"SELECT key, {_SPAN_WORDS} FROM spans WHERE key BETWEEN ? AND ({_PLAIN})"

# With a LIMIT, SQLite works out the words of a row once, and not wherever they are named.
_ADD = "INSERT INTO span_text (rowid, text) SELECT key, words FROM ({} LIMIT -1)"
_REMOVE = "INSERT INTO span_text (span_text, rowid, text) SELECT 'delete', key, words FROM ({} LIMIT -1)"
_IS_ASCII = "length(words) = length(CAST(words AS BLOB))"
_OTHERS = f"SELECT CAST(json_group_array(json_array(key, words)) AS BLOB) FROM ({{}} LIMIT -1) WHERE NOT {_IS_ASCII}"
_GIVEN = "SELECT json_extract(value, '$[0]') AS key, json_extract(value, '$[1]') AS words FROM json_each(?)"


def count_steps(connection: sqlite3.Connection, limit: int) -> int:
    """Return how many calls of `index_text` index all that is stored now; more may come meanwhile.

    Of the spans that are to be indexed anew, only one step is counted: they may be very many.
    """
    if not _is_behind(connection):
        return 0
    new: int = connection.execute(_NEW).fetchone()[0]
    is_plain: bool = connection.execute(_PLAIN).fetchone()[0] > 0
    return max(1, math.ceil(new / limit) + is_plain)


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
    connection.execute(_REMOVE.format(_PLAIN_OUTDATED))
    connection.execute(_ADD.format(_PLAIN_CHANGED))
    _run(connection, _REMOVE, _OUTDATED)
    _run(connection, _ADD, _CHANGED)
    for statement in _FOLLOWED:
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
            _run(connection, _ADD, _ADVANCE, last)
            connection.execute("UPDATE text_index SET indexed_to = ?", (last,))
        else:
            _index_anew(connection, max(1, limit // 2))  # it takes twice as long


def _index_anew(connection: sqlite3.Connection, limit: int) -> None:
    if (first := connection.execute(_FIRST_PLAIN, (limit,)).fetchone()[0]) is not None:
        connection.execute(_REMOVE.format(_PLAIN_TEXTS), (first,))
        _run(connection, _ADD, _ANEW, first)
    connection.execute("UPDATE text_index SET plain_to = ?", (0 if first is None else first - 1,))


def _run(connection: sqlite3.Connection, command: str, rows: str, *values: int) -> None:
    """Add the words of these rows to the index, or remove them, as `spaced` prepares them.

    ASCII needs no preparation. All other rows come here as one, since taking back the GIL for each could take 5 ms.
    """
    connection.execute(f"{command.format(rows)} WHERE {_IS_ASCII}", values)
    (packed,) = connection.execute(_OTHERS.format(rows), values).fetchone()
    others = msgspec.json.decode(packed.decode("utf-8", "replace"))
    if others:
        prepared = msgspec.json.encode([(key, spaced(words)) for key, words in others]).decode()
        connection.execute(command.format(_GIVEN), (prepared,))


def _is_behind(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_BEHIND).fetchone()[0])
