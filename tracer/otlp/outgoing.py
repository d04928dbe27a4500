"""Our spans as spans of OpenTelemetry's protocol: what is sent of them, by which keys. Pure functions.

Names, kinds and keys follow OpenTelemetry's semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/).
`tracer.otlp.meaning` reads them again, so a trace that tracer sends to tracer is the same trace there.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES, Span, SpanStatusCode, SpanType
from tracer.interpret import encode_value
from tracer.otlp._optional_keys import KEYS
from tracer.otlp._parts import read_messages

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

__all__ = ["Outgoing", "encode_span", "make_request"]

_SAMPLED, _PARENT_IS_KNOWN, _PARENT_IS_REMOTE = 0x1, 0x100, 0x200  # a span's flags
_SCHEMA = f"https://opentelemetry.io/schemas/{sc.SEMCONV_VERSION}"
_SUBJECT = {"execute_tool": sc.TOOL_NAME, "invoke_agent": sc.AGENT_NAME}
_USAGE = {
    "input_tokens": sc.USAGE_INPUT_TOKENS,
    "output_tokens": sc.USAGE_OUTPUT_TOKENS,
    "cache_read_input_tokens": sc.USAGE_CACHE_READ_INPUT_TOKENS,
    "cache_creation_input_tokens": sc.USAGE_CACHE_CREATION_INPUT_TOKENS,
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
_MAX_INT = 2**63


class Outgoing(msgspec.Struct, kw_only=True):
    """A span that has ended, and what is to be said of its trace.

    Attributes:
        stands_for_trace: The trace shows this span's name and times: it is its first in this process.
    """

    span: Span
    experiment: str
    session_id: str | None = None
    user_id: str | None = None
    stands_for_trace: bool = False


def make_request(spans: Iterable[tuple[Outgoing, SentSpan]], keys: tuple[str, ...] = ()) -> ExportTraceServiceRequest:
    """Return the request that sends these spans.

    Args:
        spans: Of any traces and experiments, each as `encode_span` made it.
        keys: Whose keys are sent beside OpenTelemetry's: see `tracer.otlp._optional_keys.KEYS`.
    """
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    scopes: dict[str, Any] = {}
    for outgoing, sent in spans:
        scope = scopes.get(outgoing.experiment)
        if scope is None:
            of_resource = request.resource_spans.add()
            of_resource.resource.attributes.extend(_pairs(_resource(outgoing.experiment, keys)))
            scope = scopes[outgoing.experiment] = of_resource.scope_spans.add(schema_url=_SCHEMA)
            scope.scope.name, scope.scope.version = "tracer", _version()
        scope.spans.append(sent)
    return request


@functools.cache
def _version() -> str:
    from importlib.metadata import version  # takes 10 ms to import

    return version("openai-tracer")


def encode_span(outgoing: Outgoing, keys: tuple[str, ...] = ()) -> SentSpan:
    """Return one span as it is sent."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
    from opentelemetry.proto.trace.v1.trace_pb2 import Status

    span = _readable(outgoing.span)
    outgoing = msgspec.structs.replace(outgoing, span=span)
    flags = _SAMPLED | _PARENT_IS_KNOWN
    if span.parent_id is not None and outgoing.stands_for_trace:
        flags |= _PARENT_IS_REMOTE
    sent = SentSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id or ""),
        name=_clean(_name(span)),
        kind=SentSpan.SpanKind.Value(f"SPAN_KIND_{_kind(span)}"),
        start_time_unix_nano=span.start_time_ns,
        end_time_unix_nano=max(span.start_time_ns, span.end_time_ns or 0),
        flags=flags,
    )
    sent.status.code = Status.StatusCode.Value(f"STATUS_CODE_{span.status.status_code}")
    if span.status.status_code is SpanStatusCode.ERROR:  # the only status that may have a description
        sent.status.message = _clean(span.status.description)
    sent.attributes.extend(_pairs(_attributes(outgoing, keys)))
    for event in span.events:
        told = sent.events.add(name=_clean(event.name), time_unix_nano=max(0, event.timestamp_ns))
        told.attributes.extend(_pairs(event.attributes))
    return sent


