"""What a longer `batch_interval` saves a service that makes few calls: CPU of the whole process for each call.

    python -m benchmarks.interval                     4 and 20 calls a second, three turns, about four minutes
    python -m benchmarks.interval --turns 5

Each turn runs the same service un-traced and with each interval, in a process of its own. A call takes 0.3 s, as real
ones outlast the interval. What is added is relative to the un-traced process of the same turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["main"]

RATES = (4, 20)  # calls a second
INTERVALS = (0.1, 0.25, 0.5, 1.0)
SECONDS = 8.0
LATENCY = 0.3


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--service", nargs=2, help=argparse.SUPPRESS)  # one process: calls a second, interval or 0
    arguments = parser.parse_args()
    if arguments.service:
        rate, interval = map(float, arguments.service)
        print(json.dumps(asyncio.run(_serve(rate, interval))))
        return
    print("| calls/s | un-traced, CPU ms a call |" + "".join(f" {interval} s |" for interval in INTERVALS))
    print("|---|---|" + "---|" * len(INTERVALS))
    for rate in RATES:
        turns = [{interval: _run(rate, interval) for interval in (0.0, *INTERVALS)} for _ in range(arguments.turns)]
        cells = [f"{statistics.median(turn[0.0] for turn in turns):.2f}"]
        for interval in INTERVALS:
            added = statistics.median(turn[interval] - turn[0.0] for turn in turns)
            share = statistics.median(turn[interval] / turn[0.0] - 1 for turn in turns)
            cells.append(f"+{added:.2f} ms (+{share:.0%})")
        print(f"| {rate} | " + " | ".join(cells) + " |", flush=True)


def _run(rate: float, interval: float) -> float:
    command = [sys.executable, "-m", "benchmarks.interval", "--service", str(rate), str(interval)]
    return float(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


async def _serve(rate: float, interval: float) -> float:
    """Make calls for some seconds and return the CPU milliseconds of a call; interval 0 is un-traced."""
    import tracer
    from benchmarks import _payloads as payloads
    from benchmarks._transport import async_client

    with tempfile.TemporaryDirectory() as directory:
        if interval:
            tracer.set_tracking_uri(f"sqlite:///{Path(directory, 't.db')}")
            tracer.configure(batch_interval=interval)
            tracer.autolog()
        async with async_client(LATENCY) as sdk:

            async def call() -> None:
                await sdk.chat.completions.create(**payloads.CHAT_REQUEST)

            await asyncio.gather(call(), call())  # the first ones import, connect and create
            await asyncio.sleep(0.5)
            calls: list[asyncio.Task[None]] = []
            began, before = time.perf_counter(), time.process_time()
            while (due := began + len(calls) / rate) < began + SECONDS:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                calls.append(asyncio.ensure_future(call()))
            await asyncio.gather(*calls)
            await asyncio.sleep(2 * interval)  # until all is written
            return 1e3 * (time.process_time() - before) / len(calls)


if __name__ == "__main__":
    main()
