"""Makes ``fixtures/mlflow.sql``: MLflow's own database, with traces that MLflow itself recorded.

Run with an environment of its own that has mlflow 3.17.2 and openai, while ``tracer.testing`` serves as OpenAI::

    python -m tests.moving.serve_openai 8123 &                       # from this repository's environment
    OPENAI_BASE_URL=http://127.0.0.1:8123/v1 OPENAI_API_KEY=x path/to/mlflow/bin/python \
        tests/moving/makers/mlflow_database.py > tests/moving/fixtures/mlflow.sql

What is dumped: the tables that hold traces, as SQL text, and the names of the experiments.
"""

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

import mlflow
import openai
from dump import dump
from mlflow.entities import AssessmentSource, AssessmentSourceType, SpanType

TABLES = (
    "alembic_version",
    "experiments",
    "trace_info",
    "trace_tags",
    "trace_request_metadata",
    "trace_metrics",
    "spans",
    "span_metrics",
    "assessments",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@mlflow.trace(span_type=SpanType.TOOL)
def get_weather(city: str) -> str:
    return f"rainy in {city}"


@mlflow.trace(name="weather agent", span_type=SpanType.AGENT)
def agent(question: str) -> str:
    client = openai.OpenAI()
    messages = [{"role": "user", "content": question}]
    first = client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=[TOOL])
    mlflow.update_current_trace(
        tags={"env": "prod", "city": "Zürich"},
        metadata={"mlflow.trace.session": "session-7", "mlflow.trace.user": "ann", "release": "1.2"},
        client_request_id="req-1",
    )
    called = first.choices[0].message.tool_calls
    messages.append(first.choices[0].message.to_dict())
    for call in called or []:
        answer = get_weather(json.loads(call.function.arguments).get("city", "Paris"))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": answer})
    return client.chat.completions.create(model="gpt-5-mini", messages=messages).choices[0].message.content


@mlflow.trace
def broken() -> None:
    raise ValueError("no such city: Zürich")


def record() -> None:
    client = openai.OpenAI()
    agent("What's the weather like in Paris today?")
    judged = mlflow.get_last_active_trace_id()
    chat = [{"role": "user", "content": "Tell me a story"}]
    for _ in client.chat.completions.create(
        model="gpt-5-mini", messages=chat, stream=True, stream_options={"include_usage": True}
    ):
        pass
    client.responses.create(
        model="gpt-5-mini", instructions="Be brief.", input="What is a span?", extra_headers={"x-request": "1"}
    )
    client.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], encoding_format="float", dimensions=8
    )
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    client.chat.completions.create(
        model="gpt-5-mini",
        messages=[{"role": "user", "content": [{"type": "text", "text": "What is in the picture?"}, picture]}],
    )
    asyncio.run(asked())
    lost = openai.OpenAI(base_url=f"{client.base_url}nowhere", max_retries=0)
    with contextlib.suppress(ValueError):
        broken()
    with contextlib.suppress(openai.APIError):
        lost.chat.completions.create(model="gpt-5-mini", messages=chat)
    mlflow.flush_trace_async_logging()
    human = AssessmentSource(AssessmentSourceType.HUMAN, "ann@example.com")
    mlflow.log_feedback(trace_id=judged, name="helpful", value=True, rationale="it rains", source=human)
    judge = AssessmentSource(AssessmentSourceType.LLM_JUDGE, "gpt-5")
    mlflow.log_feedback(trace_id=judged, name="score", value=0.75, source=judge)
    mlflow.log_feedback(trace_id=judged, name="label", value="good", source=AssessmentSource(AssessmentSourceType.CODE))
    mlflow.log_feedback(trace_id=judged, name="parts", value={"tone": 3})
    mlflow.log_expectation(trace_id=judged, name="answer", value="rainy", source=human)
    spans = mlflow.get_trace(judged).data.spans
    mlflow.log_feedback(trace_id=judged, span_id=spans[1].span_id, name="helpful", value=False, source=human)


async def asked() -> None:
    async with openai.AsyncOpenAI() as client:
        await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}], n=2)


def main() -> None:
    directory = Path(tempfile.mkdtemp())
    os.chdir(directory)  # else MLflow notes the branch and commit of this repository
    path = directory / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    for name in ("support desk", "other"):
        mlflow.create_experiment(name, artifact_location=f"{directory}/artifacts/{name}")
    mlflow.set_experiment("support desk")
    mlflow.openai.autolog()
    record()
    mlflow.set_experiment("other")
    with mlflow.start_span("by hand", span_type="MY_OWN") as span:
        span.set_inputs({"a": 1})
        span.set_outputs([1, 2])
        span.set_attribute("k", {"deep": True})
        span.add_event(mlflow.entities.SpanEvent("noted", attributes={"n": 3}))
    mlflow.flush_trace_async_logging()
    dump(str(path), TABLES, Path(__file__).name, {str(directory): "/mlflow"})


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
main()
