"""Where PostgreSQL has what the fields of a search mean: the only place where a field becomes SQL."""

from __future__ import annotations

from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer.store.conditions import Field
from tracer.store.postgres._sql import hashed, json_of

__all__ = ["SPANS", "Place", "place_of"]


class Place(NamedTuple):
    """Where the values of a field are.

    Attributes:
        sql: The expression to compare.
        rows: The table that `sql` reads, with its WHERE clause, where a trace can have many rows; None for ``traces``.
        parameters: Values for the placeholders in `rows`.
        as_text: The expression to compare with text, if values may be of any type; otherwise None.
        as_number: The expression to compare with numbers, if values may be of any type: NULL for what is no number.
        keys: A SELECT of ``trace_key`` from the same rows of all traces, which an index answers; see `Clause.chosen`.
        key_parameters: Values for the placeholders in `keys`.
        is_hashed: An index holds hashes of `sql`, so that it answers what is equal.
    """

    sql: str
    rows: str | None = None
    parameters: tuple[Any, ...] = ()
    as_text: str | None = None
    as_number: str | None = None
    keys: str | None = None
    key_parameters: tuple[Any, ...] = ()
    is_hashed: bool = False


SPANS = "spans WHERE spans.day = traces.day AND spans.trace_key = traces.key"
_SPANS_WITH = (
    "spans CROSS JOIN LATERAL ({}) AS told (value) WHERE spans.day = traces.day AND spans.trace_key = traces.key"
)
_ATTRIBUTES = json_of("spans.attributes")
_BYTES = ' COLLATE "C"'


def _attribute(key: str) -> str:
    return f"({_ATTRIBUTES} ->> '{key}'){_BYTES}"


def _text_of(value: str) -> str:
    """Return a JSON value as text: as it is written; NULL for null."""
    return f"(CASE WHEN json_typeof({value}) <> 'null' THEN {value} #>> '{{}}' END){_BYTES}"


def _number_of(value: str) -> str:
    """Return a JSON value as a number; NULL if it is none, or is too large for PostgreSQL."""
    as_text = f"{value} #>> '{{}}'"
    fits = f"{as_text} ~ '^-{{0,1}}[0-9.]{{1,200}}([eE][+-]{{0,1}}[0-9]{{1,3}}){{0,1}}$'"
    return f"(CASE WHEN json_typeof({value}) = 'number' AND {fits} THEN ({as_text})::numeric END)"


_IDS = {
    "response_id": sc.RESPONSE_ID,
    "previous_response_id": sc.PREVIOUS_RESPONSE_ID,
    "conversation_id": sc.CONVERSATION_ID,
}


def _id_place(attribute: str) -> Place:
    value = _attribute(attribute)
    return Place(value, rows=f"{SPANS} AND {value} IS NOT NULL")


# The type and the message of each error; an error of neither is '' and not NULL.
_ERRORS = f"VALUES (coalesce(spans.status_description, '')), ({_attribute(sc.ERROR_TYPE)})"
# The names of a tool span; of a model call, the tools that the model asked for.
_CALLS = f"{_ATTRIBUTES} -> '{sc.TOOL_CALLS}'"
_TOOLS = f"""
    SELECT spans.name WHERE spans.span_type = 'TOOL'
    UNION ALL SELECT {_attribute(sc.TOOL_NAME)} WHERE spans.span_type = 'TOOL'
    UNION ALL SELECT CASE json_typeof(call) WHEN 'object' THEN call ->> 'name' ELSE call #>> '{{}}' END
    FROM json_array_elements(CASE WHEN spans.span_type <> 'TOOL' AND position('{sc.TOOL_CALLS}' IN spans.attributes) > 0
        AND json_typeof({_CALLS}) = 'array' THEN {_CALLS} ELSE '[]' END) AS call
"""
_MODEL_KEYS = "SELECT trace_key FROM spans WHERE model IS NOT NULL"
_SPAN_PLACES = {
    "name": Place("spans.name", rows=SPANS),
    "type": Place("spans.span_type", rows=SPANS),
    "status": Place("coalesce(spans.status_code, 'UNSET')", rows=SPANS),
    "finish": Place("spans.finish", rows=SPANS),
    "model": Place("spans.model", rows=SPANS, keys=_MODEL_KEYS, is_hashed=True),
    "content": Place("(coalesce(spans.inputs, '') || ' ' || coalesce(spans.outputs, ''))", rows=SPANS),
    "text": Place("spans.text", rows=SPANS),
    "duration": Place("(spans.end_time_ns - spans.start_time_ns)", rows=SPANS),
}
_TRACE_PLACES = {
    "start": Place("traces.start_time_ns"),
    "end": Place("traces.end_time_ns"),
    "duration": Place("traces.duration_ns"),
    "request": Place("traces.request_preview"),
    "response": Place("traces.response_preview"),
    **{name: Place(f"traces.{name}", is_hashed=True) for name in ("name", "experiment", "session_id", "user_id")},
    "model": Place("spans.model", rows=f"{SPANS} AND spans.model IS NOT NULL", keys=_MODEL_KEYS, is_hashed=True),
    "text": Place("spans.text", rows=SPANS),
    "error": Place(f"told.value{_BYTES}", rows=f"{_SPANS_WITH.format(_ERRORS)} AND spans.status_code = 'ERROR'"),
    "tool": Place(f"told.value{_BYTES}", rows=_SPANS_WITH.format(_TOOLS)),
    **{name: _id_place(attribute) for name, attribute in _IDS.items()},
}
"""Of traces; a field that is not here is a column of that name."""


