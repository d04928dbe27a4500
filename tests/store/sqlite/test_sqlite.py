from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.rows import batch, running, simple, span_id, started, trace_id
from tests.store.test_spans import SSE, content, packed, stored
from tracer._exceptions import ConfigurationError, StoreError, TransientStoreError
from tracer._models import TraceState
from tracer.store import ChunkRow, ProcessRow, TraceQuery, check_uri, current_process, open_store
from tracer.store.sqlite import _connection as connection_module
from tracer.store.sqlite import _thread as thread_module
from tracer.store.sqlite._connection import create_file
from tracer.store.sqlite._read import read_live_chunks
from tracer.store.sqlite._schema import APPLICATION_ID, SCHEMA_VERSION, migrate
from tracer.store.sqlite.store import SqliteStore


def complaint_of_another_process(path: Path) -> str:
    """What it says when it takes the database for itself."""
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode = DELETE')"
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def damage(path: Path) -> None:
    """Overwrite all pages but the first."""
    path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size, b"\x5a"))


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_live_chunks_are_seen_while_the_span_runs_and_go_when_it_ends(store: SqliteStore, path: Path) -> None:
    await store.write(batch([started(1)], [running(1)], [ChunkRow(trace_id(1), span_id(1), SSE[:1])]))
    await store.write(batch([], [], [ChunkRow(trace_id(1), span_id(1), SSE[1:])]))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == SSE
    live = (await store.get_trace(trace_id(1))).data.spans[0]
    assert [event.attributes["data"] for event in live.events][:2] == [{"a": 1}, {"a": 2}]
    await store.write(simple(1, chunks=packed(SSE)))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == []
    assert (await store.get_trace(trace_id(1))).data.spans[0].events == live.events


async def test_live_chunks_go_when_the_span_ends_without_any(store: SqliteStore) -> None:
    """If redaction hooks are set in the middle of a stream, the row of its end has no chunks."""
    for number in (1, 2):
        chunks = [ChunkRow(trace_id(number), span_id(number), SSE)]
        await store.write(batch([started(number, operation="chat")], [running(number)], chunks))
    await store.write(simple(1, operation="chat"))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == []
    assert await store._database.read(read_live_chunks, trace_id(2), span_id(2)) == SSE


async def test_payloads_are_json_text_for_any_sql_tool(store: SqliteStore, path: Path) -> None:
    await store.write(simple(1, inputs=b'{"messages":[{"content":"hi"}]}'))
    with sqlite3.connect(path) as reader:
        sql = "SELECT json_extract(inputs, '$.messages[0].content') FROM span_list WHERE trace_id = ?"
        assert reader.execute(sql, (trace_id(1),)).fetchone() == ("hi",)
    reader.close()


async def test_a_locked_database_is_a_passing_failure(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_module, "LOCK_PATIENCE", 0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TransientStoreError, match="locked") as caught:
        await store.write(simple(1))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    other.execute("ROLLBACK")
    other.close()
    await store.write(simple(1))


async def test_a_full_disk_is_a_passing_failure(store: SqliteStore, path: Path) -> None:
    pages = await store._database.write(lambda raw: raw.execute("PRAGMA page_count").fetchall())
    await store._database.write(lambda raw: raw.execute(f"PRAGMA max_page_count = {pages[0][0]}").fetchall())
    with pytest.raises(TransientStoreError, match="full"):
        await store.write(simple(*range(50), inputs=b'"' + b"x" * 5000 + b'"'))
    await store._database.write(lambda raw: raw.execute("PRAGMA max_page_count = 1000000").fetchall())
    await store.write(simple(*range(50)))


