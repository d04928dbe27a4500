"""Reads traces that Langfuse has exported as JSON.

Written after https://langfuse.com/faq/all/export-single-trace-or-session, the API's description
(``fern/apis/server/definition/commons.yml``) and what the server makes of its rows
(``packages/shared/src/server/repositories/observations_converters.ts``). Accepted, alone, in an array, or one to a
line:

- what "Download JSON" writes: ``{"trace": …, "observations": […]}``
- what ``GET /api/public/traces/{id}`` answers: a trace with its ``observations`` and ``scores``
- rows of observations, as exports of tables and blob storage have them, in camelCase or snake_case
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tracer import _semconv as sc
from tracer._exceptions import StoreError
from tracer._models import Feedback
from tracer.interpret import decode_json
from tracer.moving.foreign import ForeignSource, ForeignTrace, as_text, feedback_id, nanoseconds
from tracer.moving.mover import Refusal
from tracer.otlp.received import ReceivedSpan

__all__ = ["read_langfuse"]

_MODEL_CALLS = ("GENERATION", "EMBEDDING")
_KINDS = {"GENERATION": "LLM", "SPAN": "UNKNOWN", "EVENT": "UNKNOWN"}
_SOURCES = {"ANNOTATION": "human", "EVAL": "llm"}
_SNAKE = re.compile(r"_([a-z])")
_METADATA = "langfuse.observation.metadata."  # as Langfuse's SDK names it in OpenTelemetry
_ID, _LEVEL, _PARAMETERS = "langfuse.observation.id", "langfuse.observation.level", "langfuse.model.parameters"
_DUPLICATES = frozenset({"input.value", "output.value"})
_CACHED = ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens")
_REASONING = ("output_reasoning_tokens", "output_reasoning")

Row = dict[str, Any]


def read_langfuse(files: Iterable[Path], experiment: str | None = None) -> ForeignSource:
    """Return the traces of exported files, the oldest first. All of it is in memory at once.

    Args:
        files: JSON or JSON Lines.
        experiment: For all traces: an export does not name its project.

    Raises:
        StoreError: A file can't be read, or holds no traces of Langfuse.
    """
    traces: dict[str, Row] = {}
    for file in files:
        for row in _rows(file):
            _collect(row, traces, file)
    made = [_made(trace, experiment) for trace in traces.values()]
    made.sort(key=lambda each: 0 if isinstance(each, Refusal) else each.spans[0].start_ns)
    return ForeignSource(iter(made), len(made))


# --- files ------------------------------------------------------------------------------------------------------------
def _rows(file: Path) -> Iterator[Row]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file} can't be read: {error.strerror}") from error
    try:
        found: list[Any] = [decode_json(data)]
    except ValueError:
        try:
            found = [decode_json(line) for line in data.splitlines() if line.strip()]
        except ValueError as error:
            raise StoreError(f"{file} is neither JSON nor JSON Lines: {error}") from None
    for value in found:
        if isinstance(value, dict) and isinstance(value.get("data"), list):
            value = value["data"]
        yield from (_camel(row) for row in (value if isinstance(value, list) else [value]) if isinstance(row, dict))


def _camel(row: Row) -> Row:
    return {_SNAKE.sub(lambda found: found[1].upper(), key): value for key, value in row.items()}


def _collect(row: Row, traces: dict[str, Row], file: Path) -> None:
    """Add a row of an export to its trace."""
    if isinstance(row.get("trace"), dict):
        trace = {**_camel(row["trace"]), "observations": row.get("observations") or []}
    elif isinstance(row.get("observations"), list) and "id" in row:
        trace = row
    elif row.get("traceId") and row.get("startTime"):
        named = {"name": row.get("traceName"), "userId": row.get("userId"), "sessionId": row.get("sessionId")}
        trace = {"id": row["traceId"], "observations": [row], **named, "tags": row.get("tags")}
    else:
        known = "a trace with observations, or observations with traceId and startTime"
        raise StoreError(f"{file} holds something that is no export of Langfuse's: neither {known}")
    stored = traces.setdefault(str(trace["id"]), {"observations": [], "scores": []})
    for key, value in trace.items():
        if key in ("observations", "scores"):
            stored[key] += [_camel(each) for each in value or [] if isinstance(each, dict)]
        elif value is not None:
            stored[key] = value


# --- traces -----------------------------------------------------------------------------------------------------------
def _made(trace: Row, experiment: str | None) -> ForeignTrace | Refusal:
    trace_id = _hex_id(str(trace["id"]), 32)
    try:
        spans = [_span(row, trace_id) for row in trace["observations"]]
        spans = sorted(_with_root(trace, trace_id, spans), key=lambda span: span.start_ns)
        metadata = _object(trace.get("metadata"))
        if trace["id"] != trace_id:
            metadata["langfuse.trace.id"] = trace["id"]
        metadata |= {f"langfuse.{key}": trace[key] for key in ("release", "version") if trace.get(key)}
        tags = {str(tag): "true" for tag in trace.get("tags") or []}
        if trace.get("environment"):
            tags["environment"] = str(trace["environment"])
        return ForeignTrace(
            trace_id=trace_id,
            spans=spans,
            dropped_attributes=_DUPLICATES,
            experiment=experiment,
            name=trace.get("name"),
            session_id=trace.get("sessionId"),
            user_id=trace.get("userId"),
            tags=tags,
            metadata={key: as_text(value) for key, value in metadata.items()},
            feedback=[*_feedback(trace, trace_id)],
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        return Refusal(trace_id, f"it can't be read: {error!r}")


def _with_root(trace: Row, trace_id: str, spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """Return the spans, with one for the trace itself if no single observation stands for it."""
    ids = {span.span_id for span in spans}
    tops = [span for span in spans if span.parent_id not in ids]
    if len(tops) == 1:
        return spans
    start = min((span.start_ns for span in spans), default=None)
    start = nanoseconds(trace["timestamp"]) if start is None else start
    end = max((span.end_ns or span.start_ns for span in spans), default=start)
    root = ReceivedSpan(
        trace_id=trace_id,
        span_id=_hex_id(f"root of {trace_id}", 16),
        parent_id=None,
        name=trace.get("name") or "trace",
        start_ns=start,
        end_ns=end,
        status="ERROR" if any(span.status == "ERROR" for span in tops) else "OK",
        attributes={"input.value": _value(trace.get("input")), "output.value": _value(trace.get("output"))},
    )
    for span in tops:
        span.parent_id = root.span_id
    return [root, *spans]


def _hex_id(given: str, digits: int) -> str:
    """Return an id as OpenTelemetry has it: as it is, a UUID without dashes, else made of it, always the same."""
    bare = given.replace("-", "").lower()
    if re.fullmatch(f"[0-9a-f]{{{digits}}}", bare):
        return bare
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:digits]


def _value(given: Any) -> Any:
    """Return what JSON text holds; any other value as it is."""
    if isinstance(given, str) and given.lstrip()[:1] in ("{", "["):
        try:
            return decode_json(given.encode("utf-8", "replace"))
        except ValueError:
            return given
    return given


def _object(given: Any) -> Row:
    value = _value(given)
    return dict(value) if isinstance(value, dict) else {} if value in (None, "") else {"metadata": value}


# --- observations -----------------------------------------------------------------------------------------------------
def _span(row: Row, trace_id: str) -> ReceivedSpan:
    kind = str(row.get("type") or "SPAN").upper()
    start = nanoseconds(row["startTime"])
    end = nanoseconds(row["endTime"]) if row.get("endTime") else start
    parent = row.get("parentObservationId")
    model = row.get("model") or row.get("providedModelName")
    span_id = _hex_id(str(row["id"]), 16)
    asked, answered = _value(row.get("input")), _value(row.get("output"))
    parameters = _object(row.get("modelParameters"))
    if kind in _MODEL_CALLS:
        asked, answered = _request(asked, model, parameters), _answer(asked, answered, model)
    attributes: Row = {
        "openinference.span.kind": _KINDS.get(kind, kind),
        "input.value": asked,
        "output.value": answered,
        _ID: row["id"] if row["id"] != span_id else None,
        _LEVEL: row["level"] if row.get("level") not in ("DEFAULT", None) else None,
        _PARAMETERS: parameters or None,
        sc.REQUEST_MODEL: model,
        **_usage(row),
        **{f"{_METADATA}{key}": value for key, value in _object(row.get("metadata")).items()},
    }
    if row.get("completionStartTime"):
        first = (nanoseconds(row["completionStartTime"]) - start) / 1e9
        attributes["gen_ai.response.time_to_first_chunk"] = max(0.0, first)
    return ReceivedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_hex_id(str(parent), 16) if parent and str(parent) != row.get("traceId") else None,
        name=row.get("name") or kind.lower(),
        start_ns=start,
        end_ns=max(start, end),
        status="ERROR" if row.get("level") == "ERROR" else "OK",
        message=row.get("statusMessage") or "",
        attributes={key: value for key, value in attributes.items() if value is not None},
    )


def _request(asked: Any, model: Any, parameters: Row) -> Any:
    """Return the body of a request: what Langfuse keeps of it is often its messages alone."""
    if isinstance(asked, list) and all(isinstance(each, dict) and "role" in each for each in asked):
        return {"model": model, **parameters, "messages": asked}
    if isinstance(asked, dict):
        return {"model": model, **asked} if model else asked
    return asked


def _answer(asked: Any, answered: Any, model: Any) -> Any:
    """Return the body of an answer: Langfuse keeps the message alone, or the items that Responses gave."""
    items = [answered] if isinstance(answered, dict) and answered.get("type") == "message" else answered
    if isinstance(asked, dict) and "input" in asked and isinstance(items, list):
        return {"object": "response", "model": model, "output": items}
    if isinstance(answered, dict) and "role" in answered:
        message = answered
    elif isinstance(answered, str):
        message = {"role": "assistant", "content": answered}
    else:
        return answered
    return {"object": "chat.completion", "model": model, "choices": [{"index": 0, "message": message}]}


def _usage(row: Row) -> Row:
    """Return token counts and cost, summed by Langfuse's rule: every kind that begins with input counts as input."""
    usage, cost = _numbers(row.get("usageDetails")), _numbers(row.get("costDetails"))
    older = _object(row.get("usage"))
    usage = usage or _numbers({key: older.get(key) for key in ("input", "output", "total")})
    total = cost.get("total", row.get("totalCost") or row.get("calculatedTotalCost") or older.get("totalCost"))
    return {
        "gen_ai.usage.input_tokens": _sum(usage, "input"),
        "gen_ai.usage.output_tokens": _sum(usage, "output"),
        "gen_ai.usage.total_tokens": usage.get("total"),
        "gen_ai.usage.cache_read.input_tokens": next((usage[key] for key in _CACHED if key in usage), None),
        "gen_ai.usage.reasoning.output_tokens": next((usage[key] for key in _REASONING if key in usage), None),
        "gen_ai.usage.cost": total,
        sc.COST_INPUT: _sum(cost, "input"),
        sc.COST_OUTPUT: _sum(cost, "output"),
    }


