"""Rows about the crash ring: what a kill costs, what the ring costs a caller, and how quickly it is taken over."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks._measure import scratch
from benchmarks._results import Effort, Estimate, Goal, Result, Section
from benchmarks._statistics import median_interval
from benchmarks._storage import chat_records
from tracer._config import MIB
from tracer.capture.records import Rank, encode
from tracer.interpret.cost import load_table
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline._ring_file import give_back
from tracer.pipeline._time_slices import Slices
from tracer.pipeline.adoption import Adoption
from tracer.pipeline.ring import Ring
from tracer.store import open_store
from tracer.store.batch import ProcessRow
from tracer.store.process import current_process

__all__ = ["SECTIONS"]

NO_LOSS = Goal(design=0, stage=0)
APPEND = Goal(design=3, stage=3)
ADOPTION = Goal(design=2, stage=2)
RECORD = b'{"model":"gpt-5","messages":[{"role":"user","content":"' + b"words of a prompt " * 108 + b'"}]}'
BLOCK = 200

# Each number is noted where a kill can't take it away, once its span has ended.
_RECORDING = """
import mmap, sys, threading, time, tracer
from benchmarks._transport import client
tracer.autolog()
file = open(sys.argv[1], "w+b")
file.truncate(8)
made = mmap.mmap(file.fileno(), 8)
client = client()
for number in range(1, 10**9):
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"call {number}."}])
    made[:] = number.to_bytes(8, "little")
"""
_READING = "import tracer; tracer.sync.search_traces(max_results=1)"


def _measure_kills(effort: Effort) -> Iterator[Result]:
    made = lost = 0
    for _ in range(effort.kills):
        with scratch() as database:
            noted, found = _kill(database)
        made += noted
        lost += len(set(range(1, noted + 1)) - found)
    yield Result(
        name=f"kill -9, {effort.kills} times: lost", estimate=Estimate(lost, n=made), unit="calls", goal=NO_LOSS
    )


def _kill(database: Path) -> tuple[int, set[int]]:
    """Kill a process that makes calls; return how many it made, and the numbers of those that are in the database."""
    progress = database.with_suffix(".progress")
    environment = {**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{database}"}
    with subprocess.Popen([sys.executable, "-c", _RECORDING, str(progress)], env=environment) as process:
        while not progress.exists() or not progress.read_bytes().strip(b"\0"):
            time.sleep(0.01)
        time.sleep(random.uniform(0.1, 3))
        process.send_signal(signal.SIGKILL)
    subprocess.run([sys.executable, "-c", _READING], env=environment, check=True)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT inputs FROM spans WHERE end_time_ns IS NOT NULL").fetchall()
    return int.from_bytes(progress.read_bytes(), "little"), {
        int(text.partition("call ")[2].partition(".")[0]) for (text,) in rows
    }


def _measure_append(effort: Effort) -> Iterator[Result]:
    with scratch() as database:
        ring = Ring(database, current_process(), 32 * MIB)
        plain, ringed = RecordQueue(2**40, 2**40), RecordQueue(2**40, 2**40)
        ringed.set_ring(ring)
        without, added = [], []
        for _ in range(effort.pairs):
            base = _push(plain)
            without.append(base)
            added.append(_push(ringed) - base)
            ring.settle(ring.sequence)
            ring.rewind()
        ring.close()
    details = {"push_without_us": median_interval(without).value}
    name = "the crash ring, a record of 2 KB: p50"
    yield Result(name=name, estimate=median_interval(added), unit="µs added", goal=APPEND, details=details)


def _push(queue: RecordQueue) -> float:
    """Return the median of some pushes, in microseconds."""
    clock, taken = time.perf_counter_ns, []
    for _ in range(BLOCK):
        begun = clock()
        queue.push(RECORD, Rank.START)
        taken.append(clock() - begun)
    queue.drain(BLOCK, 2**40)
    return sorted(taken)[BLOCK // 2] / 1e3


def _measure_adoption(effort: Effort) -> Iterator[Result]:
    seconds, longest, records = [], [], 0
    for _ in range(effort.write_rounds):
        with scratch() as database:
            records = _leave_a_full_ring(database)
            taken, slices = asyncio.run(_adopt(database, records))
            seconds.append(taken)
            longest.append(1e3 * slices.longest)
    name = "a full ring of 32 MiB is taken over"
    yield Result(name=name, estimate=median_interval(seconds), unit="s", goal=ADOPTION, details={"records": records})
    name = "… work of its thread between two offers of the GIL: longest"
    yield Result(name=name, estimate=median_interval(longest), unit="ms CPU")


class _MeasuredSlices(Slices):
    """Measures CPU time: on a busy machine, other processes would be seen in anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0.0
        self._offered = time.thread_time()

    def offer(self) -> None:
        end = self._end
        super().offer()
        if self._end != end:
            now = time.thread_time()
            self.longest, self._offered = max(self.longest, now - self._offered), now


def _leave_a_full_ring(database: Path) -> int:
    """Write chat calls into the ring of a process that is no more; return how many records fitted in."""
    ring = Ring(database, ProcessRow(process_id="gone", host="here", pid=2**22 + 1, started="1"), 32 * MIB)
    queue: Any = []
    while all(ring.append(encode(record), queue) for record in chat_records()):
        pass
    ring.let_go()
    give_back(ring.path)
    return len(queue)


async def _adopt(database: Path, records: int) -> tuple[float, _MeasuredSlices]:
    load_table()  # a process does that once, at its first priced call
    store = open_store(f"sqlite:///{database}")
    await store.open()
    begun, slices = time.perf_counter(), _MeasuredSlices()
    if await Adoption(store, offer=slices.offer).adopt() != records:
        raise RuntimeError("not all of the ring was taken over")
    seconds = time.perf_counter() - begun
    await store.aclose()
    return seconds, slices


SECTIONS = [
    Section("kill", _measure_kills),
    Section("ring", _measure_append),
    Section("adoption", _measure_adoption),
]
