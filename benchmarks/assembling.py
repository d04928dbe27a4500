"""What the worker's interpretation costs: CPU time from a call's encoded records to the rows of its span.

    python -m benchmarks.assembling                         all kinds of calls, some ten seconds
    python -m benchmarks.assembling --only chat --rounds 50

No client, no queue and no database: records are made beforehand, as the instrumentor makes them, and fed to an
assembler in batches. Each figure is the median of rounds that go through all kinds in turns.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks import _payloads as payloads
from benchmarks._storage import call_records
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Ending, HttpFacts, SpanChunk, encode
from tracer.interpret.cost import load_table
from tracer.store.process import current_process

__all__ = ["KINDS", "main"]

CALLS = 20  # in a batch, as in `benchmarks.overhead`
BATCHES = 10  # in a round

_json = msgspec.json.Encoder().encode
Records = list[bytes]


def _plain(operation: str, request: dict[str, object], answer: bytes) -> Records:
    started, ended = call_records(operation, _json(request), answer)
    return [encode(started), encode(ended)]


def _streamed(operation: str, request: dict[str, object], reads: Sequence[bytes]) -> Records:
    started, ended = call_records(operation, _json({**request, "stream": True}), b"")
    ended.outputs, ended.streamed, ended.ending = None, True, Ending.EXHAUSTED
    ended.http = HttpFacts(200, payloads.headers(True))
    begun = started.start_ns
    chunks = [SpanChunk(started.span_id, begun + (n + 1) * 10**6, data) for n, data in enumerate(reads)]
    return [encode(record) for record in (started, *chunks, ended)]


KINDS = {
    "chat": lambda: _plain("chat", payloads.CHAT_REQUEST, payloads.CHAT),
    "responses": lambda: _plain("responses", payloads.RESPONSES_REQUEST, payloads.RESPONSES),
    "embeddings": lambda: _plain("embeddings", payloads.EMBEDDING_REQUEST, payloads.EMBEDDING),
    "chat-stream": lambda: _streamed("chat", payloads.CHAT_REQUEST, payloads.chat_stream()),
    "responses-stream": lambda: _streamed("responses", payloads.RESPONSES_REQUEST, payloads.responses_stream()),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.assembling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    load_table()  # a process does that once, at its first priced call
    taken: dict[str, list[float]] = {kind: [] for kind in options.only or KINDS}
    for _ in range(options.rounds):
        for kind, figures in taken.items():
            figures.append(_round(kind))
    print("| call | records | CPU µs a call |\n|---|---|---|")
    for kind, figures in taken.items():
        print(f"| {kind} | {len(KINDS[kind]())} | {statistics.median(figures):.1f} |")


def _round(kind: str) -> float:
    """Return the microseconds of a call."""
    assembler = Assembler(current_process())
    seconds = 0.0
    for batch in _batches(kind):
        gc.collect()
        begun = time.thread_time()
        for record in batch:
            assembler.feed(record)
        rows = assembler.take_batch().spans
        seconds += time.thread_time() - begun
        if len(rows) != CALLS:
            raise RuntimeError(f"{len(rows)} rows were made of {CALLS} calls")
    return 1e6 * seconds / (CALLS * BATCHES)


def _batches(kind: str) -> Iterator[Records]:
    for _ in range(BATCHES):
        yield [record for _ in range(CALLS) for record in KINDS[kind]()]


if __name__ == "__main__":
    main()
