"""One line traces a chat completion: prompt, answer, model, parameters, latency and token usage."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()
tracer.set_experiment("OpenAI")

with openai_or_fake(), OpenAI() as client:
    response = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        temperature=0.1,
        max_tokens=100,
    )
    print(response.choices[0].message.content)

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
