"""The code in README and docs runs, and every public name is explained there."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tracer
from tests.beside.coverage import find_libraries, parse_rows
from tests.scripted_store import eventually
from tracer.testing import FakeOpenAI

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text())


async def run(source: str, page: str, namespace: dict[str, Any]) -> None:
    """Run one block; it may await at its top level, as in a notebook."""
    code = compile(source, f"{page}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, namespace)
    if inspect.isawaitable(result):
        await result


PAGES = [
    "README.md",
    "docs/api.md",
    "docs/cost.md",
    "docs/mlflow.md",
    "docs/opentelemetry.md",
    "docs/privacy.md",
    "docs/servers.md",
    "docs/threads.md",
]


@pytest.mark.parametrize("page", PAGES)
async def test_page_runs_from_top_to_bottom(
    page: str, server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    assert blocks(page)
    with collector() if "localhost:4318" in "".join(blocks(page)) else contextlib.nullcontext():
        for source in blocks(page):
            await run(source, page, namespace)
            if "stats().exports)" in source:  # "a moment later"
                eventually(lambda: tracer.stats().exports["sent"] > 0, 30)
        await tracer.shutdown()
    if "client" in namespace:
        closing = namespace["client"].close()
        if inspect.isawaitable(closing):
            await closing


@contextlib.contextmanager
def collector() -> Iterator[None]:
    """A receiver of OTLP where the pages say that one is. What they record must reach it."""
    pytest.importorskip("opentelemetry.proto")
    from tests.otlp.receiver import http_receiver

    with http_receiver(4318) as receiver:
        yield
        tracer.otel.disconnect()
        assert receiver.names


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs/api.md").read_text()
    missing = [name for name in tracer.__all__ if not re.search(rf"\b{name}\b", page)]
    assert missing == []


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for field in msgspec.structs.fields(tracer.Settings):
        assert f"`{field.name}`" in page
        assert f"`TRACER_{field.name.upper()}`" in page


def test_local_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]:
        for target in re.findall(r'\]\(([^)#:\s]+)(?:#[^)]*)?(?: "[^"]*")?\)', page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page: str) -> None:
    """Whole paths from the root or from ``tracer/``, and names of modules somewhere in the tree."""
    modules = {
        path.name for folder in ("tracer", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
    }
    named = re.findall(r"`((?:[\w.]+/)*(?:\w+\.py)?)`", (ROOT / page).read_text())
    missing = [
        name
        for name in filter(None, named)
        if not (ROOT / name).exists() and not (ROOT / "tracer" / name).exists() and name not in modules
    ]
    assert missing == []


COVERAGE = ROOT / "docs" / "coverage.md"


def test_every_yes_of_the_coverage_page_names_a_test_that_exists() -> None:
    cells = re.findall(r'\[yes\]\((\S+) "(\w+)"\)', COVERAGE.read_text())
    assert len(cells) > 50
    missing = [(path, name) for path, name in cells if f"def {name}(" not in (COVERAGE.parent / path).read_text()]
    assert missing == []


def test_no_cell_of_that_table_says_anything_but_yes() -> None:
    section = COVERAGE.read_text().split("## Calls of the openai package")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|")[1:] for line in section.splitlines() if line.startswith("| ")]
    said = {re.sub(r"\(.*\)", "", cell.strip()) for row in rows if "[yes]" in "".join(row) for cell in row}
    assert said == {"[yes]", ""}


def test_each_library_of_the_coverage_page_has_a_program_and_a_version() -> None:
    libraries, rows = find_libraries(), parse_rows(COVERAGE.read_text())
    assert rows.keys() == libraries.keys()
    for title, row in rows.items():
        tried = re.match(rf"\| `{re.escape(title)}` \d+\.\S+ \(openai \d+\.\S+\) \| \*\*(whole|in part|no)\*\* \|", row)
        assert tried or "| not tried: " in row, row
        assert row.endswith(f"| {libraries[title].remark} |") or not tried, f"{title}: {libraries[title].remark}"


def test_the_coverage_page_names_the_versions_of_the_other_tools() -> None:
    pinned = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "tests" / "beside" / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pinned) == 8
    page = COVERAGE.read_text()
    assert [name for name, version in pinned if f"| `{name}` {version} |" not in page] == []
