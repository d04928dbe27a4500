"""What the store can't take waits beside the database, oldest first, and comes into it once."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from tests.pipeline.children import in_a_child
from tests.store.rows import batch, patch, running, simple, span, span_id, started, trace_id
from tracer._exceptions import TransientStoreError
from tracer.pipeline import spool as spool_module
from tracer.pipeline.adoption import Adoption
from tracer.pipeline.spool import Shed, Spool, find_spool_files
from tracer.store import TraceQuery, open_store
from tracer.store.batch import Batch, ChunkRow, ProcessRow
from tracer.store.process import current_process
from tracer.store.sqlite.store import SqliteStore
from tracer.store.uri import spool_directory

GONE = ProcessRow(process_id="gone", host=current_process().host, pid=2**22 + 1, started="1")
MIB = 1024 * 1024


@pytest.fixture
def spool(database: Path) -> Iterator[Spool]:
    spool = Spool(database, lambda: MIB)
    yield spool
    spool.let_go()


def of_gone_process(number: int) -> Batch:
    """A batch that counts what must be counted once: a loss, and a chunk of a stream that runs."""
    chunk = ChunkRow(trace_id=trace_id(number), span_id=span_id(99), chunks=[(1, b"data: {}")])
    return batch([span(number)], [patch(number, process_id="gone", dropped={"chunk": 1})], [chunk], GONE)


def large(number: int, size: int = 200_000) -> Batch:
    """A batch that compresses badly."""
    one = simple(number)
    one.spans[0].inputs = os.urandom(size // 2).hex().encode()
    return one


def leave(database: Path, *batches: Batch) -> Path:
    """Put batches aside, as a process would which is gone afterwards."""
    spool = Spool(database, lambda: MIB)
    before = set(find_spool_files(database))
    for each in batches:
        assert spool.append(each, 1) == (True, Shed())
    spool.let_go()
    return min(set(find_spool_files(database)) - before)


def names(spool: Spool) -> list[str]:
    """Take out all that waits, oldest first."""
    found = []
    while (first := spool.first()) is not None:
        found.append(str(first.batch.spans[0].name))
        spool.pop()
    return found


def named(*numbers: int) -> list[str]:
    return [str(simple(number).spans[0].name) for number in numbers]


def counted(database: Path) -> list[tuple[int, int, int]]:
    """(traces, losses counted, chunks)"""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT (SELECT count(*) FROM traces), (SELECT sum(json_extract(dropped, '$.chunk')) FROM traces), "
            "(SELECT count(*) FROM live_chunks)"
        ).fetchall()


# --- the owner --------------------------------------------------------------------------------------------------------


def test_what_was_added_first_comes_out_first_and_leaves_no_file(spool: Spool, database: Path) -> None:
    for number in range(5):
        spool.append(large(number), 1)  # more than one file
    assert len(find_spool_files(database)) > 1
    assert names(spool) == named(0, 1, 2, 3, 4)
    assert spool.is_empty
    assert (spool.added, spool.removed) == (5, 5)
    assert find_spool_files(database) == []
    spool.append(simple(9), 1)
    assert names(spool) == named(9)


def test_files_are_for_their_user_alone(spool: Spool, database: Path) -> None:
    spool.append(simple(1), 1)
    (file,) = find_spool_files(database)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_oldest_gives_way_and_is_counted(spool: Spool, database: Path) -> None:
    shed = [spool.append(large(number, 100_000), 10)[1] for number in range(20)]
    assert sum(file.stat().st_size for file in find_spool_files(database)) <= MIB
    waiting = names(spool)
    assert waiting == named(*range(20))[-len(waiting) :]
    assert sum(each.own for each in shed) == 10 * (20 - len(waiting)) > 0
    assert (spool.added, spool.removed) == (20, 20)


def test_what_dead_processes_left_gives_way_too_but_not_what_living_ones_have(spool: Spool, database: Path) -> None:
    leave(database, large(1), large(2))
    other = Spool(database, lambda: MIB)
    other.append(large(3), 1)
    shed = [spool.append(large(number), 1)[1] for number in range(10, 20)]
    assert sum(each.others for each in shed) == 2
    assert names(other) == named(3)


def test_a_batch_that_is_larger_than_the_spool_is_refused(spool: Spool) -> None:
    spool.append(simple(1), 1)
    assert spool.append(large(2, 4 * MIB), 1) == (False, Shed())
    assert names(spool) == named(1)


def test_it_can_be_switched_off(database: Path) -> None:
    assert Spool(database, lambda: 0).append(simple(1), 1) == (False, Shed())
    assert Spool(None, lambda: MIB).append(simple(1), 1) == (False, Shed())
    assert not spool_directory(database).exists()


def test_a_disk_that_is_full_leaves_no_half_a_frame(
    spool: Spool, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.append(simple(1), 1)
    (file,) = find_spool_files(database)
    size = file.stat().st_size
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TransientStoreError, match="No space left"):
        spool.append(simple(2), 1)
    monkeypatch.undo()
    assert file.stat().st_size == size
    spool.append(simple(3), 1)
    assert names(spool) == named(1, 3)


def test_a_file_that_can_not_be_read_is_given_up(spool: Spool, database: Path) -> None:
    spool.append(simple(1), 7)
    (file,) = find_spool_files(database)
    os.truncate(file, 0)
    with pytest.raises(Exception, match="unpack"):
        spool.first()
    assert spool.drop_first_file() == 7
    assert spool.is_empty


def test_a_child_has_files_of_its_own_and_lets_its_parents_go(spool: Spool, database: Path) -> None:
    spool.append(simple(1), 1)
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            Spool(database, lambda: MIB).append(simple(2), 1)
            os.kill(os.getpid(), 19)  # SIGSTOP: it lives on while its parent lets go
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    mine, childs = find_spool_files(database)
    spool.let_go()
    for path, is_free in ((mine, True), (childs, False)):
        with spool_module.owned_spool_file(path) as descriptor:
            assert (descriptor is not None) is is_free
    os.kill(child, 9)
    os.waitpid(child, 0)
    with spool_module.owned_spool_file(childs) as descriptor:
        assert descriptor is not None


# --- taking over ------------------------------------------------------------------------------------------------------


async def test_what_a_gone_process_left_is_taken_over(store: SqliteStore, database: Path) -> None:
    left = leave(database, *map(of_gone_process, range(3)))
    assert await Adoption(store).adopt() == 3
    assert counted(database) == [(3, 3, 3)]
    assert not left.exists()
    assert await store.taken_over(left.name) == 0
    assert await Adoption(store).adopt() == 0


async def test_a_process_that_writes_to_the_database_as_well_loses_nothing(store: SqliteStore, database: Path) -> None:
    """The database knows the process already: it found the database locked only at its exit."""
    await store.write(of_gone_process(0))
    leave(database, of_gone_process(1))
    assert await Adoption(store).adopt() == 1
    assert counted(database) == [(2, 2, 2)]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
async def test_who_is_killed_in_between_takes_nothing_over_twice(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    leave(database, *map(of_gone_process, range(3)))
    written: list[Batch] = []
    write = store.write

    async def killed(batch: Batch) -> None:
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(batch)
        await write(batch)

    def unlink(path: Path, **_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "write", killed)
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        await Adoption(store).adopt()
    monkeypatch.undo()
    assert await Adoption(store).adopt() == 3 - at
    assert counted(database) == [(3, 3, 3)]


async def test_what_the_owner_wrote_itself_is_not_taken_over_again(store: SqliteStore, database: Path) -> None:
    def owner() -> None:
        spool = Spool(database, lambda: MIB)
        for number in range(3):
            spool.append(of_gone_process(number), 1)
        spool.pop()  # killed before it could delete anything

    in_a_child(owner)
    (left,) = find_spool_files(database)
    first = of_gone_process(0)
    first.sources[left.name] = 1
    await store.write(first)
    assert await Adoption(store).adopt() == 2
    assert counted(database) == [(3, 3, 3)]


async def test_the_file_of_a_living_process_is_left_alone(store: SqliteStore, database: Path) -> None:
    left = leave(database, of_gone_process(0))
    with left.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert await Adoption(store).adopt() == 0
    assert await Adoption(store).adopt() == 1


@pytest.mark.parametrize("cut", [1, 20])
async def test_a_frame_that_a_kill_cut_off_costs_itself_alone(store: SqliteStore, database: Path, cut: int) -> None:
    left = leave(database, of_gone_process(0), of_gone_process(1))
    os.truncate(left, left.stat().st_size - cut)
    assert await Adoption(store).adopt() == 1


async def test_what_can_not_be_understood_is_left_alone_and_told_once(
    store: SqliteStore, database: Path, tracer_log: list[logging.LogRecord]
) -> None:
    left = leave(database, of_gone_process(0))
    sound = leave(database, of_gone_process(1))
    body = b"garbage"
    left.write_bytes(spool_module._HEAD.pack(len(body), zlib.crc32(body), 1) + body)
    assert (await Adoption(store).adopt(), await Adoption(store).adopt()) == (1, 0)
    assert (left.exists(), sound.exists()) == (True, False)
    assert str(left) in tracer_log.pop().getMessage()


async def test_a_trace_whose_end_waits_beside_is_not_called_interrupted(store: SqliteStore, database: Path) -> None:
    """Its process began it in the database, found the database locked at its exit, and is gone."""
    await store.write(batch([started(0)], [running(0, process_id="gone")], process=GONE))
    store._next_sweep = 0.0  # as if a second had passed
    (trace,) = await store.search_traces(TraceQuery())
    assert trace.info.state == "INTERRUPTED"  # as far as one could know
    leave(database, of_gone_process(0))
    await Adoption(store).adopt_for_reader()
    (trace,) = await store.search_traces(TraceQuery())
    assert trace.info.state == "OK"


async def test_readers_look_once_a_second(store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adoption = Adoption(store)
    await adoption.adopt_for_reader()
    leave(database, of_gone_process(0))
    await adoption.adopt_for_reader()
    assert find_spool_files(database)
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 1)
    await adoption.adopt_for_reader()
    assert not find_spool_files(database)


async def test_memory_has_no_place_beside_it() -> None:
    assert await Adoption(open_store("memory://")).adopt() == 0
