"""What is too large is cut, marked and counted, wherever it stands."""

from __future__ import annotations

import tracer
from tests.reading import last_span


async def test_attributes_beyond_the_limit_are_cut_and_counted() -> None:
    tracer.configure(max_payload_bytes=1_000)
    with tracer.start_span("large") as span:
        span.set_attribute("note", "x" * 50_000)
        span.add_event("large", {"text": "y" * 50_000})
        span.set_attribute("small", 1)
    read = await last_span()
    assert read.attributes["small"] == 1
    assert len(read.attributes["note"]) < 1_100
    assert len(read.events[0].attributes["text"]) < 1_100
    assert tracer.stats().truncated == 2


async def test_large_inputs_beside_small_attributes_are_cut_once() -> None:
    tracer.configure(max_payload_bytes=1_000)

    @tracer.trace(attributes={"kind": "test"})
    def work(text: str) -> int:
        return len(text)

    work("x" * 50_000)
    read = await last_span()
    assert read.attributes["kind"] == "test"
    assert tracer.stats().truncated == 1
