"""Where SQLite has what the fields of a search mean: the only place where a field becomes SQL."""

from __future__ import annotations

from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer.store.conditions import Field

__all__ = ["Place", "place_of"]


class Place(NamedTuple):
    """Where the values of a field are.

    Attributes:
        sql: The expression to compare.
        rows: The table that `sql` reads, with its WHERE clause, where a trace can have many rows; None for ``traces``.
        parameters: Values for the placeholders in `rows` or `sql`, before the compared value.
        as_text: The expression to compare with text, if values may be of any type; otherwise None.
        as_number: The expression to compare with numbers, if values may be of any type: NULL for what is no number (to
            SQLite any text is above any number, and true is 1).
        keys: A SELECT of ``trace_key`` from the same rows of all traces, which an index answers; see `Clause.chosen`.
    """

    sql: str
    rows: str | None = None
    parameters: tuple[Any, ...] = ()
    as_text: str | None = None
    as_number: str | None = None
    keys: str | None = None


_IDS = {
    "response_id": sc.RESPONSE_ID,
    "previous_response_id": sc.PREVIOUS_RESPONSE_ID,
    "conversation_id": sc.CONVERSATION_ID,
}


def _id_place(attribute: str) -> Place:
    value = f"json_extract(attributes, '$.\"{attribute}\"')"
    return Place(value, rows=f"spans WHERE trace_key = traces.key AND {value} IS NOT NULL")


# The type and the message of each error; an error of neither is '' and not NULL.
_ERROR_TEXTS = f"json_array(ifnull(status_description, ''), json_extract(attributes, '$.\"{sc.ERROR_TYPE}\"'))"
# The names of a tool span; of a model call, the tools that the model asked for.
_TOOLS = (
    f"CASE WHEN span_type = 'TOOL' THEN json_array(name, json_extract(attributes, '$.\"{sc.TOOL_NAME}\"')) "
    f"WHEN instr(attributes, '{sc.TOOL_CALLS}') THEN json_extract(attributes, '$.\"{sc.TOOL_CALLS}\"') END"
)
_MODEL_KEYS = "SELECT trace_key FROM spans WHERE model IS NOT NULL"
_SPANS = "spans WHERE trace_key = traces.key"
_SPAN_PLACES = {
    "name": Place("name", rows=_SPANS),
    "type": Place("span_type", rows=_SPANS),
    "status": Place("ifnull(status_code, 'UNSET')", rows=_SPANS),
    "finish": Place("finish", rows=_SPANS),
    "model": Place("model", rows=_SPANS, keys=_MODEL_KEYS),
    "content": Place("ifnull(inputs, '') || ' ' || ifnull(outputs, '')", rows=_SPANS),
    "text": Place("text", rows=_SPANS),
    "duration": Place("end_time_ns - start_time_ns", rows=_SPANS),
}
_TRACE_PLACES = {
    "start": Place("start_time_ns"),
    "end": Place("end_time_ns"),
    "duration": Place("duration_ns"),
    "request": Place("request_preview"),
    "response": Place("response_preview"),
    "model": Place("model", rows=f"{_SPANS} AND model IS NOT NULL", keys=_MODEL_KEYS),
    "text": Place("text", rows=_SPANS),
    "error": Place(
        "told.value",
        rows=f"spans, json_each({_ERROR_TEXTS}) AS told WHERE trace_key = traces.key AND status_code = 'ERROR'",
    ),
    "tool": Place(
        "CASE told.type WHEN 'object' THEN json_extract(told.value, '$.name') ELSE told.value END",
        rows=f"spans, json_each({_TOOLS}) AS told WHERE trace_key = traces.key",
    ),
    **{name: _id_place(attribute) for name, attribute in _IDS.items()},
}
"""Of traces; a field that is not here is a column of that name."""
_ATTRIBUTE_ROWS = "spans, json_each({}) AS attribute WHERE trace_key = traces.key AND attribute.key = ?"
_SPAN_ATTRIBUTE = Place(
    "attribute.value",
    rows=_ATTRIBUTE_ROWS.format("attributes"),
    # json_each gives 1 and 0 for true and false
    as_text="CASE WHEN attribute.type IN ('true', 'false') THEN attribute.type ELSE CAST(attribute.value AS TEXT) END",
    as_number="CASE WHEN attribute.type IN ('integer', 'real') THEN attribute.value END",
)


