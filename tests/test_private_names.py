"""Private names of other packages that tracer relies on: `docs/security.md` lists them, and they must be there."""

from __future__ import annotations

import pkgutil
import re
import sqlite3
from pathlib import Path

import aiosqlite
import pytest

TABLE = (Path(__file__).parent.parent / "docs" / "security.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^\| (?:openai|aiosqlite|anyio|uvicorn) \| `([^`]+)`", TABLE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_still_there(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


def test_the_table_is_read() -> None:
    assert len(NAMES) >= 15


@pytest.mark.parametrize("path", ["openai", "pipeline", "store", "server"])
def test_every_private_import_is_in_the_table(path: str) -> None:
    sources = (Path(__file__).parent.parent / "tracer" / path).rglob("*.py")
    imported = set()
    for source in sources:
        for module, what in re.findall(
            r"^from ((?:openai|aiosqlite|anyio|uvicorn)\.[\w.]*) import ([\w, ]+)",
            source.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            imported |= {(module, name.strip()) for name in what.split(",")}
    for module, name in imported:
        if "._" in f"{module}.{name}" or module.startswith("uvicorn."):
            assert f"`{module}." in TABLE or f"`{module}.{name}" in TABLE, (module, name)


async def test_aiosqlite_takes_work_as_we_give_it() -> None:
    """How it answers is seen by the tests of `tracer.store.sqlite._thread`."""
    connection = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 0)
    assert connection._tx.empty()  # and it has `put_nowait`
    assert connection._connection is None  # so that it never warns that it was not closed
    assert not getattr(connection, "_thread", connection).is_alive()  # type: ignore[union-attr]
