"""What the names in a ``filter_string`` stand for: the only place where a name becomes SQL."""

from __future__ import annotations

from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import USAGE_KEYS, SpanStatusCode, TraceState
from tracer.store.sqlite._sql import did_you_mean

__all__ = ["SHOWN_FIELDS", "Field", "Unit", "find_field"]


class Unit(NamedTuple):
    """What a number of a field counts.

    Attributes:
        factor: The number is multiplied by this before it is compared with stored values.
        words: Its name in messages.
    """

    factor: int
    words: str


class Field(NamedTuple):
    """What a field name stands for.

    Attributes:
        sql: The expression to compare.
        unit: What a number counts; None for text.
        rows: The table that `sql` reads, with its WHERE clause, where a trace can have many rows; None for ``traces``.
        parameters: Values for the placeholders in `rows` or `sql`, before the compared value.
        words: The only values that the field can have.
        each: ``!=`` means that some row has another value, as in MLflow. If False, it means that no row has this value.
        as_text: The expression to compare with text, if values may be of any type; otherwise None.
        as_number: The expression to compare with numbers, if values may be of any type: NULL for what is no number (to
            SQLite any text is above any number, and true is 1).
        keys: A SELECT of ``trace_key`` from the same rows of all traces, which an index answers; see
            `Condition.chosen`.
    """

    sql: str
    unit: Unit | None = None
    rows: str | None = None
    parameters: tuple[Any, ...] = ()
    words: tuple[str, ...] = ()
    each: bool = True
    as_text: str | None = None
    as_number: str | None = None
    keys: str | None = None


_SECONDS = Unit(10**9, "a number of seconds")
_MILLISECONDS = Unit(10**6, "a number of milliseconds")
_MOMENT = Unit(10**6, "a number, milliseconds since the epoch (since= and until= of search_traces() take dates)")
_TOKENS = Unit(1, "a number of tokens")
_RECORDS = Unit(1, "a number of records")
_DOLLARS = Unit(1, "a number of US dollars")
_IDS = {
    "response_id": sc.RESPONSE_ID,
    "previous_response_id": sc.PREVIOUS_RESPONSE_ID,
    "conversation_id": sc.CONVERSATION_ID,
}


def _id_field(attribute: str) -> Field:
    value = f"json_extract(attributes, '$.\"{attribute}\"')"
    return Field(value, rows=f"spans WHERE trace_key = traces.key AND {value} IS NOT NULL", each=False)