async def test_deleting_takes_spans_tags_chunks_and_text_with_it(store: SqliteStore, path: Path) -> None:
    await store.write(simple(1, 2, 3, text="needle", tags={"k": "v"}))
    await store.write(batch([started(4, text="needle")], [running(4)], [ChunkRow(trace_id(4), span_id(4), SSE)]))
    assert len(await store.search_traces(TraceQuery(text="needle"))) == 4
    assert await store.delete_traces(trace_ids=[trace_id(4), trace_id(404)]) == 1
    assert await store.delete_traces(max_timestamp_ms=2**40 * 1000, max_traces=2) == 2
    page = await store.search_traces(TraceQuery(text="needle"))
    assert [trace.info.trace_id for trace in page] == [trace_id(3)]
    with sqlite3.connect(path) as reader:
        for table in ("traces", "spans", "tags"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
        assert reader.execute("SELECT count(*) FROM live_chunks").fetchone() == (0,)
        reader.execute("INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")
    reader.close()


async def test_the_file_shrinks_when_traces_are_deleted_and_the_store_is_idle(store: SqliteStore, path: Path) -> None:
    await store.write(simple(*range(1_000), inputs=b'"' + b"x" * 5_000 + b'"', text="word"))
    await store.delete_traces(max_traces=1_000)
    steps = 0
    while await store.tidy():
        steps += 1
    assert 1 < steps < 50
    await store.aclose()
    assert len(content(path)) < 1_000_000


async def test_tidying_a_file_that_cannot_shrink_comes_to_an_end(path: Path) -> None:
    create_file(path)
    with sqlite3.connect(path) as creator:  # an empty file whose first page says: no auto_vacuum
        creator.execute("PRAGMA user_version = 0")
        creator.execute("VACUUM")
    creator.close()
    store = SqliteStore(check_uri(f"sqlite:///{path}"))
    await store.open()
    await store.write(simple(*range(100), inputs=b'"' + b"x" * 5_000 + b'"'))
    await store.delete_traces(max_traces=100)
    assert await store._database.write(lambda raw: raw.execute("PRAGMA auto_vacuum").fetchone()) == (0,)
    assert [await store.tidy() for _ in range(3)][-1] is False
    await store.aclose()


async def test_reading_needs_nothing_from_who_is_writing(store: SqliteStore, path: Path) -> None:
    gone = ProcessRow(process_id="gone", host=current_process().host, pid=2**22 + 1, started="1")
    await store.write(batch([started(1)], [running(1, process_id="gone")], process=gone))
    await store.write(simple(2, text="word"))
    assert len(await store.search_traces(TraceQuery(text="word"))) == 1
    await store.write(simple(3, text="word"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._next_sweep = 0.0
    assert (await store.get_trace(trace_id(1))).info.state == TraceState.IN_PROGRESS
    assert len(await store.search_traces(TraceQuery(text="word"))) == 1
    assert not await store.tidy()
    other.close()
    store._next_sweep = 0.0
    assert (await store.get_trace(trace_id(1))).info.state == TraceState.INTERRUPTED
    assert len(await store.search_traces(TraceQuery(text="word"))) == 2


async def test_a_text_search_indexes_what_was_there_when_it_began(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would never end while a faster writer is at work."""
    index_text = store.index_text
    calls = 0

    async def and_more_comes(limit: int) -> bool:
        nonlocal calls
        calls += 1
        assert calls < 10
        await store.write(simple(*range(calls * 100, calls * 100 + 10), text="word"))
        return await index_text(limit)

    monkeypatch.setattr("tracer.store.sqlite.store._INDEX_ROWS", 5)
    monkeypatch.setattr(store, "index_text", and_more_comes)
    await store.write(simple(*range(12), text="word"))
    assert len(await store.search_traces(TraceQuery(text="word"))) >= 12
    assert calls == 3


def test_what_stops_a_migration_is_what_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite rolls back by itself after some errors, such as a full disk; here the script does."""
    monkeypatch.setattr("tracer.store.sqlite._schema._MIGRATIONS", ("ROLLBACK;\nSELECT the_cause;\n",))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="the_cause"):
        migrate(connection)
    assert not connection.in_transaction
    connection.close()


async def test_text_index_follows_changes_and_reused_keys(store: SqliteStore, path: Path) -> None:
    await store.write(batch([started(1, text="before")], [running(1)]))
    assert len(await store.search_traces(TraceQuery(text="before"))) == 1
    await store.write(simple(1, text="after"))
    assert len(await store.search_traces(TraceQuery(text="before"))) == 0
    assert len(await store.search_traces(TraceQuery(text="after"))) == 1
    await store.delete_traces(trace_ids=[trace_id(1)])
    await store.write(simple(2, text="reborn"))  # SQLite gives the freed span key again
    assert len(await store.search_traces(TraceQuery(text="after"))) == 0
    assert len(await store.search_traces(TraceQuery(text="reborn"))) == 1
    with sqlite3.connect(path) as reader:
        reader.execute("INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")
    reader.close()


async def test_the_log_is_moved_into_the_database_when_it_grows(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.store.sqlite.store.CHECKPOINT_BYTES", 100_000)
    for number in range(40):
        await store.write(simple(number, inputs=b'"' + b"x" * 5000 + b'"'))
        assert log_size(path) < 200_000


async def test_only_the_elected_process_moves_the_log(store: SqliteStore, path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    await store.write(simple(1))
    size = log_size(path)
    with Path(f"{path}-lock").open("w") as lock:  # noqa: ASYNC230  instant
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not await store._database.write(connection_module.checkpoint, path, at_least=1)
    assert log_size(path) == size
    assert await store._database.write(connection_module.checkpoint, path, at_least=1)
    assert log_size(path) == 0


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = open_store(f"sqlite:///{tmp_path}/new/dir/traces.db")
        await store.open()
        await store.write(simple(1))
        folder = tmp_path / "new" / "dir"
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        assert modes.keys() >= {"traces.db", "traces.db-wal", "traces.db-shm"}
        assert set(modes.values()) == {0o600}
        assert {stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)} == {0o700}
        await store.aclose()
    finally:
        os.umask(old)


async def test_a_file_of_a_newer_version_is_refused_and_untouched(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as writer:  # between check and open
        writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    writer.close()
    before = content(path)
    with pytest.raises(StoreError, match=f"version {SCHEMA_VERSION + 1}"):
        await store.open()
    assert content(path) == before


async def test_another_programs_file_is_refused_at_open_too(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as writer:
        writer.execute("CREATE TABLE theirs (x)")
    writer.close()
    with pytest.raises(StoreError, match="another program"):
        await store.open()


async def test_a_damaged_file_is_a_store_error(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(*range(200), inputs=b'"' + b"x" * 3000 + b'"'))
    await store.aclose()
    store = open_store(f"sqlite:///{path}")
    damage(path)
    with pytest.raises(StoreError) as caught:
        await store.open()
    assert not isinstance(caught.value, TransientStoreError)
    await store.aclose()
    with pytest.raises(ConfigurationError, match="is damaged"):
        open_store(f"sqlite:///{path}")


async def test_looking_at_a_file_keeps_the_locks_that_this_process_holds_on_it(path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of it."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(1))
    check_uri(f"sqlite:///{path}")
    assert "database is locked" in complaint_of_another_process(path), (
        "another process took itself for the only user of the database"
    )
    await store.aclose()


async def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    for number in range(3):
        store = open_store(f"sqlite:///{path}")
        await store.open()
        await store.write(simple(number))
        await store.aclose()
    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert len(await store.search_traces(TraceQuery())) == 3
    await store.aclose()


async def test_a_store_opens_itself_whenever_it_is_used(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    for number in range(3):
        await store.write(simple(number))
        assert len(await store.search_traces(TraceQuery())) == number + 1
        await store.aclose()


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store._database.read(lambda raw: raw.execute("DELETE FROM traces").fetchall())


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


async def test_a_file_that_was_deleted_is_made_anew(path: Path, tracer_log: list[logging.LogRecord]) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(1))
    remove(path)
    await store.write(simple(2))
    assert [trace.info.trace_id for trace in await store.search_traces(TraceQuery())] == [trace_id(2)]
    assert stored(path), "the file is there again"
    await store.aclose()
    assert "was deleted or replaced" in tracer_log.pop().getMessage()
