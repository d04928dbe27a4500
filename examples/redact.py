"""Keeping addresses, keys and card numbers out of the database, with ready-made redactors and one of your own."""

import re

from _server import MODEL, openai_or_fake
from openai import OpenAI

import tracer
from tracer.redact import api_keys, card_numbers, emails


def customer_numbers(text: str) -> str:
    """Replace our own customer numbers."""
    return re.sub(r"\bC-\d{6}\b", "[customer]", text)


tracer.configure(redact=[emails, api_keys, card_numbers, customer_numbers])
tracer.autolog()

with openai_or_fake(), OpenAI() as client:
    client.responses.create(model=MODEL, input="C-123456 (ada@example.com) paid with 4111 1111 1111 1111.")

    trace = tracer.sync.get_trace(tracer.get_last_active_trace_id() or "")
    print(trace.data.spans[0].inputs["input"])
