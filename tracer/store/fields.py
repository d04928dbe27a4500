"""What the names in a ``filter_string`` mean. Where a store keeps it, its compiler knows."""

from __future__ import annotations

from tracer import _semconv as sc
from tracer._format import did_you_mean
from tracer._models import USAGE_KEYS, SpanStatusCode, TraceState
from tracer.store.conditions import Field, Unit

__all__ = ["FINISHES", "SHOWN_FIELDS", "find_field", "trace_field"]

_SECONDS = Unit(10**9, "a number of seconds")
_MILLISECONDS = Unit(10**6, "a number of milliseconds")
_MOMENT = Unit(10**6, "a number, milliseconds since the epoch (since= and until= of search_traces() take dates)")
_TOKENS = Unit(1, "a number of tokens")
_RECORDS = Unit(1, "a number of records")
_DOLLARS = Unit(1, "a number of US dollars")
FINISHES = ("completed", "incomplete", "failed", "cancelled", "abandoned")
_STATES = tuple(state.value for state in TraceState)
_SPAN_FIELDS = {
    "name": Field("span", "name"),
    "type": Field("span", "type"),
    "status": Field("span", "status", words=tuple(code.value for code in SpanStatusCode)),
    "finish": Field("span", "finish", words=FINISHES),
    "model": Field("span", "model"),
    "content": Field("span", "content"),
    "text": Field("span", "text"),
    "duration": Field("span", "duration", _SECONDS),
}
_DURATION = Field("trace", "duration", _SECONDS)
_START, _END = Field("trace", "start", _MOMENT), Field("trace", "end", _MOMENT)
_STATE = Field("trace", "state", words=_STATES)
_TRACE_ID = Field("trace", "trace_id")
_TRACE_FIELDS = {
    "status": _STATE,
    "state": _STATE,
    "name": Field("trace", "name"),
    "trace_id": _TRACE_ID,
    "request_id": _TRACE_ID,
    "experiment": Field("trace", "experiment"),
    "session_id": Field("trace", "session_id"),
    "user_id": Field("trace", "user_id"),
    "timestamp": _START,
    "timestamp_ms": _START,
    "end_time": _END,
    "end_time_ms": _END,
    "execution_time": Field("trace", "duration", _MILLISECONDS),
    "execution_time_ms": Field("trace", "duration", _MILLISECONDS),
    "duration": _DURATION,
    "latency": _DURATION,
    "cost": Field("trace", "cost", _DOLLARS),
    "request": Field("trace", "request"),
    "response": Field("trace", "response"),
    "model": Field("trace", "model", each=False),
    "text": Field("trace", "text", each=False),
    "error": Field("trace", "error", each=False),
    "tool": Field("trace", "tool", each=False),
    "span_type": _SPAN_FIELDS["type"],
    "finish": _SPAN_FIELDS["finish"],
    "time_to_first_token": Field("trace", "time_to_first_token", Unit(1, "a number of seconds")),
    "client_request_id": Field("metadata", sc.CLIENT_REQUEST_ID),
    **{name: Field("trace", name, each=False) for name in ("response_id", "previous_response_id", "conversation_id")},
    **{key: Field("trace", key, _TOKENS) for key in USAGE_KEYS},
}
_USAGE_FIELDS = {f"usage.{key}": _TRACE_FIELDS[key] for key in USAGE_KEYS}
_MLFLOW_REFUSED = {
    "mlflow.chat.tokenUsage": "write usage.input_tokens or usage.total_tokens, which are sums over the trace",
    "mlflow.chunk.item": "the chunks of a stream can't be searched; write span.text LIKE '%…%'",
}


def _span_attribute(key: str) -> Field:
    for refused, remedy in _MLFLOW_REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise ValueError(f"span.attributes.{key} can't be compared: {remedy}")
    return Field("attribute", key, mixed=True)


def _keyed(of: str, key: str) -> Field:
    return Field(of, key, _RECORDS if of == "dropped" else None, mixed=of == "feedback")


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
    if prefix is not None and prefix != "span":
        return _keyed(prefix, key)
    if prefix == "span" and rest[1].lower() in ("attributes", "attribute") and len(rest) > 2:
        return _span_attribute(".".join(rest[2:]))
    name = ".".join(rest).lower()
    if field := _SPAN_FIELDS.get(key.lower()) if prefix else _TRACE_FIELDS.get(name) or _USAGE_FIELDS.get(name):
        return field
    hint = did_you_mean(".".join(keys), _KNOWN) or f"; there are {', '.join(_SHOWN)}"
    raise ValueError(f"unknown field {'.'.join(keys)!r}{hint}")


def trace_field(name: str) -> Field:
    """Return the field of traces with this name, which is known."""
    return _TRACE_FIELDS[name]
