"""Lists that need no sample: sessions, experiments, and how much room the database takes."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from tracer._exceptions import ConfigurationError
from tracer.store.base import TraceQuery
from tracer.store.search import Token, checked_limit, fingerprint, read_token
from tracer.store.sessions import MAX_TRACES, session_of, sort_keys
from tracer.store.sqlite._connection import transaction
from tracer.store.sqlite._query import FEW, clauses, newest_key
from tracer.store.sqlite._sample import Where, one_row
from tracer.store.sqlite._sql import Clause
from tracer.store.summaries import ExperimentSummary, LossSummary, SessionPage, SessionSummary, StorageSummary

__all__ = ["experiments", "losses", "sessions", "storage"]

_MAX_LOSSES = 10_000  # so many traces with losses are looked at

# A session is listed at the place of its latest matching trace: the one after which no other trace of the session
# matches. Traces are read in order of time, so that reading ends as soon as a page is full.
_HEADS = """
SELECT head_session, head_start, head_key FROM (
    SELECT session_id AS head_session, start_time_ns AS head_start, key AS head_key
    FROM traces WHERE session_id IS NOT NULL AND {where} AND (start_time_ns, key) < (?, ?)
) WHERE NOT EXISTS (
    SELECT 1 FROM traces WHERE session_id = head_session AND {where} AND (start_time_ns, key) > (head_start, head_key)
) ORDER BY head_start DESC, head_key DESC LIMIT ?
"""
_SUMS = f"""
WITH latest AS (SELECT * FROM traces WHERE session_id = :session_id ORDER BY start_time_ns DESC LIMIT {MAX_TRACES}),
first AS (SELECT * FROM traces WHERE session_id = :session_id ORDER BY start_time_ns, key LIMIT 1),
last AS (SELECT * FROM traces WHERE session_id = :session_id ORDER BY start_time_ns DESC, key DESC LIMIT 1)
SELECT count(*), max(start_time_ns), max(end_time_ns), sum(state = 'ERROR'), sum(state = 'IN_PROGRESS'),
    sum(total_tokens), sum(cost), max(user_id),
    (SELECT start_time_ns FROM first), (SELECT request_preview FROM first),
    (SELECT state FROM last), (SELECT response_preview FROM last), (SELECT user_id FROM last)
FROM latest
"""


def sessions(connection: sqlite3.Connection, query: TraceQuery) -> SessionPage:
    """Return a page of the sessions of the traces that a query selects. Raises ConfigurationError."""
    limit = checked_limit(query.max_results)
    if query.order_by not in (None, TraceQuery().order_by):
        raise ConfigurationError(
            f"sessions are ordered by their latest trace; leave out order_by, got {query.order_by!r}"
        )
    told = b"sessions" + fingerprint(query)
    token = read_token(query.page_token, told, [False, False])
    now_ns = token.now_ns if token else time.time_ns()
    with transaction(connection, "DEFERRED"):
        newest = token.newest_key if token else newest_key(connection)
        settled = [condition.chosen(connection, FEW) for condition in clauses(query, now_ns)]
        where = Where.of([*settled, Clause("+key <= ?", (newest,))])
        last = sort_keys(token)
        values = (*where.parameters, *last, *where.parameters, limit + 1)
        heads = connection.execute(_HEADS.format(where=where.sql), values).fetchall()
        found = [_summary(connection, head[0]) for head in heads[:limit]]
    if len(heads) <= limit:
        return SessionPage(sessions=found)
    behind = Token(told, now_ns, newest, list(heads[limit - 1][1:]))
    return SessionPage(sessions=found, next_page_token=behind.written())


def _summary(connection: sqlite3.Connection, session_id: str) -> SessionSummary:
    row: tuple[Any, ...] = connection.execute(_SUMS, {"session_id": session_id}).fetchone()
    return session_of(session_id, row)


# --- experiments ------------------------------------------------------------------------------------------------------
# Goes from name to name through the index: one step per experiment, however many traces it has.
_EXPERIMENTS = """
WITH RECURSIVE labels (label) AS (
    SELECT min(experiment) FROM traces
    UNION ALL SELECT (SELECT min(experiment) FROM traces WHERE experiment > label) FROM labels WHERE label IS NOT NULL
)
SELECT label, (SELECT count(*) FROM traces WHERE experiment = label),
    (SELECT min(start_time_ns) FROM traces WHERE experiment = label),
    (SELECT max(start_time_ns) FROM traces WHERE experiment = label) AS last_ns
FROM labels WHERE label IS NOT NULL ORDER BY last_ns DESC, label
"""


def experiments(connection: sqlite3.Connection) -> list[ExperimentSummary]:
    """Return all experiments, the one with the newest trace first."""
    return [
        ExperimentSummary(name=name, traces=traces, first_ns=first_ns, last_ns=last_ns)
        for name, traces, first_ns, last_ns in connection.execute(_EXPERIMENTS).fetchall()
    ]


# --- storage ----------------------------------------------------------------------------------------------------------
_TABLES = ("traces", "spans", "tags", "feedback", "media", "links", "processes")
_STORAGE = f"""
SELECT json_object({", ".join(f"'{table}', (SELECT count(*) FROM {table})" for table in _TABLES)}),
    (SELECT min(start_time_ns) FROM traces), (SELECT max(start_time_ns) FROM traces),
    (SELECT count(*) FROM traces WHERE dropped IS NOT NULL),
    (SELECT json_group_object(kind, count) FROM (
        SELECT lost.key AS kind, sum(lost.value) AS count FROM (
            SELECT dropped FROM traces WHERE dropped IS NOT NULL ORDER BY start_time_ns DESC LIMIT {_MAX_LOSSES}
        ) CROSS JOIN json_each(dropped) AS lost GROUP BY lost.key
    ))
"""


def storage(connection: sqlite3.Connection, uri: str, path: Path | None) -> StorageSummary:
    """Return what the database at a path (None: in memory) holds and how much room it takes."""
    version, free, page = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("user_version", "freelist_count", "page_size")
    )
    rows, oldest, newest, lacking, dropped = one_row(connection, _STORAGE, ())
    return StorageSummary(
        uri=uri,
        schema_version=version,
        file_bytes=_size(path),
        log_bytes=_size(None if path is None else Path(f"{path}-wal")),
        free_bytes=free * page,
        rows=rows,
        oldest_ns=oldest,
        newest_ns=newest,
        traces_with_losses=lacking,
        dropped=dropped,
        losses=losses(connection, 0),
    )


_LOSSES = """
SELECT reason, sum(count) AS count, count(*) AS processes, min(first_ns) AS first_ns, max(last_ns) AS last_ns
FROM loss WHERE last_ns >= ? GROUP BY reason ORDER BY reason DESC
"""


def losses(connection: sqlite3.Connection, since_ns: int) -> list[LossSummary]:
    """Return what was lost as a whole, by reason."""
    return [
        LossSummary(reason=reason, count=count, processes=processes, first_ns=first_ns, last_ns=last_ns)
        for reason, count, processes, first_ns, last_ns in connection.execute(_LOSSES, (since_ns,)).fetchall()
    ]


def _size(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0
