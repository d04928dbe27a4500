"""What MLflow has is here, or is refused with a sentence that says what to use: never a plain error.

``names.json`` is what MLflow's tracing API consists of, by ``list_names.py`` in an environment with MLflow.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tracer
import tracer.mlflow as mlflow
from tests.mlflow.test_api import found, last, record
from tracer.mlflow._missing import OTHERWISE
from tracer.mlflow.entities import (
    AssessmentSource,
    Document,
    Expectation,
    Feedback,
    LiveSpan,
    SpanEvent,
    SpanLogLevel,
)
from tracer.mlflow.exceptions import MissingNameError, UnsupportedError

LISTED: dict[str, Any] = json.loads((Path(__file__).parent / "names.json").read_text())
ENTITIES: Any = mlflow.entities
LACKING: Any = mlflow  # type checkers know what it lacks

OF_TRACER_ITSELF = {  # these classes are tracer's own; what they lack converts to what MLflow's server is sent
    "SpanStatus": {"from_otel_proto_status", "from_otel_status", "to_otel_proto_status", "to_otel_status"},
    "SpanStatusCode": {"from_otel_proto_status_code_name", "to_otel_proto_status_code_name"},
    "TraceState": {"STATE_UNSPECIFIED", "from_otel_status", "from_proto", "to_proto"},
}


@pytest.mark.parametrize("module", LISTED["names"])
def test_every_name_of_a_module_is_there_or_refused(module: str) -> None:
    ours = importlib.import_module(f"tracer.{module}")
    refused = [name for name in LISTED["names"][module] if not hasattr(ours, name)]
    for name in refused:
        with pytest.raises(UnsupportedError) as by_attribute:
            getattr(ours, name)
        sentence = str(by_attribute.value)
        assert sentence.startswith(f"tracer.{module} has no '{name}': ")
        assert OTHERWISE not in sentence, "it has no remedy of its own"
        with pytest.raises(MissingNameError) as by_from:
            exec(f"from tracer.{module} import {name}")
        with pytest.raises(MissingNameError) as by_import:
            importlib.import_module(f"tracer.{module}.{name}")
        assert str(by_from.value) == str(by_import.value) == sentence


def test_the_names_of_mlflows_tracing_are_there() -> None:
    """A name that nobody decided to refuse must not be missing because it was forgotten."""
    refused = {name for name in LISTED["names"]["mlflow.tracing"] if not hasattr(mlflow.tracing, name)}
    public = {name for name in refused if name.startswith(("get_", "set_", "unset_"))}
    assert public == {
        "get_bridged_tracer_provider",
        "set_databricks_monitoring_sql_warehouse_id",
        "set_destination",
        "set_experiment_trace_location",
        "unset_experiment_trace_location",
    }


@pytest.mark.parametrize("function", LISTED["parameters"])
def test_functions_take_mlflows_arguments_in_mlflows_order(function: str) -> None:
    module, _, name = function.rpartition(".")
    ours = getattr(importlib.import_module(f"tracer.{module}"), name, None)
    if ours is not None:
        theirs = LISTED["parameters"][function]
        assert list(inspect.signature(ours).parameters)[: len(theirs)] == theirs


@pytest.mark.parametrize("name", ["AssessmentSource", "Document", "Expectation", "Feedback", "SpanEvent", "SpanStatus"])
def test_what_users_make_themselves_takes_mlflows_arguments(name: str) -> None:
    theirs = LISTED["constructors"][name]
    assert list(inspect.signature(getattr(ENTITIES, name)).parameters)[: len(theirs)] == theirs


def examples() -> dict[str, Any]:
    with mlflow.start_span("x") as live:
        live.add_event("an event")
    trace = last()
    return {
        "Assessment": Feedback(),
        "AssessmentSource": AssessmentSource("HUMAN"),
        "Document": Document("text"),
        "Expectation": Expectation("name", 1),
        "Feedback": Feedback(),
        "LiveSpan": live,
        "Span": trace.data.spans[0],
        "SpanEvent": trace.data.spans[0].events[0],
        "SpanStatus": trace.data.spans[0].status,
        "Trace": trace,
        "TraceData": trace.data,
        "TraceInfo": trace.info,
    }


def test_every_member_of_an_entity_is_there_or_refused() -> None:
    of_objects = examples()
    for name, members in LISTED["members"].items():
        if not hasattr(ENTITIES, name):
            continue
        entity = of_objects.get(name, getattr(ENTITIES, name))
        for member in set(members) - OF_TRACER_ITSELF.get(name, set()):
            if not hasattr(entity, member):
                with pytest.raises(UnsupportedError, match=f"has no '{member}': "):
                    getattr(entity, member)


def test_the_exception_has_mlflows_members_or_refuses_them() -> None:
    error: Any = mlflow.MlflowException("wrong")
    for member in LISTED["exception"]:
        if not hasattr(error, member):
            with pytest.raises(UnsupportedError, match=f"has no '{member}': tracer.mlflow raises MlflowException for"):
                getattr(error, member)


@pytest.mark.parametrize(
    ("use", "code"),
    [
        (lambda: mlflow.set_trace_tag("0" * 32, "a", "b"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow.get_assessment(record(), "a-1"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: mlflow.start_span(""), "INVALID_PARAMETER_VALUE"),
        (lambda: AssessmentSource("GHOST"), "INVALID_PARAMETER_VALUE"),
    ],
)
def test_the_exception_says_of_what_kind_it_is(use: Any, code: str) -> None:
    with pytest.raises(mlflow.MlflowException) as caught:
        use()
    assert (caught.value.error_code, caught.value.message) == (code, str(caught.value))


@pytest.mark.parametrize(
    ("use", "remedy"),
    [
        (lambda: ENTITIES.Trace(info=1, data=2), "read by get_trace"),
        (lambda: ENTITIES.TraceInfo("t", None, 1, "OK"), "read by get_trace"),
        (lambda: ENTITIES.Span(1), "read by get_trace"),
        (lambda: ENTITIES.Trace.from_json("{}"), "read by get_trace"),
        (lambda: ENTITIES.Trace.from_dict({}), "read by get_trace"),
        (lambda: last().to_proto(), "to_dict"),  # type: ignore[attr-defined]
        (lambda: Feedback(error=ValueError()), "rationale"),  # type: ignore[arg-type]
        (lambda: Feedback("good", True, metadata={"a": 1}), "rationale"),  # type: ignore[arg-type]
        (lambda: Expectation("good", True, metadata={"a": 1}), "rationale"),  # type: ignore[arg-type]
        (lambda: mlflow.set_experiment("x", trace_location=1), "set_tracking_uri"),  # type: ignore[arg-type]
        (lambda: mlflow.tracing.configure(span_processors=[print]), "redact="),
        (lambda: mlflow.config.enable_async_logging(False), "flush_trace_async_logging"),
        (lambda: LACKING.tracing.set_destination(1), "set_tracking_uri"),
        (lambda: LACKING.update_assessment("t", "a", Feedback()), "delete the old one"),
        (lambda: LiveSpan.add_link, "one parent"),  # type: ignore[attr-defined]
        (lambda: LACKING.exceptions.RestException, "MlflowException"),
        (lambda: LACKING.start_run(run_name="x"), "tracer has no runs: put traces into experiments"),
        (lambda: LACKING.MlflowClient("http://x"), "call get_trace, search_traces, set_trace_tag"),
        (lambda: LACKING.genai.evaluate(data=[]), "log_feedback stores what your own checks say"),
        (lambda: LACKING.openai.log_model("m"), "tracer stores traces and no models"),
        (lambda: LACKING.trace(trace_destination=1), "choose the experiment with set_experiment"),
        (lambda: LACKING.start_span(links=[1]), "a span has one parent"),
        (lambda: LACKING.start_span(run_id="r"), "tracer has no runs"),
        (lambda: LACKING.search_traces(run_id="r"), "tracer has no runs"),
        (lambda: LACKING.search_traces(extract_fields=["a"]), "take them from span.inputs"),
        (lambda: LACKING.log_feedback(trace_id="1", error=ValueError()), "rationale"),
        (lambda: LACKING.autolog(extra_tags={"a": "b"}), "tracing.context"),
    ],
)
def test_what_is_refused_says_what_to_use(use: Any, remedy: str) -> None:
    record()
    with pytest.raises(UnsupportedError, match=remedy) as caught:
        use()
    assert isinstance(caught.value, mlflow.MlflowException)
    assert isinstance(caught.value, AttributeError)


def test_a_name_that_mlflow_has_not_either_is_refused_as_well() -> None:
    with pytest.raises(UnsupportedError, match=r"tracer.mlflow has no 'trce': only MLflow's tracing is here"):
        LACKING.trce  # noqa: B018
    with pytest.raises(MissingNameError, match=r"tracer.mlflow.entities.span has no 'Spam': only MLflow's"):
        from tracer.mlflow.entities.span import Spam  # type: ignore[attr-defined]  # noqa: F401
    for name in ("_private", "__wrapped__"):
        assert not hasattr(mlflow, name)
        with pytest.raises(ImportError) as caught:
            exec(f"from tracer.mlflow import {name}")
        assert not isinstance(caught.value, MissingNameError)


def test_a_submodule_is_imported_with_the_sentence() -> None:
    for statement in ("import tracer.mlflow.genai", "from tracer.mlflow.tracking import MlflowClient"):
        with pytest.raises(MissingNameError, match=r"tracer\.mlflow has no '(genai|tracking)': tracer has no"):
            exec(statement)


def test_imports_under_the_name_mlflow_are_refused_as_well() -> None:
    """Where a program has put tracer.mlflow in MLflow's place."""
    source = (
        "import sys, tracer.mlflow\n"
        "sys.modules['mlflow'] = tracer.mlflow\n"
        "from mlflow import start_span\n"
        "try:\n    from mlflow import start_run\n"
        "except ImportError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("tracer.mlflow has no 'start_run': tracer has no runs")


def test_the_finder_is_there_once_and_leaves_other_imports_alone() -> None:
    importlib.reload(mlflow)
    finders = [finder for finder in sys.meta_path if type(finder).__name__ == "_Refuser"]
    assert len(finders) == 1
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'tracer\.nothing'$"):
        importlib.import_module("tracer.nothing")


# --- what is there since ----------------------------------------------------------------------------------------------


def test_a_running_span_has_mlflows_members() -> None:
    for span in (mlflow.start_span_no_context("a"), tracer.start_span_no_context("b")):
        running: Any = span
        assert (running.request_id, running.log_level, running.description) == (span.trace_id, None, None)
        running.set_log_level("error")
        running.set_description("what it does")
        assert (running.log_level, running.description) == (SpanLogLevel.ERROR, "what it does")
        with pytest.raises(mlflow.MlflowException, match="log_level must be one of"):
            running.set_log_level("LOUD")
        mlflow.tracing.set_span_chat_tools(span, [{"type": "function", "function": {"name": "f"}}])
        span.add_event(SpanEvent("noted", attributes={"n": 1}))  # type: ignore[arg-type]
        span.end()
        [ended] = last().data.spans
        assert (ended.log_level, ended.description) == (SpanLogLevel.ERROR, "what it does")
        assert ended.get_attribute("mlflow.chat.tools") == [{"type": "function", "function": {"name": "f"}}]
        assert (ended.events[0].name, ended.events[0].attributes) == ("noted", {"n": 1})


def test_documents_of_a_retriever() -> None:
    class Node:
        def __init__(self) -> None:
            self.metadata, self.node_id = {"source": "b", "score": 1}, "7"

        def get_content(self) -> str:
            return "text"

        def get_score(self) -> float:
            return 0.5

    class Page:
        def __init__(self) -> None:
            self.page_content, self.metadata = "page", {"source": "c"}

    found = [
        Document("a", {"source": "x"}, "1"),
        Document.from_llama_index_node_with_score(Node()),
        Document.from_langchain_document(Page()),
    ]
    with mlflow.start_span("retrieve", span_type="RETRIEVER") as span:
        span.set_outputs(found)
    plain = [
        {"page_content": "a", "metadata": {"source": "x"}, "id": "1"},
        {"page_content": "text", "metadata": {"source": "b", "score": 1}, "id": "7"},
        {"page_content": "page", "metadata": {"source": "c"}, "id": None},
    ]
    assert [document.to_dict() for document in found] == plain
    assert last().data.spans[0].outputs == plain


def test_assessments_are_made_as_in_mlflow() -> None:
    feedback = Feedback("good", True)
    assert (feedback.name, feedback.value, feedback.feedback.value) == ("good", True, True)
    assert (feedback.source, feedback.error, feedback.metadata) == (AssessmentSource("CODE"), None, None)
    expectation = Expectation("answer", "Paris", AssessmentSource("HUMAN", "ann"))
    assert (expectation.value, expectation.expectation.value) == ("Paris", "Paris")
    source = expectation.source
    assert AssessmentSource.from_dictionary(source.to_dictionary()) == source
    trace_id = record()
    logged = mlflow.log_assessment(trace_id, expectation)
    assert logged.assessment_id is not None
    assert logged.last_update_time_ms == logged.create_time_ms
    assert found(filter_string="feedback.expected.answer = 'Paris'") == ["x"]


def test_a_trace_goes_on_in_another_process() -> None:
    with mlflow.start_span("client") as client:
        headers = mlflow.tracing.get_tracing_context_headers_for_http_request()
    set_context = mlflow.tracing.set_tracing_context_from_http_request_headers
    with set_context({"Traceparent": headers["traceparent"]}):
        assert mlflow.get_current_active_span() is None
        assert mlflow.tracing.distributed.get_tracing_context_headers_for_http_request() == headers
        with mlflow.start_span("server"), mlflow.start_span("step"):
            pass
    assert [span.name for span in last().data.spans] == ["client", "server", "step"]
    assert last().data.spans[1].parent_id == client.span_id
    with pytest.raises(mlflow.MlflowException, match=r"must hold a traceparent.*\['host'\]"):
        set_context({"host": "x"})


def test_settings_of_mlflow_that_hold_here_anyway() -> None:
    mlflow.config.enable_async_logging()
    with mlflow.tracing.configure(span_processors=[]), mlflow.context(tags={"a": 1}):
        trace_id = record()
    trace = mlflow.get_trace(trace_id)
    assert trace is not None
    assert trace.info.tags["a"] == "1"
    assert list(trace.to_pandas_dataframe_row()) == mlflow.entities.Trace.pandas_dataframe_columns()
