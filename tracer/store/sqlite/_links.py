"""Which traces continue one another: a call may name the response before it, or a conversation.

(https://platform.openai.com/docs/guides/conversation-state: ``previous_response_id`` and ``conversation``.) These
ids have a table of their own, so calls without such ids cost nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

__all__ = ["LINKED_KEYS", "chains"]

MAX_CHAIN = 1_000
"""At most so many traces of a chain are returned: enough for any conversation, and a limit for other chains."""

# One step leads from a trace to those that its calls continue, to those that continue its calls, to those that share
# their conversation, and to those that read the same response again (polls of a background response, a resumed stream).
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
"""SELECT of the keys of the traces that are linked to the trace with this id, and of that trace itself."""

_WITH_LINKS = "SELECT DISTINCT trace_key FROM links WHERE trace_key IN (SELECT value FROM json_each(?))"
_CHAIN = (
    _LINKED.format(start="SELECT ?")
    + "SELECT trace_id FROM linked JOIN traces ON traces.key = trace_key ORDER BY start_time_ns, key"
)


def chains(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, list[str]]:
    """Return the chain of each trace that is linked to others: the ids of all its traces, the oldest first."""
    found: dict[int, list[str]] = {}
    asked = msgspec.json.encode(list(keys)).decode()
    for (key,) in connection.execute(_WITH_LINKS, (asked,)).fetchall():
        chain = [trace_id for (trace_id,) in connection.execute(_CHAIN, (key,))]
        if len(chain) > 1:
            found[key] = chain
    return found
