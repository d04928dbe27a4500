"""Requests of OTLP/HTTP, as protobuf or JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tracer._exceptions import ConfigurationError
from tracer.otlp.installed import check_installed

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["DETAILS", "JSON", "PROTOBUF", "Received", "ReceivedSpan", "read_logs", "read_spans"]

R = TypeVar("R", bound="Message")
DETAILS = "gen_ai.client.inference.operation.details"
"""The event, on a span or as a log record, that has the messages of a model call."""

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_IDS = ("traceId", "spanId", "parentSpanId")  # in JSON they are hex, and not base64 as protobuf's own JSON has bytes
_MAX_NS = 2**63 - 1
_REMOTE = 0x300  # of a span's flags: it is known whether the parent is in another process, and it is


class ReceivedSpan(msgspec.Struct, kw_only=True):
    """A span as it was sent.

    Attributes:
        trace_id: 32 hex digits; `span_id` and `parent_id` have 16.
        end_ns: None for what only a log record told of a span, see `read_logs`.
        status: ``OK``, ``ERROR`` or ``UNSET``.
        events: Name, time, attributes.
        resource: Attributes of what sent it.
        scope: Name of the instrumentation.
        begins_here: It is the first span of its trace in its process: it has no parent, or one in another process.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int | None
    status: str = "UNSET"
    message: str = ""
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    events: list[tuple[str, int, dict[str, Any]]] = msgspec.field(default_factory=list)
    resource: Mapping[str, Any] = msgspec.field(default_factory=dict)
    scope: str = ""
    begins_here: bool = False


class Received(msgspec.Struct):
    """The spans of a request, and why others of it can't be taken."""

    spans: list[ReceivedSpan]
    refused: list[str]


def read_spans(body: bytes, content_type: str) -> Received:
    """Read the body of ``POST /v1/traces``, already decompressed.

    Raises:
        ConfigurationError: It is no such request; or its content type is neither protobuf nor JSON.
        MissingDependencyError: The extra `otlp` is not installed.
    """
    check_installed()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = _parse(ExportTraceServiceRequest(), body, content_type)
    received = Received([], [])
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                _add(received, f"span {span.name!r}", _span, span, resource, of_scope.scope.name)
    return received


def read_logs(body: bytes, content_type: str) -> Received:
    """Read the body of ``POST /v1/logs``: what log records say of spans, which arrive by themselves.

    Instrumentations of OpenTelemetry may put the messages of a model call into a log record
    (https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events/). Other records are left out.

    Raises:
        ConfigurationError: As `read_spans`.
        MissingDependencyError: As `read_spans`.
    """
    check_installed()
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = _parse(ExportLogsServiceRequest(), body, content_type)
    received = Received([], [])
    for of_resource in request.resource_logs:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                attributes = _attributes(record.attributes)
                if DETAILS in (record.event_name, attributes.get("event.name")):
                    _add(received, f"log record {DETAILS}", _told, record, attributes, resource, of_scope.scope.name)
    return received


def _parse(request: R, body: bytes, content_type: str) -> R:
    """Fill an empty request in."""
    from google.protobuf.json_format import ParseDict, ParseError
    from google.protobuf.message import DecodeError

    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (PROTOBUF, JSON):
        raise ConfigurationError(f"content-type must be {PROTOBUF} or {JSON}, got {content_type!r}")
    name = type(request).__name__
    if kind == PROTOBUF:
        try:
            request.ParseFromString(body)
        except DecodeError as error:
            raise ConfigurationError(f"the body must be an {name} in protobuf: {error}") from None
        return request
    try:
        ParseDict(_with_base64_ids(msgspec.json.decode(body, type=dict[str, Any])), request, ignore_unknown_fields=True)
    except (ParseError, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"the body must be an {name} in JSON: {error}") from None
    return request


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _base64_of(item) if key in _IDS and isinstance(item, str) else _with_base64_ids(item)
            for key, item in value.items()
        }
    return value


def _base64_of(hex_id: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(hex_id)).decode()
    except ValueError:
        return ""  # of the wrong length, so the span will be refused, and not the request


def _add(received: Received, what: str, read: Callable[..., ReceivedSpan], *sent: Any) -> None:
    try:
        received.spans.append(read(*sent))
    except ValueError as error:
        received.refused.append(f"{what}: {error}")


def _span(span: Span, resource: Mapping[str, Any], scope: str) -> ReceivedSpan:
    """Return a span. Raises ValueError if its ids or times can't be stored."""
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if not 0 < start <= _MAX_NS or end > _MAX_NS:
        raise ValueError("its times must be nanoseconds since 1970, from 1 to 2**63 - 1")
    return ReceivedSpan(
        trace_id=_hex_of("trace_id", span.trace_id, 16),
        span_id=_hex_of("span_id", span.span_id, 8),
        parent_id=_hex_of("parent_span_id", span.parent_span_id, 8) if any(span.parent_span_id) else None,
        name=span.name,
        start_ns=start,
        end_ns=max(start, end),
        status=("UNSET", "OK", "ERROR")[span.status.code] if span.status.code in (0, 1, 2) else "UNSET",
        message=span.status.message,
        attributes=_attributes(span.attributes),
        events=[
            (event.name, min(event.time_unix_nano, _MAX_NS) or start, _attributes(event.attributes))
            for event in span.events
        ],
        resource=resource,
        scope=scope,
        begins_here=not any(span.parent_span_id) or span.flags & _REMOTE == _REMOTE,
    )


def _told(record: LogRecord, attributes: dict[str, Any], resource: Mapping[str, Any], scope: str) -> ReceivedSpan:
    """Return what a log record says of a span. Raises ValueError as `_span` does."""
    time_ns = record.time_unix_nano or record.observed_time_unix_nano
    if not 0 < time_ns <= _MAX_NS:
        raise ValueError("its time must be nanoseconds since 1970, from 1 to 2**63 - 1")
    named = (attributes.get("gen_ai.operation.name"), attributes.get("gen_ai.request.model"))
    return ReceivedSpan(
        trace_id=_hex_of("trace_id", record.trace_id, 16),
        span_id=_hex_of("span_id", record.span_id, 8),
        parent_id=None,
        name=" ".join(name for name in named if isinstance(name, str)) or DETAILS,
        start_ns=time_ns,
        end_ns=None,
        attributes=attributes,
        resource=resource,
        scope=scope,
    )


def _hex_of(name: str, value: bytes, size: int) -> str:
    if len(value) != size or not any(value):
        raise ValueError(f"{name} must have {size} bytes that are not all 0, got {binascii.hexlify(value).decode()!r}")
    return value.hex()


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    """Return a value as JSON has it; bytes become base64."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)
