"""Takes a defence out of a copy of the tree, and runs the tests that must notice it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.defences import Defence
from tests.faults.matrix import MATRIX

__all__ = ["try_without"]

ROOT = Path(__file__).parent.parent.parent
LIMIT = 300.0  # seconds, after which a row counts as red: it hangs
PARTS = ("tracer", "tests", "benchmarks", "examples", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")


def try_without(defence: Defence) -> str:
    """Run the tests of a row in a copy of the tree that lacks a defence, up to the first that fails."""
    tests = next(row.tests for row in MATRIX if row.number == defence.row)
    with tempfile.TemporaryDirectory() as directory:
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, Path(directory, part), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, directory)
        file = Path(directory, defence.file)
        file.write_text(file.read_text(encoding="utf-8").replace(defence.text, defence.without), encoding="utf-8")
        chosen = [test for name in defence.tests or tests for test in _with_prefix(Path(directory), name)]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *dict.fromkeys(chosen)]
        here = {**os.environ, "PYTHONPATH": directory}  # also for the scripts that tests run
        try:
            ended = subprocess.run(
                command, cwd=directory, env=here, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return "red: hangs"
    failed = re.search(r"^(?:FAILED|ERROR) (?:\S*::)?(\w+)", ended.stdout, re.MULTILINE)
    return f"red: `{failed[1]}`" if failed else "still green" if ended.returncode == 0 else "the tests did not run"


def _with_prefix(root: Path, name: str) -> list[str]:
    """Return the ids of the tests of a file whose names begin like this."""
    file, _, begin = name.partition("::")
    names = re.findall(rf"^(?:async )?def ({begin}\w*)", (root / file).read_text(encoding="utf-8"), re.MULTILINE)
    return [f"{file}::{test}" for test in names] or [file]  # methods of a class: the whole file
