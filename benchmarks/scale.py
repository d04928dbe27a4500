"""How many spans a server takes, what they cost it, and what a kill costs: ours, and MLflow's and Phoenix's.

    python -m benchmarks.scale                                   ours, 5,000 spans of 4 KB from two processes
    python -m benchmarks.scale --mlflow ENV/bin/mlflow --phoenix ENV/bin/phoenix --spans 2000
    python -m benchmarks.scale --only postgres --writers 4
    python -m benchmarks.scale --only sqlite --bodies 0.05       as with keep_bodies=0.05

All run on this machine, one after the other, on the same spans; nothing is compressed. Each server is first sent half
of the spans undisturbed, then the other half while it is killed (``kill -9``) and started again. A writer sends a batch
until it is answered with success.

- spans/s: from the first post until all spans of the undisturbed half are *stored*, by the machine's clock.
- p50, p99: of the answers to a batch, undisturbed.
- CPU: of the undisturbed half, a span: of the writers (sending alone), the server with all its processes, PostgreSQL.
- B: of the database a span, at the end.
- back after: from the kill until the next batch was answered; the start of the server is in it.
- lost, twice: of all spans that were answered with success, how many are not stored, or stored once too often.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._environment import describe
from benchmarks._scale_servers import CONTENDERS, Contender
from tests.postgres import find_binaries

__all__ = ["main"]

_SMALL = 50  # spans of a batch that is sent while the server is killed
_STORED_SECONDS = 600.0  # for what was answered before it was stored
_AT_REST_SECONDS = 15.0  # without a new span: then no more will come


class Figures(msgspec.Struct, kw_only=True):
    """What was measured of one server."""

    name: str
    spans: int
    per_second: float
    p50_ms: float
    p99_ms: float
    writer_us: float
    server_us: float
    engine_us: float
    span_bytes: float
    back_after_s: float | None
    lost: int


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5_000, help="for each server")
    parser.add_argument("--batch", type=int, default=250, help="spans of a post")
    parser.add_argument("--writers", type=int, default=2, help="processes that send")
    parser.add_argument("--bodies", type=float, default=1.0, help="share of spans of our SDK that keep theirs")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="may be repeated")
    parser.add_argument("--mlflow", metavar="PROGRAM", help="the program mlflow of an environment that has it")
    parser.add_argument("--phoenix", metavar="PROGRAM", help="the program phoenix of an environment that has it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    programs = {"mlflow": given.mlflow, "phoenix": given.phoenix}
    chosen = [
        name
        for name in given.only or CONTENDERS
        if programs.get(name, True) and (name != "postgres" or find_binaries() is not None)
    ]
    found = []
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="tracer-scale-") as directory:
            contender = CONTENDERS[name](Path(directory), programs.get(name) or "")
            contender.bodies = given.bodies
            found.append(_measure(contender, given.spans, given.batch, given.writers))
        if not given.json:
            print(_line(found[-1]) if len(found) > 1 else f"{_HEAD}\n{_line(found[-1])}", flush=True)
    machine = describe()
    if given.json:
        print(msgspec.json.format(msgspec.json.encode({"machine": machine, "figures": found})).decode())
    else:
        print(f"\n{machine.cpu}, {machine.cores} cores, Python {machine.versions['python']}, commit {machine.commit}")


_HEAD = (
    "| | spans/s | p50, p99 of a batch | CPU a span: writers, server, PostgreSQL | B a span | back after | lost, twice "
    "|\n|---|---|---|---|---|---|---|"
)


def _line(each: Figures) -> str:
    cpu = ", ".join(f"{value:,.0f}" if value else "" for value in (each.writer_us, each.server_us, each.engine_us))
    back = "" if each.back_after_s is None else f"{each.back_after_s:.1f} s"
    return (
        f"| {each.name} | {each.per_second:,.0f} | {each.p50_ms:,.0f}, {each.p99_ms:,.0f} ms | {cpu.rstrip(', ')} µs "
        f"| {each.span_bytes:,.0f} | {back} | {max(each.lost, 0)}, {max(-each.lost, 0)} |"
    )


def _measure(contender: Contender, spans: int, size: int, writers: int) -> Figures:
    batches = max(2, spans // 2 // size // writers)  # of each writer, in each half
    half = batches * writers * size
    contender.start()
    try:
        with _writers(contender, batches=1, size=min(size, 20), writers=1, seed=9_000_000) as warm:
            warm.run()  # imports, connections, first tables
            _wait_until_stored(contender, before := min(size, 20))
        with _writers(contender, batches, size, writers, seed=0) as calm:
            server, engine, began = contender.cpu(), contender.engine_cpu(), time.perf_counter()
            calm.run()
            _wait_until_stored(contender, before + half)
            seconds = time.perf_counter() - began
            server, engine = contender.cpu() - server, contender.engine_cpu() - engine
        answers = sorted(took * 1_000 for _, took in calm.taken)
        pieces = max(1, size // _SMALL)  # so that some are left to send when it is killed
        back_after = _kill_half_way(contender, batches * pieces, size // pieces, writers)
        spans = before + half + batches * pieces * (size // pieces) * writers
        _wait_until_stored(contender, spans)
        lost = spans - contender.count()
        contender.end()
        return Figures(
            name=contender.name,
            spans=spans,
            per_second=half / seconds,
            p50_ms=statistics.median(answers),
            p99_ms=answers[min(len(answers) - 1, int(len(answers) * 0.99))],
            writer_us=calm.cpu / half * 1e6,
            server_us=server / half * 1e6,
            engine_us=engine / half * 1e6,
            span_bytes=contender.size() / spans,
            back_after_s=back_after,
            lost=lost,
        )
    finally:
        contender.end()
        contender.close()


def _kill_half_way(contender: Contender, batches: int, size: int, writers: int) -> float | None:
    """Kill the server while it is sent spans; return the seconds until it took the next batch, if one was left."""
    with _writers(contender, batches, size, writers, seed=1_000_000) as sending:
        before = contender.count()
        sending.start()
        while contender.count() == before and not sending.have_ended:
            time.sleep(0.01)
        contender.end(signal.SIGKILL)
        killed = time.time()  # what is answered from here on, the next server answers
        contender.start()
        sending.finish()
    answered = [sent + took for sent, took in sending.taken if sent + took > killed]
    return min(answered) - killed if answered else None


def _wait_until_stored(contender: Contender, spans: int) -> None:
    """Wait until so many spans are stored, or until no more come."""
    ends, last, since = time.monotonic() + _STORED_SECONDS, -1, time.monotonic()
    while time.monotonic() < ends:
        count = contender.count()
        if count >= spans:
            return
        if count != last:
            last, since = count, time.monotonic()
        elif time.monotonic() - since > _AT_REST_SECONDS:
            return
        time.sleep(0.02)


class _Sending:
    """Processes that send, each with its batches ready."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self.taken: list[tuple[float, float]] = []
        self.cpu = 0.0

    def run(self) -> None:
        """Send all."""
        self.start()
        self.finish()

    def start(self) -> None:
        """Let them begin."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    @property
    def have_ended(self) -> bool:
        """All have sent everything."""
        return all(process.poll() is not None for process in self._processes)

    def finish(self) -> None:
        """Wait until all is sent."""
        for process in self._processes:
            assert process.stdout is not None
            result: Any = json.loads(process.stdout.readline())
            self.taken += [(sent, took) for sent, took in result["taken"]]
            self.cpu += result["cpu"]


@contextlib.contextmanager
def _writers(contender: Contender, batches: int, size: int, writers: int, seed: int) -> Iterator[_Sending]:
    with contextlib.ExitStack() as stack:
        processes = []
        for number in range(writers):
            task = {
                "form": contender.form, "url": contender.url, "headers": dict(contender.headers), "batches": batches,
                "size": size, "bodies": contender.bodies, "seed": seed + number * 10_000,
            }  # fmt: skip
            command = [sys.executable, "-m", "benchmarks._scale_writer", json.dumps(task)]
            pipe = subprocess.PIPE
            processes.append(stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)))
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield _Sending(processes)


if __name__ == "__main__":
    main()