# The type and the message of each error; an error of neither is '' and not NULL.
_ERROR_TEXTS = f"json_array(ifnull(status_description, ''), json_extract(attributes, '$.\"{sc.ERROR_TYPE}\"'))"
# The names of a tool span; of a model call, the tools that the model asked for.
_TOOLS = (
    f"CASE WHEN span_type = 'TOOL' THEN json_array(name, json_extract(attributes, '$.\"{sc.TOOL_NAME}\"')) "
    f"WHEN instr(attributes, '{sc.TOOL_CALLS}') THEN json_extract(attributes, '$.\"{sc.TOOL_CALLS}\"') END"
)
_FINISHES = ("completed", "incomplete", "failed", "cancelled", "abandoned")
_MODEL_KEYS = "SELECT trace_key FROM spans WHERE model IS NOT NULL"
_STATES = tuple(state.value for state in TraceState)
_SPANS = "spans WHERE trace_key = traces.key"
_SPAN_FIELDS = {
    "name": Field("name", rows=_SPANS),
    "type": Field("span_type", rows=_SPANS),
    "status": Field("ifnull(status_code, 'UNSET')", rows=_SPANS, words=tuple(code.value for code in SpanStatusCode)),
    "finish": Field("finish", rows=_SPANS, words=_FINISHES),
    "model": Field("model", rows=_SPANS, keys=_MODEL_KEYS),
    "content": Field("ifnull(inputs, '') || ' ' || ifnull(outputs, '')", rows=_SPANS),
    "text": Field("text", rows=_SPANS),
    "duration": Field("end_time_ns - start_time_ns", _SECONDS, rows=_SPANS),
}
_TRACE_FIELDS = {
    "status": Field("state", words=_STATES),
    "state": Field("state", words=_STATES),
    "name": Field("name"),
    "trace_id": Field("trace_id"),
    "request_id": Field("trace_id"),
    "experiment": Field("experiment"),
    "session_id": Field("session_id"),
    "user_id": Field("user_id"),
    "timestamp": Field("start_time_ns", _MOMENT),
    "timestamp_ms": Field("start_time_ns", _MOMENT),
    "end_time": Field("end_time_ns", _MOMENT),
    "end_time_ms": Field("end_time_ns", _MOMENT),
    "execution_time": Field("duration_ns", _MILLISECONDS),
    "execution_time_ms": Field("duration_ns", _MILLISECONDS),
    "duration": Field("duration_ns", _SECONDS),
    "latency": Field("duration_ns", _SECONDS),
    "cost": Field("cost", _DOLLARS),
    "request": Field("request_preview"),
    "response": Field("response_preview"),
    "model": Field(
        "model", rows="spans WHERE trace_key = traces.key AND model IS NOT NULL", each=False, keys=_MODEL_KEYS
    ),
    "text": Field("text", rows="spans WHERE trace_key = traces.key", each=False),
    "error": Field(
        "told.value",
        rows=f"spans, json_each({_ERROR_TEXTS}) AS told WHERE trace_key = traces.key AND status_code = 'ERROR'",
        each=False,
    ),
    "tool": Field(
        "CASE told.type WHEN 'object' THEN json_extract(told.value, '$.name') ELSE told.value END",
        rows=f"spans, json_each({_TOOLS}) AS told WHERE trace_key = traces.key",
        each=False,
    ),
    "span_type": _SPAN_FIELDS["type"],
    "finish": _SPAN_FIELDS["finish"],
    "time_to_first_token": Field("time_to_first_token", Unit(1, "a number of seconds")),
    "client_request_id": Field(
        "value", rows="json_each(traces.metadata) WHERE key = ?", parameters=(sc.CLIENT_REQUEST_ID,)
    ),
    **{name: _id_field(attribute) for name, attribute in _IDS.items()},
    **{key: Field(key, _TOKENS) for key in USAGE_KEYS},
}
_USAGE_FIELDS = {f"usage.{key}": _TRACE_FIELDS[key] for key in USAGE_KEYS}
_ATTRIBUTE_ROWS = "spans, json_each({}) AS attribute WHERE trace_key = traces.key AND attribute.key = ?"
_SPAN_ATTRIBUTE = Field(
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
_MLFLOW_REFUSED = {
    "mlflow.chat.tokenUsage": "write usage.input_tokens or usage.total_tokens, which are sums over the trace",
    "mlflow.chunk.item": "the chunks of a stream can't be searched; write span.text LIKE '%…%'",
}


def _span_attribute(key: str) -> Field:
    """Return the field of an attribute. An attribute that was set under a key of MLflow's comes before its meaning."""
    for refused, remedy in _MLFLOW_REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise ValueError(f"span.attributes.{key} can't be compared: {remedy}")
    field = _SPAN_ATTRIBUTE._replace(parameters=(key,))
    if (meant := _MLFLOW_ATTRIBUTES.get(key)) is None:
        return field
    is_unset = f"json_type(attributes, '$.\"{key}\"') IS NULL"
    source = f"CASE WHEN {is_unset} THEN '{{\"{key}\":' || {meant} || '}}' ELSE attributes END"
    return field._replace(rows=_ATTRIBUTE_ROWS.format(source))


_KEYED = {
    "tag": Field(
        "value", rows="tags WHERE trace_key = traces.key AND key = ?", keys="SELECT trace_key FROM tags WHERE key = ?"
    ),
    "metadata": Field("value", rows="json_each(traces.metadata) WHERE key = ?"),
    "feedback": Field(
        "value",
        rows="feedback WHERE trace_key = traces.key AND name = ?",
        as_text="CAST(value AS TEXT)",
        as_number="CASE value_type WHEN 'number' THEN value END",
        keys="SELECT trace_key FROM feedback WHERE name = ?",
    ),
    "dropped": Field(
        "value",
        _RECORDS,
        rows="json_each(traces.dropped) WHERE key = ?",
        keys="SELECT traces.key AS trace_key FROM traces, json_each(traces.dropped) AS lost "
        "WHERE dropped IS NOT NULL AND lost.key = ?",
    ),
}
_MLFLOW_KEYS = {
    ("tag", "mlflow.traceName"): "name",
    ("metadata", "mlflow.trace.session"): "session_id",
    ("metadata", "mlflow.trace.user"): "user_id",
}
"""The keys under which MLflow keeps what has its own field here."""
_PREFIXES = {
    "tag": "tag",
    "tags": "tag",
    "metadata": "metadata",
    "request_metadata": "metadata",
    "feedback": "feedback",
    "dropped": "dropped",
    "span": "span",
}
_OF_TRACE = ("trace", "attribute", "attributes")
_SHOWN = (
    *_TRACE_FIELDS,
    *(f"span.{name}" for name in _SPAN_FIELDS),
    "span.attributes.<key>",
    "tags.<key>",
    "metadata.<key>",
    "feedback.<name>",
    "dropped.<kind>",
)
SHOWN_FIELDS = _SHOWN
"""The names to propose to people; one with ``<key>`` or ``<name>`` stands for many."""
_KNOWN = (*_SHOWN, *_USAGE_FIELDS, *(f"trace.{name}" for name in _TRACE_FIELDS))


def find_field(keys: list[str]) -> Field:
    """Look up a field by the parts of its name. Raises ValueError, which names known fields."""
    rest = keys[1:] if len(keys) > 1 and keys[0].lower() in _OF_TRACE else keys
    prefix, key = _PREFIXES.get(rest[0].lower()), ".".join(rest[1:])
    if prefix and not key:
        raise ValueError(f"{rest[0]} needs a name behind it: {rest[0]}.{'name' if prefix == 'span' else '<key>'}")
    if alias := _MLFLOW_KEYS.get((prefix or "", key)):
        return _TRACE_FIELDS[alias]
    if prefix in _KEYED:
        return _KEYED[prefix]._replace(parameters=(key,))
    if prefix == "span" and rest[1].lower() in ("attributes", "attribute") and len(rest) > 2:
        return _span_attribute(".".join(rest[2:]))
    name = ".".join(rest).lower()
    if field := _SPAN_FIELDS.get(key.lower()) if prefix else _TRACE_FIELDS.get(name) or _USAGE_FIELDS.get(name):
        return field
    hint = did_you_mean(".".join(keys), _KNOWN) or f"; there are {', '.join(_SHOWN)}"
    raise ValueError(f"unknown field {'.'.join(keys)!r}{hint}")
