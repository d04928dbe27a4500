"""A streamed response: its events pass through untouched, the trace holds the final response."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()

with openai_or_fake(), OpenAI() as client:
    stream = client.responses.create(model=MODEL, input="How fast would a glass of water freeze on Titan?", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    print()

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
    print("In the trace:", trace.info.response_preview)
