"""The soak runs and closes its accounts; what it would call wrong, it calls wrong."""

from __future__ import annotations

import contextlib
import copy
import sqlite3
import sys
from pathlib import Path

import pytest

import tracer
from benchmarks import soak
from benchmarks._soak_process import Sample
from benchmarks._soak_service import Account
from benchmarks._soak_verdict import FEWEST, Stored, levels, problems, read_stored

LEVEL = Sample(own_mb=100, shared_mb=2, descriptors=30, threads=5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_seconds_of_it_close_the_accounts(capsys: pytest.CaptureFixture[str]) -> None:
    code = soak.main(["--minutes", "0.05", "--tasks", "30", "--rate", "30"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "the accounts close" in out
    assert "too short to tell" in out


def samples(*quarters: Sample) -> list[Sample]:
    return [sample for sample in quarters for _ in range(FEWEST)]


@pytest.mark.parametrize("field", ["own_mb", "shared_mb", "descriptors", "threads"])
def test_only_growth_in_the_second_half_is_a_leak(field: str) -> None:
    def grown(amount: float) -> Sample:
        return Sample(**{name: getattr(LEVEL, name) + amount * (name == field) for name in LEVEL.__struct_fields__})

    assert [level.is_level for level in levels(samples(LEVEL, grown(50), grown(50), grown(50)))] == [True] * 4
    assert [level.is_level for level in levels(samples(LEVEL, LEVEL, LEVEL, grown(50)))].count(False) == 1
    assert [level.is_level for level in levels(samples(LEVEL)[: 4 * FEWEST - 1])] == [None] * 4


GOOD = Account(
    spans={"completed": 10, "failed": 2},
    traces=12,
    stats={
        "accepted": 24, "queued": 0, "written": 24, "spooled": 0, "open_spans": 0,
        "dropped": dict.fromkeys(("chunk", "detail", "start", "closed", "lost", "spool", "others"), 0),
    },
)  # fmt: skip
STORED = Stored({"completed": 10, "failed": 2}, 12, [])


def wrong(stored: Stored = STORED, **changes: int) -> list[str]:
    account = copy.deepcopy(GOOD)
    for name, value in changes.items():
        (account.stats if name in account.stats else account.stats["dropped"])[name] = value
    return list(problems(account, stored, []))


def test_accounts_that_close_are_not_wrong() -> None:
    assert wrong() == []
    assert wrong(Stored({"completed": 8, "failed": 2}, 10, []), start=2) == []
    assert wrong(Stored({"abandoned": 12}, 12, []), chunk=3) == []  # without the chunks, nobody knows how it ended


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stored": Stored({"completed": 9, "failed": 2}, 12, [])}, "12 spans made, 11 stored, 0 counted"),
        ({"stored": Stored({"completed": 11, "failed": 1}, 12, [])}, "spans made {"),
        ({"stored": Stored(STORED.spans, 11, [])}, "12 traces made, 11 stored"),
        ({"stored": Stored(STORED.spans, 12, ["t.db: page 3"])}, "page 3"),
        ({"written": 20, "lost": 4}, "lost, though nothing may be"),
        ({"written": 20}, "records accepted"),
        ({"open_spans": 1}, "1 spans open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_missing_is_told(changes: dict[str, object], words: str) -> None:
    (line,) = wrong(**changes)  # type: ignore[arg-type]
    assert words in line


def test_a_failure_of_the_service_and_a_level_that_rises_are_told() -> None:
    account = copy.deepcopy(GOOD)
    account.fail("plain: ValueError: x")
    rising = levels(samples(LEVEL, LEVEL, LEVEL, Sample(200, 2, 30, 5)))
    assert list(problems(account, STORED, rising)) == [
        "1 x in the service: plain: ValueError: x",
        "memory of its own, MB does not level off",
    ]


async def test_what_is_in_two_files_counts_once(tmp_path: Path) -> None:
    with tracer.start_span("a"), tracer.start_span("b"):
        pass
    await tracer.flush(5)
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "tracer.db")) as source,
        contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as target,
    ):
        source.backup(target)
    assert read_stored([tmp_path / "tracer.db", tmp_path / "copy.db"]) == Stored({"completed": 2}, 1, [])
