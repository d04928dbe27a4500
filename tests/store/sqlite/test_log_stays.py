"""What is committed counts as written, also when its log can't be moved into the file, or when descriptors run out."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.rows import simple
from tracer._exceptions import TransientStoreError
from tracer.store import open_store
from tracer.store.base import TraceQuery
from tracer.store.sqlite.store import SqliteStore

Log = list[logging.LogRecord]
LIMIT = 512


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """No file can be opened in this block: the process has as many open as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def moves_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.store.sqlite.store.CHECKPOINT_BYTES", 1)


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def warning(log: Log) -> str:
    (record,) = log
    log.clear()
    return record.getMessage()


def lock_is_a_link(path: Path) -> None:
    Path(f"{path}-lock").unlink()
    Path(f"{path}-lock").symlink_to("elsewhere")


def lock_is_a_directory(path: Path) -> None:
    Path(f"{path}-lock").unlink()
    Path(f"{path}-lock").mkdir()


@pytest.mark.usefixtures("moves_after_each_batch")
@pytest.mark.parametrize("break_lock", [lock_is_a_link, lock_is_a_directory], ids=lambda act: act.__name__)
async def test_lock_that_cannot_be_opened_fails_no_batch(
    break_lock: object, store: SqliteStore, path: Path, tracer_log: Log
) -> None:
    assert callable(break_lock)
    break_lock(path)
    for number in range(3):
        await store.write(simple(number))
    assert len(await store.search_traces(TraceQuery())) == 3
    assert "can't be moved into its database" in warning(tracer_log)
    assert not path.with_name("elsewhere").exists()
    assert not await store.tidy()


@pytest.mark.usefixtures("moves_after_each_batch")
async def test_running_out_of_descriptors_fails_no_batch(store: SqliteStore, path: Path, tracer_log: Log) -> None:
    with no_descriptors():
        for number in range(3):
            await store.write(simple(number))
    assert "Too many open files" in warning(tracer_log)
    await store.write(simple(4))
    assert log_size(path) == 0
    assert len(await store.search_traces(TraceQuery())) == 4


@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
async def test_batch_waits_for_descriptors_to_open_the_file(exists: bool, path: Path) -> None:
    if exists:
        before = open_store(f"sqlite:///{path}")
        await before.open()
        await before.aclose()
    store = open_store(f"sqlite:///{path}")
    with no_descriptors(), pytest.raises(TransientStoreError):
        await store.write(simple(1))
    await store.write(simple(1))
    assert len(await store.search_traces(TraceQuery())) == 1
    await store.aclose()
