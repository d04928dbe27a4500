"""Token usage: of a whole trace, and of each model call in it."""

from _server import openai_or_fake
from openai import OpenAI
from tool_agent_chat import run_tool_agent

import tracer

tracer.autolog()

with openai_or_fake(), OpenAI() as client:
    run_tool_agent(client, "What's the weather like in Paris today?")

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")

    total_usage = trace.info.token_usage or {}
    print("== Total token usage: ==")
    print(f"  Input tokens: {total_usage['input_tokens']}")
    print(f"  Output tokens: {total_usage['output_tokens']}")
    print(f"  Total tokens: {total_usage['total_tokens']}")

    print("\n== Detailed usage for each LLM call: ==")
    for span in trace.data.spans:
        if usage := span.get_attribute("mlflow.chat.tokenUsage"):  # our own name for it: span.token_usage
            print(f"{span.name}:")
            print(f"  Input tokens: {usage['input_tokens']}")
            print(f"  Output tokens: {usage['output_tokens']}")
            print(f"  Total tokens: {usage['total_tokens']}")