def _numbers(given: Any) -> dict[str, int | float]:
    return {key: value for key, value in _object(given).items() if type(value) in (int, float)}


def _sum(numbers: dict[str, int | float], prefix: str) -> int | float | None:
    found = [value for key, value in numbers.items() if key.startswith(prefix)]
    return sum(found) if found else None


# --- scores -----------------------------------------------------------------------------------------------------------
def _feedback(trace: Row, trace_id: str) -> Iterator[Feedback]:
    for score in trace["scores"]:
        kind, value = score.get("dataType"), score.get("value")
        if kind == "BOOLEAN":
            value = bool(value)
        elif kind in ("CATEGORICAL", "TEXT") or value is None:
            value = score.get("stringValue")
        if value is None or value == "":
            continue
        of, author = score.get("observationId"), score.get("authorUserId")
        source = _SOURCES.get(str(score.get("source")), "code")
        yield Feedback(
            id=feedback_id(str(score["id"])),
            trace_id=trace_id,
            span_id=_hex_id(str(of), 16) if of else None,
            name=score["name"],
            value=value if isinstance(value, (bool, int, float)) else as_text(value),
            comment=score.get("comment") or None,
            source=f"{source}:{author}" if author and source == "human" else source,
            created_ns=nanoseconds(score.get("timestamp") or score["createdAt"]),
        )
