"""What extreme values cost: how long the caller waits, and how much memory the process takes.

    python -m benchmarks.bounds                 every case, about a minute
    python -m benchmarks.bounds generator repr

Each case runs in a process of its own and writes to a new SQLite file. "caller" is the longest of the calls that tracer
has a part in, without what they would cost un-traced; "memory" is the peak of the resident set over what it was before.
Goals: 50 ms and 128 MB. Linux only. On a busy machine, look at the caller's CPU time; Python's garbage collector is
part of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["CASES", "main"]

_BEFORE = """
import time
import tracer

@tracer.trace
def f(value): return None

def status(name):
    return next(int(line.split()[1]) / 1e3 for line in open("/proc/self/status") if line.startswith(name))

longest = (0.0, 0.0)
def timed(call, *arguments):
    global longest
    wall, cpu = time.perf_counter(), time.thread_time()
    try:
        return call(*arguments)
    finally:
        longest = max(longest, (time.perf_counter() - wall, time.thread_time() - cpu))
"""
_START = """
f(1)
assert tracer.sync.flush(30)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = status("VmRSS")
"""
_AFTER = """
began = time.perf_counter()
assert tracer.sync.flush(60)
stats = tracer.stats()
print(
    f"caller {1e3 * longest[0]:.1f} ms (CPU {1e3 * longest[1]:.1f}), memory {status('VmHWM') - before:.0f} MB, "
    f"flush {time.perf_counter() - began:.2f} s, truncated {stats.truncated}, open {stats.open_spans}, "
    f"dropped {({reason: count for reason, count in stats.dropped.items() if count})}", flush=True
)
"""

CASES = {
    "generator": (
        "a generator of 400 x 1 MB",
        """
@tracer.trace
def items():
    for number in range(400):
        yield "x" * 1_000_000
""",
        """
run = items()
while timed(next, run, None):
    time.sleep(0.004)
""",
    ),
    "group": (
        "an exception group of 8 x 8 x 8 x 8, 70 frames each",
        """
class Group(Exception):
    def __init__(self, message, exceptions): self.exceptions = exceptions
Group = getattr(__builtins__, "ExceptionGroup", Group)
def deep(left):
    if left: deep(left - 1)
    raise ValueError("leaf")
def caught(call, *arguments):
    try: call(*arguments)
    except Exception as error: return error
def raise_(error): raise error
def group(depth):
    return caught(raise_, Group("g", [group(depth - 1) if depth else caught(deep, 70) for _ in range(8)]))
whole = group(3)
def block():
    with tracer.start_span("group"):
        raise whole
""",
        "timed(caught, block)",
    ),
    "repr": (
        "an argument with a repr of 45 MB",
        """
class Big:
    def __init__(self): self.items = list(range(5_000_000))
    def __repr__(self): return f"Big({self.items!r})"
value = Big()
""",
        "timed(f, value)",
    ),
    "list": ("a list of 10 million texts", 'value = ["lorem ipsum dolor"] * 10_000_000', "timed(f, value)"),
    "dicts": (
        "a list of 300,000 dicts",
        'value = [{"a": number, "b": "x" * 20} for number in range(300_000)]',
        "timed(f, value)",
    ),
    "models": (
        "a pydantic model with a list of 3 million numbers",
        """
import pydantic
class Model(pydantic.BaseModel):
    numbers: list[int]
value = Model.model_construct(numbers=list(range(3_000_000)))
""",
        "timed(f, value)",
    ),
    "attributes": (
        "16,000 attributes of one span, set one by one (caller: all)",
        """
def fill(span):
    for number in range(16_000):
        span.set_attribute(f"key {number}", number)
""",
        """
with tracer.start_span("attributes") as span:
    timed(fill, span)
    tracer.sync.flush(30)
""",
    ),
    "open": (
        "10,000 spans that never end",
        """
held, text, note = [], "lorem ipsum " * 830, "v" * 2_000  # one object each: the program itself must not hold 120 MB
""",
        """
def start(number):
    scope = tracer.start_span("never")
    span = scope.__enter__()
    span.set_inputs(text)
    span.set_attribute("key", note)
    held.append(scope)
import contextvars
for number in range(10_000):
    contextvars.copy_context().run(timed, start, number)
    if number % 250 == 0:
        tracer.sync.flush(10)
""",
    ),
    "prompt": (
        "a prompt of 100 MB (caller: stall of the loop while the worker has it; CPU, memory: over un-traced calls)",
        """
import asyncio
from benchmarks._server import canned_server, socket_client
prompt = [{"role": "user", "content": "lorem ipsum " * 8_333_333}]

async def tick():
    last, gap = time.perf_counter(), 0.0
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            last, gap = now, max(gap, now - last)
    except asyncio.CancelledError:
        return max(gap, time.perf_counter() - last)

async def ask(client):
    cpu = time.thread_time()
    await client.chat.completions.create(model="m", messages=prompt)
    cpu = time.thread_time() - cpu
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await tracer.flush(60)
    ticking.cancel()
    return await ticking, cpu

async def calls():
    with canned_server() as url:
        async with socket_client(url) as client:
            return [min(one) for one in zip(*[await ask(client) for _ in range(3)])]

asyncio.run(calls())  # imports what is needed, and grows the heap
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
plain = asyncio.run(calls())
memory = status("VmHWM") - before
""",
        """
before += memory
tracer.autolog()
traced = asyncio.run(calls())
longest = (traced[0], traced[1] - plain[1])
""",
    ),
    "running": (
        "one span, 20,000 events of 1 kB over 2 s",
        "",
        """
with tracer.start_span("running") as span:
    for number in range(20_000):
        timed(span.add_event, "note", {"text": "x" * 1_000})
        if number % 10 == 0:
            time.sleep(0.001)
""",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Run as a command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bounds", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    chosen = parser.parse_args(arguments).cases or list(CASES)
    if unknown := [name for name in chosen if name not in CASES]:
        parser.error(f"unknown case {unknown[0]!r}; known are {', '.join(CASES)}")
    for name in chosen:
        what, setup, step = CASES[name]
        print(f"{name:11} {what}\n            {_run(_BEFORE + setup + _START + step + _AFTER)}", flush=True)


def _run(program: str) -> str:
    """Return a case's figures, in words."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TRACER_TRACKING_URI": f"sqlite:///{Path(folder, 'tracer.db')}"}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    return done.stdout.strip() or f"failed: {done.stderr.strip()[-300:]}"


if __name__ == "__main__":
    main()
