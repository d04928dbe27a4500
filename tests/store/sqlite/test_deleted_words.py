"""What was deleted is in no file any more: not in free pages, not in the full-text index, not in the log."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tests.store.rows import batch, patch, query_plan, simple, span, span_id, started, trace_id
from tracer.store import open_store
from tracer.store.base import TraceQuery
from tracer.store.sqlite._upkeep import vacuum
from tracer.store.sqlite.store import SqliteStore

WORD = "qzxsecretword"  # FTS5 leaves out what a word has in common with the one before it, so its end is looked for
TAIL = WORD[3:].encode()
OTHERS = [f"{first}{number}filler" for first in "amrz" for number in range(50)]


@pytest.fixture
async def filled(path: Path) -> str:
    """A database with one trace that has the word everywhere, and with others; all are in the full-text index."""
    store = open_store(f"sqlite:///{path}")
    text = f"{WORD} " + " ".join(OTHERS)
    await store.write(simple(*range(2, 300), text=" ".join(OTHERS), inputs=b'"' + b"x" * 500 + b'"'))
    await store.write(
        batch([span(1, text=text, inputs=f'"{text}"'.encode())], [patch(1, request_preview=text, tags={"t": WORD})])
    )
    assert len(await store.search_traces(TraceQuery(text=WORD))) == 1
    await store.aclose()
    return store.uri


def places(path: Path) -> list[str]:
    """The files in which the word is."""
    return sorted(file.name for file in path.parent.glob(f"{path.name}*") if TAIL in file.read_bytes())


def terms(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, span_text, row)")
        found = {term for (term,) in connection.execute("SELECT term FROM temp.words")}
    return found - {"asynccompletions", *(span_id(number) for number in range(2, 300))}


async def test_deleted_words_leave_the_files_with_a_vacuum(filled: str, path: Path) -> None:
    assert places(path) == [path.name]
    store = open_store(filled)
    assert await store.delete_traces(trace_ids=[trace_id(1)]) == 1
    await store.aclose()
    vacuum(filled)
    assert places(path) == []
    assert terms(path) == set(OTHERS)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")


async def test_replaced_words_leave_the_files_with_a_vacuum(filled: str, path: Path) -> None:
    """A vacuum indexes what is not indexed yet, too: what changed since, or was never indexed."""
    store = open_store(filled)
    await store.write(batch([span(1, text="reborn", inputs=b'"new"')], [patch(1, request_preview="new")]))
    await store.write(simple(1_000, text="newest"))
    await store.set_trace_tag(trace_id(1), "t", "other")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE traces SET request_preview = NULL WHERE request_preview LIKE 'qzx%'")
    await store.aclose()
    vacuum(filled)
    assert places(path) == []
    assert terms(path) == {*OTHERS, "reborn", span_id(1), "newest", span_id(1_000)}


async def test_a_deletion_leaves_no_copy_of_the_text_for_later(filled: str, path: Path) -> None:
    """Nor in the list of changes that the index has still to follow; a command that deletes has no idle moment."""
    store = SqliteStore(filled)
    await store.write(batch([started(5_000, text="new")], [patch(5_000)]))
    await store.delete_traces(trace_ids=[trace_id(1)])
    changes = "SELECT count(*) FROM text_changes"
    assert await store._database.read(lambda connection: connection.execute(changes).fetchone()) == (0,)
    assert await store._database.write(lambda connection: connection.execute("PRAGMA secure_delete").fetchone()) == (1,)
    await store.aclose()


async def test_what_changed_is_indexed_without_a_look_at_all_spans(store: SqliteStore) -> None:
    """The write lock is held meanwhile: with 20,000 spans a deletion took 50 ms longer than with few."""
    await store.write(simple(1, 2, text="word"))
    assert not await store.index_text()
    await store.write(simple(1, text="other"))
    seen: list[str] = []
    await store._database.write(sqlite3.Connection.set_trace_callback, seen.append)
    await store.delete_traces(trace_ids=[trace_id(2)])
    await store._database.write(sqlite3.Connection.set_trace_callback, None)
    statements = [sql for sql in seen if "text_changes" in sql and not sql.startswith("--")]
    assert len(statements) >= 6
    for statement in statements:
        plan = [row[3] for row in await store._database.write(query_plan, statement)]
        assert [step for step in plan if step.startswith("SCAN spans")] == [], (statement, plan)


async def test_span_with_the_key_of_a_deleted_one_is_found(filled: str) -> None:
    """SQLite gives the greatest key again when its row was deleted."""
    store = SqliteStore(filled)
    for number, word in enumerate(("first", "second", "third"), 5_000):
        await store.write(simple(number, text=word))
        assert len(await store.search_traces(TraceQuery(text=word))) == 1
        assert not await store.tidy()
        assert await store.delete_traces(trace_ids=[trace_id(number)]) == 1
        assert not await store.tidy()
        assert len(await store.search_traces(TraceQuery(text=word))) == 0
    await store.aclose()


def test_an_empty_file_can_be_vacuumed(path: Path) -> None:
    path.touch(mode=0o600)
    assert vacuum(f"sqlite:///{path}").bytes_before == 0
