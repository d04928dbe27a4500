"""`tracer.mlflow`: MLflow's functions with MLflow's arguments and answers."""

from __future__ import annotations

import builtins
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

import tracer
import tracer.mlflow as mlflow
from tests.reading import last_trace
from tracer.mlflow.entities import AssessmentSource, AssessmentSourceType, Expectation, Feedback, SpanLogLevel, SpanType


def last() -> mlflow.entities.Trace:
    trace = mlflow.get_trace(mlflow.get_last_active_trace_id())
    assert trace is not None
    return trace


def record(name: str = "x", **tags: str) -> str:
    with mlflow.start_span(name) as span:
        span.set_inputs({"q": name})
        span.set_outputs("a")
        if tags:
            mlflow.update_current_trace(tags=tags)
    return span.trace_id


def found(**query: Any) -> list[str | None]:
    return [trace.info.stored.name for trace in mlflow.search_traces(return_type="list", **query)]


# --- spans ------------------------------------------------------------------------------------------------------------


def test_functions_and_blocks_take_mlflows_arguments() -> None:
    @mlflow.trace(name="f", span_type=SpanType.CHAIN, attributes={"a": 1}, log_level="warning", description="adds")
    def add(x: int, y: int = 2) -> int:
        with mlflow.start_span("inner", span_type=None, attributes={"b": 2}, description="a step") as span:
            assert mlflow.get_current_active_span() is span
            assert mlflow.get_active_trace_id() == span.trace_id
        return x + y

    assert add(1) == 3
    trace = last()
    outer, inner = trace.data.spans
    assert (outer.name, outer.span_type, outer.inputs, outer.outputs) == ("f", "CHAIN", {"x": 1, "y": 2}, 3)
    assert (outer.log_level, outer.description) == (SpanLogLevel.WARNING, "adds")
    assert (inner.log_level, inner.description, inner.span_type) == (SpanLogLevel.DEBUG, "a step", "UNKNOWN")
    assert outer.attributes["mlflow.spanFunctionName"] == "add"
    assert outer.get_attribute("mlflow.spanInputs") == {"x": 1, "y": 2}
    assert trace.search_spans(name="inner") == trace.search_spans(name=re.compile("^inn")) == [inner]
    assert trace.search_spans(span_type=SpanType.CHAIN) == trace.search_spans(span_id=outer.span_id) == [outer]
    assert (trace.data.request, trace.data.response) == ('{"x": 1, "y": 2}', "3")
    assert trace.info.execution_time_ms == trace.info.execution_duration
    assert trace.info.timestamp_ms == trace.info.request_time == trace.info.stored.start_time_ns // 1_000_000
    assert trace.info.request_id == trace.trace_id == outer.request_id
    assert json.loads(trace.to_json(pretty=True)) == json.loads(trace.to_json()) == trace.to_dict()
    assert "\n" in trace.to_json(pretty=True)
    assert repr(trace) == f"Trace(trace_id={trace.trace_id!r})"
    assert repr(inner).startswith("Span(name='inner', trace_id=")


async def test_items_of_generators_are_chunks() -> None:
    @mlflow.trace(output_reducer="".join)
    async def letters() -> Any:
        yield "a"
        yield "b"

    assert [letter async for letter in letters()] == ["a", "b"]
    [span] = last().data.spans
    assert span.outputs == "ab"
    assert [event.name for event in span.events] == ["mlflow.chunk.item.0", "mlflow.chunk.item.1"]
    assert span.events[1].attributes == {"mlflow.chunk.value": '"b"'}


def test_detached_spans() -> None:
    root = mlflow.start_span_no_context(
        "root", inputs=1, tags={"t": 1}, metadata={"m": 2}, log_level=SpanLogLevel.ERROR
    )
    mlflow.start_span_no_context("child", parent_span=root).end(outputs=3)
    root.end(outputs={"x": 2}, status="OK")
    trace = last()
    assert [(span.name, span.outputs) for span in trace.data.spans] == [("root", {"x": 2}), ("child", 3)]
    assert (trace.info.tags["t"], trace.info.trace_metadata["m"]) == ("1", "2")
    assert trace.data.spans[0].log_level == SpanLogLevel.ERROR


