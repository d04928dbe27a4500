"""Rows about one call: CPU of the caller's thread, CPU of the whole process, the time to a stream's first chunk."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai

from benchmarks import _payloads as payloads
from benchmarks._measure import Batch, Cost, fresh_store, interleave
from benchmarks._results import Effort, Goal, Result, Section
from benchmarks._statistics import added, added_percent
from benchmarks._transport import aclose, async_client, client

__all__ = ["LOOPBACK", "SECTIONS"]

CALLS = 20  # in a batch, which one flush writes: as many as a service with 400 calls a second makes in 50 ms
LATENCY = 0.15  # seconds: three looks of the worker at its queue
STREAMS = 2
SHORT_STREAMS = 10
SHORT_CHUNKS = 10

CALLER = Goal(design=2, stage=5)
PROCESS = Goal(design=10, stage=20)
FIRST_CHUNK = Goal(design=1, stage=5)
IMAGE_BYTES = 5_000_000
IMAGES = 4
IMAGE_CALLS = 2
IMAGE_CALLER = Goal(design=5, stage=5)  # ms

AsyncCall = Callable[[openai.AsyncOpenAI], Awaitable[object]]
Costs = list[tuple[Cost, Cost]]

# --- batches ----------------------------------------------------------------------------------------------------------


def _sync_batch(sdk: openai.OpenAI) -> Batch:
    create: Any = sdk.chat.completions.create

    def run(calls: int) -> float:
        for _ in range(calls):
            create(**payloads.CHAT_REQUEST)
        return 0.0

    return run


@contextmanager
def _async_batch(sdk: openai.AsyncOpenAI, run: Callable[[Any, int], Awaitable[float]]) -> Iterator[Batch]:
    """Yield a batch that runs in the calling thread, on one event loop that is the same each time."""
    loop = asyncio.new_event_loop()
    try:
        yield lambda calls: loop.run_until_complete(run(sdk, calls))
        loop.run_until_complete(aclose(sdk))
    finally:
        loop.close()


def _repeat(call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, int], Awaitable[float]]:
    async def run(sdk: Any, calls: int) -> float:
        for _ in range(calls):
            await call(sdk)
        return 0.0

    return run


async def _chat(sdk: Any) -> None:
    await sdk.chat.completions.create(**payloads.CHAT_REQUEST)


async def _concurrent_chats(sdk: Any, calls: int) -> float:
    """Make the calls all at once, with `LATENCY`, so that they start in one transaction and end in a later one."""
    await asyncio.gather(*(_chat(sdk) for _ in range(calls)))
    return 0.0


async def _responses(sdk: Any) -> None:
    await sdk.responses.create(**payloads.RESPONSES_REQUEST)


async def _embeddings(sdk: Any) -> None:
    await sdk.embeddings.create(**payloads.EMBEDDING_REQUEST)


async def _chat_stream(sdk: Any) -> None:
    async for _ in await sdk.chat.completions.create(**payloads.CHAT_REQUEST, stream=True):
        pass


async def _responses_stream(sdk: Any) -> None:
    async for _ in await sdk.responses.create(**payloads.RESPONSES_REQUEST, stream=True):
        pass


async def _first_chunks(sdk: Any, calls: int) -> float:
    """Return the median time from the call to the stream's first chunk, in nanoseconds; the rest is read too."""
    times = []
    for _ in range(calls):
        begun = time.perf_counter_ns()
        stream = await sdk.chat.completions.create(**payloads.CHAT_REQUEST, stream=True)
        await anext(stream)
        times.append(time.perf_counter_ns() - begun)
        async for _ in stream:
            pass
    return statistics.median(times)


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(name: str, costs: Costs, field: str, *, per: int = 1, goal: Goal | None = None) -> Result:
    """Return by how much tracing raised one kind of cost: in percent, and in µs for each of a call's `per` parts."""
    pairs = [(getattr(plain, field) / per / 1e3, getattr(traced, field) / per / 1e3) for plain, traced in costs]
    plain_sum, traced_sum = (sum(side) for side in zip(*pairs, strict=True))
    more = added(pairs)
    details = {
        "added_us": more.value,
        "low_us": more.low or 0.0,
        "high_us": more.high or 0.0,
        "untraced_us": statistics.median(plain for plain, _ in pairs),
        "mean_percent": 100 * (traced_sum / plain_sum - 1),
    }
    return Result(name=name, estimate=added_percent(pairs), unit="% added", goal=goal, details=details)


def _cpu_rows(name: str, costs: Costs, per: int, *, control: bool = False) -> Iterator[Result]:
    yield _row(f"{name}: caller's CPU", costs, "caller", per=per, goal=None if control else CALLER)
    yield _row(f"{name}: process CPU", costs, "process", per=per, goal=None if control else PROCESS)


def _measure_control(effort: Effort) -> Iterator[Result]:
    with fresh_store(), _async_batch(async_client(), _repeat(_chat)) as batch:
        costs = interleave(batch, CALLS, effort.pairs, seconds=effort.section_seconds, control=True)
    yield from _cpu_rows("A/A control, async chat", costs, CALLS, control=True)


