"""Rows about whole processes: what tracing adds to the start of a program that imports openai, and to its exit."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks._results import Effort, Goal, Result, Section
from benchmarks._statistics import median_interval

__all__ = ["SECTIONS"]

IMPORT = Goal(design=40, stage=60)
EXIT = Goal(design=1, stage=1)
EXIT_LOCKED = Goal(design=5.5, stage=5.5)

# All three figures come from one process, so that a slow moment affects them equally.
_PROGRAM = """
import json, time
def clock(): return time.perf_counter(), time.process_time()
moments = [clock()]
import openai; moments.append(clock())
import tracer; moments.append(clock())
tracer.autolog(); moments.append(clock())
print(json.dumps([[1e3 * (b - a) for a, b in zip(*pair)] for pair in zip(moments, moments[1:])]))
"""


def _measure_imports(effort: Effort) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as cache:
        _run(cache)  # from here on the bytecode is cached, as in any start after the first
        runs = [_run(cache) for _ in range(effort.import_runs)]
    openai, tracer, autolog = zip(*runs, strict=True)
    base = {"import_openai_ms": median_interval([wall for wall, _ in openai]).value}
    cpu = {"cpu_ms": median_interval([cpu for _, cpu in tracer]).value}
    walls = median_interval([wall for wall, _ in tracer])
    yield Result(name="import tracer, after openai", estimate=walls, unit="ms", goal=IMPORT, details=base | cpu)
    yield Result(name="first autolog()", estimate=median_interval([wall for wall, _ in autolog]), unit="ms")


def _run(cache: str) -> list[tuple[float, float]]:
    """Return (wall, CPU) milliseconds of each of the three steps in a fresh process."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _PROGRAM]
    output = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    return [(wall, cpu) for wall, cpu in json.loads(output)]


# It ends while 1,000 spans wait to be written.
_EXITING = """
import tracer
with tracer.start_span("first"):
    pass
assert tracer.sync.flush()
print("", flush=True); input()
for _ in range(1_000):
    with tracer.start_span("s"):
        pass
print("", flush=True)
"""
_NOT_TRACED = "import tracer\nprint('', flush=True); input()\nprint('', flush=True)"


def _measure_exits(effort: Effort) -> Iterator[Result]:
    healthy, untraced = [], []
    for _ in range(effort.exit_runs):
        untraced.append(_exit(_NOT_TRACED))
        healthy.append(_exit(_EXITING))
    locked = [_exit(_EXITING, lock=True) for _ in range(max(1, effort.exit_runs // 3))]
    base = {"untraced_s": median_interval(untraced).value}
    name = "exit with 1,000 spans unwritten"
    yield Result(name=name, estimate=median_interval(healthy), unit="s", goal=EXIT, details=base)
    yield Result(name="... with a locked database", estimate=median_interval(locked), unit="s", goal=EXIT_LOCKED)


def _exit(program: str, *, lock: bool = False) -> float:
    """Return the seconds from the program's last line to the end of its process."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "tracer.db")
        environment = {**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{database}"}
        command = [sys.executable, "-c", program]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            with closing(sqlite3.connect(database if lock else ":memory:", isolation_level=None)) as other:
                if lock:
                    other.execute("BEGIN EXCLUSIVE")
                process.stdin.write("\n")
                process.stdin.flush()
                process.stdout.readline()
                since = time.perf_counter()
                process.wait()
                return time.perf_counter() - since


SECTIONS = [Section("import", _measure_imports), Section("exit", _measure_exits)]