def test_the_running_trace_takes_mlflows_arguments() -> None:
    @mlflow.trace
    def work(x: int) -> int:
        mlflow.update_current_trace(
            tags={"n": 1},
            metadata={"m": 1.5},
            client_request_id="c",
            request_preview="asked",
            state="ERROR",
            model_id="m-1",
            session_id="s",
            user="u",
        )
        return x

    work(1)
    info = last().info
    assert (info.status, info.client_request_id) == ("ERROR", "c")
    assert (info.request_preview, info.response_preview) == ("asked", "1")
    assert info.tags == {"mlflow.traceName": "work", "n": "1"}
    assert info.request_metadata == {
        "mlflow.traceInputs": "asked",
        "mlflow.traceOutputs": "1",
        "mlflow.trace.session": "s",
        "mlflow.trace.user": "u",
        "mlflow.modelId": "m-1",
        "m": "1.5",
    }
    with mlflow.start_span("long") as span:
        span.set_outputs("x" * 2_000)
    assert len(last().info.response_preview or "") == 1_000


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_trace_that_is_not_stored_is_none(tracer_log: list[logging.LogRecord]) -> None:
    assert mlflow.get_trace("tr-" + "0" * 32) is None
    assert mlflow.get_trace(mlflow.get_last_active_trace_id()) is None
    assert [record.getMessage() for record in tracer_log] == [
        f"tracer.mlflow.get_trace() returns None: no trace tr-{'0' * 32} is stored",
        "tracer.mlflow.get_trace() returns None: no trace None is stored",
    ]
    tracer_log.clear()
    assert mlflow.get_trace("0" * 32, silent=True) is None
    trace_id = record()
    assert mlflow.get_trace(f"tr-{trace_id}") == mlflow.get_trace(request_id=trace_id, flush=True)


async def test_reading_blocks_inside_an_event_loop_too() -> None:
    record("one")
    assert last().info.stored == (await last_trace()).info
    assert found() == ["one"]


def test_a_search_looks_at_the_current_experiment() -> None:
    record("default")
    experiment = mlflow.set_experiment("it's")
    assert experiment == ("it's", "it's")
    record("b", env="prod")
    record("a", env="dev")
    assert found() == ["a", "b"]
    assert found(experiment_ids=["Default"]) == ["default"]
    assert found(locations=["it's", "Default"]) == ["a", "b", "default"]
    assert found(locations=["it's", "Default"], filter_string="tags.env = 'dev' OR name = 'default'") == [
        "a",
        "default",
    ]
    assert found(filter_string="trace.status = 'OK' AND tags.env = 'prod'") == ["b"]
    assert found(order_by=["timestamp_ms ASC"], max_results=1) == ["b"]
    assert found(max_results=0) == []
    [trace] = mlflow.search_traces(return_type="list", include_spans=False, max_results=1)
    assert (trace.data.spans, trace.data.request, trace.info.request_preview) == ([], None, "a")


def test_a_search_without_limit_finds_all() -> None:
    for number in range(1_100):
        record(str(number))
    assert len(found(include_spans=False)) == 1_100
    assert len(found(include_spans=False, max_results=1_050)) == 1_050


def test_a_search_gives_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    trace_id = record("x", env="prod")
    frame = mlflow.search_traces()
    assert isinstance(frame, pandas.DataFrame)
    [row] = frame.to_dict("records")
    assert (row["trace_id"], row["state"], row["request"], row["response"]) == (trace_id, "OK", {"q": "x"}, "a")
    assert row["spans"][0]["name"] == "x"
    assert json.loads(row["trace"])["info"]["trace_id"] == trace_id
    empty = mlflow.search_traces(filter_string="name = 'nobody'")
    assert (len(empty), list(empty.columns)) == (0, list(frame.columns))


def test_a_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(tracer.MissingDependencyError, match=r"pip install 'openai-tracer\[pandas\]'"):
        mlflow.search_traces()
    assert found() == []


def test_tags_of_stored_traces() -> None:
    trace_id = record()
    mlflow.set_trace_tag(trace_id, "n", 3)
    mlflow.set_trace_tag(f"tr-{trace_id}", "gone", "x")
    mlflow.delete_trace_tag(trace_id, "gone")
    mlflow.flush_trace_async_logging()
    assert last().info.tags == {"mlflow.traceName": "x", "n": "3"}


