"""A tool-calling agent on Chat Completions: the agent, its two model calls and the tool's run in one trace."""

import json
from typing import Any

from _server import MODEL, openai_or_fake
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

import tracer
from tracer import SpanType

tracer.autolog()
tracer.set_experiment("OpenAI")

WEATHER = {"Tokyo": "sunny", "Paris": "rainy"}
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell today's weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@tracer.trace(span_type=SpanType.TOOL)
def get_weather(city: str) -> str:
    """Look up the weather; its span shows arguments, result and time."""
    return WEATHER.get(city, "unknown")


FUNCTIONS: dict[str, Any] = {"get_weather": get_weather}


@tracer.trace(span_type=SpanType.AGENT)
def run_tool_agent(client: OpenAI, question: str) -> str | None:
    """Ask, run the tools that the model wants, and ask again with their results."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
    if answer.tool_calls:
        messages.append(answer.to_dict())  # type: ignore[arg-type]  # the SDK's answer types are wider
        for call in answer.tool_calls:
            assert call.type == "function"
            result = FUNCTIONS[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        answer = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message
    return answer.content


if __name__ == "__main__":
    with openai_or_fake(), OpenAI() as client:
        print(run_tool_agent(client, "What's the weather like in Paris today?"), end="\n\n")

        trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
        trace.print_tree()
        print("\nTokens:", trace.info.token_usage)
        print("Stored:", tracer.get_tracking_uri())
