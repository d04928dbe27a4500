"""The OpenAI Agents SDK: a run with its agents, turns, tools, guardrails and model calls in one tree."""

import asyncio

from _server import MODEL, openai_or_fake
from agents import Agent, GuardrailFunctionOutput, RunConfig, Runner, TResponseInputItem, function_tool, input_guardrail
from agents.run_context import RunContextWrapper

import tracer

tracer.autolog()  # the SDK's own exporter, which posts to OpenAI, is replaced while tracing is on


@tracer.trace
def look_up(city: str) -> str:
    """Find the weather: a span of your own, below the tool's."""
    return {"Paris": "rainy", "Tokyo": "sunny"}.get(city, "unknown")


@function_tool
def get_weather(city: str) -> str:
    """Tell today's weather in a city."""
    return look_up(city)


@input_guardrail
async def about_weather(
    context: RunContextWrapper[None], agent: Agent[None], asked: str | list[TResponseInputItem]
) -> GuardrailFunctionOutput:
    """Let questions about the weather pass."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="weather" not in str(asked))


async def main() -> None:
    agent = Agent(name="Forecaster", model=MODEL, tools=[get_weather], input_guardrails=[about_weather])
    settings = RunConfig(workflow_name="Forecast", group_id="chat-1", trace_metadata={"tier": "gold"})
    result = Runner.run_streamed(agent, "What's the weather like in Paris today?", run_config=settings)
    async for _ in result.stream_events():
        pass
    print(result.final_output, end="\n\n")
    trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
    print(f"\nsession {trace.info.session_id}, {trace.info.metadata['tier']}, {trace.info.token_usage}")


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
