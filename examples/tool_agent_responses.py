"""The tool-calling agent on the Responses API, async."""

import asyncio
import json
from typing import Any

from _server import MODEL, openai_or_fake
from openai import AsyncOpenAI
from openai.types.responses import FunctionToolParam, ResponseInputParam

import tracer
from tracer import SpanType

tracer.autolog()

WEATHER = {"Tokyo": "sunny", "Paris": "rainy"}
TOOLS: list[FunctionToolParam] = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "Tell today's weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
]


@tracer.trace(span_type=SpanType.TOOL)
async def get_weather(city: str) -> str:
    """Look up the weather."""
    return WEATHER.get(city, "unknown")


FUNCTIONS: dict[str, Any] = {"get_weather": get_weather}


@tracer.trace(span_type=SpanType.AGENT)
async def run_tool_agent(client: AsyncOpenAI, question: str) -> str:
    """Ask, run the tools that the model wants, and ask again with their results."""
    conversation: ResponseInputParam = [{"role": "user", "content": question}]
    response = await client.responses.create(model=MODEL, input=conversation, tools=TOOLS)
    calls = [item for item in response.output if item.type == "function_call"]
    if calls:
        conversation += [item.to_dict() for item in response.output]  # type: ignore[misc]  # wider answer types
        for call in calls:
            result = await FUNCTIONS[call.name](**json.loads(call.arguments))
            conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
        response = await client.responses.create(model=MODEL, input=conversation, tools=TOOLS)
    return response.output_text


async def main() -> None:
    async with AsyncOpenAI() as client:
        print(await run_tool_agent(client, "What's the weather like in Paris today?"), end="\n\n")
        trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()


if __name__ == "__main__":
    with openai_or_fake():
        asyncio.run(main())
