"""What it costs to send spans to a tracking server, beside writing them to a file: CPU of both processes for a span.

    python -m benchmarks.serving                      three turns of 5,000 spans of 4 KB, in batches of 500
    python -m benchmarks.serving --spans 20000 --batch 100

Sender and server are on one machine, so bodies are not packed; `--pack` packs them as over a network. The sender's
figure is that of its store alone: interpretation comes before it. Start-up, the first connection and the last upkeep of
the server are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tracer._models import SpanStatusCode, TraceState
from tracer.store import Batch, SpanRow, Store, TracePatch, current_process, open_store
from tracer.store.http.store import HttpStore

__all__ = ["main"]

START = 1_700_000_000_000_000_000
REQUEST = b'{"model":"gpt-5","messages":[{"role":"user","content":"' + b"a question of some words " * 70 + b'"}]}'
RESPONSE = b'{"choices":[{"message":{"role":"assistant","content":"' + b"an answer of some words " * 45 + b'"}}]}'
ATTRIBUTES = json.dumps({f"gen_ai.some.attribute.{number}": "of some length" for number in range(20)}).encode()


class Cost(NamedTuple):
    """Microseconds for a span."""

    sender: float
    server: float
    wall: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--pack", action="store_true", help="pack bodies, as over a network")
    given = parser.parse_args(arguments)
    costs: dict[str, list[Cost]] = {"SQLite": [], "tracer serve": []}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(given.turns):
            file = f"sqlite:///{directory}/here{turn}.db"
            costs["SQLite"].append(asyncio.run(_measure(file, None, given.spans, given.batch, given.pack)))
            with _served(Path(directory) / f"there{turn}.db") as (url, process_id):
                costs["tracer serve"].append(
                    asyncio.run(_measure(url, process_id, given.spans, given.batch, given.pack))
                )
    print("| µs a span, median | sender, CPU | server, CPU | wall |\n|---|---|---|---|")
    for name, found in costs.items():
        figures = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"| {name} | " + " | ".join(f"{figure:.0f}" if figure else "" for figure in figures) + " |")


async def _measure(uri: str, process_id: int | None, spans: int, size: int, packs: bool) -> Cost:
    store: Store = open_store(uri)
    await store.open()
    await store.write(_batch(range(1)))  # imports, connections
    if packs and isinstance(store, HttpStore):
        store._connection()._poster.is_near = False
    batches = [_batch(range(first, min(first + size, spans + 1))) for first in range(1, spans + 1, size)]
    there, here, began = _cpu_of(process_id), time.process_time(), time.perf_counter()
    for batch in batches:
        await store.write(batch)
    cost = (time.process_time() - here, _cpu_of(process_id) - there, time.perf_counter() - began)
    await store.aclose()
    return Cost(*(seconds / spans * 1e6 for seconds in cost))


def _batch(numbers: range) -> Batch:
    process = current_process()
    batch = Batch(process=process)
    for number in numbers:
        trace_id, span_id, start = f"{number:032x}", f"{number:016x}", START + number * 1_000_000
        batch.spans.append(
            SpanRow(
                trace_id=trace_id, span_id=span_id, name="AsyncCompletions", span_type="CHAT_MODEL", operation="chat",
                start_time_ns=start, end_time_ns=start + 500_000, status_code=SpanStatusCode.OK, finish="completed",
                model="gpt-5", inputs=REQUEST, outputs=RESPONSE, attributes=ATTRIBUTES, counted=True,
                usage={"input_tokens": 400, "output_tokens": 200, "total_tokens": 600},
            )
        )  # fmt: skip
        batch.traces.append(
            TracePatch(
                trace_id=trace_id, process_id=process.process_id, start_time_ns=start, end_time_ns=start + 500_000,
                experiment="Default", root_span_id=span_id, true_root=True, name="AsyncCompletions",
                state=TraceState.OK,
            )
        )  # fmt: skip
    return batch


@contextmanager
def _served(path: Path) -> Iterator[tuple[str, int]]:
    """Run a server; yields its address and its process id."""
    command = [sys.executable, "-m", "tracer", "serve", "--store", f"sqlite:///{path}", "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--no-access-log"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"], process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _cpu_of(process_id: int | None) -> float:
    """Return the seconds of CPU that a process has used, see proc(5)."""
    if process_id is None:
        return 0.0
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
