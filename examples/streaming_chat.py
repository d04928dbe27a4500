"""A streamed chat completion: the caller gets its chunks, the trace the whole answer and each chunk with its time."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()

with openai_or_fake(), OpenAI() as client:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "How fast would a glass of water freeze on Titan?"}],
        stream=True,
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    trace.print_tree()
    span = trace.data.spans[0]
    print(
        f"{len(span.events)} chunks, the first after {span.get_attribute('tracer.time_to_first_chunk') * 1000:.0f} ms"
    )
