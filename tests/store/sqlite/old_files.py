"""Databases as earlier versions of tracer left them, with something in every table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.store.rows import SECOND, START
from tracer.store.sqlite._connection import CREATION_PRAGMAS, create_file
from tracer.store.sqlite._schema import _MIGRATIONS, APPLICATION_ID, _statements

TRACES = 12

# What each version could store. The answers' ids are those from which version 2 makes its links, and version 5 reads
# the time to the first token.
_ROWS = {
    1: (
        "INSERT INTO processes (process_id, host, pid, started, ended_ns) VALUES ('p', 'h', 1, '1', 1)",
        """
        INSERT INTO traces (trace_id, experiment, state, start_time_ns, end_time_ns, process_id, root_rank, root_name)
        SELECT printf('%032x', value), 'Default', 'OK', {start} + value * {second}, {start} + value * {second} + 5, 'p',
            2, 'chat' FROM json_each(?)
        """,
        """
        INSERT INTO spans (trace_key, span_id, name, span_type, operation, start_time_ns, end_time_ns, model, counted,
            attributes, text)
        SELECT value, printf('%016x', value), 'Responses', 'CHAT_MODEL', 'responses', {start} + value * {second},
            {start} + value * {second} + 5, 'gpt-5', 1,
            json_object('gen_ai.response.id', 'resp_' || value, 'tracer.time_to_first_token', 0.25),
            printf('word%d 東京都の天気 ', value) || hex(randomblob(200))
        FROM json_each(?)
        """,
        "INSERT INTO tags SELECT value, 'number', value FROM json_each(?)",
        "INSERT INTO live_chunks (trace_id, span_id, chunks) VALUES ('t', 's', x'90')",
        "INSERT INTO span_text (rowid, text) SELECT key, text FROM spans WHERE key <= 6",
        "UPDATE text_index SET indexed_to = 6",
        "UPDATE spans SET text = 'changed' WHERE key = 3",
    ),
    2: ("INSERT INTO links SELECT 'response', 'resp_' || value, value FROM json_each(?)",),
    3: (
        "INSERT INTO media (key, hash, content_type, size, data) VALUES (1, 'abc', 'image/png', 3, x'010203')",
        "INSERT INTO span_media SELECT value, 1 FROM json_each(?)",
    ),
    4: (
        """
        INSERT INTO feedback (id, trace_key, name, value, value_type, source, created_ns)
        SELECT 'f' || value, value, 'score', 0.5, 'number', 'human', 1 FROM json_each(?)
        """,
    ),
    5: ("UPDATE traces SET time_to_first_token = 0.25",),
    7: ("INSERT INTO taken_over VALUES ('ring', 7)",),
    8: ("INSERT INTO loss VALUES ('p', 'start', 3, 1, 2)",),
    10: ("INSERT INTO outbox (trace_key, span_id) SELECT value, printf('%016x', value) FROM json_each(?)",),
}


def make_old_file(path: Path, version: int) -> None:
    """Make a database of a schema version; version 0 is an empty file."""
    create_file(path)
    if not version:
        return
    numbers = f"[{', '.join(map(str, range(1, TRACES + 1)))}]"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in CREATION_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchone()
        for number in range(1, version + 1):
            for statement in _statements(_MIGRATIONS[number - 1]):
                connection.execute(statement)
        for number in range(1, version + 1):
            for sql in _ROWS.get(number, ()):
                connection.execute(sql.format(start=START, second=SECOND), (numbers,) if "?" in sql else ())
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def undo_version_9(connection: sqlite3.Connection) -> None:
    """Bring the full-text index back to what it was before version 9."""
    for trigger in ("spans_text_changed", "spans_text_deleted"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("ALTER TABLE text_index DROP COLUMN plain_to")
    connection.execute("ALTER TABLE text_changes DROP COLUMN attributes")
    for statement in _statements(_MIGRATIONS[0]):
        if statement.lstrip().startswith("CREATE TRIGGER"):
            connection.execute(statement)


def rows_of(path: Path, like: dict[str, tuple[str, list[Any]]] | None = None) -> dict[str, tuple[str, list[Any]]]:
    """Return each table's columns and rows.

    Args:
        path: The database.
        like: An earlier answer: only its tables and columns are looked at.
    """
    with closing(sqlite3.connect(path)) as connection:
        if like is None:
            tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%USING%'"
            columns = {}
            for (table,) in connection.execute(tables).fetchall():
                found = connection.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()
                columns[table] = ", ".join(name for (name,) in found)
        else:
            columns = {table: names for table, (names, _) in like.items()}
        return {
            table: (names, sorted(connection.execute(f"SELECT {names} FROM {table}").fetchall(), key=repr))
            for table, names in columns.items()
        }


def words_of(path: Path) -> list[tuple[Any, ...]]:
    """Check the full-text index, and return what it holds: each word with its span and its place."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO span_text (span_text) VALUES ('integrity-check')")
        connection.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, span_text, instance)")
        return sorted(connection.execute("SELECT term, doc, offset FROM temp.places").fetchall())
