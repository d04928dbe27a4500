from __future__ import annotations

import json
from typing import Any

import pytest

from tracer._exceptions import ConfigurationError
from tracer.otlp.received import DETAILS, JSON, PROTOBUF, read_logs, read_spans

pytest.importorskip("opentelemetry.proto")

SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "name": "chat",
    "startTimeUnixNano": "1796055110000000000",
    "endTimeUnixNano": "1796055111000000000",
}


def request_of(*spans: dict[str, Any], **resource: str) -> bytes:
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in resource.items()]
    scope = {"scope": {"name": "s"}, "spans": spans}
    return json.dumps({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [scope]}]}).encode()


def test_a_span_is_read_from_json_and_from_protobuf_alike() -> None:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    values = [
        ("text", {"stringValue": "é"}, "é"),
        ("yes", {"boolValue": True}, True),
        ("count", {"intValue": "7"}, 7),
        ("share", {"doubleValue": 0.5}, 0.5),
        ("list", {"arrayValue": {"values": [{"intValue": "1"}, {}]}}, [1, None]),
        ("map", {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}, {"k": "v"}),
        ("bytes", {"bytesValue": "AAE="}, "AAE="),
        ("nothing", {}, None),
    ]
    span = {
        **SPAN,
        "parentSpanId": "00f067aa0ba902b7",
        "status": {"code": 2, "message": "it broke"},
        "attributes": [{"key": key, "value": value} for key, value, _ in values],
        "events": [{"name": "e", "timeUnixNano": "1796055110500000000", "attributes": []}],
    }
    as_json = read_spans(request_of(span, service="x"), f"{JSON}; charset=utf-8")
    message = ParseDict(
        json.loads(
            request_of(
                {
                    **span,
                    "traceId": "CvdlGRbNQ92ESOshHIAxnA==",
                    "spanId": "t61rcWkgMzE=",
                    "parentSpanId": "APBnqgupArc=",
                },
                service="x",
            )
        ),
        ExportTraceServiceRequest(),
    )
    as_protobuf = read_spans(message.SerializeToString(), PROTOBUF)
    assert as_json == as_protobuf
    [read] = as_json.spans
    assert read.attributes == {key: value for key, _, value in values}
    assert (read.trace_id, read.span_id, read.parent_id) == (SPAN["traceId"], SPAN["spanId"], "00f067aa0ba902b7")
    assert (read.status, read.message, read.resource, read.scope) == ("ERROR", "it broke", {"service": "x"}, "s")
    assert read.events == [("e", 1796055110500000000, {})]
    assert not read.begins_here


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, True),
        ({"parentSpanId": "00f067aa0ba902b7"}, False),
        ({"parentSpanId": "00f067aa0ba902b7", "flags": 0x101}, False),
        ({"parentSpanId": "00f067aa0ba902b7", "flags": 0x301}, True),
        ({"parentSpanId": "0000000000000000"}, True),
    ],
)
def test_a_span_without_parent_in_its_process_begins_there(changes: dict[str, Any], begins: bool) -> None:
    [span] = read_spans(request_of({**SPAN, **changes}), JSON).spans
    assert span.begins_here is begins


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"traceId": "0" * 32}, "trace_id must have 16 bytes that are not all 0"),
        ({"traceId": "abcd"}, "trace_id must have 16 bytes"),
        ({"traceId": "no hex"}, "trace_id must have 16 bytes"),
        ({"spanId": ""}, "span_id must have 8 bytes"),
        ({"startTimeUnixNano": "0"}, "its times must be nanoseconds since 1970"),
        ({"endTimeUnixNano": str(2**64 - 1)}, "its times must be nanoseconds since 1970"),
    ],
)
def test_a_span_that_cant_be_stored_is_named_and_the_others_are_taken(changes: dict[str, Any], words: str) -> None:
    received = read_spans(request_of({**SPAN, **changes, "name": "bad"}, SPAN), JSON)
    assert [span.name for span in received.spans] == ["chat"]
    [refused] = received.refused
    assert refused.startswith("span 'bad': ")
    assert words in refused


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"resourceSpans": 5}', b"\xff\xfe", b'{"a":' * 5_000])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match="the body must be an ExportTraceServiceRequest in JSON"):
        read_spans(body, JSON)


def test_protobuf_that_is_damaged_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the body must be an ExportTraceServiceRequest in protobuf"):
        read_spans(b"\x0a\xff\xff\xff\xff\x0f", PROTOBUF)


def test_another_content_type_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="must be application/x-protobuf or application/json, got 'text/plain'"
    ):
        read_spans(b"", "text/plain")


def logs_of(*records: dict[str, Any]) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"scope": {"name": "s"}, "logRecords": records}]}]}).encode()


RECORD: dict[str, Any] = {
    "traceId": SPAN["traceId"],
    "spanId": SPAN["spanId"],
    "timeUnixNano": "1796055110900000000",
    "eventName": DETAILS,
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
    ],
}


def test_of_log_records_those_are_read_that_tell_of_a_model_call() -> None:
    others: list[Any] = [{**RECORD, "eventName": "other"}, {"body": {"stringValue": "a line"}}]
    older = {**RECORD, "eventName": "", "attributes": [{"key": "event.name", "value": {"stringValue": DETAILS}}]}
    received = read_logs(logs_of(RECORD, *others, older), JSON)
    assert [(span.name, span.span_id, span.end_ns) for span in received.spans] == [
        ("chat m", SPAN["spanId"], None),
        (DETAILS, SPAN["spanId"], None),
    ]
    assert not received.refused


def test_a_log_record_without_span_is_refused() -> None:
    [refused] = read_logs(logs_of({**RECORD, "spanId": ""}), JSON).refused
    assert refused == f"log record {DETAILS}: span_id must have 8 bytes that are not all 0, got ''"
