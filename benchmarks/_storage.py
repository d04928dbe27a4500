"""Rows about what is kept: losses, memory, read-your-writes, the rate of writing, the size on disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

import tracer
from benchmarks import _payloads as payloads
from benchmarks._event_loop import call_concurrently
from benchmarks._measure import flush, fresh_store, scratch, store_at, switch
from benchmarks._results import Effort, Estimate, Goal, Result, Section
from benchmarks._server import canned_server, socket_client
from benchmarks._statistics import median_interval, percentile
from benchmarks._transport import async_client
from tracer import _semconv as sc
from tracer._config import Settings
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Codec, Ending, HttpFacts, Payload, Rank, SpanEnded, SpanStarted, encode
from tracer.pipeline._queue import RecordQueue
from tracer.spans.opening import open_span
from tracer.store import open_store
from tracer.store.batch import Batch
from tracer.store.process import current_process

__all__ = ["SECTIONS", "call_records", "chat_records"]

NO_LOSS = Goal(design=0, stage=0)
LOOKUP = Goal(design=5, stage=10)
WRITING = Goal(design=20_000, stage=10_000, at_most=False)

REQUEST = msgspec.json.encode(payloads.CHAT_REQUEST)
ATTRIBUTES: dict[str, Any] = {
    sc.PROVIDER_NAME: "openai",
    sc.OPERATION: "chat",
    sc.OPERATION_NAME: "chat",
    sc.SERVER_ADDRESS: "api.openai.com",
    sc.SERVER_PORT: 443,
}

# --- bursts -----------------------------------------------------------------------------------------------------------


def _measure_burst(effort: Effort) -> Iterator[Result]:
    with scratch() as path:
        memory = _resident_bytes()
        with store_at(path):
            switch(True)
            with canned_server() as url:
                made, rate = asyncio.run(_burst(url, effort))
            flush()
            grown = _resident_bytes() - memory
            stats = tracer.stats()
        yield _loss_row("burst of calls", path, made, stats)
        yield Result(name="burst: calls made", estimate=Estimate(rate, n=made), unit="calls/s")
        yield Result(name="burst: memory growth", estimate=Estimate(grown / 2**20), unit="MiB RSS")
        yield _size_row("on disk: chat call", path, len(payloads.CHAT))


async def _burst(base_url: str, effort: Effort) -> tuple[int, float]:
    """Call from 64 tasks over real sockets: their system calls let other threads run, as in any real service."""
    async with socket_client(base_url) as sdk:
        create: Any = sdk.chat.completions.create
        return await call_concurrently(
            lambda: create(**payloads.CHAT_REQUEST), effort.burst_calls, seconds=effort.burst_seconds
        )


def _measure_overload(effort: Effort) -> Iterator[Result]:
    """Push spans faster than any disk can write them: the queue must refuse some, and say how many."""
    with scratch() as path:
        with store_at(path):
            _push_spans(effort.overload_spans)
            flush()
            stats = tracer.stats()
        yield _loss_row("more spans than can be written", path, effort.overload_spans, stats)


def _loss_row(name: str, path: Path, made: int, stats: tracer.Stats) -> Result:
    """Return how many spans are neither in the file nor counted as dropped."""
    written = _count_spans(path)
    dropped = stats.dropped["start"]
    return Result(
        name=f"{name}: lost silently",
        estimate=Estimate(abs(made - written - dropped), n=made),
        unit="spans",
        goal=NO_LOSS,
        details={
            "made": made,
            "written": written,
            "dropped_counted": dropped,
            "bodies_dropped_counted": stats.dropped["detail"],
            "records_accepted": stats.accepted,
            "records_unaccounted": stats.accepted - stats.written - stats.dropped["lost"] - stats.queued,
        },
    )


def _count_spans(path: Path) -> int:
    """Count the spans that are there and have ended, with plain SQL, without tracer's own code."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        count: int = connection.execute("SELECT count(*) FROM spans WHERE end_time_ns IS NOT NULL").fetchone()[0]
    return count


