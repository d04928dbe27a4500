"""What rows become when a batch adds to them: pure functions from what is stored and what is new to the new row.

What a batch means is the same as in SQLite's store (`tracer.store.sqlite._write`). There the database merges rows; here
it is done before they are inserted, because ClickHouse can't change a row.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from tracer import _semconv as sc
from tracer._models import USAGE_KEYS, SpanStatusCode, TraceState
from tracer.store.batch import SpanRow, TracePatch
from tracer.store.clickhouse._sql import storable
from tracer.store.clickhouse._words import span_words

__all__ = [
    "SPAN_VALUES",
    "add_dropped",
    "add_totals",
    "derive",
    "is_same",
    "joined_traces",
    "merged_span",
    "merged_trace",
    "span_values",
]

Row = dict[str, Any]
_LARGEST = 2**63 - 1
_UNSET = SpanStatusCode.UNSET
_IN_PROGRESS, _INTERRUPTED = "IN_PROGRESS", "INTERRUPTED"

# --- traces -----------------------------------------------------------------------------------------------------------
_OF_ROOT = ("root_name", "end_time_ns", "request_preview", "response_preview")
_TOTALS = (*USAGE_KEYS, "cost", "models", "time_to_first_token")
_APART = "\x1f"
_EMPTY: Row = {
    "root_span_id": None,
    "root_rank": 0,
    "name_override": None,
    "session_id": None,
    "user_id": None,
    "models": [],
    **dict.fromkeys(USAGE_KEYS),
    "cost": None,
    "time_to_first_token": None,
    **dict.fromkeys(_OF_ROOT),
    "version": 0,
}


def merged_trace(stored: Row | None, patch: TracePatch) -> Row:
    """Return the row of a trace with a patch.

    A better root replaces what an earlier root wrote; a patch with the same root, or without one, completes it.

    Args:
        stored: The row so far; None for a new trace.
        patch: What is new, but for `TracePatch.dropped`: see `add_dropped`.
    """
    rank = 0 if patch.root_span_id is None else 1 + patch.true_root
    state = patch.state.value if patch.state else _IN_PROGRESS
    told = {
        "root_name": storable(patch.name),
        "end_time_ns": patch.end_time_ns,
        "request_preview": patch.request_preview,
        "response_preview": patch.response_preview,
    }
    if stored is None:
        row: Row = {
            **_EMPTY,
            **told,
            "trace_id": patch.trace_id,
            "process_id": storable(patch.process_id),
            "experiment": storable(patch.experiment) or "Default",
            "state": state,
            "root_span_id": patch.root_span_id,
            "root_rank": rank,
            "start_time_ns": patch.start_time_ns,
            "tags": {},
            "metadata": {},
            "dropped": {},
            "marks": {},
        }
    else:
        row = dict(stored)
        takes_over = rank > stored["root_rank"]
        same_root = patch.root_span_id is None or patch.root_span_id == stored["root_span_id"]
        if takes_over or stored["root_rank"] == 0 or stored["state"] == _INTERRUPTED:
            row["process_id"] = storable(patch.process_id)
        if takes_over:
            row["start_time_ns"], row["root_span_id"], row["root_rank"] = patch.start_time_ns, patch.root_span_id, rank
        elif stored["root_rank"] == 0:
            row["start_time_ns"] = min(stored["start_time_ns"], patch.start_time_ns)
        if patch.experiment not in (None, "Default"):
            row["experiment"] = storable(patch.experiment)
        # A process that writes is alive, so its trace was not interrupted, even if it is marked so.
        if takes_over or (same_root and state != _IN_PROGRESS):
            row["state"] = state
        elif stored["state"] == _INTERRUPTED:
            row["state"] = _IN_PROGRESS
        if takes_over and stored["root_rank"] > 0:
            row.update(told)
        elif takes_over or same_root:
            row.update({name: value for name, value in told.items() if value is not None})
    for name in ("name_override", "session_id", "user_id"):
        if (value := getattr(patch, name)) is not None:
            row[name] = storable(value)
    for name in ("tags", "metadata"):
        row[name] = {**row[name], **{storable(key): storable(value) for key, value in getattr(patch, name).items()}}
    return _completed(row)


def _completed(row: Row) -> Row:
    row["name"] = row["root_name"] if row["name_override"] is None else row["name_override"]
    end = row["end_time_ns"]
    row["duration_ns"] = None if end is None else end - row["start_time_ns"]
    return row


def add_dropped(row: Row, patches: Iterable[TracePatch], once: dict[str, int]) -> None:
    """Add the counts of a batch to a row, unless its number says that they are in it.

    ``marks`` has how far each source has come in this trace, and the sum of its counts by kind. Both only grow, so rows
    that two processes wrote of one trace can be joined.
    """
    counts: dict[str, int] = defaultdict(int)
    for patch in patches:
        for kind, count in patch.dropped.items():
            counts[storable(kind)] += count
    source, place = min(once.items(), default=("", 0))
    if not counts or row["marks"].get(source, -1) >= place:
        return
    marks = {**row["marks"], source: place}
    for kind, count in counts.items():
        key = f"{source}{_APART}{kind}"
        marks[key] = marks.get(key, 0) + count
    _set_marks(row, marks)


def _set_marks(row: Row, marks: dict[str, int]) -> None:
    row["marks"], row["dropped"] = marks, defaultdict(int)
    for key, count in marks.items():
        _, apart, kind = key.partition(_APART)
        if apart:
            row["dropped"][kind] += count


def joined_traces(rows: Iterable[Row]) -> Row:
    """Return one row for the rows that several processes wrote of one trace, in the order of their versions."""
    by_age = sorted(rows, key=lambda row: (row["version"], row["row"]))
    replaced = {row["base"] for row in by_age}
    first, *others = [row for row in by_age if row["version"] not in replaced] or by_age[-1:]
    joined = dict(first)
    for row in others:
        told = {name: row[name] for name in ("name_override", "session_id", "user_id", "tags", "metadata")}
        patch = TracePatch(
            trace_id=row["trace_id"],
            process_id=row["process_id"],
            start_time_ns=row["start_time_ns"],
            experiment=row["experiment"],
            root_span_id=row["root_span_id"],
            true_root=row["root_rank"] > 1,
            name=row["root_name"],
            state=TraceState(row["state"]),
            **{name: row[name] for name in _OF_ROOT if name != "root_name"},
            **told,
        )
        joined = merged_trace(joined, patch)
        marks = joined["marks"]
        _set_marks(joined, {key: max(marks.get(key, 0), row["marks"].get(key, 0)) for key in {**marks, **row["marks"]}})
        joined.update({name: row[name] for name in (*_TOTALS, "version", "row")})
    return joined


def is_same(one: Row, other: Row) -> bool:
    """Tell whether two rows say the same of a trace."""
    return all(one[name] == other[name] for name in one if name not in ("version", "row", "base", "born"))


def add_totals(row: Row, spans: Iterable[Row]) -> None:
    """Put the sums over all spans of a trace into its row."""
    rows = list(spans)
    counted = [span for span in rows if span["counted"]]
    for key in USAGE_KEYS:
        row[key] = _sum(span[key] for span in counted)
    costs = [span["cost"] for span in counted if span["cost"] is not None]
    row["cost"] = sum(costs) if costs else None
    calls = [span for span in rows if span["model"] is not None]
    row["models"] = sorted({span["model"] for span in calls})
    firsts = [
        (span["start_time_ns"] - row["start_time_ns"]) / 1e9 + span["first_token"]
        for span in calls
        if span["first_token"] is not None
    ]
    row["time_to_first_token"] = min(firsts, default=None)


def _sum(values: Iterable[int | None]) -> int | None:
    """Sum what is known; larger than 64 bits is as large as they allow."""
    known = [value for value in values if storable(value) is not None]
    return max(-_LARGEST, min(_LARGEST, sum(known))) if known else None  # type: ignore[arg-type]


# --- spans ------------------------------------------------------------------------------------------------------------
def _text(payload: bytes | None) -> str | None:
    """Return JSON as text; a byte that is no UTF-8 must not make the batch fail."""
    return None if payload is None else payload.decode(errors="replace")


def span_values(row: SpanRow) -> Row:
    """Return what a batch tells about a span, by column."""
    usage = row.usage or {}
    return {
        "span_id": row.span_id,
        "parent_id": row.parent_id,
        "name": storable(row.name),
        "span_type": storable(row.span_type),
        "operation": storable(row.operation),
        "start_time_ns": row.start_time_ns,
        "end_time_ns": row.end_time_ns,
        "status_code": None if row.status_code is _UNSET else row.status_code.value,
        "status_description": storable(row.status_description) or None,
        "finish": storable(row.finish),
        "model": storable(row.model),
        "counted": row.counted,
        **{key: usage.get(key) for key in USAGE_KEYS},
        "cost": row.cost,
        "attributes": _text(row.attributes),
        "inputs": _text(row.inputs),
        "outputs": _text(row.outputs),
        "events": _text(row.events),
        "chunk_encoding": row.chunk_encoding,
        "text": storable(row.text),
        "chunks": row.chunks or b"",
    }


SPAN_VALUES = tuple(span_values(SpanRow(trace_id="", span_id="", name="", span_type="", start_time_ns=0)))
"""The columns that a batch tells of."""


def merged_span(stored: Row, given: Row) -> Row:
    """Complete a row by a later one; the start of a span whose end is here already only fills gaps."""
    comes_late = given["end_time_ns"] is None and stored["end_time_ns"] is not None
    first, second = (stored, given) if comes_late else (given, stored)
    row = {name: second[name] if first[name] is None else first[name] for name in SPAN_VALUES}
    row["counted"] = stored["counted"] or given["counted"]
    row["chunks"] = first["chunks"] or second["chunks"]
    return row


class _Told(msgspec.Struct):
    error_type: Any = msgspec.field(name=sc.ERROR_TYPE, default=None)
    tool_name: Any = msgspec.field(name=sc.TOOL_NAME, default=None)
    tool_calls: Any = msgspec.field(name=sc.TOOL_CALLS, default=None)
    first_token: Any = msgspec.field(name=sc.TIME_TO_FIRST_TOKEN, default=None)
    response_id: Any = msgspec.field(name=sc.RESPONSE_ID, default=None)
    previous_response_id: Any = msgspec.field(name=sc.PREVIOUS_RESPONSE_ID, default=None)
    conversation_id: Any = msgspec.field(name=sc.CONVERSATION_ID, default=None)


_decode = msgspec.json.Decoder(_Told).decode
_NOTHING = _Told()
_IDS = ("response_id", "previous_response_id", "conversation_id")


def derive(row: Row) -> None:
    """Add the columns that are worked out of others, so that searches need not look into JSON."""
    told = _NOTHING
    if row["attributes"]:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):  # users' own can be anything
            told = _decode(row["attributes"])
    first = told.first_token
    row["first_token"] = float(first) if isinstance(first, (int, float)) and not isinstance(first, bool) else None
    row["tools"] = _tools(row, told)
    row["errors"] = []
    if row["status_code"] == SpanStatusCode.ERROR.value:
        row["errors"] = [row["status_description"] or "", *_known([told.error_type])]
    row["ids"] = {} if told is _NOTHING else {name: id_ for name in _IDS for id_ in _known([getattr(told, name)])}
    described, attributes = row["status_description"], row["attributes"]
    row["words"] = span_words(row["text"], row["name"], row["span_id"], described, attributes)


def _tools(row: Row, told: _Told) -> list[str]:
    """Return the names of a tool span; of a model call, the tools that the model asked for."""
    if row["span_type"] == "TOOL":
        return [row["name"], *_known([told.tool_name])]
    calls = told.tool_calls if isinstance(told.tool_calls, list) else []
    return _known([call.get("name") if isinstance(call, dict) else call for call in calls])


def _known(values: Iterable[Any]) -> list[str]:
    return [
        storable(value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for value in values
        if value is not None
    ]