def _attributes(outgoing: Outgoing, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a span's attributes as they are sent, before they are encoded."""
    span = outgoing.span
    attributes = dict(span.attributes)
    attributes[sc.SPAN_TYPE] = span.span_type
    if (name := _name(span)) != span.name:
        attributes[sc.SPAN_NAME] = span.name
    if outgoing.session_id is not None:
        attributes.setdefault("session.id", outgoing.session_id)
    if outgoing.user_id is not None:
        attributes.setdefault("user.id", outgoing.user_id)
    if span.cost is not None:
        attributes[sc.USAGE_COST] = span.cost
    for field, key in _USAGE.items():
        if (count := (span.token_usage or {}).get(field)) is not None:
            attributes[key] = count
    if attributes.get(sc.OPERATION_NAME) == "execute_tool" or span.span_type == SpanType.TOOL:
        attributes.setdefault(sc.OPERATION_NAME, "execute_tool")
        attributes.setdefault(sc.TOOL_NAME, name.removeprefix("execute_tool "))
        _set_value(attributes, "gen_ai.tool.call.arguments", span.inputs)
        _set_value(attributes, "gen_ai.tool.call.result", span.outputs)
    elif span.span_type in MODEL_CALL_TYPES:
        told = read_messages(attributes.get(sc.OPERATION), span.inputs, span.outputs)
        messages = {
            "gen_ai.system_instructions": told.system,
            "gen_ai.input.messages": told.asked,
            "gen_ai.output.messages": told.answered,
        }
        attributes |= {key: value for key, value in messages.items() if value}
    for each in keys:
        attributes.update(KEYS[each](span))
    return attributes


def _readable(span: Span) -> Span:
    """Return the span; without attributes if they are no object, as what a database has there may be any text."""
    return span if isinstance(span.attributes, dict) else msgspec.structs.replace(span, attributes={})


def _name(span: Span) -> str:
    """Return the span's name: by the conventions ``{operation} {model}``, where it has an operation."""
    operation = span.attributes.get(sc.OPERATION_NAME)
    if not isinstance(operation, str):
        return span.name
    subject = span.attributes.get(_SUBJECT.get(operation, sc.REQUEST_MODEL))
    return f"{operation} {subject}" if isinstance(subject, str) else span.name


def _kind(span: Span) -> str:
    if sc.OPERATION in span.attributes:  # a call of the openai package
        return "CLIENT"
    return "SERVER" if sc.HTTP_REQUEST_METHOD in span.attributes and sc.URL_PATH in span.attributes else "INTERNAL"


def _set_value(attributes: dict[str, Any], key: str, value: Any) -> None:
    if value is not None and key not in attributes:
        attributes[key] = value if isinstance(value, str) else _json(value)


def _resource(experiment: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what is said of the process: the service is the experiment, unless OTEL_SERVICE_NAME names it."""
    told = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or experiment, "tracer.experiment": experiment}
    told["telemetry.sdk.language"], told["telemetry.sdk.name"] = "python", "tracer"
    return {**told, "openinference.project.name": experiment} if "openinference" in keys else told


# --- values -----------------------------------------------------------------------------------------------------------
def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return [
        KeyValue(key=_clean(str(key)), value=_value(value)) for key, value in attributes.items() if value is not None
    ]


def _value(value: Any) -> AnyValue:
    """Return a value; what is nested becomes JSON, as receivers expect it (OpenTelemetry's own API allows no other)."""
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue

    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -_MAX_INT <= value < _MAX_INT:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=_clean(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=_json(value))


def _json(value: Any) -> str:
    return encode_value(value).decode(errors="replace")


def _clean(text: str) -> str:
    """Return the text without half surrogate pairs, which UTF-8 can't write."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