def _resident_bytes() -> int:
    """Return the process's resident memory; 0 where there is no ``/proc``."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


# --- size -------------------------------------------------------------------------------------------------------------


def _size_row(name: str, path: Path, response_bytes: int) -> Result:
    """Return the bytes of the closed file for each of its spans."""
    size, spans = path.stat().st_size, _count_spans(path)
    details = {"file_MiB": size / 2**20, "wire_bytes": _request_bytes(path) + response_bytes}
    return Result(name=name, estimate=Estimate(size / spans, n=spans), unit="bytes/span", details=details)


def _request_bytes(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        length: int = connection.execute("SELECT length(CAST(inputs AS BLOB)) FROM spans LIMIT 1").fetchone()[0]
    return length


def _measure_disk(effort: Effort) -> Iterator[Result]:
    with scratch() as path:
        with store_at(path):
            switch(True)
            asyncio.run(_read_streams(effort.disk_streams))
            flush()
        yield _size_row(
            f"on disk: stream of {payloads.STREAM_CHUNKS} chunks", path, sum(map(len, payloads.chat_stream()))
        )


async def _read_streams(count: int) -> None:
    async with async_client() as sdk:
        create: Any = sdk.chat.completions.create
        for _ in range(count):
            async for _ in await create(**payloads.CHAT_REQUEST, stream=True):
                pass


# --- reading ----------------------------------------------------------------------------------------------------------


def _measure_lookup(effort: Effort) -> Iterator[Result]:
    with fresh_store():
        switch(True)
        times = asyncio.run(_look_up(effort.lookups))
    yield Result(
        name="get_trace right after its call: p50",
        estimate=median_interval(times),
        unit="ms",
        goal=LOOKUP,
        details={"p99_ms": percentile(times, 99), "max_ms": max(times)},
    )


async def _look_up(lookups: int) -> list[float]:
    """Return the milliseconds that each `get_trace` took; it reads the call that has just returned."""
    times = []
    async with async_client() as sdk:
        create: Any = sdk.chat.completions.create
        for _ in range(lookups):
            await create(**payloads.CHAT_REQUEST)
            begun = time.perf_counter()
            trace = await tracer.get_trace(tracer.get_last_active_trace_id() or "")
            times.append(1e3 * (time.perf_counter() - begun))
            assert trace.data.spans[0].outputs is not None
    return times


# --- writing ----------------------------------------------------------------------------------------------------------


def _measure_writing(effort: Effort) -> Iterator[Result]:
    """Rates of the store by itself, and of the whole pipeline, from opening a span to the committed row."""
    floor = [_write_floor(effort.write_spans) for _ in range(effort.write_rounds)]
    store = [asyncio.run(_store_round(effort.write_spans)) for _ in range(effort.write_rounds)]
    plain = [_write_round(effort.write_spans, _push_plain_spans)[0] for _ in range(effort.write_rounds)]
    rounds = [_write_round(effort.write_spans, _push_spans) for _ in range(effort.write_rounds)]
    rates, process, producer = zip(*rounds, strict=True)
    yield Result(
        name="sustained writing, the store: chat calls",
        estimate=median_interval(store),
        unit="spans/s",
        goal=WRITING,
        details={"bare_sqlite_rows_per_s": statistics.median(floor)},
    )
    yield Result(
        name="… whole pipeline: spans of one's own",
        estimate=median_interval(plain),
        unit="spans/s",
        goal=WRITING,
    )
    details = {
        "process_cpu_us_per_span": statistics.median(process),
        "producer_cpu_us_per_span": statistics.median(producer),
        "worker_cpu_us_per_span": statistics.median(p - c for p, c in zip(process, producer, strict=True)),
    }
    yield Result(
        name="… whole pipeline: chat calls",
        estimate=median_interval(rates),
        unit="spans/s",
        details=details,
    )


async def _store_round(spans: int) -> float:
    """Write chat calls with the store, in batches like the worker's; return spans/s, including the WAL checkpoint."""
    with scratch() as path:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        seconds = 0.0
        for batch in _assembled_batches(spans):
            begun = time.perf_counter()
            await store.write(batch)
            seconds += time.perf_counter() - begun
        await store.aclose()
        written = _count_spans(path)
    if written != spans:
        raise RuntimeError(f"{written:,} of {spans:,} spans were written")
    return spans / seconds


