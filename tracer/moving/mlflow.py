"""Reads the traces of an MLflow database: SQLite, as ``mlflow.set_tracking_uri("sqlite:///mlflow.db")`` makes it.

Written after MLflow 3.17 (``mlflow/store/tracking/dbmodels/models.py``, ``mlflow/entities/span.py``). Spans are in the
table ``spans``; those of older versions, and of traces that were archived, are in a file of the artifact store.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tracer import _semconv as sc
from tracer._models import Feedback, TraceState
from tracer.interpret import decode_json
from tracer.moving.foreign import ForeignSource, ForeignTrace, as_text, feedback_id
from tracer.moving.mover import Refusal
from tracer.moving.tables import Tables
from tracer.otlp.received import ReceivedSpan

__all__ = ["open_mlflow"]

_TRACE_COLUMNS = ("request_id", "experiment_id", "status", "client_request_id", "session_id")
_ASSESSMENT_COLUMNS = (
    "assessment_id", "name", "assessment_type", "value", "error", "created_timestamp", "source_type", "source_id",
    "span_id", "rationale",
)  # fmt: skip
_LOCATION = "mlflow.artifactLocation"
_OWN_TAGS = (_LOCATION, "mlflow.trace.spansLocation", "mlflow.traceName")
_SESSION, _USER = "mlflow.trace.session", "mlflow.trace.user"
_OWN_METADATA = (
    _SESSION, _USER, "mlflow.traceInputs", "mlflow.traceOutputs", "mlflow.trace.infoFinalized",
    "mlflow.trace.sizeBytes", "mlflow.trace.sizeStats", "mlflow.trace.tokenUsage", "mlflow.trace.cost",
    "mlflow.trace_schema.version",
)  # fmt: skip
_SAID_BY_ROWS = frozenset({"mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.spanType", "mlflow.traceRequestId"})
_STATES = {"OK": TraceState.OK, "ERROR": TraceState.ERROR, "IN_PROGRESS": TraceState.IN_PROGRESS}
_SOURCES = {"HUMAN": "human", "LLM_JUDGE": "llm", "AI_JUDGE": "llm"}
_CHUNK = re.compile(r"mlflow\.chunk\.item\.(\d{1,9})")
_ATTACHMENT = re.compile(r"mlflow-attachment://([0-9a-fA-F-]{36})\?([^\"\\\s]*)")
_EXPECTED = "expected."  # as `tracer.mlflow` stores an expectation
_ID = re.compile("[0-9a-f]{32}")


@contextlib.contextmanager
def open_mlflow(path: Path) -> Iterator[ForeignSource]:
    """Read an MLflow database in this block: its traces, the oldest first. Nothing is written to it.

    Raises:
        StoreError: The file can't be read, or holds no traces of MLflow 3.
    """
    with contextlib.closing(Tables(path)) as tables:
        tables.require("MLflow", trace_info="request_id", trace_tags="request_id", experiments="experiment_id")
        yield ForeignSource(_traces(tables), tables.count("trace_info"))


def _traces(tables: Tables) -> Iterator[ForeignTrace | Refusal]:
    names = dict(tables.rows("experiments", ("experiment_id", "name")))
    for row in tables.rows("trace_info", _TRACE_COLUMNS, order="timestamp_ms, request_id"):
        request_id, experiment_id, status, client_request, session_id = row
        trace_id = str(request_id).removeprefix("tr-")
        if not _ID.fullmatch(trace_id):
            yield Refusal(str(request_id), "its id is not 32 hex digits, as those of MLflow 2.14 and later are")
            continue
        tags = dict(tables.rows("trace_tags", ("key", "value"), request_id=request_id))
        metadata = dict(tables.rows("trace_request_metadata", ("key", "value"), request_id=request_id))
        if client_request:
            metadata[sc.CLIENT_REQUEST_ID] = client_request
        try:
            spans = list(_spans(tables, request_id, trace_id, tags.get(_LOCATION)))
        except (ValueError, KeyError, TypeError, OSError) as error:
            yield Refusal(trace_id, f"its spans can't be read: {error}")
            continue
        yield ForeignTrace(
            trace_id=trace_id,
            spans=spans,
            dropped_attributes=_SAID_BY_ROWS,
            experiment=names.get(experiment_id),
            state=_STATES.get(status),
            session_id=session_id or metadata.get(_SESSION),
            user_id=metadata.get(_USER),
            tags={key: value or "" for key, value in tags.items() if key not in _OWN_TAGS},
            metadata={key: value for key, value in metadata.items() if value and key not in _OWN_METADATA},
            feedback=[*_feedback(tables, request_id, trace_id)],
        )


# --- spans ------------------------------------------------------------------------------------------------------------
def _spans(tables: Tables, request_id: str, trace_id: str, location: str | None) -> Iterator[ReceivedSpan]:
    contents = [content for (content,) in tables.rows("spans", ("content",), trace_id=request_id)]
    contents = contents or _in_artifacts(location)
    for content in contents:
        yield _span(decode_json(_with_attachments(content, location).encode()), trace_id)


def _in_artifacts(location: str | None) -> list[str]:
    """Return the spans in ``traces.json`` of a trace's artifacts. Raises ValueError, KeyError or OSError."""
    directory = _directory(location)
    if directory is None:
        raise ValueError(f"they are in the artifact store {location!r}; copy it to this machine, or leave them there")
    found: Any = decode_json((directory / "traces.json").read_bytes())
    return [as_text(span) for span in found["spans"]]


