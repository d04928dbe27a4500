"""Rows about start-up: what ``import tracer`` and the first ``autolog()`` add to a program that imports openai."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks._results import Effort, Goal, Result, Section
from benchmarks._statistics import median_interval

__all__ = ["SECTIONS"]

IMPORT = Goal(design=40, stage=60)

# All three figures come from one process, so that a slow moment affects them equally. The bytecode is cached, as in any
# start after the first.
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
    _run()  # fills the bytecode cache
    runs = [_run() for _ in range(effort.import_runs)]
    openai, tracer, autolog = zip(*runs, strict=True)
    base = {"import_openai_ms": median_interval([wall for wall, _ in openai]).value}
    cpu = {"cpu_ms": median_interval([cpu for _, cpu in tracer]).value}
    walls = median_interval([wall for wall, _ in tracer])
    yield Result(name="import tracer, after openai", estimate=walls, unit="ms", goal=IMPORT, details=base | cpu)
    yield Result(name="first autolog()", estimate=median_interval([wall for wall, _ in autolog]), unit="ms")


def _run() -> list[tuple[float, float]]:
    """Return (wall, CPU) milliseconds of each of the three steps in a fresh process."""
    output = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True).stdout
    return [(wall, cpu) for wall, cpu in json.loads(output)]


SECTIONS = [Section("import", _measure_imports)]
