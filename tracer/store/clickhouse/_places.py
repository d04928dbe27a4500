"""Where ClickHouse has what the fields of a search mean: the only place where a field becomes SQL."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer.store.clickhouse._sql import Clause, live
from tracer.store.conditions import Field

__all__ = ["Place", "feedback_keys", "place_of", "span_keys"]


class Place(NamedTuple):
    """Where the values of a field are.

    Attributes:
        sql: The expression to compare.
        of: What has it: ``trace``, ``span`` or ``feedback``. Of the last two, a trace can have many rows.
        array: The values are the elements of this array, and `sql` is about one of them, ``v``.
        where: What a row must meet to have values.
        parameters: Values for the placeholders in `array`, then those in `where`.
        as_text: The expression to compare with text, if values may be of any type; otherwise None.
        as_number: The expression to compare with numbers, if values may be of any type: NULL for what is no number.
    """

    sql: str
    of: str = "trace"
    array: str | None = None
    where: str | None = None
    parameters: tuple[Any, ...] = ()
    as_text: str | None = None
    as_number: str | None = None


def span_keys(test: Clause, of_running: Clause | None = None) -> Clause:
    """Return the condition that a trace has a span that meets a test, or one that runs and meets another."""
    other = of_running or test
    ended = f"SELECT trace_key FROM spans WHERE {live('span')} AND ({test.sql})"
    running = f"SELECT trace_key FROM running WHERE {live('running')} AND ({other.sql})"
    return Clause(f"trace_key IN ({ended} UNION ALL {running})", (*test.parameters, *other.parameters))


def feedback_keys(test: Clause) -> Clause:
    """Return the condition that a trace has feedback that meets a test."""
    return Clause(
        f"trace_key IN (SELECT trace_key FROM feedback WHERE {live('feedback')} AND ({test.sql}))", test.parameters
    )


def _raw(attribute: str) -> str:
    """Return an attribute as JSON; NULL for null and without it."""
    return _known(f"JSONExtractRaw(ifNull(attributes, ''), '{attribute}')")


def _known(raw: str) -> str:
    return f"nullIf(nullIf({raw}, ''), 'null')"


def _text_of(raw: str) -> str:
    """Return a JSON value as text: as it is written."""
    return f"if(JSONType({raw}) = 'String', JSONExtractString({raw}), {raw})"


def _number_of(raw: str) -> str:
    """Return a JSON value as a number; NULL if it is none."""
    return f"if(JSONType({raw}) IN ('Int64', 'UInt64', 'Double'), JSONExtractFloat({raw}), NULL)"


_SPAN_PLACES = {
    "name": Place("name", "span"),
    "type": Place("span_type", "span"),
    "status": Place("ifNull(status_code, 'UNSET')", "span"),
    "finish": Place("finish", "span"),
    "content": Place("concat(ifNull(inputs, ''), ' ', ifNull(outputs, ''))", "span"),
    "text": Place("text", "span"),
    "duration": Place("(end_time_ns - start_time_ns)", "span"),
}
_MODEL = Place("v", array="models")
_TRACE_PLACES = {
    "start": Place("start_time_ns"),
    "end": Place("end_time_ns"),
    "duration": Place("duration_ns"),
    "request": Place("request_preview"),
    "response": Place("response_preview"),
    "model": _MODEL,
    "text": Place("text", "span"),
    "error": Place("v", "span", array="errors"),
    "tool": Place("v", "span", array="tools"),
    **{
        name: Place(f"ids['{name}']", "span", where=f"mapContains(ids, '{name}')")
        for name in ("response_id", "previous_response_id", "conversation_id")
    },
}
"""Of traces; a field that is not here is a column of that name."""

_OPERATION = _text_of(_raw(sc.OPERATION))
_MESSAGE_FORMAT = f"""multiIf(ifNull({_OPERATION}, '') = 'decisions', 'openai_decisions',
    span_type NOT IN ('CHAT_MODEL', 'LLM'), NULL, {_OPERATION} IS NOT NULL, 'openai',
    ifNull({_text_of(_raw(sc.OPERATION_NAME))}, '') = 'chat', 'openai-agent', NULL)"""
_MLFLOW_ATTRIBUTES = {
    "mlflow.chat.tools": _raw(sc.TOOL_DEFINITIONS),
    "mlflow.llm.cost": "toString(cost)",
    "mlflow.llm.model": f"coalesce({_raw(sc.RESPONSE_MODEL)}, {_raw(sc.REQUEST_MODEL)})",
    "mlflow.llm.provider": _raw(sc.PROVIDER_NAME),
    "mlflow.message.format": f"toJSONString({_MESSAGE_FORMAT})",
    "mlflow.spanFunctionName": "toJSONString(replaceRegexpOne(ifNull("
    f"{_text_of(_raw(sc.CODE_FUNCTION_NAME))}, ''), '^.*[.]', ''))",
    "mlflow.spanInputs": "if(isValidJSON(ifNull(inputs, '')), inputs, NULL)",
    "mlflow.spanOutputs": "if(isValidJSON(ifNull(outputs, '')), outputs, NULL)",
    "mlflow.spanType": "toJSONString(toString(span_type))",
    "mlflow.traceRequestId": "toJSONString(trace_id)",
}
"""What MLflow's keys mean, as SQL that gives JSON: as `tracer.Span.get_attribute` answers; of the cost, the total."""
_MEANT_FROM = {"mlflow.spanFunctionName": _raw(sc.CODE_FUNCTION_NAME)}  # without which there is nothing
_ATTRIBUTE = Place(_text_of("v"), "span", as_text=_text_of("v"), as_number=_number_of("v"))
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def _span_attribute(key: str) -> Place:
    """Return where an attribute is. An attribute that was set under a key of MLflow's comes before its meaning."""
    value = _known("JSONExtractRaw(ifNull(attributes, ''), ?:String)")
    if meant := _MLFLOW_ATTRIBUTES.get(key):
        if needed := _MEANT_FROM.get(key):
            meant = f"if({needed} IS NULL, NULL, {meant})"
        return _ATTRIBUTE._replace(array=f"[coalesce({value}, {_known(meant)})]", parameters=(key,))
    place = _ATTRIBUTE._replace(array=f"[{value}]", parameters=(key,))
    if _PLAIN_KEY.fullmatch(key):  # JSON is read only where the key stands
        return place._replace(where="position(attributes, ?:String) > 0", parameters=(key, f'"{key}"'))
    return place


def place_of(field: Field) -> Place:
    """Return where ClickHouse has the values of a field."""
    name = field.name
    if field.of == "trace":
        return _TRACE_PLACES.get(name) or Place(name)
    if field.of == "span":
        return _MODEL if name == "model" else _SPAN_PLACES[name]
    if field.of == "attribute":
        return _span_attribute(name)
    if field.of == "feedback":
        where = "name = ?:String"
        return Place("value", "feedback", where=where, parameters=(name,), as_text="value", as_number="number")
    column = {"tag": "tags", "metadata": "metadata", "dropped": "dropped"}[field.of]
    where = f"mapContains({column}, ?:String)"
    return Place("v", array=f"[{column}[?:String]]", where=where, parameters=(name, name))
