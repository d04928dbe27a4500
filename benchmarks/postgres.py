"""What a span costs a PostgreSQL server and its client, and how long lists take: ``python -m benchmarks.postgres``.

Starts a server of its own, as the tests do (`tests.postgres`). CPU time is the figure; wall time is the machine's.
Spans are chat calls of natural-language phrases: 2 KB of request, 1.1 KB of response, 0.9 KB of attributes, one or four
spans a trace, in batches of 500.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.postgres import MISSING, PostgresServer, find_binaries, running_server
from tracer._models import SpanStatusCode, TraceState
from tracer.store import Batch, SpanRow, Store, TracePatch, TraceQuery, current_process, open_store

_BATCH = 500
_WORDS = Path(__file__).read_text().split() + [f"word{number}" for number in range(5_000)]
_TICKS = os.sysconf("SC_CLK_TCK")


def phrase(rng: random.Random, size: int) -> str:
    """Some words of about so many characters."""
    return " ".join(rng.choices(_WORDS, k=size // 7))


def batches(count: int) -> list[Batch]:
    """So many spans that have ended, over the last hours."""
    rng, made, number = random.Random(1), [], 0
    systems = [phrase(rng, 700) for _ in range(40)]
    begin = time.time_ns() - count * 10**8
    while number < count:
        batch = Batch(process=current_process())
        while len(batch.spans) < _BATCH:
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
        made.append(batch)
    return made


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


def server_seconds(server: PostgresServer) -> float:
    """CPU time of all processes of the server, also of those that have ended."""
    assert server._process is not None
    parent = server._process.pid
    pids = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    ticks = 0
    for pid in (parent, *map(int, pids.stdout.split())):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15] if pid == parent else fields[11:13]))
    return ticks / _TICKS


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


async def measure(server: PostgresServer, spans: int) -> None:
    """Write the spans, then ask for lists."""
    store = open_store(server.uri("public"))
    await store.open()
    rows = batches(spans)
    count = sum(len(batch.spans) for batch in rows)
    client, away, wall = time.process_time(), server_seconds(server), time.perf_counter()
    for batch in rows:
        await store.write(batch)
    client, away, wall = time.process_time() - client, server_seconds(server) - away, time.perf_counter() - wall
    size = (await store.storage()).file_bytes
    print(f"{count:,} spans: client {client / count * 1e6:.0f} us, server {away / count * 1e6:.0f} us of CPU a span, "
          f"{size / count:,.0f} bytes a span, {count / wall:,.0f} spans/s")  # fmt: skip
    server.execute("VACUUM ANALYZE")
    for name, query in QUERIES.items():
        print(f"{name:20} {await _best(store, query):7.1f} ms")
    await store.aclose()


async def _best(store: Store, query: dict[str, Any]) -> float:
    """The shortest of five times, in milliseconds."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        await store.search_traces(TraceQuery(max_results=50, include_spans=False, **query))
        times.append(time.perf_counter() - begun)
    return min(times) * 1_000


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=100_000)
    chosen = parser.parse_args()
    if (binaries := find_binaries()) is None:
        sys.exit(MISSING)
    with running_server(binaries) as server:
        asyncio.run(measure(server, chosen.spans))


if __name__ == "__main__":
    main()