def _directory(location: str | None) -> Path | None:
    """Return a local directory of artifacts; None for one elsewhere."""
    parts = urlsplit(location or "")
    if location and parts.scheme in ("", "file"):
        return Path(unquote(parts.path) if parts.scheme else location)
    return None


def _with_attachments(content: str, location: str | None) -> str:
    """Put images and files, which MLflow keeps beside its spans, back to where they were: as ``data:`` URLs."""
    directory = _directory(location)
    if directory is None or "mlflow-attachment://" not in content:
        return content

    def data_url(found: re.Match[str]) -> str:
        try:
            data = (directory / "attachments" / found[1]).read_bytes()
        except OSError:
            return found[0]
        kind = parse_qs(found[2]).get("content_type", ["application/octet-stream"])[0]
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"

    return _ATTACHMENT.sub(data_url, content)


def _span(content: Any, trace_id: str) -> ReceivedSpan:
    status = content.get("status") or {}
    end = content.get("end_time_unix_nano")
    parent = content.get("parent_span_id")
    return ReceivedSpan(
        trace_id=trace_id,
        span_id=_hex_id(content["span_id"]),
        parent_id=_hex_id(parent) if parent else None,
        name=content["name"],
        start_ns=int(content["start_time_unix_nano"]),
        end_ns=int(end) if end else None,
        status=str(status.get("code", "UNSET")).removeprefix("STATUS_CODE_"),
        message=status.get("message") or "",
        attributes={key: _value(value) for key, value in content["attributes"].items()},
        events=[_event(event) for event in content.get("events") or []],
    )


def _hex_id(given: str) -> str:
    """Return a span's id, which is base64, or hex in MLflow 3.5. Raises ValueError."""
    if re.fullmatch("[0-9a-f]{16}", given):
        return given
    try:
        data = base64.b64decode(given, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{given!r} is no span id: {error}") from None
    if len(data) != 8:
        raise ValueError(f"{given!r} is no span id")
    return data.hex()


def _value(given: Any) -> Any:
    """Return an attribute's value: MLflow writes each as JSON."""
    if not isinstance(given, str):
        return given
    try:
        return decode_json(given.encode())
    except ValueError:
        return given


def _event(event: Mapping[str, Any]) -> tuple[str, int, dict[str, Any]]:
    """Return an event; a chunk of a stream as tracer has it."""
    attributes = dict(event.get("attributes") or {})
    if chunk := _CHUNK.fullmatch(event["name"]):
        data = _value(attributes.get("mlflow.chunk.value"))
        return sc.EVENT_CHUNK, int(event["time_unix_nano"]), {"data": data, "index": int(chunk[1])}
    return event["name"], int(event["time_unix_nano"]), attributes


# --- assessments ------------------------------------------------------------------------------------------------------
def _feedback(tables: Tables, request_id: str, trace_id: str) -> Iterator[Feedback]:
    """Return the assessments of a trace that nobody has replaced since."""
    order = "created_timestamp, assessment_id"
    for row in tables.rows("assessments", _ASSESSMENT_COLUMNS, order=order, trace_id=request_id, valid=1):
        assessment_id, name, kind, given, error, created_ms, source_type, source_id, span_id, rationale = row
        source = _SOURCES.get(source_type, "code")
        value = _value(given)
        if value is None:
            value = "error" if error else "null"
        yield Feedback(
            id=feedback_id(assessment_id.removeprefix("a-")),
            trace_id=trace_id,
            span_id=span_id or None,
            name=f"{_EXPECTED}{name}" if kind == "expectation" else name,
            value=value if isinstance(value, (bool, int, float)) else as_text(value),
            comment=rationale or error,
            source=source if source_id in (None, "", "default") else f"{source}:{source_id}",
            created_ns=created_ms * 1_000_000,
        )
