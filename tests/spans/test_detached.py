"""`tracer.start_span_no_context`: spans that are current nowhere and end when they are told to."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

import tracer
from tests.reading import last_span, last_spans, last_trace
from tracer.testing import FakeOpenAI

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


async def test_a_detached_span_is_current_nowhere_and_ends_when_told() -> None:
    job = tracer.start_span_no_context(
        "job",
        tracer.SpanType.WORKFLOW,
        inputs={"n": 3},
        attributes={"a": 1},
        tags={"t": 1},
        metadata={"mlflow.trace.session": "s"},
    )
    assert tracer.get_current_active_span() is None
    assert tracer.get_last_active_trace_id() is None
    job.end(outputs="done", attributes={"b": 2}, status="OK")
    trace = await last_trace()
    [span] = trace.data.spans
    assert (span.name, span.span_type, span.parent_id) == ("job", "WORKFLOW", None)
    assert (span.inputs, span.outputs, str(span.status)) == ({"n": 3}, "done", "OK")
    assert span.attributes == {"a": 1, "b": 2, "tracer.finish": "completed"}
    assert (trace.info.tags, trace.info.session_id) == ({"t": "1"}, "s")


async def test_its_parent_is_the_one_that_is_named() -> None:
    job = tracer.start_span_no_context("job")
    with tracer.start_span("unrelated") as unrelated:
        step = tracer.start_span_no_context("step", parent_span=job)
        assert tracer.get_current_active_span() is unrelated
    within = threading.Thread(target=lambda: tracer.start_span_no_context("thread", parent_span=step).end())
    within.start()
    within.join()
    step.end()
    job.end()
    late = tracer.start_span_no_context("late", parent_span=job)
    late.end()
    spans = await last_spans()
    assert spans.keys() == {"job", "step", "thread", "late"}
    assert spans["step"].parent_id == spans["late"].parent_id == job.span_id
    assert spans["thread"].parent_id == step.span_id


async def test_without_a_parent_it_belongs_to_the_current_span() -> None:
    with tracer.start_span("root") as root:
        tracer.start_span_no_context("step").end()
    assert (await last_spans())["step"].parent_id == root.span_id


async def test_calls_go_below_the_current_span_and_not_below_a_detached_one(server: FakeOpenAI) -> None:
    tracer.autolog()
    job = tracer.start_span_no_context("job")
    async with server.async_client() as client:
        await client.embeddings.create(model="m", input="x")
    call = await last_trace()
    job.end()
    assert call.info.trace_id != job.trace_id
    assert len((await last_trace()).data.spans) == 1


async def test_times_of_its_own() -> None:
    job = tracer.start_span_no_context("job", start_time_ns=START)
    tracer.start_span_no_context("step", parent_span=job, start_time_ns=START + SECOND).end(
        end_time_ns=START + 2 * SECOND
    )
    job.end(end_time_ns=START + 3 * SECOND)
    trace = await last_trace()
    assert (trace.info.start_time_ns, trace.info.duration_ns) == (START, 3 * SECOND)
    assert [(span.start_time_ns, span.duration_ns) for span in trace.data.spans] == [
        (START, 3 * SECOND),
        (START + SECOND, SECOND),
    ]


async def test_a_detached_span_that_is_dropped_is_abandoned() -> None:
    span = tracer.start_span_no_context("dropped", inputs="kept")
    trace_id = span.trace_id
    del span
    gc.collect()
    [stored] = (await tracer.get_trace(trace_id)).data.spans
    assert (stored.get_attribute("tracer.finish"), stored.inputs) == ("abandoned", "kept")
    assert tracer.stats().open_spans == 0


def test_a_detached_span_that_has_ended_has_no_finalizer() -> None:
    """A Ctrl-C that comes in a ``__del__`` is lost."""
    span = tracer.start_span_no_context("x")
    assert hasattr(span, "__del__")
    span.end()
    assert not hasattr(span, "__del__")
    span.end()


def test_a_detached_span_is_sampled_as_others_are() -> None:
    tracer.configure(sample_rate=0)
    job = tracer.start_span_no_context("job", tags={"a": "b"})
    assert not tracer.start_span_no_context("step", parent_span=job).is_recording
    job.end()
    assert tracer.stats().accepted == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "name must be a non-empty string, got ''"),
        ({"span_type": 3}, "span_type must be a non-empty string, got 3"),
        ({"parent_span": "x"}, "parent_span must be a span that start_span gave, or None; got 'x'"),
        ({"attributes": [1]}, "attributes must be a mapping with string keys"),
        ({"tags": "x"}, "tags must be a mapping of names to texts"),
        ({"start_time_ns": 1.5}, "start_time_ns must be nanoseconds since the epoch, a whole number, got 1.5"),
    ],
)
def test_misuse_raises_at_the_call_that_is_wrong(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=message):
        tracer.start_span_no_context(**{"name": "x", **arguments})
    with tracer.start_span() as span, pytest.raises(tracer.ConfigurationError, match="end_time_ns must be"):
        span.end(end_time_ns=-1)


async def test_a_span_that_was_read_is_no_parent() -> None:
    tracer.start_span_no_context("x").end()
    with pytest.raises(tracer.ConfigurationError, match="parent_span must be"):
        tracer.start_span_no_context("y", parent_span=await last_span())  # type: ignore[arg-type]
