"""Builders of rows: a span that ended well, its trace, and a batch of both."""

from __future__ import annotations

import sqlite3
from typing import Any

from tracer._models import SpanStatusCode, TraceState
from tracer.store import Batch, ChunkRow, ProcessRow, SpanRow, TracePatch, current_process

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def trace_id(number: int) -> str:
    return f"{number:032x}"


def span_id(number: int) -> str:
    return f"{number:016x}"


def span(number: int, **changes: Any) -> SpanRow:
    values: dict[str, Any] = {
        "trace_id": trace_id(number),
        "span_id": span_id(number),
        "name": "AsyncCompletions",
        "span_type": "CHAT_MODEL",
        "start_time_ns": START + number * SECOND,
        "end_time_ns": START + number * SECOND + SECOND // 2,
        "status_code": SpanStatusCode.OK,
        **changes,
    }
    return SpanRow(**values)


def started(number: int, **changes: Any) -> SpanRow:
    return span(number, end_time_ns=None, status_code=SpanStatusCode.UNSET, **changes)


def patch(number: int, **changes: Any) -> TracePatch:
    values: dict[str, Any] = {
        "trace_id": trace_id(number),
        "process_id": current_process().process_id,
        "start_time_ns": START + number * SECOND,
        "root_span_id": span_id(number),
        "true_root": True,
        "name": "AsyncCompletions",
        "state": TraceState.OK,
        "end_time_ns": START + number * SECOND + SECOND // 2,
        **changes,
    }
    return TracePatch(**values)


def running(number: int, **changes: Any) -> TracePatch:
    return patch(number, **{"state": TraceState.IN_PROGRESS, "end_time_ns": None, **changes})


def batch(
    spans: list[SpanRow] | None = None,
    traces: list[TracePatch] | None = None,
    chunks: list[ChunkRow] | None = None,
    process: ProcessRow | None = None,
) -> Batch:
    return Batch(process=process or current_process(), spans=spans or [], traces=traces or [], chunks=chunks or [])


def simple(*numbers: int, **changes: Any) -> Batch:
    """One ended trace of one span for each number; `changes` go to whichever of the two has the field."""
    of_span = {key: value for key, value in changes.items() if key in SpanRow.__struct_fields__}
    of_patch = {key: value for key, value in changes.items() if key in TracePatch.__struct_fields__}
    return batch([span(n, **of_span) for n in numbers], [patch(n, **of_patch) for n in numbers])


def query_plan(connection: sqlite3.Connection, statement: str) -> list[tuple[Any, ...]]:
    """How SQLite would run a statement."""
    return connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
