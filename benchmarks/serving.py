"""What it costs to send calls to a tracking server, beside writing them to a file: CPU of both processes for a call.

    python -m benchmarks.serving                      three turns of 5,000 calls of 4 KB, in batches of 500
    python -m benchmarks.serving --calls 20000 --batch 100

The sender's figure is what its worker does with the records of a plain call: it takes them from the queue, and either
interprets them and writes rows, or sends them as they are. "rows" is what is sent with `redact=`, `prices=` or
`capture_content=False`. Sender and server are on one machine, so bodies are not packed; `--pack` packs them as over a
network. Start-up, the first connection and the last upkeep of the server are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tracer._config import Settings
from tracer.capture.records import Codec, Ending, HttpFacts, Payload, SpanEnded, SpanStarted, encode
from tracer.pipeline.interpreter import Interpreter
from tracer.store import Store, current_process, open_store
from tracer.store.http.store import HttpStore

__all__ = ["main"]

START = 1_700_000_000_000_000_000
REQUEST = b'{"model":"gpt-5","messages":[{"role":"user","content":"%s"}]}'
RESPONSE = (
    b'{"id":"chatcmpl-%d","object":"chat.completion","created":1,"model":"gpt-5","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"%s"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":400,"completion_tokens":200,"total_tokens":600}}'
)
HEADERS = [(b"content-type", b"application/json"), (b"x-request-id", b"req_0"), (b"openai-processing-ms", b"250")]
ATTRIBUTES = {"gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat", "server.address": "api.openai.com"}
WORDS = [
    b"report",
    b"answer",
    b"question",
    b"customer",
    b"the",
    b"of",
    b"and",
    b"order",
    b"is",
    b"late",
    b"why",
    b"not",
]


class Cost(NamedTuple):
    """Microseconds for a call."""

    sender: float
    server: float
    wall: float


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--pack", action="store_true", help="pack bodies, as over a network")
    given = parser.parse_args(arguments)
    costs: dict[str, list[Cost]] = {"SQLite": [], "tracer serve, records": [], "tracer serve, rows": []}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(given.turns):
            file = f"sqlite:///{directory}/here{turn}.db"
            costs["SQLite"].append(asyncio.run(_measure(file, None, given, ships=False)))
            for name in ("records", "rows"):
                with _served(Path(directory) / f"{name}{turn}.db") as (url, process_id):
                    cost = asyncio.run(_measure(url, process_id, given, ships=name == "records"))
                    costs[f"tracer serve, {name}"].append(cost)
    print("| µs a call, median | sender, CPU | server, CPU | wall |\n|---|---|---|---|")
    for name, found in costs.items():
        figures = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"| {name} | " + " | ".join(f"{figure:.0f}" if figure else "" for figure in figures) + " |")


async def _measure(uri: str, process_id: int | None, given: argparse.Namespace, *, ships: bool) -> Cost:
    store: Store = open_store(uri)
    await store.open()
    interpreter = Interpreter(current_process(), store, _fail)
    interpreter.configure(Settings(), (), None if ships else _no_price)
    await _send(interpreter, store, _records(range(1)))  # imports, connections
    if given.pack and isinstance(store, HttpStore):
        store._connection()._poster.is_near = False
    firsts = range(1, given.calls + 1, given.batch)
    groups = [_records(range(first, min(first + given.batch, given.calls + 1))) for first in firsts]
    there, here, began = _cpu_of(process_id), time.process_time(), time.perf_counter()
    for records in groups:
        await _send(interpreter, store, records)
    cost = (time.process_time() - here, _cpu_of(process_id) - there, time.perf_counter() - began)
    await store.aclose()
    return Cost(*(seconds / given.calls * 1e6 for seconds in cost))


async def _send(interpreter: Interpreter, store: Store, records: list[bytes]) -> None:
    for record in records:
        interpreter.feed(record)
    await store.write(interpreter.take_batch(lambda: None))


def _records(numbers: range) -> list[bytes]:
    """Return the start and the end of a call for each number, with words of its own."""
    records = []
    for number in numbers:
        trace_id, span_id, start = f"{number:032x}", f"{number:016x}", START + number * 1_000_000
        words = random.Random(number)
        request = REQUEST % b" ".join(words.choices(WORDS, k=400))
        response = RESPONSE % (number, b" ".join(words.choices(WORDS, k=250)))
        records += [
            encode(
                SpanStarted(
                    trace_id, span_id, None, "AsyncCompletions", "CHAT_MODEL", start, "Default", "chat",
                    Payload(Codec.WIRE, request), ATTRIBUTES,
                )
            ),
            encode(
                SpanEnded(
                    span_id, start + 500_000, Ending.RETURNED, Payload(Codec.WIRE, response),
                    http=HttpFacts(200, HEADERS),
                )
            ),
        ]  # fmt: skip
    return records


def _no_price(*_: object) -> None:
    """Nothing is known of what a call costs."""


def _fail(what: str, error: Exception) -> None:
    raise AssertionError(what) from error


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