def _measure_slow_chat(effort: Effort) -> Iterator[Result]:
    with fresh_store(), _async_batch(async_client(LATENCY), _concurrent_chats) as batch:
        costs = interleave(batch, CALLS, effort.pairs, seconds=effort.section_seconds)
    yield from _cpu_rows(f"{CALLS} slow async chats at once", costs, CALLS)


def _measure_sync_chat(effort: Effort) -> Iterator[Result]:
    with fresh_store(), client() as sdk:
        costs = interleave(_sync_batch(sdk), CALLS, effort.pairs, seconds=effort.section_seconds)
    yield from _cpu_rows("sync chat", costs, CALLS)


def _calls_section(name: str, title: str, call: AsyncCall) -> Section:
    def measure(effort: Effort) -> Iterator[Result]:
        with fresh_store(), _async_batch(async_client(), _repeat(call)) as batch:
            costs = interleave(batch, CALLS, effort.pairs, seconds=effort.section_seconds)
        yield from _cpu_rows(title, costs, CALLS)

    return Section(name, measure)


def _stream_section(name: str, title: str, call: AsyncCall) -> Section:
    def measure(effort: Effort) -> Iterator[Result]:
        with fresh_store(), _async_batch(async_client(), _repeat(call)) as batch:
            costs = interleave(batch, STREAMS, effort.stream_pairs, seconds=effort.stream_seconds)
        yield from _cpu_rows(f"{title}, a chunk", costs, STREAMS * payloads.STREAM_CHUNKS)

    return Section(name, measure)


def _measure_first_chunk(effort: Effort) -> Iterator[Result]:
    with fresh_store(), _async_batch(async_client(chunks=SHORT_CHUNKS), _first_chunks) as batch:
        costs = interleave(batch, SHORT_STREAMS, effort.stream_pairs, seconds=effort.stream_seconds)
    yield _row("chat stream: time to first chunk", costs, "reported", goal=FIRST_CHUNK)


def _measure_image(effort: Effort) -> Iterator[Result]:
    """Send one of a few images in base64; the store keeps each image only once."""
    requests = itertools.cycle([payloads.image_request(IMAGE_BYTES, number) for number in range(IMAGES)])

    async def call(sdk: Any) -> None:
        await sdk.chat.completions.create(**next(requests))

    with fresh_store(), _async_batch(async_client(), _repeat(call)) as batch:
        costs = interleave(batch, IMAGE_CALLS, effort.stream_pairs, seconds=effort.stream_seconds)
    for side, field in (("caller's CPU", "caller"), ("process CPU", "process")):
        pairs = [
            (getattr(plain, field) / IMAGE_CALLS / 1e6, getattr(traced, field) / IMAGE_CALLS / 1e6)
            for plain, traced in costs
        ]
        yield Result(
            name=f"chat with an image of 5 MB: {side}",
            estimate=added(pairs),
            unit="ms added",
            goal=IMAGE_CALLER if field == "caller" else None,
            details={"untraced_ms": statistics.median(plain for plain, _ in pairs)},
        )


# --- over loopback ----------------------------------------------------------------------------------------------------


@contextmanager
def _server() -> Iterator[str]:
    """Run the fake OpenAI server in a process of its own; yield its base URL."""
    command = [sys.executable, "-m", "tracer.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _measure_loopback(effort: Effort) -> Iterator[Result]:
    with _server() as base_url:
        with fresh_store(), openai.OpenAI(api_key="sk-benchmark", base_url=base_url) as sdk:
            costs = interleave(_sync_batch(sdk), CALLS, effort.pairs, seconds=effort.section_seconds)
        yield from _loopback_rows("loopback, sync chat", costs)
        sdk_async = openai.AsyncOpenAI(api_key="sk-benchmark", base_url=base_url)
        with fresh_store(), _async_batch(sdk_async, _repeat(_chat)) as batch:
            costs = interleave(batch, CALLS, effort.pairs, seconds=effort.section_seconds)
        yield from _loopback_rows("loopback, async chat", costs)


def _loopback_rows(name: str, costs: Costs) -> Iterator[Result]:
    yield from _cpu_rows(name, costs, CALLS)
    yield _row(f"{name}: wall time", costs, "wall", per=CALLS)


SECTIONS = [
    Section("control", _measure_control),
    Section("chat-sync", _measure_sync_chat),
    _calls_section("chat-async", "async chat", _chat),
    Section("chat-slow", _measure_slow_chat),
    _calls_section("responses", "async Responses", _responses),
    _calls_section("embeddings", "async embeddings, base64", _embeddings),
    _stream_section("chat-stream", "async chat stream", _chat_stream),
    _stream_section("responses-stream", "async Responses stream", _responses_stream),
    Section("first-chunk", _measure_first_chunk),
    Section("image-5mb", _measure_image),
]
LOOPBACK = Section("loopback", _measure_loopback)
