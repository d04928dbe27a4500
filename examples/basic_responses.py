"""The Responses API is traced by the same line."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()
tracer.set_experiment("OpenAI")

with openai_or_fake(), OpenAI() as client:
    response = client.responses.create(model=MODEL, input="What is the capital of France?")
    print(response.output_text)

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