def _json_of(attribute: str) -> str:
    return f"json_quote(json_extract(attributes, '$.\"{attribute}\"'))"


_OPERATION = f"json_extract(attributes, '$.\"{sc.OPERATION}\"')"
_FUNCTION = f"json_extract(attributes, '$.\"{sc.CODE_FUNCTION_NAME}\"')"
_FUNCTION_PATH = f"rtrim({_FUNCTION}, replace({_FUNCTION}, '.', ''))"  # up to the last dot
_MESSAGE_FORMAT = f"""CASE WHEN {_OPERATION} = 'decisions' THEN '"openai_decisions"'
    WHEN span_type NOT IN ('CHAT_MODEL', 'LLM') THEN NULL WHEN {_OPERATION} IS NOT NULL THEN '"openai"'
    WHEN json_extract(attributes, '$."{sc.OPERATION_NAME}"') = 'chat' THEN '"openai-agent"' END"""
_MLFLOW_ATTRIBUTES = {
    "mlflow.chat.tools": _json_of(sc.TOOL_DEFINITIONS),
    "mlflow.llm.cost": "json_quote(spans.cost)",
    "mlflow.llm.model": f"ifnull(nullif({_json_of(sc.RESPONSE_MODEL)}, 'null'), {_json_of(sc.REQUEST_MODEL)})",
    "mlflow.llm.provider": _json_of(sc.PROVIDER_NAME),
    "mlflow.message.format": _MESSAGE_FORMAT,
    "mlflow.spanFunctionName": f"json_quote(replace({_FUNCTION}, {_FUNCTION_PATH}, ''))",
    "mlflow.spanInputs": "CASE WHEN json_valid(inputs) THEN inputs END",
    "mlflow.spanOutputs": "CASE WHEN json_valid(outputs) THEN outputs END",
    "mlflow.spanType": "json_quote(span_type)",
    "mlflow.traceRequestId": "json_quote(traces.trace_id)",
}
"""What MLflow's keys mean, as SQL that gives JSON: as `tracer.Span.get_attribute` answers; of the cost, the total."""


def _span_attribute(key: str) -> Place:
    """Return where an attribute is. An attribute that was set under a key of MLflow's comes before its meaning."""
    place = _SPAN_ATTRIBUTE._replace(parameters=(key,))
    if (meant := _MLFLOW_ATTRIBUTES.get(key)) is None:
        return place
    is_unset = f"json_type(attributes, '$.\"{key}\"') IS NULL"
    source = f"CASE WHEN {is_unset} THEN '{{\"{key}\":' || {meant} || '}}' ELSE attributes END"
    return place._replace(rows=_ATTRIBUTE_ROWS.format(source))


_KEYED = {
    "tag": Place(
        "value", rows="tags WHERE trace_key = traces.key AND key = ?", keys="SELECT trace_key FROM tags WHERE key = ?"
    ),
    "metadata": Place("value", rows="json_each(traces.metadata) WHERE key = ?"),
    "feedback": Place(
        "value",
        rows="feedback WHERE trace_key = traces.key AND name = ?",
        as_text="CAST(value AS TEXT)",
        as_number="CASE value_type WHEN 'number' THEN value END",
        keys="SELECT trace_key FROM feedback WHERE name = ?",
    ),
    "dropped": Place(
        "value",
        rows="json_each(traces.dropped) WHERE key = ?",
        keys="SELECT traces.key AS trace_key FROM traces, json_each(traces.dropped) AS lost "
        "WHERE dropped IS NOT NULL AND lost.key = ?",
    ),
}


def place_of(field: Field) -> Place:
    """Return where SQLite has the values of a field."""
    if field.of == "trace":
        return _TRACE_PLACES.get(field.name) or Place(field.name)
    if field.of == "span":
        return _SPAN_PLACES[field.name]
    if field.of == "attribute":
        return _span_attribute(field.name)
    return _KEYED[field.of]._replace(parameters=(field.name,))
