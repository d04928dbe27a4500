"""What `benchmarks.soak` concludes: whether levels hold, and whether all that was made is stored."""

from __future__ import annotations

import sqlite3
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path

import msgspec

from benchmarks._soak_process import Sample
from benchmarks._soak_service import Account

__all__ = ["Level", "Stored", "levels", "problems", "read_stored"]

FEWEST = 40  # samples of a quarter; with fewer, nothing can be said about a trend
GROWTH = 0.02  # of a quarter over the one before it, beside each figure's own allowance

# (figure, words, what it may differ from quarter to quarter)
_FIGURES = (
    ("own_mb", "memory of its own, MB", 3.0),
    ("shared_mb", "shared memory (crash ring), MB", 3.0),
    ("descriptors", "file descriptors", 10.0),
    ("threads", "threads", 2.0),
)


class Level(msgspec.Struct, frozen=True):
    """Medians of one figure in the four quarters of the run; `is_level` is None if the run was too short to tell."""

    name: str
    quarters: list[float]
    is_level: bool | None


def levels(samples: list[Sample]) -> list[Level]:
    """Return the level of each figure. The second half may not grow; the first has caches and pools to fill."""
    return [_level(name, list(map(attrgetter(field), samples)), slack) for field, name, slack in _FIGURES]


def _level(name: str, values: list[float], slack: float) -> Level:
    size = len(values) // 4
    quarters = [statistics.median(values[number * size : (number + 1) * size]) for number in range(4)]
    is_level = quarters[3] <= quarters[2] * (1 + GROWTH) + slack if size >= FEWEST else None
    return Level(name, quarters, is_level)


class Stored(msgspec.Struct, frozen=True):
    """What is in the databases: ended spans by their finish, ended traces; and what is wrong with the files."""

    spans: dict[str, int]
    traces: int
    damage: list[str]


def read_stored(paths: Iterable[Path]) -> Stored:
    """Count what is in these files; what is in several of them counts once."""
    spans: dict[tuple[str, str], str] = {}
    traces: set[str] = set()
    damage: list[str] = []
    for path in paths:
        with closing(sqlite3.connect(path)) as database:
            damage += [f"{path.name}: {line}" for (line,) in database.execute("PRAGMA integrity_check") if line != "ok"]
            found = database.execute(
                "SELECT trace_id, span_id, finish FROM spans JOIN traces ON traces.key = trace_key "
                "WHERE spans.end_time_ns IS NOT NULL"
            )
            spans.update({(trace, span): finish for trace, span, finish in found})
            ended = database.execute("SELECT trace_id FROM traces WHERE state IN ('OK', 'ERROR')")
            traces.update(trace for (trace,) in ended)
    return Stored(dict(Counter(spans.values())), len(traces), damage)


def problems(account: Account, stored: Stored, levels: Iterable[Level]) -> Iterator[str]:
    """Yield what is wrong, in words: a service that was harmed, accounts that don't close, levels that rise."""
    stats, dropped = account.stats, account.stats["dropped"]
    for failure, count in account.failures.items():
        yield f"{count} x in the service: {failure}"
    yield from stored.damage
    lost = {reason: dropped[reason] for reason in ("lost", "spool", "closed", "others") if dropped[reason]}
    if lost:
        yield f"lost, though nothing may be: {lost}"
    refused = dropped["start"]
    made = sum(account.spans.values())
    if made != sum(stored.spans.values()) + refused:
        yield f"{made:,} spans made, {sum(stored.spans.values()):,} stored, {refused:,} counted as refused"
    elif not (refused or dropped["chunk"] or dropped["detail"]) and account.spans != stored.spans:
        yield f"spans made {account.spans}, stored {stored.spans}"
    if not refused and account.traces != stored.traces:
        yield f"{account.traces:,} traces made, {stored.traces:,} stored"
    if stats["accepted"] != stats["queued"] + stats["written"] + stats["spooled"] + dropped["lost"] + dropped["spool"]:
        yield f"records accepted are not those written and counted: {stats}"
    if stats["queued"] or stats["open_spans"]:
        yield f"at the end {stats['queued']} records were queued and {stats['open_spans']} spans open"
    yield from (f"{level.name} does not level off" for level in levels if level.is_level is False)
