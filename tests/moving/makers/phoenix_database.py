"""Makes ``fixtures/phoenix.sql``: Phoenix' own database, with traces that OpenInference's instrumentation recorded.

Run with an environment of its own that has arize-phoenix 20.26.1, openinference-instrumentation-openai and openai,
while ``tracer.testing`` serves as OpenAI, and Phoenix with a new directory::

    python -m tests.moving.serve_openai 8123 &                       # from this repository's environment
    PHOENIX_WORKING_DIR=$(mktemp -d) path/to/phoenix/bin/phoenix serve &
    OPENAI_BASE_URL=http://127.0.0.1:8123/v1 OPENAI_API_KEY=x path/to/phoenix/bin/python \
        tests/moving/makers/phoenix_database.py http://127.0.0.1:6006 $PHOENIX_WORKING_DIR/phoenix.db \
        > tests/moving/fixtures/phoenix.sql
"""

import contextlib
import json
import sqlite3
import sys
import time
import urllib.request
from pathlib import Path

import openai
from dump import dump
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor
from openinference.semconv.trace import SpanAttributes
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

TABLES = (
    "projects",
    "project_sessions",
    "traces",
    "spans",
    "span_annotations",
    "trace_annotations",
    "span_costs",
    "document_annotations",
    "project_session_annotations",
    "alembic_version",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
BASE, DATABASE = sys.argv[1:3]


def provider(project: str) -> TracerProvider:
    made = TracerProvider(resource=Resource({"openinference.project.name": project}))
    made.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{BASE}/v1/traces")))
    return made


def record() -> None:
    traced = provider("support desk")
    tracer = traced.get_tracer("makers")
    OpenAIInstrumentor().instrument(tracer_provider=traced)
    client = openai.OpenAI()
    kind = SpanAttributes.OPENINFERENCE_SPAN_KIND
    with (
        using_attributes(
            session_id="session-7", user_id="ann", tags=["prod", "Zürich"], metadata={"release": "1.2", "build": 3}
        ),
        tracer.start_as_current_span("weather agent", attributes={kind: "AGENT"}) as agent,
    ):
        agent.set_attribute("input.value", "What's the weather like in Paris today?")
        messages = [{"role": "user", "content": "What's the weather like in Paris today?"}]
        first = client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=[TOOL])
        messages.append(first.choices[0].message.to_dict())
        for call in first.choices[0].message.tool_calls or []:
            with tracer.start_as_current_span("get_weather", attributes={kind: "TOOL"}) as tool:
                tool.set_attribute("input.value", call.function.arguments)
                tool.set_attribute("input.mime_type", "application/json")
                tool.set_attribute("output.value", "rainy in Paris")
                tool.set_status(Status(StatusCode.OK))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "rainy in Paris"})
        answer = client.chat.completions.create(model="gpt-5-mini", messages=messages)
        agent.set_attribute("output.value", answer.choices[0].message.content)
        agent.set_status(Status(StatusCode.OK))
    chat = [{"role": "user", "content": "Tell me a story"}]
    streamed = client.chat.completions.create(
        model="gpt-5-mini", messages=chat, stream=True, stream_options={"include_usage": True}
    )
    for _ in streamed:
        pass
    client.responses.create(model="gpt-5-mini", instructions="Be brief.", input="What is a span?")
    client.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], encoding_format="float", dimensions=8
    )
    lost = openai.OpenAI(base_url=f"{client.base_url}nowhere", max_retries=0)
    with contextlib.suppress(openai.APIError):
        lost.chat.completions.create(model="gpt-5-mini", messages=chat)
    with provider("other").get_tracer("makers").start_as_current_span("by hand") as span:
        span.set_attribute("k", [1, 2])
        span.add_event("noted", {"n": 3})


def asked(sql: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(DATABASE)) as connection:
        return connection.execute(sql).fetchall()


def post(path: str, body: object) -> None:
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{BASE}{path}", data, {"content-type": "application/json"})
    urllib.request.urlopen(request).read()


def annotate() -> None:
    ((agent, trace),) = asked(
        "SELECT span_id, traces.trace_id FROM spans JOIN traces ON traces.id = trace_rowid WHERE name = 'weather agent'"
    )
    ((tool,),) = asked("SELECT span_id FROM spans WHERE name = 'get_weather'")

    def told(kind: str, name: str, **result: object) -> dict[str, object]:
        return {"name": name, "annotator_kind": kind, "result": result}

    spans = [
        {"span_id": agent, **told("HUMAN", "helpful", label="yes", score=1.0, explanation="it rains")},
        {"span_id": agent, **told("LLM", "score", score=0.75)},
        {"span_id": tool, **told("CODE", "label", label="good")},
    ]
    post("/v1/span_annotations?sync=true", {"data": spans})
    post("/v1/trace_annotations?sync=true", {"data": [{"trace_id": trace, **told("HUMAN", "whole", score=0.5)}]})


record()
while len(asked("SELECT id FROM spans")) < 9:  # Phoenix answers before it has stored
    time.sleep(0.2)
annotate()
dump(DATABASE, TABLES, Path(__file__).name)
