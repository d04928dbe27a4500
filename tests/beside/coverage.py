"""Tries which libraries' calls tracer sees, and writes the table of docs/coverage.md.

``python -m tests.beside.coverage`` tries all of ``libraries/``, ``python -m tests.beside.coverage litellm dspy`` only
these, and leaves the other rows as they are. Each library is installed with uv in an environment of its own, below a
temporary directory or the one given with ``--environments``. A library that does not install or run within the limits
gets a row that says so.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["PAGE", "Library", "find_libraries", "parse_rows"]

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "coverage.md"
LIBRARIES = Path(__file__).parent / "libraries"
INSTALL_LIMIT, RUN_LIMIT = 90.0, 300.0  # seconds
BEGIN, END = "<!-- written by tests/beside/coverage.py -->\n", "<!-- end -->\n"
HEAD = "| library | traced | calls seen of calls made | what to know |\n|---|---|---|---|\n"
_HEADER = re.compile(r"^# /// script\n# dependencies = (\[.*\])\n# ///$", re.MULTILINE)


class Library(msgspec.Struct, frozen=True):
    """A program of ``libraries/``: its name, what it needs (the library first), and what its docstring says."""

    name: str
    needs: list[str]
    remark: str

    @property
    def package(self) -> str:
        """The library's name on PyPI."""
        return re.split(r"[\[<>=]", self.needs[0])[0]

    @property
    def title(self) -> str:
        """What the page calls it: with the version where the program needs an older one."""
        return re.sub(r"\[.*\]", "", self.needs[0])


def find_libraries() -> dict[str, Library]:
    """Return the programs by what the page calls their libraries."""
    found = {}
    for path in sorted(LIBRARIES.glob("[!_]*.py")):
        source = path.read_text(encoding="utf-8")
        header = _HEADER.search(source)
        assert header is not None, f"{path} has no header that says what it needs"
        remark = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
        library = Library(path.stem, ast.literal_eval(header[1]), remark)
        found[library.title] = library
    return found


def parse_rows(page: str) -> dict[str, str]:
    """Return the table's rows by library."""
    table = page.partition(BEGIN)[2].partition(END)[0].removeprefix(HEAD)
    return {row.split("|")[1].split("`")[1]: row for row in table.splitlines()}


def try_library(library: Library, environments: Path) -> str:
    """Install a library, run its program, and return its row."""
    python = str(environments / library.name / "bin" / "python")
    try:
        if not Path(python).exists():
            _run(
                [_uv(), "venv", "--quiet", "--python", sys.executable, str(environments / library.name)], INSTALL_LIMIT
            )
        install = [_uv(), "pip", "install", "--quiet", "--python", python]
        _run([*install, "--editable", f"{ROOT}[testing]", *library.needs], INSTALL_LIMIT)
        printed = _run([python, "-m", "tests.beside.program", library.name], RUN_LIMIT)
    except subprocess.SubprocessError as error:
        print(library.title, error, getattr(error, "stderr", ""), file=sys.stderr)  # noqa: T201
        return _row(library, "", f"not tried: {_reason(error)}", "", "")
    versions = _versions(python, library.package)
    ways = [json.loads(line) for line in printed.splitlines() if line.startswith('{"way"')]
    for way in ways:
        print(library.title, way, flush=True)  # noqa: T201
    return _row(library, versions, *judge(ways), library.remark)


def _reason(error: subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "it takes too long here"
    lines = str(getattr(error, "stderr", "")).strip().splitlines() or [str(error)]
    return f"`{lines[-1].partition(' (/')[0].replace('|', ' ')[:120]}`"


def judge(ways: Iterable[dict[str, Any]]) -> tuple[str, str]:
    """Return whether a library is traced, and what was seen of each way of calling."""
    ways = list(ways)
    seen, made = sum(way["spans"] for way in ways), sum(way["calls"] for way in ways)
    traced = "whole" if seen == made else "in part" if seen else "no"
    return f"**{traced}**", "; ".join(map(_described, ways))


def _described(way: dict[str, Any]) -> str:
    remarks = []
    if way["error"]:
        remarks.append(f"failed: {way['error'].partition(':')[0]}")
    if way["traces"] > 1:
        remarks.append(f"{way['traces']} traces")
    if way["incomplete"]:
        remarks.append(f"{way['incomplete']} incomplete")
    if way["without_usage"] and not way["error"]:
        remarks.append("no usage")
    said = f" ({', '.join(remarks)})" if remarks else ""
    return f"{way['way']} {way['spans']}/{way['calls']}{said}"


def _row(library: Library, versions: str, traced: str, seen: str, remark: str) -> str:
    return f"| `{library.title}` {versions} | {traced} | {seen} | {remark} |".replace("  ", " ")


def _versions(python: str, package: str) -> str:
    """Return the version of the library, and of the openai package that it was installed with."""
    code = f"from importlib.metadata import version as v; print(v({package!r}), '(openai', v('openai') + ')')"
    return _run([python, "-c", code], RUN_LIMIT).strip()


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def _run(command: list[str], limit: float) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "UV_SYSTEM_CERTS": "1"}
    environment.pop("TRACER_TRACKING_URI", None)
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=limit
    ).stdout


def main() -> None:
    """Try the libraries that the command names, or all, and write their rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.beside.coverage", description=__doc__)
    parser.add_argument("names", nargs="*", help="programs in libraries/, or what the page calls them")
    parser.add_argument("--environments", type=Path, help="a directory where the environments stay for the next time")
    options = parser.parse_args()
    libraries = find_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        for library in libraries.values():
            if not options.names or {library.name, library.title} & {*options.names}:
                row = try_library(library, options.environments or Path(temporary))
                _write_row(library, row, libraries)


def _write_row(library: Library, row: str, libraries: dict[str, Library]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = {title: old for title, old in parse_rows(page).items() if title in libraries} | {library.title: row}
    before, _, rest = page.partition(BEGIN)
    table = "".join(f"{rows[title]}\n" for title in sorted(rows, key=str.lower))
    PAGE.write_text(f"{before}{BEGIN}{HEAD}{table}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
