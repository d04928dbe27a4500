"""Measuring: traced batches against un-traced ones, in turns, in one process.

Machines differ, and one machine's speed differs from minute to minute; but two batches that run within a tenth of a
second see nearly the same speed. So every figure is made of pairs of batches that run one right after the other, and
the order within the pair is swapped each time. A fixed loop before, between and after the two batches tells whether the
processor changed its speed meanwhile. Shared processors do that (we saw a factor of two within a second); such pairs
are left out.
"""

from __future__ import annotations

import gc
import math
import operator
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tracer
from tracer.testing._isolation import isolated

__all__ = ["Cost", "flush", "fresh_store", "interleave", "scratch", "store_at", "switch"]

WARM_UPS = 2  # patching a class empties the interpreter's caches of its methods: they are filled before we look
FLUSH_TIMEOUT = 120.0
FEWEST_PAIRS = 12
STEADY = 1.08  # the slowest of the three loops over the fastest
FEWEST_KEPT = 0.5  # at least this share of the pairs is kept, the steadiest ones: some machines are never steady


class Cost(NamedTuple):
    """What one batch took, in nanoseconds.

    `caller` is CPU of the thread that calls, `wall` its time, both without the flush; `process` is CPU of all threads
    until everything is persisted; `reported` what the batch itself returned.
    """

    caller: float
    process: float
    wall: float
    reported: float = 0.0


Batch = Callable[[int], float]
"""Makes that many calls; returns a figure of its own, or 0."""


def switch(traced: bool) -> None:
    """Turn tracing on or off. While it is off, the SDK's classes are unpatched."""
    tracer.autolog(disable=not traced)


def flush() -> None:
    """Wait until everything that was recorded is in the database."""
    if not tracer.sync.flush(FLUSH_TIMEOUT):
        raise RuntimeError(f"the records were not written within {FLUSH_TIMEOUT:.0f} s: {tracer.stats().last_error}")


def measure(batch: Batch, calls: int, *, traced: bool) -> Cost:
    """Return the cost of one batch."""
    switch(traced)
    batch(WARM_UPS)
    if traced:
        flush()
    wall, process, caller = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
    reported = batch(calls)
    caller, wall = time.thread_time_ns() - caller, time.perf_counter_ns() - wall
    if traced:
        flush()
    return Cost(caller, time.process_time_ns() - process, wall, reported)


def interleave(
    batch: Batch, calls: int, pairs: int, *, seconds: float, control: bool = False
) -> list[tuple[Cost, Cost]]:
    """Return the costs of pairs of batches (un-traced, traced); with `control` both of a pair are un-traced.

    Args:
        batch: What is measured.
        calls: Calls of a batch.
        pairs: How many pairs to measure; pairs during which the processor changed its speed are not returned.
        seconds: On a slow machine, stop early once this time has passed and `FEWEST_PAIRS` are measured.
        control: Compare un-traced with un-traced.
    """
    for traced in (False, True):
        measure(batch, calls, traced=traced)
    measured: list[tuple[float, tuple[Cost, Cost]]] = []
    with _collected():
        ends = time.monotonic() + seconds
        for number in range(pairs):
            if number >= FEWEST_PAIRS and time.monotonic() > ends:
                break
            first_is_traced = bool(number % 2)
            speeds = [_loop_ns()]
            one = measure(batch, calls, traced=first_is_traced and not control)
            speeds.append(_loop_ns())
            other = measure(batch, calls, traced=not first_is_traced and not control)
            speeds.append(_loop_ns())
            pair = (other, one) if first_is_traced else (one, other)
            measured.append((max(speeds) / min(speeds), pair))
    switch(False)
    return _steady(measured)


def _steady(measured: list[tuple[float, tuple[Cost, Cost]]]) -> list[tuple[Cost, Cost]]:
    """Return the pairs without a change of speed; in any case the steadiest half."""
    measured = sorted(measured, key=operator.itemgetter(0))
    fewest = math.ceil(FEWEST_KEPT * len(measured))
    return [pair for number, (spread, pair) in enumerate(measured) if spread <= STEADY or number < fewest]


def _loop_ns() -> int:
    """Return how long a fixed loop takes now: some 100 µs, the best of three."""
    return min(_time_loop() for _ in range(3))


def _time_loop() -> int:
    begun = time.thread_time_ns()
    total = 0
    for number in range(1_500):
        total += number * number
    return time.thread_time_ns() - begun


@contextmanager
def _collected() -> Iterator[None]:
    """Let the garbage collector look only at what the block makes: objects of imports would add noise to both sides."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def scratch() -> Iterator[Path]:
    """Give the block the path of a database that does not exist yet; the database is deleted after the block."""
    with tempfile.TemporaryDirectory(prefix="tracer-benchmark-") as directory:
        yield Path(directory) / "traces.db"


@contextmanager
def store_at(path: Path) -> Iterator[None]:
    """Give the block a tracer of its own that writes to `path`; when it ends, tracing is off and the file closed."""
    with isolated(f"sqlite:///{path}"):
        try:
            yield
        finally:
            switch(False)


@contextmanager
def fresh_store() -> Iterator[Path]:
    """Give the block a tracer of its own over a new file, whose path it gets."""
    with scratch() as path, store_at(path):
        yield path
