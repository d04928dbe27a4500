"""Run the tests of the fault matrix and print it: ``python -m tests.faults [-n 2]``; arguments go to pytest.

``python -m tests.faults without [row …]`` takes the defences out, one after the other, and tells which rows go red.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.faults.defences import DEFENCES
from tests.faults.matrix import MATRIX, Row
from tests.faults.without import try_without


class Outcome(NamedTuple):
    """What became of one test."""

    name: str
    word: str
    seconds: float


def main() -> int:
    """Return how many rows are red."""
    files = sorted({name.split("::")[0] for row in MATRIX for name in row.tests})
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--thorough", f"--junitxml={report}"]
        subprocess.run([*command, *sys.argv[1:], *files], check=False)
        outcomes = read(report)
    red = 0
    print("| # | fault | result | tests | seconds | lacks |\n|---|---|---|---|---|---|")
    for row in MATRIX:
        word, count, seconds = judge(row, outcomes)
        red += word == "red"
        print(f"| {row.number} | {row.fault} | {word} | {count} | {seconds:.0f} | {row.lacks} |")
    return red


def run_without(rows: list[str]) -> int:
    """Return how many rows stayed green although a defence was out."""
    stayed = 0
    print("| # | without | result |\n|---|---|---|")
    for defence in DEFENCES:
        if not rows or str(defence.row) in rows:
            word = try_without(defence)
            stayed += not word.startswith("red")
            print(f"| {defence.row} | {defence.what} | {word} |", flush=True)
    return stayed


def read(report: Path) -> dict[str, list[Outcome]]:
    """Return the outcomes of each file's tests."""
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        word = "red" if bad else "skipped" if case.find("skipped") is not None else "green"
        file = "/".join(part for part in case.get("classname", "").split(".") if not part.startswith("Test")) + ".py"
        outcomes[file].append(Outcome(case.get("name", ""), word, float(case.get("time", 0))))
    return outcomes


def judge(row: Row, outcomes: dict[str, list[Outcome]]) -> tuple[str, int, float]:
    """Return a word for the row, how many tests ran for it, and for how long."""
    found = []
    for name in row.tests:
        file, _, begin = name.partition("::")
        mine = [one for one in outcomes[file] if one.name.startswith(begin) and one.word != "skipped"]
        if not mine:
            return "red", 0, 0.0  # a row whose test is gone must not look green
        found += mine
    if not found:
        return "not yet", 0, 0.0
    word = "red" if any(one.word == "red" for one in found) else "green"
    return word, len(found), sum(one.seconds for one in found)


if __name__ == "__main__":
    sys.exit(run_without(sys.argv[2:]) if sys.argv[1:2] == ["without"] else main())
