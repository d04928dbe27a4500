"""Traces that real servers of others took in, as their own clients read them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import tracer
from tests.receivers.servers import Server, mlflow_server, phoenix_server
from tests.scripted_store import eventually
from tracer.testing import FakeOpenAI, reply

if any(importlib.util.find_spec(name) is None for name in ("mlflow", "phoenix")):
    pytest.skip("needs MLflow and Phoenix: nox -s tests_receivers", allow_module_level=True)

SECONDS = 120.0  # a receiver's first requests take long on a busy machine
QUESTION = "What is the weather in Paris?"
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
EXPERIMENT = {"x-mlflow-experiment-id": "0"}  # the one that MLflow makes itself
Span = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("default")  # other packages' code warns in this process


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with phoenix_server(tmp_path_factory.mktemp("phoenix")) as server:
        yield server


def record(api: FakeOpenAI) -> str:
    """Record a trace with calls of several kinds, one of which fails; return its id."""
    client = openai.OpenAI(base_url=api.base_url, api_key="k", max_retries=0)
    tracer.autolog()

    @tracer.trace(span_type="TOOL")
    def weather(city: str) -> dict[str, Any]:
        return {"city": city, "degrees": 3}

    @tracer.trace(span_type="AGENT")
    def answer(question: str) -> str:
        tracer.update_current_trace(session_id="session-1", user_id="ann")
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS)
        weather("Paris")
        client.responses.create(model="gpt-4o-mini", instructions="Be brief.", input="Name a river.")
        for _ in client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True):
            pass
        api.enqueue(reply.error(503))
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="overloaded", messages=messages)
        return "It is cold."

    answer(QUESTION)
    client.close()
    trace_id = tracer.get_last_active_trace_id()
    assert trace_id is not None
    return trace_id


def sent(log: list[Any]) -> None:
    """Wait until the receiver has taken all; that it was slow at first is of no account."""
    eventually(lambda: tracer.stats().exports["sent"] == 6, SECONDS)
    assert tracer.stats().exports["refused"] == 0
    log[:] = [each for each in log if "wait to be sent by OTLP" not in each.getMessage()]


def trace_of_mlflow(server: Server, trace_id: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.url)
    [found] = [each for each in client.search_traces(locations=["0"]) if each.info.trace_id == f"tr-{trace_id}"]
    return found


def spans_of_phoenix(server: Server, project: str, trace_id: str) -> list[Span]:
    """The spans of a trace, by start. Phoenix answers before it has stored them."""
    from phoenix.client import Client

    found: list[Span] = []

    def all_are_there() -> bool:
        spans: Any = Client(base_url=server.url).spans.get_spans(project_identifier=project, limit=1_000)
        found[:] = [span for span in spans if span["context"]["trace_id"] == trace_id]
        return len(found) == 6

    eventually(all_are_there, SECONDS)
    return sorted(found, key=lambda span: str(span["start_time"]))


def values(spans: list[Span], key: str) -> list[Any]:
    return [span["attributes"].get(key) for span in spans]


NAMES = ["answer", "chat gpt-4o-mini", "weather", "chat gpt-4o-mini", "chat gpt-4o-mini", "chat overloaded"]


def test_mlflow_reads_a_trace_with_its_own_keys(mlflow: Server, server: FakeOpenAI, tracer_log: list[Any]) -> None:
    tracer.configure(otlp_endpoint=mlflow.url, otlp_headers=EXPERIMENT, otlp_keys=("mlflow",))
    trace_id = record(server)
    sent(tracer_log)
    ours, theirs = tracer.sync.get_trace(trace_id), trace_of_mlflow(mlflow, trace_id)
    assert [span.name for span in theirs.data.spans] == NAMES
    assert [(span.span_id, span.parent_id, span.inputs, span.outputs) for span in theirs.data.spans] == [
        (span.span_id, span.parent_id, span.inputs, span.outputs) for span in ours.data.spans
    ]
    assert [span.span_type for span in theirs.data.spans] == [span.span_type for span in ours.data.spans]
    assert [span.start_time_ns for span in theirs.data.spans] == [span.start_time_ns for span in ours.data.spans]
    assert [span.status.status_code.name for span in theirs.data.spans] == ["OK"] * 5 + ["ERROR"]
    usage: Any = ours.info.token_usage
    assert theirs.info.token_usage["total_tokens"] == usage["total_tokens"]
    assert theirs.info.token_usage["input_tokens"] == usage["input_tokens"]
    assert (theirs.info.state.name, json.loads(theirs.info.request_preview)) == ("OK", {"question": QUESTION})
    metadata = theirs.info.trace_metadata
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == ("session-1", "ann")
    assert theirs.data.spans[1].attributes["mlflow.llm.model"].startswith("gpt-4o-mini")
    assert [event.name for event in theirs.data.spans[5].events] == ["exception"]


def test_mlflow_reads_a_trace_by_the_conventions(mlflow: Server, server: FakeOpenAI, tracer_log: list[Any]) -> None:
    tracer.configure(otlp_endpoint=mlflow.url, otlp_headers=EXPERIMENT)
    trace_id = record(server)
    sent(tracer_log)
    theirs = trace_of_mlflow(mlflow, trace_id)
    assert [span.name for span in theirs.data.spans] == NAMES
    chat, tool = theirs.data.spans[1], theirs.data.spans[2]
    assert [message["parts"][0]["content"] for message in chat.inputs] == ["Be brief.", QUESTION]
    assert chat.outputs[0]["parts"][0]["name"] == "get_weather"
    assert (chat.span_type, tool.span_type, tool.inputs) == ("CHAT_MODEL", "TOOL", {"city": "Paris"})
    assert chat.attributes["mlflow.chat.tokenUsage"]["total_tokens"] > 0
    assert theirs.data.spans[0].inputs is None  # no key of the conventions has it


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_phoenix_reads_a_trace_with_its_own_keys(
    phoenix: Server, server: FakeOpenAI, tracer_log: list[Any], over: str
) -> None:
    project = f"shop-{over}"
    tracer.set_experiment(project)
    tracer.configure(otlp_endpoint=phoenix.url if over == "http" else phoenix.grpc, otlp_keys=("openinference",))
    trace_id = record(server)
    sent(tracer_log)
    ours, theirs = tracer.sync.get_trace(trace_id), spans_of_phoenix(phoenix, project, trace_id)
    assert [span["name"] for span in theirs] == NAMES
    assert [(span["context"]["span_id"], span["parent_id"]) for span in theirs] == [
        (span.span_id, span.parent_id) for span in ours.data.spans
    ]
    assert [span["span_kind"] for span in theirs] == ["AGENT", "LLM", "TOOL", "LLM", "LLM", "LLM"]
    assert [span["status_code"] for span in theirs] == ["OK"] * 5 + ["ERROR"]
    assert [json.loads(value) for value in values(theirs, "input.value")] == [span.inputs for span in ours.data.spans]
    assert json.loads(theirs[1]["attributes"]["output.value"]) == ours.data.spans[1].outputs
    assert theirs[0]["attributes"]["output.value"] == "It is cold."
    assert values(theirs, "llm.token_count.total") == [
        span.token_usage and span.token_usage["total_tokens"] for span in ours.data.spans
    ]
    assert str(theirs[1]["attributes"]["llm.model_name"]).startswith("gpt-4o-mini")
    assert theirs[3]["attributes"]["llm.input_messages.0.message.content"] == "Be brief."
    assert set(values(theirs, "session.id")) == {"session-1"}


def test_phoenix_reads_a_trace_by_the_conventions(phoenix: Server, server: FakeOpenAI, tracer_log: list[Any]) -> None:
    tracer.configure(otlp_endpoint=phoenix.url)
    trace_id = record(server)
    sent(tracer_log)
    theirs = spans_of_phoenix(phoenix, "default", trace_id)
    assert [span["span_kind"] for span in theirs] == ["UNKNOWN", "LLM", "TOOL", "LLM", "LLM", "LLM"]
    assert values(theirs, "llm.input_messages.1.message.content")[1] == QUESTION
    assert values(theirs, "llm.output_messages.0.message.content")[3] == "You said: Name a river."
    assert values(theirs, "llm.token_count.total")[1] == theirs[1]["attributes"]["tracer.usage.total_tokens"]
    assert theirs[2]["attributes"]["tool.name"] == "weather"


def test_without_a_store_mlflow_gets_the_whole_trace_too(
    mlflow: Server, server: FakeOpenAI, tracer_log: list[Any]
) -> None:
    tracer.configure(otlp_headers=EXPERIMENT, otlp_keys=("mlflow",))
    tracer.set_tracking_uri(f"otlp+{mlflow.url}")
    trace_id = record(server)
    eventually(lambda: tracer.stats().exports["sent"] == 6, SECONDS)
    theirs = trace_of_mlflow(mlflow, trace_id)
    assert [span.name for span in theirs.data.spans] == NAMES
    assert (theirs.data.spans[0].inputs, theirs.data.spans[0].outputs) == ({"question": QUESTION}, "It is cold.")
    tracer_log[:] = [each for each in tracer_log if "wait for their store" not in each.getMessage()]
