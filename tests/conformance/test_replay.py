"""Every recorded exchange leaves one span that says what the record's bytes say, and disturbs nothing.

Each record is sent once without and once with tracing (fixtures `untraced` and `traced`).
"""

from __future__ import annotations

import base64
import json
from array import array
from typing import Any

from tests.conformance.corpus import Record
from tests.conformance.more_reader import expected_form
from tests.conformance.reader import Answer, server_sent_data
from tests.conformance.traced import Failures, Run, answer_of, expected_answer, plain_outputs, refusal_of
from tracer import Span
from tracer import _semconv as sc

NAMES = {
    "chat": "Completions",
    "completions": "Completions",
    "embeddings": "Embeddings",
    "images": "Images",
    "moderations": "Moderations",
    "runs": "Runs",
    "speech": "Speech",
    "transcriptions": "Transcriptions",
}
NAMES_BY_PATH = {"/v1/audio/translations": "Translations", "/v1/threads/runs": "Threads"}
LONGEST_SEEN = 200_000  # the replay server keeps so many characters of a request


# --- nothing is lost, nothing is disturbed ----------------------------------------------------------------------------


def test_each_exchange_leaves_exactly_one_trace(traced: Run) -> None:
    counts = {request_id: len(traces) for request_id, traces in traced.traces.items()}
    assert counts == {record.id: 1 for record in traced.records}


def test_nothing_is_lost_and_nothing_logged(traced: Run) -> None:
    stats = traced.stats
    assert stats.accepted == stats.written > len(traced.records)
    assert not any(stats.dropped.values()), stats.dropped
    assert (stats.queued, stats.open_spans, stats.truncated, stats.last_error) == (0, 0, 0, None)
    assert not traced.logged
    assert not [trace for traces in traced.traces.values() for trace in traces if trace.info.dropped]


def test_caller_gets_what_it_gets_untraced(traced: Run, untraced: Run) -> None:
    failures = Failures()
    for record in traced.records:
        got, wanted = (repr(side.outcomes[record.id].told()) for side in (traced, untraced))
        failures.compare(record, outcome=(got, wanted))
    failures.check(traced)


def test_server_gets_the_same_bytes_as_untraced(traced: Run, untraced: Run) -> None:
    failures = Failures()
    for record in traced.records:
        failures.compare(record, request=(traced.received[record.id], untraced.received[record.id]))
    failures.check(traced)


# --- the span ---------------------------------------------------------------------------------------------------------


def test_span_names_the_call_and_holds_the_request_as_the_server_got_it(traced: Run, kind: str) -> None:
    failures = Failures()
    for record, span in traced.spans():
        resource = NAMES_BY_PATH.get(record.path) or NAMES.get(record.operation or "", "Responses")
        sent = traced.received[record.id]["body"]
        failures.compare(
            record,
            name=(span.name, f"Async{resource}" if kind == "async" else resource),
            provider=(
                span.get_attribute(sc.PROVIDER_NAME),
                "azure.ai.openai" if record.family == "azure" else "openai",
            ),
            request_model=(span.get_attribute(sc.REQUEST_MODEL), (record.request_json or {}).get("model")),
            http_status=(span.get_attribute(sc.HTTP_STATUS_CODE), record.status),
        )
        if record.request_encoding == "multipart":
            failures.compare(record, inputs=(span.inputs, expected_form(record)))
        elif len(sent) < LONGEST_SEEN:
            failures.compare(record, inputs=(span.inputs, _without_credentials(json.loads(sent or "null"))))
    failures.check(traced)


def test_span_says_what_the_record_says(traced: Run) -> None:
    failures = Failures()
    for record, span in traced.spans():
        expected = expected_answer(record) if record.status < 400 else Answer()
        failures.compare(
            record,
            model=(span.get_attribute(sc.RESPONSE_MODEL), expected.model),
            response_id=(span.get_attribute(sc.RESPONSE_ID), expected.id),
            usage=(span.token_usage, expected.usage),
            tool_calls=(_tool_calls(span), _as_texts(expected.tool_calls)),
            finish_reasons=(span.get_attribute(sc.RESPONSE_FINISH_REASONS) or [], expected.finish_reasons),
        )
    failures.check(traced)


def test_outputs_are_the_response_itself_or_the_stream_put_together(traced: Run) -> None:
    failures = Failures()
    for record, span in traced.spans():
        if record.status >= 400:
            failures.compare(record, outputs=(span.outputs, refusal_of(record)))
        elif record.operation == "embeddings":
            asked = "encoding_format" in record.request_json
            wanted = [
                vector["embedding"] if asked else as_floats(vector["embedding"])
                for vector in plain_outputs(record)["data"]
            ]
            # As text: some servers send bytes, of which the SDK makes floats that are none.
            failures.compare(
                record, outputs=(str([vector["embedding"] for vector in span.outputs["data"]]), str(wanted))
            )
        elif not record.is_event_stream:
            failures.compare(record, outputs=(span.outputs, _without_credentials(plain_outputs(record))))
        else:
            got, expected = answer_of(record, span.outputs), expected_answer(record)
            failures.compare(record, **{name: (getattr(got, name), getattr(expected, name)) for name in _SPOKEN})
    failures.check(traced)


