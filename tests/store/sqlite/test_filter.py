from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from tests.store.test_filter import fill
from tracer.store import TraceQuery
from tracer.store.filter import parse_filter
from tracer.store.sqlite._compile import compiled
from tracer.store.sqlite._regexp import install
from tracer.store.sqlite.store import SqliteStore

pytest.importorskip("lark")


@pytest.mark.parametrize("number", ["9223372036854775807", "-9223372036854775807", "1234567890123456789", "0.5", "2."])
def test_a_number_is_bound_as_it_was_written(number: str) -> None:
    (bound,) = compiled(parse_filter(f"cost = {number}")).parameters
    assert (bound, type(bound)) == ((float if "." in number else int)(number), float if "." in number else int)


@pytest.mark.parametrize(
    "text",
    [
        "x' OR '1'='1",
        "x'; DROP TABLE traces; --",
        'x" OR ""="',
        "x') UNION SELECT 1 --",
        "%",
        "\0",
        "\\",
        "?",
        "`",
        "é𝕏",
    ],
)
async def test_values_and_keys_never_become_sql(store: SqliteStore, path: Path, text: str) -> None:
    filled = await fill(store)
    quoted = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    key = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for filter_string in (f"name = {quoted}", f"tags.{key} = {quoted}", f"span.attributes.{key} LIKE {quoted}"):
        assert await filled.search_traces(TraceQuery(filter_string=filter_string)) == []
        assert text in compiled(parse_filter(filter_string)).parameters or "LIKE" in filter_string
        assert text not in compiled(parse_filter(filter_string)).sql.replace("?", "") or text in ("?", "%")
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT count(*) FROM traces").fetchone() == (4,)
    reader.close()


@pytest.mark.parametrize(
    "pattern", ["^b.*c.*d", "a.*c.*$", r"\bc.*d.*", "(?<=a)b.*c.*", "(?m)^x.*y.*$", "q.*r.*s", "(a?b?c?d?e?f?g?)$"]
)
@pytest.mark.parametrize("text", ["", "abcd", "bcd", "a c d", "abcd\nxy", "xy", "qr"])
async def test_a_pattern_that_can_be_slow_finds_what_any_other_finds(pattern: str, text: str) -> None:
    """It is tried place by place."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        install(connection, lambda: False)
        found = connection.execute("SELECT ? REGEXP ?", (text, pattern)).fetchone()[0]
    assert bool(found) == bool(re.search(pattern, text))
