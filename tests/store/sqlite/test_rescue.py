"""A damaged file is moved aside by the process that finds it, and by no other; its name is free for a new file."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.rows import START, batch, running, simple, span_id, started, trace_id
from tracer._exceptions import DamagedStoreError, StoreError, TransientStoreError
from tracer.store import check_uri, make_store, open_store
from tracer.store.base import TraceQuery
from tracer.store.batch import ChunkRow, MediaRow
from tracer.store.sqlite import _lock
from tracer.store.sqlite._file_problem import Kind, find_problem, identity, is_damage
from tracer.store.sqlite._lock import exclusive
from tracer.store.sqlite._rescue import leave, move_aside, set_free
from tracer.store.sqlite.store import SqliteStore

Log = list[logging.LogRecord]


@pytest.fixture
def forks_know_who_is_inside_sqlite() -> None:
    """Functions are called here as no database calls them: without its thread, and so without its turn."""


def content(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-lock")}


def put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def told(path: Path) -> DamagedStoreError:
    return DamagedStoreError(f"{path} is damaged", path=path, identity=identity(path))


async def filled(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(*range(200), inputs=b'"' + b"x" * 3000 + b'"'))
    await store.aclose()


def break_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x5a" * (path.stat().st_size - 4096))


async def ids(store: SqliteStore) -> list[str]:
    return [trace.info.trace_id for trace in await store.search_traces(TraceQuery())]


async def test_damaged_file_is_moved_once_whoever_else_finds_it(path: Path, tracer_log: Log) -> None:
    put(path, b"no database" * 100)
    error, before = told(path), content(path.parent)[path.name]
    target = move_aside(error)
    assert target is not None
    assert content(path.parent) == {target.name: before}
    put(path, b"what another process made meanwhile")
    assert move_aside(error) is None
    os.unlink(path)
    assert move_aside(error) is None
    assert len(tracer_log) == 1
    tracer_log.clear()


async def test_file_that_turns_out_sound_stays(path: Path) -> None:
    await filled(path)
    before = content(path.parent)
    with pytest.raises(DamagedStoreError, match=r"stays where it is, since no damage was found"):
        move_aside(told(path))
    assert content(path.parent) == before


async def test_damage_that_only_an_index_has_is_damage(path: Path, tracer_log: Log) -> None:
    await filled(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'traces_by_start'")
        connection.execute("PRAGMA writable_schema = OFF")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM traces WHERE rowid IN (SELECT rowid FROM traces LIMIT 5)")
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
    assert move_aside(told(path)) is not None
    tracer_log.clear()


@pytest.mark.parametrize("kind", [Kind.FOREIGN, Kind.NEWER])
async def test_damaged_file_of_another_program_or_version_stays(kind: Kind, path: Path) -> None:
    await filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7" if kind is Kind.FOREIGN else "PRAGMA user_version = 999")
    break_pages(path)
    os.truncate(path, len(content(path.parent)[path.name]) // 2)
    problem = find_problem(path)
    assert problem is not None
    assert (problem.kind, problem.can_be_moved_aside) == (kind, False)
    before = content(path.parent)
    with pytest.raises(DamagedStoreError, match=f"it is a {kind.value} database"):
        move_aside(told(path))
    assert content(path.parent) == before


async def test_link_in_the_place_of_the_file_stays(path: Path) -> None:
    put(path.with_name("real"), b"no database" * 100)
    os.symlink("real", path)
    with pytest.raises(DamagedStoreError, match="no regular file"):
        move_aside(told(path))
    assert os.readlink(path) == "real"


@contextlib.contextmanager
def lock_of_another(path: Path) -> Iterator[None]:
    with open(f"{path}-lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_lock_of_another_process_is_a_passing_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "LOCK_TIMEOUT", 0.05)
    put(path, b"no database" * 100)
    with lock_of_another(path), pytest.raises(TransientStoreError, match=r"-lock locked"):
        move_aside(told(path))
    assert content(path.parent).keys() == {path.name}
    with lock_of_another(path):
        os.unlink(path)
        with pytest.raises(TransientStoreError, match=r"-lock locked"):
            await open_store(f"sqlite:///{path}").open()


def test_lock_is_free_after_use_though_a_forked_child_has_its_descriptor(path: Path) -> None:
    with exclusive(path):
        kept = [os.dup(int(name)) for name in os.listdir("/proc/self/fd") if leads_to(name, f"{path}-lock")]
    assert kept
    with exclusive(path):
        pass
    for descriptor in kept:
        os.close(descriptor)


def leads_to(descriptor: str, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
    except OSError:
        return False


# --- what counts as damage --------------------------------------------------------------------------------------------


def failure_of(path: Path, *statements: str) -> sqlite3.Error:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        try:
            for statement in statements:
                connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            return error
    raise AssertionError("nothing failed")


async def test_locked_full_and_read_only_are_no_damage(path: Path) -> None:
    await filled(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not is_damage(failure_of(path, "BEGIN IMMEDIATE"))
    grow = "CREATE TABLE big AS SELECT hex(zeroblob(500000))"
    assert not is_damage(failure_of(path, "PRAGMA max_page_count = 1", grow))
    assert not is_damage(failure_of(path, "PRAGMA query_only = ON", grow))
    assert not is_damage(failure_of(path, "SELECT json('{')"))


async def test_broken_pages_and_text_are_damage(path: Path) -> None:
    await filled(path)
    break_pages(path)
    assert is_damage(failure_of(path, "SELECT * FROM traces"))
    put(path, b"no database" * 100)
    assert is_damage(failure_of(path, "SELECT * FROM traces"))


async def damage_in_use(store: SqliteStore, path: Path) -> None:
    await store.write(simple(*range(200), inputs=b'"' + b"x" * 3000 + b'"'))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    break_pages(path)


async def test_a_command_that_writes_to_a_damaged_file_moves_nothing(store: SqliteStore, path: Path) -> None:
    await damage_in_use(store, path)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"damaged|malformed"):
            await store.write(simple(1_000))
    assert store.files_moved_aside == 0


async def test_the_pipelines_store_goes_on_in_a_new_file(path: Path, tracer_log: Log) -> None:
    store = make_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    await damage_in_use(store, path)
    await store.write(simple(1_000))
    assert await ids(store) == [trace_id(1_000)]
    assert store.files_moved_aside == 1
    await store.aclose()
    assert "was moved aside" in tracer_log.pop().getMessage()
    tracer_log.clear()


async def test_reading_or_naming_a_damaged_file_moves_nothing(path: Path) -> None:
    """Commands read files, too."""
    await filled(path)
    store = open_store(f"sqlite:///{path}")
    break_pages(path)
    before = content(path.parent)
    with pytest.raises(ValueError, match="is damaged"):
        check_uri(f"sqlite:///{path}")
    with pytest.raises(DamagedStoreError):
        await store.open()
    assert content(path.parent) == before


# --- files that somebody replaced -------------------------------------------------------------------------------------


async def test_log_of_a_file_that_was_moved_goes_into_it(store: SqliteStore, path: Path, tracer_log: Log) -> None:
    await store.write(simple(1))
    os.rename(path, path.with_name("old.db"))
    await store.write(simple(2))
    assert await ids(store) == [trace_id(2)]
    old = open_store(f"sqlite:///{path.parent}/old.db")
    assert isinstance(old, SqliteStore)
    await old.open()
    assert await ids(old) == [trace_id(1)]
    await old.aclose()
    assert "deleted or replaced" in tracer_log.pop().getMessage()


def content_of_chunks(path: Path) -> bytes:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return b"".join(row[0] for row in connection.execute("SELECT chunks FROM live_chunks"))


async def test_traces_that_run_are_carried_into_the_new_file(store: SqliteStore, path: Path, tracer_log: Log) -> None:
    """A span's request is written when it starts: the old file has it, the new one gets the answer."""
    medium = MediaRow(hash="ab" * 32, content_type="image/png", data=b"png", trace_id=trace_id(1), span_id=span_id(1))
    chunks = [ChunkRow(trace_id=trace_id(1), span_id=span_id(1), chunks=[(START, b"so far")])]
    begun = batch([started(1, inputs=b'"question"')], [running(1)], chunks)
    begun.media.append(medium)
    await store.write(simple(7))
    await store.write(begun)
    await store.set_trace_tag(trace_id(1), "key", "value")
    os.rename(path, path.with_name("old.db"))
    await store.write(simple(2))
    carried = await store.get_trace(trace_id(1))
    assert carried.info.state == "IN_PROGRESS"
    assert carried.info.tags == {"key": "value"}
    assert b"so far" in content_of_chunks(path)
    assert (await store.get_media("ab" * 32)).data == b"png"
    await store.write(simple(1, outputs=b'"answer"'))
    ended = await store.get_trace(trace_id(1))
    assert (ended.data.spans[0].inputs, ended.data.spans[0].outputs) == ("question", "answer")
    assert sorted(await ids(store)) == [trace_id(1), trace_id(2)]
    with contextlib.closing(sqlite3.connect(path.with_name("old.db"))) as old:
        states = dict(old.execute("SELECT trace_id, state FROM traces").fetchall())
    assert states == {trace_id(7): "OK", trace_id(1): "INTERRUPTED"}
    tracer_log.clear()


