"""What the databases' lists of sessions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracer.store.search import Token
from tracer.store.summaries import SessionSummary

__all__ = ["MAX_TRACES", "session_of", "sort_keys"]

MAX_TRACES = 10_000  # so many of a session's traces are summed
_BEFORE_ALL = 2**63 - 1


def sort_keys(token: Token | None) -> tuple[int, ...]:
    """Return the sort keys of the session before a page. A token may be forged, so they are cut to 64 bits."""
    last = (_BEFORE_ALL, _BEFORE_ALL) if token is None else tuple(token.last)
    return tuple(max(-_BEFORE_ALL, min(_BEFORE_ALL, _whole(value))) for value in last)


def _whole(value: Any) -> int:
    if isinstance(value, float) and not abs(value) < _BEFORE_ALL:
        return _BEFORE_ALL if value > 0 else -_BEFORE_ALL
    return int(value)


def session_of(session_id: str, row: Sequence[Any]) -> SessionSummary:
    """Make a session of its sums, as each database's query names them in this order."""
    count, last_ns, end_ns, errors, running, tokens, cost, some_user, first_ns, request, state, response, user = row
    return SessionSummary(
        session_id=session_id,
        user_id=user or some_user,
        traces=count,
        complete=count < MAX_TRACES,
        first_ns=first_ns,
        last_ns=last_ns,
        errors=errors,
        state="IN_PROGRESS" if running else state,
        duration_ns=None if running or end_ns is None else end_ns - first_ns,
        total_tokens=tokens,
        cost=cost,
        request_preview=request,
        response_preview=response,
    )
