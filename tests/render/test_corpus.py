"""Every exchange of the recorded corpus that is traced can be looked at."""

from __future__ import annotations

import json
from typing import Any

from tests.interpret.wire import all_records, body, reads
from tests.render.page import read
from tests.render.traces import TRACE_ID, make_trace, span_id
from tracer import _semconv as sc
from tracer._models import Span, SpanEvent, Trace
from tracer.interpret import stream_events
from tracer.interpret.dispatch import interpret_request, interpret_response, interpret_stream
from tracer.openai._operations import find_operation
from tracer.render import render_span


def trace_of(record: dict[str, Any]) -> Trace | None:
    """The trace that a recorded exchange would make; None if it is not traced."""
    operation = find_operation(record["method"], record["path"].removeprefix("/v1"))
    if operation is None or record.get("response_body") is None:
        return None
    request = interpret_request(operation.key, body(record.get("request_json")))
    events: list[SpanEvent] = []
    kind = record["response_content_type"]
    if record["stream"]:
        answer = interpret_stream(operation.key, reads(record), content_type=kind)
        for index, (time_ns, name, data) in enumerate(stream_events(reads(record))):
            events.append(SpanEvent(sc.EVENT_CHUNK, time_ns, {"data": _decoded(data), "index": index, "event": name}))
    else:
        answer = interpret_response(operation.key, record["response_body"].encode(), content_type=kind)
    span = Span(
        trace_id=TRACE_ID,
        span_id=span_id(1),
        name=operation.resource,
        span_type=operation.span_type,
        start_time_ns=1,
        end_time_ns=1_000_000_000,
        inputs=json.loads(request.inputs),
        outputs=json.loads(answer.outputs) if answer.outputs else None,
        attributes={sc.OPERATION: operation.key, **request.attributes, **answer.attributes},
        events=events,
        token_usage=answer.usage,
    )
    return make_trace(span)


def _decoded(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


def squeeze(text: str) -> str:
    return "".join(text.split())


def test_every_recorded_exchange_is_shown_with_what_the_model_said() -> None:
    seen: dict[str, int] = {}
    for record in all_records():
        trace = trace_of(record)
        if trace is None:
            continue
        [span] = trace.data.spans
        html = render_span(trace, span.span_id)
        assert f"<h2>{span.name} <span" in html
        seen[span.attributes[sc.OPERATION]] = seen.get(span.attributes[sc.OPERATION], 0) + 1
        if sum(seen.values()) % 20 and not span.attributes.get(sc.TOOL_CALLS):
            continue
        main = squeeze(read(html).one(data_panel="main").text)
        for call in span.attributes.get(sc.TOOL_CALLS) or []:
            assert squeeze(call["name"] or "?") in main, record["id"]
    assert seen.keys() >= {"chat", "responses", "completions", "embeddings", "images", "audio_text", "moderations"}
    assert seen["chat"] > 600
