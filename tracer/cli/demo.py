"""``tracer demo``: an agent with a tool on the fake OpenAI server, traced. Needs no key and no network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

import tracer
from tracer._exceptions import MissingDependencyError
from tracer._models import SpanType, Trace
from tracer.cli._options import json_option, uri_option
from tracer.cli._output import print_json
from tracer.cli._reading import run

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["demo"]

COMMANDLINE = click.core.ParameterSource.COMMANDLINE

MODEL = "gpt-4o-mini"
QUESTION = "What's the weather like in Paris today?"
_WEATHER = {"Tokyo": "sunny", "Paris": "rainy"}
_TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell today's weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@click.command()
@json_option
@uri_option
def demo(as_json: bool, uri: str) -> None:
    """Run a tool-calling agent on the bundled fake server, and show its trace.

    The trace is stored at --uri; the database is created if needed. Real code of this kind is in examples/.
    """
    try:
        import tracer.testing  # the extra `testing`, and openai
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tracer demo", package=error.name or "uvicorn", extra="testing") from error

    tracer.set_tracking_uri(uri)
    answer, trace = run(_traced_run)
    if as_json:
        print_json({"answer": answer, "uri": tracer.get_tracking_uri(), "trace": trace.to_dict()})
        return
    from tracer.cli._tree import print_trace

    click.echo(f"user: {QUESTION}\nagent: {answer}\n")
    print_trace(trace)
    own = f" --uri {uri}" if click.get_current_context().get_parameter_source("uri") is COMMANDLINE else ""
    click.echo(f"\nStored in {tracer.get_tracking_uri()}. Look at it with:")
    click.echo(f"  tracer ui --open{own}\n  tracer traces show last --inputs --outputs{own}")


async def _traced_run() -> tuple[str, Trace]:
    from tracer.testing import FakeOpenAI

    tracer.autolog()
    try:
        async with FakeOpenAI() as server, server.async_client() as client:
            with tracer.start_span("weather_agent", span_type=SpanType.AGENT) as span:
                tracer.update_current_trace(tags={"demo": "true"}, session_id="demo")
                span.set_inputs({"question": QUESTION})
                answer = await _ask(client, QUESTION)
                span.set_outputs(answer)
        return answer, await tracer.get_trace(span.trace_id)
    finally:
        tracer.autolog(disable=True)
        await tracer.shutdown()


async def _ask(client: AsyncOpenAI, question: str) -> str:
    """Ask, run the tools that the model wants, and stream the answer that it makes from their results."""
    messages: Any = [{"role": "user", "content": question}]
    first = await client.chat.completions.create(model=MODEL, messages=messages, tools=_TOOLS)
    messages.append(first.choices[0].message.to_dict())
    for call in first.choices[0].message.tool_calls or ():
        if call.type == "function":
            result = await get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(model=MODEL, messages=messages, **options)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@tracer.trace(span_type=SpanType.TOOL)
async def get_weather(city: str) -> str:
    """Look up the weather."""
    return _WEATHER.get(city, "unknown")