def _assembled_batches(spans: int) -> Iterator[Batch]:
    """Make what the assembler makes of chat calls: one batch for as many records as the worker takes at once."""
    assembler, settings = Assembler(current_process()), Settings()
    queue = RecordQueue(4 * spans, 2**40)
    for _ in range(spans):
        for made in chat_records():
            queue.push(encode(made), Rank.END)
    while records := queue.drain(settings.batch_max_records):
        for record in records:
            assembler.feed(record)
        yield assembler.take_batch()


def chat_records() -> tuple[SpanStarted, SpanEnded]:
    """Return what the instrumentor records of a chat call."""
    return call_records("chat", REQUEST, payloads.CHAT)


def call_records(operation: str, request: bytes, answer: bytes) -> tuple[SpanStarted, SpanEnded]:
    """Return what the instrumentor records of a plain call of one second."""
    span_id, now = os.urandom(8).hex(), time.time_ns()
    inputs, outputs = Payload(Codec.WIRE, request), Payload(Codec.WIRE, answer)
    name, kind = "AsyncCompletions", tracer.SpanType.CHAT_MODEL
    trace_id = os.urandom(16).hex()
    started = SpanStarted(trace_id, span_id, None, name, kind, now, "Default", operation, inputs, ATTRIBUTES)
    facts = HttpFacts(200, payloads.HEADERS)
    return started, SpanEnded(span_id, now + 10**9, Ending.RETURNED, outputs, http=facts)


def _write_round(spans: int, push: Callable[[int], None]) -> tuple[float, float, float]:
    """Push spans through the whole pipeline; return spans/s until the last is written, and two CPU figures in µs.

    The queue is made large enough to refuse no record, so the rate is that of the worker.
    """
    with fresh_store() as path:
        push(10)
        flush()
        tracer.configure(queue_max_records=4 * spans, queue_max_bytes=2**34)
        wall, process, caller = time.perf_counter(), time.process_time(), time.thread_time()
        push(spans)
        caller = time.thread_time() - caller
        flush()
        wall, process = time.perf_counter() - wall, time.process_time() - process
        written = _count_spans(path) - 10
    if written != spans:
        raise RuntimeError(f"{written:,} of {spans:,} spans were written")
    return spans / wall, 1e6 * process / spans, 1e6 * caller / spans


def _write_floor(rows: int) -> float:
    """Return how many rows/s plain SQLite writes here (same texts, two indexes, batches of 500), for comparison."""
    texts = msgspec.json.encode(payloads.CHAT_REQUEST).decode(), payloads.CHAT.decode()
    with scratch() as path, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE spans (trace_id TEXT, span_id TEXT, start INTEGER, inputs TEXT, outputs TEXT)")
        connection.execute("CREATE INDEX by_id ON spans (trace_id, span_id)")
        connection.execute("CREATE INDEX by_start ON spans (start)")
        begun = time.perf_counter()
        for start in range(0, rows, 500):
            batch = [(os.urandom(16).hex(), f"{n:016x}", n, *texts) for n in range(start, min(start + 500, rows))]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO spans VALUES (?, ?, ?, ?, ?)", batch)
            connection.execute("COMMIT")
        return rows / (time.perf_counter() - begun)


def _push_spans(count: int) -> None:
    """Record chat calls as the instrumentor does, without the SDK."""
    for _ in range(count):
        span = open_span("AsyncCompletions", tracer.SpanType.CHAT_MODEL)
        inputs = span.pipeline.wire_payload(REQUEST)
        span.begin(inputs=inputs, attributes=ATTRIBUTES, operation="chat")
        outputs = span.pipeline.wire_payload(payloads.CHAT)
        span.finish(Ending.RETURNED, outputs=outputs, http=HttpFacts(200, payloads.HEADERS))


def _push_plain_spans(count: int) -> None:
    """Record traces of ten spans each, as a service's own functions do."""
    for _ in range(count // 10):
        with tracer.start_span("handle"):
            for number in range(9):
                with tracer.start_span("step") as span:
                    span.set_inputs({"number": number})


SECTIONS = [
    Section("burst", _measure_burst),
    Section("overload", _measure_overload),
    Section("disk", _measure_disk),
    Section("get-trace", _measure_lookup),
    Section("write", _measure_writing),
]