async def test_log_that_others_still_write_to_goes_along_with_the_moved_file(
    store: SqliteStore, path: Path, tracer_log: Log
) -> None:
    slower = SqliteStore(store.uri)
    await slower.open()
    os.rename(path, path.with_name("old.db"))
    await store.write(simple(1))  # has noticed
    late = "INSERT INTO processes VALUES ('late', 'h', 1, 's', NULL)"
    await slower._database.write(sqlite3.Connection.execute, late)  # has not
    with contextlib.closing(sqlite3.connect(path.with_name("old.db"))) as reader:
        assert reader.execute("SELECT count(*) FROM processes WHERE process_id = 'late'").fetchone() == (1,)
    await slower.aclose()
    assert await ids(store) == [trace_id(1)]
    tracer_log.clear()


async def test_names_of_the_new_file_are_not_touched_by_who_leaves_the_old(store: SqliteStore, path: Path) -> None:
    opened = store._database.opened
    os.rename(path, path.with_name("old.db"))
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
        put(Path(f"{path}{suffix}"), b"new" + suffix.encode())
    with contextlib.closing(sqlite3.connect(path.with_name("old.db"))) as connection:
        leave(connection, path, opened)
    left = content(path.parent)
    assert [left[f"{path.name}{suffix}"] for suffix in ("", "-wal", "-shm")] == [b"new", b"new-wal", b"new-shm"]


def test_log_without_its_file_is_kept_under_another_name(path: Path, tracer_log: Log) -> None:
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    log.write_bytes(b"commits")
    index.write_bytes(b"index")
    set_free(path)
    (kept,) = path.parent.iterdir()
    assert kept.read_bytes() == b"commits"
    assert str(kept) in tracer_log.pop().getMessage()


def test_log_of_a_file_with_pages_stays(path: Path) -> None:
    path.write_bytes(bytes(4096))
    path.with_name(f"{path.name}-wal").write_bytes(b"commits")
    set_free(path)
    assert len(list(path.parent.iterdir())) == 2
