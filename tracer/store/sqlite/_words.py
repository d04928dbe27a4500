"""How a search asks FTS5 for the words of `tracer.store.words`, and case for ``ILIKE``."""

from __future__ import annotations

import sqlite3

from tracer.store.words import folded, terms

__all__ = ["install", "match_expression"]


def install(connection: sqlite3.Connection) -> None:
    """Define ``folded(text)`` on a connection, for ``ILIKE``."""
    connection.create_function("folded", 1, folded, deterministic=True)


def match_expression(text: str, *, prefixes: bool = False) -> str:
    """Turn what a user typed into an FTS5 query (see `terms`).

    Each term becomes a quoted string, so no character of it is query syntax
    (https://sqlite.org/fts5.html#full_text_query_syntax).
    """
    return " AND ".join(_quoted(words, is_prefix) for words, is_prefix in terms(text, prefixes=prefixes))


def _quoted(words: str, is_prefix: bool) -> str:
    doubled = words.replace('"', '""')
    return f'"{doubled}"{"*" if is_prefix else ""}'
