"""Tracing can be switched off again; the openai package is then as it was."""

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer

tracer.autolog()

with openai_or_fake(), OpenAI() as client:

    def ask(question: str) -> None:
        """Make one call."""
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])

    ask("Is this one traced?")
    traced = tracer.get_last_active_trace_id()
    print("traced:    ", traced)

    tracer.autolog(disable=True)  # or only this library: tracer.openai.autolog(disable=True)
    ask("And this one?")
    print("not traced:", tracer.get_last_active_trace_id() == traced)
