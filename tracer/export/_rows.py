"""Traces and spans as flat rows: the columns and their types."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from tracer._exceptions import ConfigurationError
from tracer._models import USAGE_KEYS, Span, Trace

__all__ = ["NESTED", "ROWS", "TIME", "Columns", "columns_of", "json_text", "rows_of"]

Columns = dict[str, type]
"""What a column holds: `str`, `int`, `float`, `TIME`, or `NESTED` for any JSON-like value."""

TIME = datetime.datetime
NESTED = object
ROWS = ("traces", "spans")

_USAGE = dict.fromkeys(USAGE_KEYS, int)
_TRACES: Columns = {
    "trace_id": str,
    "experiment": str,
    "name": str,
    "state": str,
    "start_time": TIME,
    "start_time_ns": int,
    "duration_ns": int,
    "time_to_first_token": float,
    "models": NESTED,
    **_USAGE,
    "cost": float,
    "session_id": str,
    "user_id": str,
    "request_preview": str,
    "response_preview": str,
    "inputs": NESTED,
    "outputs": NESTED,
    "tags": NESTED,
    "metadata": NESTED,
    "feedback": NESTED,
    "dropped": NESTED,
    "spans": int,
}
_SPANS: Columns = {
    "trace_id": str,
    "span_id": str,
    "parent_id": str,
    "name": str,
    "span_type": str,
    "status": str,
    "status_description": str,
    "start_time": TIME,
    "start_time_ns": int,
    "end_time_ns": int,
    "duration_ns": int,
    **_USAGE,
    "cost": float,
    "inputs": NESTED,
    "outputs": NESTED,
    "attributes": NESTED,
    "events": NESTED,
    "feedback": NESTED,
}


def columns_of(rows: str) -> Columns:
    """Return the columns of ``traces`` or ``spans``. Raises ConfigurationError."""
    if rows not in ROWS:
        raise ConfigurationError(f"rows must be one of {', '.join(ROWS)}, got {rows!r}")
    return _TRACES if rows == "traces" else _SPANS


def rows_of(trace: Trace, rows: str) -> list[dict[str, Any]]:
    """Return the rows that a trace becomes: one, or one for each span. Nested values are plain dicts and lists."""
    return [_trace_row(trace)] if rows == "traces" else [_span_row(span) for span in trace.data.spans]


def json_text(value: Any) -> str | None:
    """Return a nested value as JSON text; None if there is none."""
    return None if value is None else msgspec.json.encode(value).decode()


def _trace_row(trace: Trace) -> dict[str, Any]:
    info = trace.info
    told = {name: getattr(info, name) for name in _TRACES if hasattr(info, name)}
    root = trace.data.spans[0] if trace.data.spans else None
    return {
        **dict.fromkeys(_TRACES),
        **told,
        **(info.token_usage or {}),
        "state": info.state.value,
        "start_time": _moment(info.start_time_ns),
        "inputs": root.inputs if root else None,
        "outputs": root.outputs if root else None,
        "feedback": msgspec.to_builtins(info.feedback),
        "spans": len(trace.data.spans),
    }


def _span_row(span: Span) -> dict[str, Any]:
    told = {name: getattr(span, name) for name in _SPANS if hasattr(span, name)}
    return {
        **dict.fromkeys(_SPANS),
        **told,
        **(span.token_usage or {}),
        "status": span.status.status_code.value,
        "status_description": span.status.description,
        "start_time": _moment(span.start_time_ns),
        "events": msgspec.to_builtins(span.events),
        "feedback": msgspec.to_builtins(span.feedback),
    }


def _moment(nanoseconds: int) -> datetime.datetime:
    """Return a moment in UTC, to the microsecond."""
    return datetime.datetime.fromtimestamp(0, datetime.timezone.utc) + datetime.timedelta(
        microseconds=nanoseconds // 1_000
    )
