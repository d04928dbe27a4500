"""Spans that ended and are still to be sent: ``outbox``. Taking them is a short write, reading them is none."""

from __future__ import annotations

import sqlite3

import msgspec

from tracer.store import base
from tracer.store.batch import Export
from tracer.store.rows import EXPORT_COLUMNS, EXPORT_SIZE, export_of, export_prefix
from tracer.store.sqlite._connection import transaction

__all__ = ["end", "find_due", "give_back", "read_exports", "take"]

_FREE = "(taken_until_ns <= :now OR taken_by = :taker)"
_SPANS = "outbox LEFT JOIN spans ON spans.trace_key = outbox.trace_key AND spans.span_id = outbox.span_id"
_SIZES = f"SELECT outbox.key, {EXPORT_SIZE} FROM {_SPANS} WHERE {_FREE} ORDER BY outbox.key LIMIT :most"
_IN_KEYS = "key IN (SELECT value FROM json_each(:keys))"
_TAKE = f"UPDATE outbox SET taken_by = :taker, taken_until_ns = :until WHERE {_IN_KEYS} AND {_FREE}"
_TAKEN = f"SELECT key FROM outbox WHERE {_IN_KEYS} AND taken_by = :taker ORDER BY key"
_READ = f"""
SELECT {EXPORT_COLUMNS} FROM {_SPANS} LEFT JOIN traces ON traces.key = outbox.trace_key
WHERE outbox.{_IN_KEYS} ORDER BY outbox.key
"""


def find_due(connection: sqlite3.Connection, taker: str, most: int, now_ns: int) -> list[int]:
    """Return the keys of what the process may take now."""
    return export_prefix(connection.execute(_SIZES, {"now": now_ns, "taker": taker, "most": most}))


def take(connection: sqlite3.Connection, taker: str, keys: list[int], now_ns: int) -> list[int]:
    """Take what nobody else has taken meanwhile; return its keys."""
    until = now_ns + int(base.TAKEN_SECONDS * 1e9)
    values = {"taker": taker, "keys": _json(keys), "now": now_ns, "until": until}
    with transaction(connection):
        connection.execute(_TAKE, values)
        return [key for (key,) in connection.execute(_TAKEN, {"taker": taker, "keys": _json(keys)})]


def read_exports(connection: sqlite3.Connection, keys: list[int]) -> list[Export]:
    """Return the spans that were taken."""
    return [export_of(row) for row in connection.execute(_READ, {"keys": _json(keys)})]


def end(connection: sqlite3.Connection, keys: list[int]) -> None:
    """Forget them."""
    with transaction(connection):
        connection.execute(f"DELETE FROM outbox WHERE {_IN_KEYS}", {"keys": _json(keys)})


def give_back(connection: sqlite3.Connection, taker: str) -> None:
    """Let others have what a process has taken."""
    with transaction(connection):
        connection.execute("UPDATE outbox SET taken_by = NULL, taken_until_ns = 0 WHERE taken_by = ?", (taker,))


def _json(keys: list[int]) -> str:
    return msgspec.json.encode(keys).decode()
