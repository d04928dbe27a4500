"""Which traces continue one another: a call may name the response before it, or a conversation.

(https://platform.openai.com/docs/guides/conversation-state: ``previous_response_id`` and ``conversation``.) Their ids
have a table of their own, so calls that have none cost nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

__all__ = ["LINKED_KEYS", "chains"]

MAX_CHAIN = 1_000
"""Traces of one chain that are told: enough for any conversation, and an end for what is none."""

# One step from a trace: to what its calls continue, to what continues them, to what shares their conversation, and to
# what reads the same response again (a background response's polls, a stream that is resumed).
_STEPS = (
    ("previous_response", "response"),
    ("response", "previous_response"),
    ("conversation", "conversation"),
    ("response", "response"),
)
_STEP = """
    SELECT other.trace_key FROM linked
    JOIN links AS mine ON mine.trace_key = linked.trace_key AND mine.kind = '{}'
    JOIN links AS other ON other.kind = '{}' AND other.id = mine.id
"""
_LINKED = f"""
WITH RECURSIVE linked (trace_key) AS (
    {{start}} UNION {" UNION ".join(_STEP.format(*kinds) for kinds in _STEPS)} LIMIT {MAX_CHAIN}
)
"""
LINKED_KEYS = (
    "SELECT trace_key FROM ("
    + _LINKED.format(start="SELECT key FROM traces WHERE trace_id = ?")
    + "SELECT trace_key FROM linked) WHERE TRUE"
)
"""SELECT of the keys of the traces linked to the one with this id, itself included."""

_WITH_LINKS = "SELECT DISTINCT trace_key FROM links WHERE trace_key IN (SELECT value FROM json_each(?))"
_CHAIN = (
    _LINKED.format(start="SELECT ?")
    + "SELECT trace_id FROM linked JOIN traces ON traces.key = trace_key ORDER BY start_time_ns, key"
)


def chains(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, list[str]]:
    """Return, for the traces that are linked to any other, the ids of all they are linked to, the oldest first."""
    found: dict[int, list[str]] = {}
    asked = msgspec.json.encode(list(keys)).decode()
    for (key,) in connection.execute(_WITH_LINKS, (asked,)).fetchall():
        chain = [trace_id for (trace_id,) in connection.execute(_CHAIN, (key,))]
        if len(chain) > 1:
            found[key] = chain
    return found
