from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.rows import START, query_plan, simple, span_id, trace_id
from tests.store.test_words import found
from tracer.store.sqlite._text import _PLAIN, _SPAN_WORDS
from tracer.store.sqlite._words import match_expression
from tracer.store.sqlite.store import SqliteStore
from tracer.store.words import spaced

from .old_files import TRACES, make_old_file, words_of

_LETTERS = "東京天気は문장가ａÉßabc1 。"


@given(st.text(_LETTERS, min_size=1, max_size=12), st.data())
def test_each_part_of_a_run_is_found_and_nothing_else(text: str, data: st.DataObject) -> None:
    """Against a plain search for the characters."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize = 'unicode61 remove_diacritics 2')")
        connection.execute("INSERT INTO t VALUES (?)", (spaced(text),))
        run = data.draw(st.text("東京天気は문장가", min_size=1, max_size=3))
        (hits,) = connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", (match_expression(run),)).fetchone()
    assert bool(hits) is (run in text)


@pytest.mark.parametrize(("few", "most_listed"), [(1_000, 1_000), (1, 1_000), (1, 1)])
async def test_an_id_that_many_have_is_found_alike(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, few: int, most_listed: int
) -> None:
    alike = range(0xABCDEF01 << 96, (0xABCDEF01 << 96) + 5)
    await store.write(simple(*alike, start_time_ns=START, end_time_ns=START, span_id=span_id(99)))
    await store.write(simple(7, 8, text="of abcdef0123 too"))
    await store.write(simple(9))
    monkeypatch.setattr("tracer.store.sqlite._query.FEW", few)
    monkeypatch.setattr("tracer.store.sqlite._sql._MOST_LISTED", most_listed)
    assert len(await found(store, "abcdef01")) == 7


def expected_words(path: Path) -> list[tuple[Any, ...]]:
    """What the index of this file must hold: that of a new index."""
    with closing(sqlite3.connect(path)) as stored, closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")
        rows = stored.execute(f"SELECT key, {_SPAN_WORDS} FROM spans").fetchall()
        connection.executemany("INSERT INTO t (rowid, text) VALUES (?, ?)", [(key, spaced(text)) for key, text in rows])
        connection.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, t, instance)")
        return sorted(connection.execute("SELECT term, doc, offset FROM temp.places").fetchall())


@pytest.mark.parametrize("version", range(1, 9))
async def test_in_an_older_file_all_is_found(path: Path, version: int) -> None:
    make_old_file(path, version)
    store = SqliteStore(f"sqlite:///{path}")
    every = [*range(1, 3), *range(4, TRACES + 1)]  # the third was changed
    assert await found(store, "天気") == every
    assert await found(store, "word7") == [7]
    assert await found(store, "resp_11") == [11]
    assert await found(store, "changed") == [3]
    assert await found(store, "Responses") == list(range(1, TRACES + 1))
    while await store.tidy():
        pass
    await store.aclose()
    assert words_of(path) == expected_words(path)


@pytest.mark.parametrize("seed", range(6))
async def test_an_index_that_is_made_anew_follows_changes_meanwhile(path: Path, seed: int) -> None:
    """Traces come, change and go between any two steps."""
    chance = random.Random(seed)
    make_old_file(path, 8)
    store = SqliteStore(f"sqlite:///{path}")
    texts = ("天気は晴れ", "Straße", "plain words", None)
    for _ in range(40):
        number = chance.randint(1, 20)
        match chance.randrange(4):
            case 0:
                await store.delete_traces(trace_ids=[trace_id(number)])
            case 1 | 2:
                attributes = f'{{"gen_ai.response.id":"resp_{chance.randrange(9)}"}}'.encode()
                await store.write(simple(number, text=chance.choice(texts), attributes=attributes))
            case _:
                await store.index_text(chance.randint(1, 4))
    while await store.index_text(3):
        pass
    await store.aclose()
    assert words_of(path) == expected_words(path)


async def test_a_large_older_file_is_indexed_anew_in_small_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes one of them, whatever is left, and finds what the old index has."""
    make_old_file(path, 8)
    monkeypatch.setattr("tracer.store.sqlite.store._INDEX_ROWS", 4)
    store = SqliteStore(f"sqlite:///{path}")
    await store.open()
    left = []
    for number in (1, 2, 6, 12):
        assert await found(store, f"word{number}") == [number]
        left.append(await store._database.read(lambda reader: reader.execute(_PLAIN).fetchone()[0]))
    await store.aclose()
    assert left == [4, 2, 0, 0]  # of the six that were indexed


async def test_a_step_of_the_index_reads_its_own_spans_only(path: Path) -> None:
    """With 100,000 traces, a step that looked at the others took up to a second."""
    make_old_file(path, 8)
    store = SqliteStore(f"sqlite:///{path}")
    await store.open()
    seen: list[str] = []
    await store._database.write(sqlite3.Connection.set_trace_callback, seen.append)
    while await store.index_text(4):
        pass
    await store._database.write(sqlite3.Connection.set_trace_callback, None)
    statements = [sql.strip() for sql in seen if "text_index" in sql and "EXISTS" not in sql]
    assert sum("LIMIT 4" in sql for sql in statements) >= 2
    assert sum("BETWEEN" in sql for sql in statements) >= 6
    for statement in statements:
        plan = [row[3] for row in await store._database.write(query_plan, statement)]
        read = [step for step in plan if re.match(r"(SCAN|SEARCH) spans\b", step)]
        assert not [step for step in read if step.startswith("SCAN")], (statement, plan)
        bounded = re.search(r"ORDER BY|min\(indexed_to", statement) is not None
        assert bounded or all("rowid=?" in step or "rowid<?" in step for step in read), (statement, plan)
    await store.aclose()
