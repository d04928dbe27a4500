"""Reads the traces of an Arize Phoenix database: SQLite, ``phoenix.db`` in its working directory.

Written after Phoenix 20 (``src/phoenix/db/models.py``). It keeps what OpenInference sends: attributes as a tree, and
times in microseconds, UTC without saying so.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracer._models import Feedback
from tracer.interpret import decode_json
from tracer.moving.foreign import ForeignSource, ForeignTrace, feedback_id, nanoseconds
from tracer.moving.mover import Refusal
from tracer.moving.tables import Tables
from tracer.otlp.received import ReceivedSpan

__all__ = ["open_phoenix"]

_TRACE_COLUMNS = ("id", "project_rowid", "trace_id", "project_session_rowid")
_SPAN_COLUMNS = (
    "id", "span_id", "parent_id", "name", "span_kind", "start_time", "end_time", "attributes", "events", "status_code",
    "status_message",
)  # fmt: skip
_ANNOTATION_COLUMNS = ("name", "label", "score", "explanation", "annotator_kind", "created_at", "identifier")
_COSTS = {"total_cost": "llm.cost.total", "prompt_cost": "llm.cost.prompt", "completion_cost": "llm.cost.completion"}
_KIND = "openinference.span.kind"
_TAGS = "tag.tags"
_WHOLE = ("metadata",)  # trees of the user's own
_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")


@contextlib.contextmanager
def open_phoenix(path: Path) -> Iterator[ForeignSource]:
    """Read a Phoenix database in this block: its traces, the oldest first. Nothing is written to it.

    Raises:
        StoreError: The file can't be read, or is no database of Phoenix.
    """
    with contextlib.closing(Tables(path)) as tables:
        tables.require("Phoenix", projects="name", traces="project_rowid", spans="trace_rowid")
        yield ForeignSource(_traces(tables), tables.count("traces"))


def _traces(tables: Tables) -> Iterator[ForeignTrace | Refusal]:
    projects = dict(tables.rows("projects", ("id", "name")))
    for row_id, project, trace_id, session in tables.rows("traces", _TRACE_COLUMNS, order="start_time, id"):
        if not _TRACE_ID.fullmatch(trace_id):
            yield Refusal(trace_id, "its id is not 32 hex digits, as OpenTelemetry has them")
            continue
        try:
            rows = [
                (row[0], _span(row[1:], trace_id)) for row in tables.rows("spans", _SPAN_COLUMNS, trace_rowid=row_id)
            ]
        except (ValueError, KeyError, TypeError) as error:
            yield Refusal(trace_id, f"its spans can't be read: {error!r}")
            continue
        feedback = [*_feedback(tables, "trace_annotations", trace_id, None, trace_rowid=row_id)]
        for span_row, span in rows:
            _add_cost(tables, span_row, span)
            feedback += _feedback(tables, "span_annotations", trace_id, span.span_id, span_rowid=span_row)
        sessions = [name for (name,) in tables.rows("project_sessions", ("session_id",), id=session)]
        yield ForeignTrace(
            trace_id=trace_id,
            spans=[span for _, span in rows],
            experiment=projects.get(project),
            session_id=sessions[0] if sessions else None,
            tags={str(tag): "true" for _, span in rows for tag in _listed(span.attributes.get(_TAGS))},
            feedback=sorted(feedback, key=lambda each: each.created_ns),
        )


# --- spans ------------------------------------------------------------------------------------------------------------
def _span(row: tuple[Any, ...], trace_id: str) -> ReceivedSpan:
    span_id, parent_id, name, kind, start, end, attributes, events, status, message = row
    for given in (span_id, parent_id):
        if given is not None and not _SPAN_ID.fullmatch(given):
            raise ValueError(f"{given!r} is no span id of OpenTelemetry")
    tree: Any = decode_json(_bytes(attributes))
    flat = dict(_flattened(tree))
    flat.setdefault(_KIND, kind)
    told: Any = decode_json(_bytes(events))
    return ReceivedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        start_ns=nanoseconds(start),
        end_ns=nanoseconds(end),
        status=status,
        message=message or "",
        attributes=flat,
        events=[(event["name"], nanoseconds(event["timestamp"]), event.get("attributes") or {}) for event in told],
    )


def _bytes(given: str | bytes) -> bytes:
    return given.encode() if isinstance(given, str) else given


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the attributes as they were sent: ``{"llm": {"model_name": …}}`` was ``llm.model_name``."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        items = dict(enumerate(value)) if isinstance(value, list) and any(isinstance(i, dict) for i in value) else value
        if isinstance(items, dict) and key not in _WHOLE:
            yield from _flattened({str(inner): item for inner, item in items.items()}, f"{key}.")
        else:
            yield key, value


def _add_cost(tables: Tables, span_row: int, span: ReceivedSpan) -> None:
    """Add what Phoenix says that a call cost, unless the call said so itself."""
    for costs in tables.rows("span_costs", tuple(_COSTS), span_rowid=span_row):
        for key, cost in zip(_COSTS.values(), costs, strict=True):
            if cost is not None:
                span.attributes.setdefault(key, cost)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- annotations ------------------------------------------------------------------------------------------------------
def _feedback(tables: Tables, table: str, trace_id: str, span_id: str | None, **of: Any) -> Iterator[Feedback]:
    """Return annotations. One that has a label and a score becomes two."""
    for name, label, score, explanation, kind, created, identifier in tables.rows(table, _ANNOTATION_COLUMNS, **of):
        values = [(name, label), (f"{name}.score" if label else name, score)]
        if not label and score is None:
            values = [(name, explanation)]
        for told, value in values:
            if value is None or value == "":
                continue
            yield Feedback(
                id=feedback_id(f"phoenix {trace_id} {span_id} {told} {identifier}"),
                trace_id=trace_id,
                span_id=span_id,
                name=told,
                value=value,
                comment=explanation if value is not explanation else None,
                source={"HUMAN": "human", "LLM": "llm"}.get(kind, "code"),
                created_ns=nanoseconds(created),
            )
