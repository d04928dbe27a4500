"""A service under load for minutes, with faults thrown in: does it level off, and is all stored that it made?

    python -m benchmarks.soak --minutes 10

An asyncio service of 1,000 tasks makes calls of all kinds over real sockets: plain ones and streams, errors,
cancellations, streams left half-read, images, spans of its own, reads. Meanwhile each fault of
`benchmarks._soak_faults` happens to it in turn. Printed are the levels of memory, file
descriptors and threads, and the account: what was made, stored and counted as dropped. The exit code is 1 if a level
still rises in the second half, if anything is missing, or if a call of the service failed because of tracer. Linux
only.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._environment import describe
from benchmarks._report import format_header
from benchmarks._server import canned_server
from benchmarks._soak_faults import FAULTS, databases
from benchmarks._soak_process import Sample, ServiceProcess
from benchmarks._soak_service import Account
from benchmarks._soak_verdict import Level, Stored, levels, problems, read_stored

__all__ = ["main"]

INTERVAL = 0.25  # seconds between two samples
LONGEST_FAULT = 3.0  # seconds
SHORTEST_TURN = 0.5  # seconds from one fault to the next


def main(arguments: list[str] | None = None) -> int:
    """Run as a command; see the module's docstring. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=1_000, help="tasks of the service (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second, of all tasks (default: %(default)s)")
    given = parser.parse_args(arguments)
    print(format_header(describe()))
    print(f"{given.minutes:g} minutes, {given.tasks:,} tasks, {given.rate:g} calls/s", flush=True)
    with _folder() as folder, canned_server() as base_url:
        database = folder / "traces.db"
        with ServiceProcess(base_url, database, given.tasks, given.rate) as service:
            samples = _run(service, database, 60 * given.minutes)
            account = service.stop()
        stored = read_stored(databases(database))
    return _report(samples, account, stored, service.log)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tracer-soak-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _run(service: ServiceProcess, database: Path, seconds: float) -> list[Sample]:
    """Let the service run, throw one fault after the other, and return samples taken all the while.

    Each fault comes once in each quarter, or less often where a busy machine takes longer over them, but at least once.
    """
    samples: list[Sample] = []
    ended = threading.Event()

    def take_samples() -> None:
        while not ended.wait(INTERVAL):
            samples.append(service.sample())

    sampler = threading.Thread(target=take_samples)
    sampler.start()
    try:
        turn = max(SHORTEST_TURN, seconds / 4 / len(FAULTS))
        end = time.monotonic() + seconds
        for number, fault in enumerate(itertools.cycle(FAULTS.values())):
            began = time.monotonic()
            if number >= len(FAULTS) and began >= end:
                break
            fault(service, database, min(LONGEST_FAULT, turn / 2))
            time.sleep(max(0.0, began + turn - time.monotonic()))
    finally:
        ended.set()
        sampler.join()
    return samples


def _report(samples: list[Sample], account: Account, stored: Stored, log: list[str]) -> int:
    found = levels(samples)
    print("\n".join(_level_lines(found)))
    print("\n".join(_account_lines(account, stored)))
    retries, withheld = account.stats["retries"], account.stats["redaction_failed"]
    print(f"{account.reads} reads, {retries} writes tried again, {withheld} texts withheld, {len(log)} log lines")
    wrong = list(problems(account, stored, found))
    if wrong:
        print("".join(log[-20:]), end="")
    print("\n".join(f"WRONG: {what}" for what in wrong) or "the accounts close")
    return 1 if wrong else 0


def _level_lines(found: list[Level]) -> Iterator[str]:
    words = {True: "levels off", False: "RISES", None: "too short to tell"}
    yield f"\n{'median of each quarter':32}{'first':>10}{'second':>10}{'third':>10}{'last':>10}"
    for level in found:
        figures = "".join(f"{value:10,.1f}" for value in level.quarters)
        yield f"{level.name:32}{figures}  {words[level.is_level]}"


def _account_lines(account: Account, stored: Stored) -> Iterator[str]:
    yield f"\n{'':32}{'made':>10}{'stored':>10}"
    for finish in sorted(account.spans | stored.spans):
        yield f"{'spans, ' + finish:32}{account.spans.get(finish, 0):10,}{stored.spans.get(finish, 0):10,}"
    yield f"{'traces':32}{account.traces:10,}{stored.traces:10,}"
    dropped = {reason: count for reason, count in account.stats["dropped"].items() if count}
    yield f"dropped, as counted by tracer: {dropped or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
