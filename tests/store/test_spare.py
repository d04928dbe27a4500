"""Batches that a process could not write wait beside the database, and come into it once."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tracer.store import TraceQuery, _spare, open_store
from tracer.store._connection import transaction
from tracer.store._schema import migrate
from tracer.store._write import write_batch
from tracer.store.base import Batch, ChunkRow, ProcessRow
from tracer.store.process import current_process

from .rows import batch, patch, running, simple, span, span_id, started, trace_id

GONE = ProcessRow(process_id="gone", host=current_process().host, pid=2**22 + 1, started="1")


def of_gone_process(number: int) -> Batch:
    """A batch that counts what must be counted once: a loss, and a chunk of a stream that runs."""
    chunk = ChunkRow(trace_id=trace_id(number), span_id=span_id(99), chunks=[(1, b"data: {}")])
    return batch([span(number)], [patch(number, process_id="gone", dropped={"chunk": 1})], [chunk], GONE)


def leave(path: Path, *batches: Batch) -> Path:
    """Append the batches as a process would, which is gone afterwards."""
    for each in batches:
        _spare.append(path, each)
    file = _spare.spare_file(path)
    left = file.with_name("4194305-1.batches")
    os.rename(file, left)
    os.close(_spare._open.pop(file))
    return left


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection)
        yield connection


def counted(connection: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """(traces, losses counted, chunks)"""
    return connection.execute(
        "SELECT (SELECT count(*) FROM traces), (SELECT sum(json_extract(dropped, '$.chunk')) FROM traces), "
        "(SELECT count(*) FROM live_chunks)"
    ).fetchall()


def test_what_a_gone_process_left_is_taken_over(path: Path, connection: sqlite3.Connection) -> None:
    left = leave(path, *map(of_gone_process, range(3)))
    assert _spare.adopt(connection, path) == 3
    assert counted(connection) == [(3, 3, 3)]
    assert not left.exists()
    assert connection.execute("SELECT * FROM taken_over").fetchall() == []
    assert _spare.adopt(connection, path) == 0


def test_a_process_that_writes_to_the_database_as_well_loses_nothing(
    path: Path, connection: sqlite3.Connection
) -> None:
    """The database knows the process already: it found the database locked only at its exit."""
    with transaction(connection):
        write_batch(connection, of_gone_process(0))
    leave(path, of_gone_process(1))
    assert _spare.adopt(connection, path) == 1
    assert counted(connection) == [(2, 2, 2)]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_who_is_killed_in_between_takes_nothing_over_twice(
    path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    leave(path, *map(of_gone_process, range(3)))
    written: list[Batch] = []

    def killed(connection: sqlite3.Connection, batch: Batch) -> None:
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(batch)
        write_batch(connection, batch)

    def unlink(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_spare, "write_batch", killed)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        _spare.adopt(connection, path)
    assert connection.execute("SELECT count(*) FROM traces").fetchone() == (at,)
    monkeypatch.undo()
    assert _spare.adopt(connection, path) == 3 - at
    assert counted(connection) == [(3, 3, 3)]


def test_the_file_of_a_living_process_is_left_alone(path: Path, connection: sqlite3.Connection) -> None:
    left = leave(path, of_gone_process(0))
    with left.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert _spare.adopt(connection, path) == 0
    assert _spare.adopt(connection, path) == 1


@pytest.mark.parametrize("cut", [1, 20])
def test_a_frame_that_a_kill_cut_off_costs_itself_alone(path: Path, connection: sqlite3.Connection, cut: int) -> None:
    left = leave(path, of_gone_process(0), of_gone_process(1))
    os.truncate(left, left.stat().st_size - cut)
    assert _spare.adopt(connection, path) == 1


def test_what_can_not_be_understood_is_kept(
    path: Path, connection: sqlite3.Connection, tracer_log: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(path, of_gone_process(0))
    monkeypatch.setattr(_spare, "Batch", ProcessRow)  # as if another version had written it
    assert _spare.adopt(connection, path) == 0
    assert left.with_suffix(".unreadable").exists()
    assert str(left.with_suffix(".unreadable")) in tracer_log.pop().getMessage()


async def test_a_trace_whose_end_waits_beside_is_not_called_interrupted(path: Path) -> None:
    """Its process began it in the database, found the database locked at its exit, and is gone."""
    store = open_store(f"sqlite:///{path}")
    await store.write(batch([started(0)], [running(0, process_id="gone")], process=GONE))
    leave(path, of_gone_process(0))
    (trace,) = await store.search_traces(TraceQuery())
    assert trace.info.state == "OK"
    await store.aclose()


async def test_what_is_let_go_comes_back_into_the_same_process(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    assert store.put_aside(simple(1))
    assert await store.search_traces(TraceQuery()) == []  # it may yet put aside more
    await store.aclose()
    assert len(await store.search_traces(TraceQuery())) == 1
    assert store.put_aside(simple(2))
    await store.aclose()
    assert len(await store.search_traces(TraceQuery())) == 2
    await store.aclose()


def test_a_child_has_a_file_of_its_own(path: Path, connection: sqlite3.Connection) -> None:
    _spare.append(path, simple(1))
    if not (child := os.fork()):
        try:
            _spare.append(path, simple(2))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert _spare.adopt(connection, path) == 1  # the child's, not its living parent's
    _spare.let_go(path)
    assert _spare.adopt(connection, path) == 1


async def test_memory_has_no_place_beside_it() -> None:
    store = open_store("memory://")
    assert not store.put_aside(of_gone_process(0))
    assert store.batches_put_aside == 0
