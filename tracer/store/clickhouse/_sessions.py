"""Lists that need no sample: sessions, experiments, and how much room the database takes."""

from __future__ import annotations

import time
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer.store.base import TraceQuery
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._query import clauses, newest_key
from tracer.store.clickhouse._schema import SCHEMA_VERSION
from tracer.store.clickhouse._sql import Clause, joined, live
from tracer.store.search import Token, checked_limit, fingerprint, read_token
from tracer.store.sessions import MAX_TRACES, session_of, sort_keys
from tracer.store.summaries import ExperimentSummary, LossSummary, SessionPage, SessionSummary, StorageSummary

__all__ = ["experiments", "losses", "sessions", "storage"]

_MAX_LOSSES = 10_000  # so many traces with losses are looked at

# A session is listed at the place of its latest matching trace.
_HEADS = """
SELECT assumeNotNull(session_id) AS head, max((start_time_ns, born)) AS latest FROM traces
WHERE session_id IS NOT NULL AND {where} GROUP BY head
HAVING latest < (?:Int64, ?:Int64) ORDER BY latest DESC LIMIT ?:Int64
"""
_SUMS = f"""
SELECT head, count(), max(start_time_ns), max(end_time_ns), countIf(state = 'ERROR'), countIf(state = 'IN_PROGRESS'),
    sum(total_tokens), sum(cost), max(user_id), min(start_time_ns), argMin((request_preview, 0), (start_time_ns, born)),
    argMax((toString(state), response_preview, user_id), (start_time_ns, born))
FROM (
    SELECT *, assumeNotNull(session_id) AS head FROM traces
    WHERE {live("trace")} AND session_id IN ?:Array(String) ORDER BY start_time_ns DESC LIMIT {MAX_TRACES} BY head
) GROUP BY head
"""


def sessions(connection: Connection, query: TraceQuery) -> SessionPage:
    """Return a page of the sessions of the traces that a query selects. Raises ConfigurationError."""
    limit = checked_limit(query.max_results)
    if query.order_by not in (None, TraceQuery().order_by):
        raise ConfigurationError(
            f"sessions are ordered by their latest trace; leave out order_by, got {query.order_by!r}"
        )
    told = b"sessions" + fingerprint(query)
    token = read_token(query.page_token, told, [False, False])
    now_ns = token.now_ns if token else time.time_ns()
    newest = token.newest_key if token else newest_key(connection)
    conditions = clauses(connection, query, now_ns)
    where = joined([Clause(live("trace")), *conditions, Clause("born <= ?:Int64", (newest,))])
    last = sort_keys(token)
    heads = connection.fetch(_HEADS.format(where=where.sql), (*where.parameters, *last, limit + 1))
    shown = [head for head, _ in heads[:limit]]
    sums = {row[0]: row for row in connection.fetch(_SUMS, (shown,))} if shown else {}
    found = [_summary(sums[head]) for head in shown if head in sums]
    if len(heads) <= limit:
        return SessionPage(sessions=found)
    behind = Token(told, now_ns, newest, list(heads[limit - 1][1]))
    return SessionPage(sessions=found, next_page_token=behind.written())


def _summary(row: tuple[Any, ...]) -> SessionSummary:
    session_id, count, last_ns, end_ns, errors, running, tokens, cost, some_user, first_ns, first, latest = row
    sums = (count, last_ns, end_ns, errors, running, tokens, cost, some_user, first_ns, first[0], *latest)
    return session_of(session_id, sums)


# --- experiments ------------------------------------------------------------------------------------------------------
_EXPERIMENTS = f"""
SELECT toString(experiment) AS named, count(), min(start_time_ns), max(start_time_ns) AS last_ns
FROM traces WHERE {live("trace")} GROUP BY named ORDER BY last_ns DESC, named
"""


def experiments(connection: Connection) -> list[ExperimentSummary]:
    """Return all experiments, the one with the newest trace first."""
    return [
        ExperimentSummary(name=name, traces=traces, first_ns=first_ns, last_ns=last_ns)
        for name, traces, first_ns, last_ns in connection.fetch(_EXPERIMENTS)
    ]


# --- storage ----------------------------------------------------------------------------------------------------------
_TAGS = f"SELECT sum(length(mapKeys(tags))) FROM traces WHERE {live('trace')}"
_COUNTS = {
    "traces": f"SELECT uniqExact(trace_key) FROM traces WHERE {live('trace')}",
    "spans": f"SELECT uniqExact(trace_key, span_id) FROM (SELECT trace_key, span_id FROM spans WHERE {live('span')} "
    f"UNION ALL SELECT trace_key, span_id FROM running WHERE {live('running')})",
    "tags": _TAGS,
    "feedback": f"SELECT count() FROM feedback WHERE {live('feedback')}",
    "media": f"SELECT uniqExact(hash) FROM span_media WHERE {live('medium')}",
    "links": f"SELECT uniqExact(row) FROM links WHERE {live('link')}",
    "processes": "SELECT uniqExact(process_id) FROM processes",
}
_TIMES = f"""
SELECT minOrNull(start_time_ns), maxOrNull(start_time_ns), countIf(notEmpty(mapKeys(dropped)))
FROM traces WHERE {live("trace")}
"""
_LACKING = f"""
SELECT toString(lost.1), sum(lost.2) FROM (
    SELECT arrayJoin(CAST(dropped, 'Array(Tuple(String, Int64))')) AS lost FROM (
        SELECT dropped FROM traces WHERE {live("trace")} AND notEmpty(mapKeys(dropped))
        ORDER BY start_time_ns DESC LIMIT {_MAX_LOSSES}
    )
) GROUP BY lost.1
"""
_BYTES = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"


def storage(connection: Connection, uri: str) -> StorageSummary:
    """Return what the database holds and how much room its tables take."""
    oldest, newest, with_losses = connection.row(_TIMES) or (None, None, 0)
    return StorageSummary(
        uri=uri,
        schema_version=SCHEMA_VERSION,
        file_bytes=int(connection.value(_BYTES) or 0),
        log_bytes=0,
        free_bytes=0,
        rows={name: int(connection.value(sql) or 0) for name, sql in _COUNTS.items()},
        oldest_ns=oldest,
        newest_ns=newest,
        traces_with_losses=with_losses,
        dropped=dict(connection.fetch(_LACKING)),
        losses=losses(connection, 0),
    )


_LOSSES = """
SELECT toString(reason) AS why, sum(lost), uniqExact(process_id), min(first_ns), max(last_ns) FROM (
    SELECT process_id, reason, sum(count) AS lost, min(time_ns) AS first_ns, max(time_ns) AS last_ns FROM (
        SELECT DISTINCT process_id, reason, time_ns, count FROM loss
    ) GROUP BY process_id, reason
) WHERE last_ns >= ?:Int64 GROUP BY why ORDER BY why DESC
"""


def losses(connection: Connection, since_ns: int) -> list[LossSummary]:
    """Return what was lost as a whole, by reason."""
    return [
        LossSummary(reason=reason, count=count, processes=processes, first_ns=first_ns, last_ns=last_ns)
        for reason, count, processes, first_ns, last_ns in connection.fetch(_LOSSES, (since_ns,))
    ]
