"""The spans of `benchmarks.scale`: the same calls as rows of ours, and as a body of OpenTelemetry's protocol.

Each is a chat call of natural-language phrases in a trace of its own: 2 KB asked, 1 KB answered, 0.9 KB of attributes.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any, NamedTuple

from benchmarks._span_batches import phrase
from tracer._config import BodyRule
from tracer._models import SpanStatusCode, TraceState
from tracer.assembly._kept_bodies import is_chosen, leave_body_out
from tracer.store import Batch, SpanRow, TracePatch, current_process

__all__ = ["as_otlp", "as_rows"]

_SYSTEMS = [phrase(random.Random(number), 700) for number in range(40)]


class _Call(NamedTuple):
    trace_id: str
    span_id: str
    start: int
    end: int
    system: str
    asked: str
    answered: str
    note: str


def _calls(seed: int, count: int) -> list[_Call]:
    rng, now = random.Random(seed), time.time_ns()
    return [
        _Call(
            f"{rng.getrandbits(128):032x}",
            f"{rng.getrandbits(64):016x}",
            now,
            now + rng.randrange(10**8, 10**10),
            rng.choice(_SYSTEMS),
            phrase(rng, 1_200),
            phrase(rng, 1_000),
            phrase(rng, 850),
        )
        for _ in range(count)
    ]


def as_rows(seed: int, count: int, bodies: float = 1.0) -> Batch:
    """Return so many calls as a batch, the same ones for the same seed; `bodies` is the share that keep theirs."""
    process = current_process()
    batch = Batch(process=process)
    for call in _calls(seed, count):
        messages = [{"role": "system", "content": call.system}, {"role": "user", "content": call.asked}]
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": call.answered}}]}
        batch.spans.append(
            SpanRow(
                trace_id=call.trace_id, span_id=call.span_id, name="chat gpt-5", span_type="CHAT_MODEL",
                operation="chat", start_time_ns=call.start, end_time_ns=call.end, status_code=SpanStatusCode.OK,
                finish="completed", model="gpt-5", counted=True, text=f"{call.asked}\n{call.answered}",
                inputs=json.dumps({"model": "gpt-5", "messages": messages}).encode(),
                outputs=json.dumps(answer).encode(), attributes=json.dumps({"note": call.note}).encode(),
                usage={"input_tokens": 500, "output_tokens": 200, "total_tokens": 700},
            )
        )  # fmt: skip
        if not is_chosen(BodyRule(rate=bodies), call.trace_id):
            attributes: dict[str, Any] = {"note": call.note}
            leave_body_out(batch.spans[-1], attributes)
            batch.spans[-1].attributes = json.dumps(attributes).encode()
        batch.traces.append(
            TracePatch(
                trace_id=call.trace_id, process_id=process.process_id, start_time_ns=call.start, end_time_ns=call.end,
                root_span_id=call.span_id, true_root=True, name="chat gpt-5", state=TraceState.OK,
                request_preview=call.asked[:120], response_preview=call.answered[:120],
            )
        )  # fmt: skip
    return batch


def as_otlp(seed: int, count: int) -> bytes:
    """Return the same calls as the body of ``POST /v1/traces``, in protobuf, by the GenAI conventions."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for call in _calls(seed, count):
        span = scope.spans.add(
            trace_id=bytes.fromhex(call.trace_id),
            span_id=bytes.fromhex(call.span_id),
            name="chat gpt-5",
            kind=3,
            start_time_unix_nano=call.start,
            end_time_unix_nano=call.end,
        )
        asked = [_message("system", call.system), _message("user", call.asked)]
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.input.messages": json.dumps(asked),
            "gen_ai.output.messages": json.dumps([{**_message("assistant", call.answered), "finish_reason": "stop"}]),
            "gen_ai.usage.input_tokens": 500,
            "gen_ai.usage.output_tokens": 200,
            "note": call.note,
        }
        for key, value in attributes.items():
            kind = {"int_value": value} if isinstance(value, int) else {"string_value": value}
            span.attributes.add(key=key, value=kind)
        span.status.code = 1
    encoded: bytes = request.SerializeToString()
    return encoded


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