def _json_of(attribute: str) -> str:
    return f"{_ATTRIBUTES} -> '{attribute}'"


_OPERATION = _attribute(sc.OPERATION)
_RESPONSE_MODEL = _json_of(sc.RESPONSE_MODEL)
_MESSAGE_FORMAT = f"""CASE WHEN {_OPERATION} = 'decisions' THEN 'openai_decisions'
    WHEN spans.span_type NOT IN ('CHAT_MODEL', 'LLM') THEN NULL WHEN {_OPERATION} IS NOT NULL THEN 'openai'
    WHEN {_attribute(sc.OPERATION_NAME)} = 'chat' THEN 'openai-agent' END"""
_MLFLOW_ATTRIBUTES = {
    "mlflow.chat.tools": _json_of(sc.TOOL_DEFINITIONS),
    "mlflow.llm.cost": "to_json(spans.cost)",
    "mlflow.llm.model": f"coalesce(CASE WHEN json_typeof({_RESPONSE_MODEL}) <> 'null' THEN {_RESPONSE_MODEL} END, "
    f"{_json_of(sc.REQUEST_MODEL)})",
    "mlflow.llm.provider": _json_of(sc.PROVIDER_NAME),
    "mlflow.message.format": f"to_json(({_MESSAGE_FORMAT})::text)",
    "mlflow.spanFunctionName": f"to_json(regexp_replace({_attribute(sc.CODE_FUNCTION_NAME)}, '^.*[.]', ''))",
    "mlflow.spanInputs": json_of("spans.inputs"),
    "mlflow.spanOutputs": json_of("spans.outputs"),
    "mlflow.spanType": "to_json(spans.span_type)",
    "mlflow.traceRequestId": "to_json(traces.trace_id)",
}
"""What MLflow's keys mean, as SQL that gives JSON: as `tracer.Span.get_attribute` answers; of the cost, the total."""
_ATTRIBUTE = Place("", as_text=_text_of("told.value"), as_number=_number_of("told.value"))


def _span_attribute(key: str) -> Place:
    """Return where an attribute is. An attribute that was set under a key of MLflow's comes before its meaning."""
    value = f"SELECT {_ATTRIBUTES} -> ?::text"
    if meant := _MLFLOW_ATTRIBUTES.get(key):  # a constant of ours, so it may stand in SQL
        value = f"SELECT coalesce({_json_of(key)}, {meant}) WHERE ?::text IS NOT NULL"
    known = "json_typeof(told.value) <> 'null'"
    return _ATTRIBUTE._replace(
        sql=_text_of("told.value"), rows=f"{_SPANS_WITH.format(value)} AND {known}", parameters=(key,)
    )


_KEYED = {
    "tag": Place(
        "tags.value",
        rows=f"tags WHERE tags.trace_key = traces.key AND {hashed('tags.key')} = {hashed('?::text')} "
        "AND tags.key = ?::text",
        keys=f"SELECT trace_key FROM tags WHERE {hashed('tags.key')} = {hashed('?::text')} AND tags.key = ?::text",
        is_hashed=True,
    ),
    "metadata": Place(
        f"told.value{_BYTES}",
        rows="jsonb_each_text(coalesce(traces.metadata, '{}')) AS told (key, value) "
        "WHERE told.key IN (?::text, ?::text)",
    ),
    "feedback": Place(
        "feedback.value",
        rows=f"feedback WHERE feedback.trace_key = traces.key AND {hashed('feedback.name')} = {hashed('?::text')} "
        "AND feedback.name = ?::text",
        as_text="feedback.value",
        as_number="feedback.number",
        keys=f"SELECT trace_key FROM feedback WHERE {hashed('feedback.name')} = {hashed('?::text')} "
        "AND feedback.name = ?::text",
    ),
    "dropped": Place(
        "told.value::bigint",
        rows="jsonb_each_text(coalesce(traces.dropped, '{}')) AS told (key, value) "
        "WHERE told.key IN (?::text, ?::text)",
    ),
}
"""Each has its key twice, as an index may hold a hash of it."""


def place_of(field: Field) -> Place:
    """Return where PostgreSQL has the values of a field."""
    if field.of == "trace":
        return _TRACE_PLACES.get(field.name) or Place(f"traces.{field.name}")
    if field.of == "span":
        return _SPAN_PLACES[field.name]
    if field.of == "attribute":
        return _span_attribute(field.name)
    twice = (field.name, field.name)
    return _KEYED[field.of]._replace(parameters=twice, key_parameters=twice)
