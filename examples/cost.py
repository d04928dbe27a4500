"""What calls cost: of a whole trace and of each call, by list prices and by your own. Needs the extra `cost`."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()
tracer.configure(prices={"my-local-*": {"input": 0.05, "output": 0.2}})  # US dollars per million tokens

with openai_or_fake(), OpenAI() as client:

    @tracer.trace
    def ask_twice(question: str) -> None:
        for _ in range(2):
            client.responses.create(model=MODEL, input=question)

    ask_twice("What does a call cost?")
    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    for span in trace.data.spans:
        print(f"{span.name}: {'unknown' if span.cost is None else f'{span.cost:.6f} US dollars'}")
    print(f"Together: {'unknown' if trace.info.cost is None else f'{trace.info.cost:.6f} US dollars'}")