def test_assessments() -> None:
    trace_id = record()
    span_id = last().data.spans[0].span_id
    judge = AssessmentSource(source_type=AssessmentSourceType.LLM_JUDGE, source_id="gpt-5")
    first = mlflow.log_feedback(trace_id=trace_id, name="good", value=0.5, rationale="because", source=judge)
    mlflow.log_feedback(trace_id=trace_id, value={"a": [1, True]}, span_id=span_id)
    mlflow.log_expectation(trace_id=trace_id, name="answer", value="Paris")
    mlflow.log_assessment(
        trace_id, Expectation(name="tools", value=["search"], source=AssessmentSource("human", "ann"))
    )
    trace = last()
    assert [
        (type(one).__name__, one.name, one.value, one.source, one.rationale, one.span_id)
        for one in trace.info.assessments
    ] == [
        ("Feedback", "good", 0.5, judge, "because", None),
        ("Feedback", "feedback", {"a": [1, True]}, AssessmentSource("CODE"), None, span_id),
        ("Expectation", "answer", "Paris", AssessmentSource("HUMAN"), None, None),
        ("Expectation", "tools", ["search"], AssessmentSource("HUMAN", "ann"), None, None),
    ]
    assert [one.name for one in trace.search_assessments(type="expectation")] == ["answer", "tools"]
    assert [one.name for one in trace.search_assessments("good", type="feedback")] == ["good"]
    assert [one.name for one in trace.search_assessments(span_id=span_id)] == ["feedback"]
    assert isinstance(first, Feedback)
    assert first.assessment_id is not None
    assert mlflow.get_assessment(trace_id, first.assessment_id) == first
    mlflow.delete_assessment(trace_id, first.assessment_id)
    with pytest.raises(mlflow.MlflowException, match="has no assessment"):
        mlflow.get_assessment(trace_id, first.assessment_id)
    assert found(filter_string="feedback.expected.answer = 'Paris'") == ["x"]
    with pytest.raises(mlflow.MlflowException, match="source_type must be"):
        AssessmentSource("GHOST")


# --- on and off -------------------------------------------------------------------------------------------------------


def test_tracing_is_switched_off_and_on() -> None:
    mlflow.tracing.disable()
    with mlflow.start_span("off"):
        assert mlflow.get_current_active_span() is None
        assert mlflow.get_active_trace_id() is None
    mlflow.tracing.enable()
    with mlflow.tracing.context(enabled=False), mlflow.start_span("off, too"):
        pass
    with mlflow.tracing.context(tags={"a": 1}, metadata={"m": 2}, session_id="s", user="u"):
        record("on")
    mlflow.tracing.disable()
    mlflow.tracing.reset()
    record("on again")
    assert found() == ["on again", "on"]
    [info] = [trace.info for trace in mlflow.search_traces(return_type="list", filter_string="name = 'on'")]
    assert (info.tags["a"], info.trace_metadata["m"]) == ("1", "2")
    assert (info.trace_metadata["mlflow.trace.session"], info.trace_metadata["mlflow.trace.user"]) == ("s", "u")


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (1.0, 10)])
def test_a_function_has_its_own_sampling_ratio(rate: float, count: int) -> None:
    @mlflow.trace(sampling_ratio_override=rate)
    def work() -> None: ...

    tracer.configure(sample_rate=1 - rate)
    for _ in range(10):
        work()
    assert len(found()) == count


def test_headers_for_another_service() -> None:
    assert mlflow.tracing.get_tracing_context_headers_for_http_request() == {}
    with mlflow.start_span("x") as span:
        headers = mlflow.tracing.get_tracing_context_headers_for_http_request()
    assert headers == {"traceparent": f"00-{span.trace_id}-{span.span_id}-01"}


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda: mlflow.search_traces(return_type="list", filter_string="status ="),
        lambda: mlflow.search_traces(return_type="spark"),  # type: ignore[call-overload]
        lambda: mlflow.start_span(""),
        lambda: mlflow.set_trace_tag("0" * 32, "a", "b"),
        lambda: mlflow.set_experiment(None),
        lambda: mlflow.set_tracking_uri("sqlite:nonsense"),
        lambda: mlflow.trace(sampling_ratio_override=2),
        lambda: mlflow.start_span(log_level="LOUD"),
        lambda: mlflow.log_assessment("0" * 32, "x"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_raise_mlflows_exception(use: Any) -> None:
    with pytest.raises(mlflow.MlflowException):
        use()


def test_tracking_uris_of_ones_own(tmp_path: Any) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    record("there")
    assert found() == ["there"]
    assert mlflow.get_tracking_uri().endswith("other.db")


def test_every_name_is_there() -> None:
    assert [name for name in mlflow.__all__ if not hasattr(mlflow, name)] == []
    assert [name for name in mlflow.entities.__all__ if not hasattr(mlflow.entities, name)] == []


@pytest.mark.parametrize("uri", ["databricks", "file:///tmp/mlruns", Path("mlruns")], ids=str)
def test_a_tracking_uri_that_only_mlflow_has_is_told_and_left(uri: Any, tracer_log: list[logging.LogRecord]) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    assert mlflow.get_tracking_uri() == before
    [record] = tracer_log
    assert "tracer can't write there; traces go to" in record.getMessage()
    tracer_log.clear()