def as_floats(vector: Any) -> Any:
    """What the SDK hands to its caller, who did not ask for an encoding."""
    return array("f", base64.b64decode(vector)).tolist() if isinstance(vector, str) else vector


def _without_credentials(body: Any) -> Any:
    """The credentials of MCP tools are never stored."""
    for tool in (body.get("tools") or []) if isinstance(body, dict) else []:
        if isinstance(tool, dict) and tool.get("type") == "mcp":
            if tool.get("authorization") is not None:
                tool["authorization"] = "[credential]"
            if tool.get("headers"):
                tool["headers"] = dict.fromkeys(tool["headers"], "[credential]")
    return body


_SPOKEN = ("id", "model", "usage", "texts", "refusals", "thoughts", "tool_calls", "shown", "finish_reasons")


def test_span_ends_as_the_record_ends(traced: Run) -> None:
    failures = Failures()
    for record, span in traced.spans():
        expected = expected_answer(record)
        error = traced.outcomes[record.id].error
        finish = "failed" if error is not None else _finish(record, expected)
        failures.compare(
            record,
            finish=(span.get_attribute(sc.FINISH), finish),
            status=(span.status.status_code, "ERROR" if finish in ("failed", "cancelled") else "OK"),
            state=(traced.traces[record.id][0].info.state, "ERROR" if finish in ("failed", "cancelled") else "OK"),
            description=(bool(span.status.description), finish in ("failed", "cancelled", "incomplete")),
        )
        if record.status >= 400:
            failures.compare(
                record,
                exceptions=(_exceptions(span), [(type(error).__name__, str(error))]),
                error_type=(span.get_attribute(sc.ERROR_TYPE), type(error).__name__),
            )
        elif error is not None:  # the SDK raises it, of bytes that say it; older ones out of our sight
            description = span.status.description.removeprefix(f"{type(error).__name__}: ")
            failures.compare(record, description=(description, str(error)))
    failures.check(traced)


def test_tools_of_the_providers_are_child_spans(traced: Run) -> None:
    failures = Failures()
    for record, span in traced.spans():
        children = traced.traces[record.id][0].data.spans[1:]
        start, end = span.start_time_ns, _end(span)
        failures.compare(
            record,
            children=(len(children), expected_answer(record).shown),
            parents=({child.parent_id for child in children} - {span.span_id}, set()),
            outside=([child.name for child in children if not start <= child.start_time_ns <= _end(child) <= end], []),
        )
    failures.check(traced)


def test_each_chunk_of_a_stream_is_an_event(traced: Run) -> None:
    failures = Failures()
    for record, span in traced.spans():
        events = [event.attributes["data"] for event in span.events if event.name == sc.EVENT_CHUNK]
        failures.compare(record, events=([event for event in events if event != "[DONE]"], _chunks(record)))
    failures.check(traced)


def _tool_calls(span: Span) -> list[tuple[Any, Any, Any]]:
    calls = span.get_attribute(sc.TOOL_CALLS) or []
    return _as_texts([(call["id"], call["name"], call["arguments"]) for call in calls])


def _as_texts(calls: list[tuple[Any, Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """Give arguments one spelling, where a server sent an object."""
    return [(call_id, name, _canonical(arguments)) for call_id, name, arguments in calls]


def _canonical(arguments: Any) -> str:
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return str(arguments)
    return json.dumps(value, sort_keys=True)


def _finish(record: Record, expected: Answer) -> str:
    """A stream without its end mark is cut off if it is a response's; chat servers exist that never send one."""
    if expected.finish is not None:
        return expected.finish
    return "incomplete" if record.is_event_stream and record.operation in ("responses", "retrieve") else "completed"


def _exceptions(span: Span) -> list[tuple[Any, Any]]:
    events = [event.attributes for event in span.events if event.name == sc.EVENT_EXCEPTION]
    return [(attributes[sc.EXCEPTION_TYPE], attributes[sc.EXCEPTION_MESSAGE]) for attributes in events]


def _end(span: Span) -> int:
    assert span.end_time_ns is not None
    return span.end_time_ns


def _chunks(record: Record) -> list[Any]:
    if not record.is_event_stream:
        return []
    chunks = []
    for data in server_sent_data(record.body):
        if data.startswith("[DONE]"):
            break
        chunks.append(json.loads(data))
    return chunks
