"""What tracing adds to the calls of an un-traced program, and how well the traces are written and read.

    python -m benchmarks.overhead                   everything, some eleven minutes
    python -m benchmarks.overhead --quick           under one; wide intervals
    python -m benchmarks.overhead --only chat-async write
    python -m benchmarks.overhead --json > run.json

The real ``openai`` client runs over a transport that answers from memory, with tracing on and off in turns (see
`benchmarks._measure`). Goals are those of the design and of the present stage of the work. Run it on a quiet machine:
the A/A rows, un-traced against un-traced, show how much of a figure is noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from benchmarks import _calls, _crash_ring, _event_loop, _processes, _storage
from benchmarks._environment import OthersMeter, describe, load_average
from benchmarks._report import format_footer, format_header, format_row, format_titles, to_json
from benchmarks._results import Effort, Result, Section

__all__ = ["FULL", "NOT_MEASURED", "QUICK", "SECTIONS", "main", "run"]

SECTIONS = [*_calls.SECTIONS, *_event_loop.SECTIONS, *_storage.SECTIONS, *_crash_ring.SECTIONS, *_processes.SECTIONS]

FULL = Effort()
NOT_MEASURED = (
    "network, TLS and HTTP parsing (the transport answers from memory; --loopback adds HTTP over 127.0.0.1)",
    "the full-text index, which is filled when somebody searches, and searching itself",
    "several processes that write to one file, other stores, slow disks, power cuts",
    "legacy completions, the Agents SDK, @trace, redaction hooks, content capture switched off, payloads above 10 KB",
    "event loops other than asyncio, free-threaded builds, other tracers (their figures: the design's peers page)",
)
QUICK = Effort(
    pairs=30,
    stream_pairs=16,
    section_seconds=2.0,
    stream_seconds=3.0,
    loop_rounds=2,
    loop_seconds=1.0,
    throughput_rounds=2,
    burst_calls=2_000,
    burst_seconds=8.0,
    overload_spans=30_000,
    lookups=40,
    write_spans=5_000,
    write_rounds=3,
    disk_streams=20,
    import_runs=3,
    kills=3,
    exit_runs=3,
)


def run(sections: Sequence[Section], effort: Effort) -> Iterator[Result]:
    """Run sections one after the other; yield their rows as they come."""
    for section in sections:
        meter = OthersMeter()
        with meter.watch():
            results = list(section.run(effort))
        for result in results:
            result.others = meter.cores
            yield result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a command; see the module's docstring."""
    options = _parse(arguments)
    known = {section.name: section for section in [*SECTIONS, _calls.LOOPBACK]}
    chosen = [known[name] for name in options.only] if options.only else list(SECTIONS)
    if options.loopback and _calls.LOOPBACK not in chosen:
        chosen.append(_calls.LOOPBACK)
    environment = describe()
    if not options.json:
        print(f"{format_header(environment)}\n\n{format_titles()}", flush=True)
    results = []
    for result in run(chosen, QUICK if options.quick else FULL):
        results.append(result)
        if not options.json:
            print(format_row(result), flush=True)
    load = load_average()
    print(
        to_json(environment, results, load, NOT_MEASURED).decode()
        if options.json
        else f"\n{format_footer(results, load, NOT_MEASURED)}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [section.name for section in [*SECTIONS, _calls.LOOPBACK]]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--quick", action="store_true", help="measure little: under a minute, wide intervals")
    parser.add_argument("--loopback", action="store_true", help="also call a fake OpenAI server over HTTP on 127.0.0.1")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
