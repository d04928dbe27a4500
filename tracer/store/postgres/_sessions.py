"""Lists that need no sample: sessions, experiments, and how much room the database takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracer._exceptions import ConfigurationError
from tracer.store.base import TraceQuery
from tracer.store.postgres._query import chosen_clauses, newest_key
from tracer.store.postgres._schema import SCHEMA_VERSION
from tracer.store.postgres._sql import Clause, fetch, fetch_row, fetch_value, hashed, joined
from tracer.store.search import Token, checked_limit, fingerprint, read_token
from tracer.store.sessions import MAX_TRACES, session_of, sort_keys
from tracer.store.summaries import ExperimentSummary, LossSummary, SessionPage, SessionSummary, StorageSummary

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["TABLES_SIZE", "experiments", "losses", "sessions", "storage"]

_MAX_LOSSES = 10_000  # so many traces with losses are looked at

# A session is listed at the place of its latest matching trace: the one after which no other trace of the session
# matches. Traces are read in order of time, so that reading ends as soon as a page is full.
_HEADS = """
SELECT head_session, head_start, head_key FROM (
    SELECT session_id AS head_session, start_time_ns AS head_start, key AS head_key
    FROM traces WHERE session_id IS NOT NULL AND {where} AND (start_time_ns, key) < (?::bigint, ?::bigint)
) AS heads WHERE NOT EXISTS (
    SELECT 1 FROM traces WHERE {same} AND {where} AND (start_time_ns, key) > (head_start, head_key)
) ORDER BY head_start DESC, head_key DESC LIMIT ?::bigint
"""
_SAME = f"{hashed('session_id')} = {hashed('head_session')} AND session_id = head_session"
_OF_SESSION = f"{hashed('session_id')} = {hashed('given.id')} AND session_id = given.id"
_SUMS = f"""
WITH given (id) AS (VALUES (?::text)),
latest AS (SELECT traces.* FROM traces, given WHERE {_OF_SESSION} ORDER BY start_time_ns DESC LIMIT {MAX_TRACES}),
first AS (SELECT traces.* FROM traces, given WHERE {_OF_SESSION} ORDER BY start_time_ns, key LIMIT 1),
last AS (SELECT traces.* FROM traces, given WHERE {_OF_SESSION} ORDER BY start_time_ns DESC, key DESC LIMIT 1)
SELECT count(*), max(start_time_ns), max(end_time_ns), count(*) FILTER (WHERE state = 'ERROR'),
    count(*) FILTER (WHERE state = 'IN_PROGRESS'), sum(total_tokens)::bigint, sum(cost), max(user_id),
    (SELECT start_time_ns FROM first), (SELECT request_preview FROM first),
    (SELECT state FROM last), (SELECT response_preview FROM last), (SELECT user_id FROM last)
FROM latest
"""


async def sessions(connection: Connection[Any], query: TraceQuery, case: str) -> SessionPage:
    """Return a page of the sessions of the traces that a query selects. Raises ConfigurationError."""
    limit = checked_limit(query.max_results)
    if query.order_by not in (None, TraceQuery().order_by):
        raise ConfigurationError(
            f"sessions are ordered by their latest trace; leave out order_by, got {query.order_by!r}"
        )
    told = b"sessions" + fingerprint(query)
    token = read_token(query.page_token, told, [False, False])
    now_ns = token.now_ns if token else time.time_ns()
    newest = token.newest_key if token else await newest_key(connection)
    settled = await chosen_clauses(connection, query, now_ns, case)
    where = joined([*settled, Clause("traces.key <= ?::bigint", (newest,))])
    last = sort_keys(token)
    values = (*where.parameters, *last, *where.parameters, limit + 1)
    heads = await fetch(connection, _HEADS.format(where=where.sql, same=_SAME), values)
    found = [await _summary(connection, head[0]) for head in heads[:limit]]
    if len(heads) <= limit:
        return SessionPage(sessions=found)
    behind = Token(told, now_ns, newest, list(heads[limit - 1][1:]))
    return SessionPage(sessions=found, next_page_token=behind.written())


async def _summary(connection: Connection[Any], session_id: str) -> SessionSummary:
    row = await fetch_row(connection, _SUMS, (session_id,))
    assert row is not None
    return session_of(session_id, row)


# --- experiments ------------------------------------------------------------------------------------------------------
_EXPERIMENTS = """
SELECT experiment, count(*), min(start_time_ns), max(start_time_ns) AS last_ns
FROM traces GROUP BY experiment ORDER BY last_ns DESC, experiment
"""


async def experiments(connection: Connection[Any]) -> list[ExperimentSummary]:
    """Return all experiments, the one with the newest trace first."""
    return [
        ExperimentSummary(name=name, traces=traces, first_ns=first_ns, last_ns=last_ns)
        for name, traces, first_ns, last_ns in await fetch(connection, _EXPERIMENTS)
    ]


# --- storage ----------------------------------------------------------------------------------------------------------
_TABLES = ("traces", "spans", "tags", "feedback", "media", "links", "processes")
_COUNTS = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in _TABLES)
_TIMES = """
SELECT (SELECT min(start_time_ns) FROM traces), (SELECT max(start_time_ns) FROM traces),
    (SELECT count(*) FROM traces WHERE dropped IS NOT NULL)
"""
_LACKING = f"""
SELECT kind, sum(count::bigint)::bigint FROM (
    SELECT dropped FROM traces WHERE dropped IS NOT NULL ORDER BY start_time_ns DESC LIMIT {_MAX_LOSSES}
) AS lacking CROSS JOIN LATERAL jsonb_each_text(dropped) AS lost (kind, count) GROUP BY kind
"""
TABLES_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""
"""Bytes of all tables in our schema, with their indexes."""


async def storage(connection: Connection[Any], uri: str) -> StorageSummary:
    """Return what the database holds and how much room its tables take."""
    counts = await fetch_row(connection, _COUNTS) or ()
    times = await fetch_row(connection, _TIMES)
    assert times is not None
    return StorageSummary(
        uri=uri,
        schema_version=SCHEMA_VERSION,
        file_bytes=int(await fetch_value(connection, TABLES_SIZE)),
        log_bytes=0,
        free_bytes=0,
        rows=dict(zip(_TABLES, counts, strict=True)),
        oldest_ns=times[0],
        newest_ns=times[1],
        traces_with_losses=times[2],
        dropped=dict(await fetch(connection, _LACKING)),
        losses=await losses(connection, 0),
    )


_LOSSES = """
SELECT reason, sum(count)::bigint, count(*), min(first_ns), max(last_ns)
FROM loss WHERE last_ns >= ?::bigint GROUP BY reason ORDER BY reason DESC
"""


async def losses(connection: Connection[Any], since_ns: int) -> list[LossSummary]:
    """Return what was lost as a whole, by reason."""
    return [
        LossSummary(reason=reason, count=count, processes=processes, first_ns=first_ns, last_ns=last_ns)
        for reason, count, processes, first_ns, last_ns in await fetch(connection, _LOSSES, (since_ns,))
    ]
