"""The examples of MLflow's page on OpenAI run with their import changed: setting up, streams, async, tools, usage, off.

https://mlflow.org/docs/latest/genai/tracing/integrations/listing/openai
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.reading import last_trace
from tests.tracking import TrackingServer
from tracer.testing import FakeOpenAI

Run = Callable[[str], Awaitable[dict[str, Any]]]

BASIC = """
import openai
import mlflow

# Enable auto-tracing for OpenAI
mlflow.openai.autolog()

# Optional: Set a tracking URI and an experiment
mlflow.set_tracking_uri("http://localhost:5000")
mlflow.set_experiment("OpenAI")

client = openai.OpenAI()

messages = [{"role": "user", "content": "What is the capital of France?"}]

response = client.chat.completions.create(
    model="o4-mini",
    messages=messages,
    temperature=0.1,
    max_tokens=100,
)
"""
BASIC_RESPONSES = """
import openai
import mlflow

mlflow.openai.autolog()
mlflow.set_experiment("OpenAI")

client = openai.OpenAI()
response = client.responses.create(model="o4-mini", input="What is the capital of France?")
"""
STREAMING = """
import openai
import mlflow

# Enable trace logging
mlflow.openai.autolog()

client = openai.OpenAI()

stream = client.chat.completions.create(
    model="o4-mini",
    messages=[{"role": "user", "content": "How fast would a glass of water freeze on Titan?"}],
    stream=True,  # Enable streaming response
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="")
"""
STREAMING_RESPONSES = """
import openai
import mlflow

mlflow.openai.autolog()

client = openai.OpenAI()

stream = client.responses.create(
    model="o4-mini",
    input="How fast would a glass of water freeze on Titan?",
    stream=True,
)
for event in stream:
    print(event)
"""
ASYNC = """
import openai
import mlflow

# Enable trace logging
mlflow.openai.autolog()

client = openai.AsyncOpenAI()

response = await client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "How fast would a glass of water freeze on Titan?"}],
    # Async streaming is also supported
    # stream=True
)
await client.close()
"""
ASYNC_RESPONSES = """
import openai
import mlflow

mlflow.openai.autolog()

client = openai.AsyncOpenAI()

response = await client.responses.create(
    model="gpt-4o-mini", input="How fast would a glass of water freeze on Titan?"
)
await client.close()
"""
TOOLS = """
import json
from openai import OpenAI
import mlflow
from mlflow.entities import SpanType

client = OpenAI()


# Define the tool function. Decorate it with `@mlflow.trace` to create a span for its execution.
@mlflow.trace(span_type=SpanType.TOOL)
def get_weather(city: str) -> str:
    if city == "Tokyo":
        return "sunny"
    elif city == "Paris":
        return "rainy"
    return "unknown"


tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
            },
        },
    }
]

_tool_functions = {"get_weather": get_weather}


# Define a simple tool calling agent
@mlflow.trace(span_type=SpanType.AGENT)
def run_tool_agent(question: str):
    messages = [{"role": "user", "content": question}]

    # Invoke the model with the given question and available tools
    response = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=messages,
        tools=tools,
    )
    ai_msg = response.choices[0].message
    messages.append(ai_msg)

    # If the model request tool call(s), invoke the function with the specified arguments
    if tool_calls := ai_msg.tool_calls:
        for tool_call in tool_calls:
            function_name = tool_call.function.name
            if tool_func := _tool_functions.get(function_name):
                args = json.loads(tool_call.function.arguments)
                tool_result = tool_func(**args)
            else:
                raise RuntimeError("An invalid tool is returned from the assistant!")

            messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": tool_result})

        # Sent the tool results to the model and get a new response
        response = client.chat.completions.create(model="gpt-4o-mini", messages=messages)

    return response.choices[0].message.content
"""
USAGE = """
import json
import mlflow

mlflow.openai.autolog()

# Run the tool calling agent defined in the previous section
question = "What's the weather like in Paris today?"
answer = run_tool_agent(question)

# Get the trace object just created
last_trace_id = mlflow.get_last_active_trace_id()
trace = mlflow.get_trace(trace_id=last_trace_id)

# Print the token usage
total_usage = trace.info.token_usage
print("== Total token usage: ==")
print(f"  Input tokens: {total_usage['input_tokens']}")
print(f"  Output tokens: {total_usage['output_tokens']}")
print(f"  Total tokens: {total_usage['total_tokens']}")

# Print the token usage for each LLM call
print("== Detailed usage for each LLM call: ==")
for span in trace.data.spans:
    if usage := span.get_attribute("mlflow.chat.tokenUsage"):
        print(f"{span.name}:")
        print(f"  Input tokens: {usage['input_tokens']}")
        print(f"  Output tokens: {usage['output_tokens']}")
        print(f"  Total tokens: {usage['total_tokens']}")
"""
OFF = """
import mlflow

mlflow.openai.autolog(disable=True)
mlflow.autolog(disable=True)
"""


@pytest.fixture
async def run(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Run an example with ``import mlflow`` changed, and imports from it accordingly; it may await."""
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    known: dict[str, Any] = {"__name__": "__main__"}

    async def run_one(example: str) -> dict[str, Any]:
        changed = example.replace("import mlflow\n", "import tracer.mlflow as mlflow\n")
        changed = changed.replace("from mlflow.", "from tracer.mlflow.")
        result = eval(compile(changed, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), known)
        if inspect.isawaitable(result):
            await result
        return known

    yield run_one
    if isinstance(known.get("client"), openai.OpenAI):
        known["client"].close()


@pytest.mark.parametrize(
    ("example", "name"),
    [
        (BASIC_RESPONSES, "Responses"),
        (STREAMING, "Completions"),
        (STREAMING_RESPONSES, "Responses"),
        (ASYNC, "AsyncCompletions"),
        (ASYNC_RESPONSES, "AsyncResponses"),
    ],
    ids=["basic responses", "streaming", "streaming responses", "async", "async responses"],
)
async def test_calls(example: str, name: str, run: Run) -> None:
    await run(example)
    trace = await last_trace()
    assert [span.name for span in trace.data.spans] == [name]
    assert (trace.info.state, trace.data.spans[0].get_attribute("tracer.finish")) == ("OK", "completed")
    assert trace.info.response_preview


async def test_setting_up(run: Run, tmp_path: Path) -> None:
    with TrackingServer(f"sqlite:///{tmp_path}/server.db") as served:
        await run(BASIC.replace("http://localhost:5000", served.url))
        trace = await last_trace()
        assert (trace.info.experiment, trace.info.name) == ("OpenAI", "Completions")
        assert tracer.get_tracking_uri() == served.url
        await tracer.shutdown()


async def test_tools_and_usage(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    await run(TOOLS)
    known = await run(USAGE)
    assert known["answer"]
    trace = await last_trace()
    assert [(span.name, span.span_type) for span in trace.data.spans] == [
        ("run_tool_agent", "AGENT"),
        ("Completions_1", "CHAT_MODEL"),
        ("get_weather", "TOOL"),
        ("Completions_2", "CHAT_MODEL"),
    ]
    usage = trace.info.token_usage or {}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["== Total token usage: ==", f"  Input tokens: {usage['input_tokens']}"]
    assert lines.count("Completions:") == 2


async def test_switching_off(run: Run) -> None:
    await run(OFF)
    await run(ASYNC_RESPONSES.replace("mlflow.openai.autolog()", ""))
    assert len(await tracer.search_traces()) == 0
