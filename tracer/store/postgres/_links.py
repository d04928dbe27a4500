"""Which traces continue one another, through ids in ``links`` (see `tracer.store.sqlite._links`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracer.store.postgres._sql import fetch, hashed

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["LINKED", "chains"]

_MAX_CHAIN = 1_000
# One step leads from a trace to those that its calls continue, to those that continue its calls, to those that share
# their conversation, and to those that read the same response again (polls of a background response, a resumed stream).
_LINKED = f"""
WITH RECURSIVE linked (trace_key) AS (
    {{start}}
    UNION SELECT other.trace_key FROM linked
    JOIN links AS mine ON mine.trace_key = linked.trace_key
    JOIN links AS other ON {hashed("other.id")} = {hashed("mine.id")} AND other.id = mine.id
        AND (mine.kind, other.kind) IN (
            ('previous_response', 'response'), ('response', 'previous_response'), ('conversation', 'conversation'),
            ('response', 'response')
        )
), chain AS (SELECT trace_key FROM linked LIMIT {_MAX_CHAIN})
"""
LINKED = _LINKED.format(start="SELECT key FROM traces WHERE trace_id = ?::text") + "SELECT trace_key FROM chain"
"""SELECT of the keys of the traces that are linked to the trace with this id, and of that trace itself."""

_WITH_LINKS = "SELECT DISTINCT trace_key FROM links WHERE trace_key = ANY(?::bigint[])"
_CHAIN = (
    _LINKED.format(start="SELECT ?::bigint")
    + "SELECT trace_id FROM chain JOIN traces ON traces.key = trace_key ORDER BY start_time_ns, key"
)


async def chains(connection: Connection[Any], keys: Sequence[int]) -> dict[int, list[str]]:
    """Return the chain of each trace that is linked to others: the ids of all its traces, the oldest first."""
    found: dict[int, list[str]] = {}
    for (key,) in await fetch(connection, _WITH_LINKS, (list(keys),)):
        chain = [trace_id for (trace_id,) in await fetch(connection, _CHAIN, (key,))]
        if len(chain) > 1:
            found[key] = chain
    return found
