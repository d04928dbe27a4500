"""Spans for benchmarks of servers' stores, and lists to ask for.

Spans are chat calls of natural-language phrases: 2 KB of request, 1.1 KB of response, 0.9 KB of attributes, one or four
spans a trace, in batches.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracer._models import SpanStatusCode, TraceState
from tracer.store import Batch, SpanRow, Store, TracePatch, TraceQuery, current_process

__all__ = ["QUERIES", "batches", "best"]

_WORDS = (Path(__file__).parent / "postgres.py").read_text().split() + [f"word{number}" for number in range(5_000)]


def phrase(rng: random.Random, size: int) -> str:
    """Some words of about so many characters."""
    return " ".join(rng.choices(_WORDS, k=size // 7))


def batches(count: int, size: int = 500) -> Iterator[Batch]:
    """So many spans that have ended, over the last hours, in batches of about `size`."""
    rng, number = random.Random(1), 0
    systems = [phrase(rng, 700) for _ in range(40)]
    begin = time.time_ns() - count * 10**8
    while number < count:
        batch = Batch(process=current_process())
        while len(batch.spans) < size:
            trace_id, start = f"{rng.getrandbits(128):032x}", begin + number * 10**8
            spans = [
                span(rng, trace_id, f"{rng.getrandbits(64):016x}", start, systems) for _ in range(rng.choice([1, 4]))
            ]
            root = spans[0]
            batch.spans += spans
            batch.traces.append(
                TracePatch(
                    trace_id=trace_id, process_id=batch.process.process_id, start_time_ns=start,
                    root_span_id=root.span_id, true_root=True, name="AsyncCompletions", state=TraceState.OK,
                    end_time_ns=root.end_time_ns, experiment=f"e{number % 5}", user_id=f"u{rng.randrange(20_000)}",
                    request_preview="asked", response_preview="answered",
                )
            )  # fmt: skip
            number += len(spans)
        yield batch


def span(rng: random.Random, trace_id: str, span_id: str, start: int, systems: list[str]) -> SpanRow:
    """One call."""
    asked, answered = phrase(rng, 1_200), phrase(rng, 1_000)
    request = {"model": "gpt-5", "messages": [{"role": "system", "content": rng.choice(systems)}, {"content": asked}]}
    return SpanRow(
        trace_id=trace_id, span_id=span_id, name="AsyncCompletions", span_type="CHAT_MODEL", operation="chat",
        start_time_ns=start, end_time_ns=start + rng.randrange(10**8, 10**10), status_code=SpanStatusCode.OK,
        model=f"gpt-{rng.randrange(4)}", inputs=json.dumps(request).encode(), outputs=json.dumps(answered).encode(),
        attributes=json.dumps({"gen_ai.response.id": f"resp_{span_id}", "note": phrase(rng, 850)}).encode(),
        usage={"input_tokens": 500, "output_tokens": 200, "total_tokens": 700}, cost=0.001, counted=True,
        text=f"{asked} {answered}",
    )  # fmt: skip


QUERIES: dict[str, dict[str, Any]] = {
    "newest 50": {},
    "one experiment": {"experiment": "e1"},
    "one user": {"user_id": "u77"},
    "longest": {"order_by": "duration desc"},
    "most tokens": {"order_by": "total_tokens desc"},
    "costliest": {"order_by": "cost desc"},
    "by name": {"order_by": "name asc"},
    "model": {"model": "gpt-1"},
    "longer than 5 s": {"min_duration": 5.0},
    "errors": {"status": "ERROR"},
    "a common word": {"text": "return"},
    "a word of 1 in 20": {"text": "word123"},
    "two words": {"text": "word123 word321"},
    "an id": {"text": "resp_0000"},
}


async def best(store: Store, query: dict[str, Any]) -> float:
    """The shortest of five times, in milliseconds."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        await store.search_traces(TraceQuery(max_results=50, include_spans=False, **query))
        times.append(time.perf_counter() - begun)
    return min(times) * 1_000
