"""Rows about a service: how late its event loop gets, and how many calls it can make."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks import _payloads as payloads
from benchmarks._measure import flush, fresh_store, switch
from benchmarks._results import Effort, Goal, Result, Section
from benchmarks._statistics import percentile, ratio
from benchmarks._transport import async_client

__all__ = ["SECTIONS", "call_concurrently"]

MAX_RATE = 150.0  # calls a second
SHARE = 0.3  # of what this machine can do; near its limit we would measure the limit
IN_FLIGHT = 100
MAX_LATENCY = 1.0  # seconds, so that fewer calls are under way on a slow machine
TICK = 0.001

TASKS = 64
CALLS_A_ROUND = 640
LATENCY = 0.01

STALL = Goal(design=1.1, stage=1.2)
THROUGHPUT = Goal(design=0.93, stage=0.85, at_most=False)

# --- lateness ---------------------------------------------------------------------------------------------------------


async def _tick(lateness: list[float], until: float) -> None:
    """Wake up each millisecond and note how many milliseconds late; ticks that a stall made impossible count too."""
    due = time.perf_counter()
    while due < until:
        due += TICK
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        lateness.append(1e3 * (time.perf_counter() - due))


async def _sustainable_rate() -> float:
    """Return the calls a second at which this machine is far from its limit."""
    async with async_client() as sdk:
        for calls in (5, 60):
            _, capacity = await call_concurrently(lambda: sdk.chat.completions.create(**payloads.CHAT_REQUEST), calls)
    return min(MAX_RATE, SHARE * capacity)


def _latency(rate: float) -> float:
    return min(MAX_LATENCY, IN_FLIGHT / rate)


async def _call_at_pace(sdk: Any, rate: float, until: float) -> None:
    """Start calls at an even rate, however long they take."""
    running = set()
    due = time.perf_counter()
    while due < until:
        running.add(asyncio.ensure_future(sdk.chat.completions.create(**payloads.CHAT_REQUEST)))
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.gather(*running)


async def _lateness(sdk: Any, rate: float, seconds: float) -> list[float]:
    """Return the ticker's lateness in ms, measured while rate x latency calls are under way."""
    latency = _latency(rate)
    begun = time.perf_counter()
    calls = asyncio.ensure_future(_call_at_pace(sdk, rate, begun + latency + seconds))
    await asyncio.sleep(latency)
    ticks: list[float] = []
    await _tick(ticks, begun + latency + seconds)
    await calls
    return ticks


def _measure_lateness(effort: Effort) -> Iterator[Result]:
    sides: dict[str, list[list[float]]] = {"control": [], "plain": [], "traced": []}
    with fresh_store():
        rate = asyncio.run(_sustainable_rate())
        asyncio.run(_alternate_lateness(sides, rate, effort))
    for name, side, goal in (("A/A control", "control", None), ("traced", "traced", STALL)):
        yield _lateness_row(f"event loop: p99 lateness, {name}", rate, sides["plain"], sides[side], goal)


async def _alternate_lateness(sides: dict[str, list[list[float]]], rate: float, effort: Effort) -> None:
    async with async_client(_latency(rate)) as sdk:
        order = list(sides)
        for _ in range(effort.loop_rounds):
            for side in order:
                switch(side == "traced")
                sides[side].append(await _lateness(sdk, rate, effort.loop_seconds))
                if side == "traced":
                    flush()
            order = order[1:] + order[:1]


def _lateness_row(
    name: str, rate: float, plain: list[list[float]], other: list[list[float]], goal: Goal | None
) -> Result:
    pairs = [(percentile(a, 99), percentile(b, 99)) for a, b in zip(plain, other, strict=True)]
    details = {"calls_per_s": rate, "in_flight": rate * _latency(rate)}
    for side, rounds in (("untraced", plain), ("traced" if goal else "control", other)):
        ticks = [tick for ticks in rounds for tick in ticks]
        details |= {f"{side}_p{percent}_ms": percentile(ticks, percent) for percent in (50, 99)}
        details[f"{side}_max_ms"] = max(ticks)
    return Result(name=name, estimate=ratio(pairs), unit="x untraced", goal=goal, details=details)


# --- throughput -------------------------------------------------------------------------------------------------------


async def call_concurrently(
    call: Callable[[], Awaitable[object]], calls: int, *, tasks: int = TASKS, seconds: float = math.inf
) -> tuple[int, float]:
    """Make calls in tasks, as fast as the tasks can; begin no call after the given number of seconds.

    Returns:
        How many were made, and how many a second.
    """
    begun = time.perf_counter()
    made = 0

    async def work() -> None:
        nonlocal made
        while made < calls and time.perf_counter() - begun < seconds:
            made += 1
            await call()

    await asyncio.gather(*(work() for _ in range(tasks)))
    return made, made / (time.perf_counter() - begun)


def _measure_throughput(effort: Effort) -> Iterator[Result]:
    with fresh_store():
        pairs = asyncio.run(_alternate_throughput(effort.throughput_rounds))
    rates = {"untraced_per_s": [plain for plain, _ in pairs], "traced_per_s": [traced for _, traced in pairs]}
    yield Result(
        name=f"throughput, {TASKS} tasks",
        estimate=ratio(pairs),
        unit="x untraced",
        goal=THROUGHPUT,
        details={name: statistics.median(values) for name, values in rates.items()},
    )


async def _alternate_throughput(rounds: int) -> list[tuple[float, float]]:
    pairs = []
    async with async_client(latency=LATENCY) as sdk:
        for number in range(-1, rounds):  # the first warms up
            rate = {}
            for traced in (True, False) if number % 2 else (False, True):
                switch(traced)
                _, rate[traced] = await call_concurrently(
                    lambda: sdk.chat.completions.create(**payloads.CHAT_REQUEST), CALLS_A_ROUND
                )
                if traced:
                    flush()
            if number >= 0:
                pairs.append((rate[False], rate[True]))
    return pairs


SECTIONS = [Section("event-loop", _measure_lateness), Section("throughput", _measure_throughput)]
