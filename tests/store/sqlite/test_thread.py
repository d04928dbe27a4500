"""A connection's thread ends quietly, and leaves nothing open, whatever became of the loop that it worked for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tracer.store.base import StoreOptions
from tracer.store.sqlite._gate import Gate
from tracer.store.sqlite._thread import ConnectionThread

PATIENCE = 20.0  # seconds after which something counts as hanging


class Noise:
    """What threads that die say on stderr."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, told: threading.ExceptHookArgs) -> None:
        self.said.append(f"{told.thread}: {told.exc_value!r}")


def connection_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio")}


@pytest.fixture(autouse=True)
def wait_for_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Waits until all threads that a test has started have ended; none of them must have died of an exception."""
    noise, before = Noise(), connection_threads()
    monkeypatch.setattr(threading, "excepthook", noise)

    def wait() -> None:
        wait_until(lambda: connection_threads() <= before)

    yield wait
    wait()
    assert noise.said == []


@pytest.fixture
def gate() -> Gate:
    return Gate()


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def connection_to(path: Path, gate: Gate) -> ConnectionThread:
    return ConnectionThread(gate, str(path), StoreOptions())


def is_open(path: Path) -> bool:
    """This process has a descriptor of the file."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return str(path) in found


def keep_out(gate: Gate) -> None:
    """Let nobody into SQLite until `gate.release`; unlike a fork, this closes nothing."""
    gate._held += 1


async def give_up(work: Any) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=0.05)  # the thread has begun, or will begin later: either must do
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_thread_that_connects_after_its_loop_is_gone_closes_and_ends(
    path: Path, gate: Gate, wait_for_the_end: Callable[[], None]
) -> None:
    keep_out(gate)
    thread = connection_to(path, gate)
    asyncio.run(give_up(thread.open()))
    assert not path.exists()
    gate.release()  # now it connects
    wait_for_the_end()
    assert not gate.is_used
    assert not is_open(path)


def test_a_thread_that_connects_while_its_loop_still_runs_closes_and_ends(
    path: Path, gate: Gate, wait_for_the_end: Callable[[], None]
) -> None:
    async def run() -> None:
        keep_out(gate)
        thread = connection_to(path, gate)
        await give_up(thread.open())
        gate.release()
        await asyncio.to_thread(wait_for_the_end)

    asyncio.run(run())
    assert not gate.is_used
    assert not is_open(path)


def test_a_thread_that_fails_to_connect_after_its_loop_is_gone_ends(
    path: Path, gate: Gate, wait_for_the_end: Callable[[], None]
) -> None:
    keep_out(gate)
    thread = connection_to(path.parent / "missing" / "traces.db", gate)
    asyncio.run(give_up(thread.open()))
    gate.release()
    wait_for_the_end()


def test_work_that_ends_after_its_loop_is_gone_leaves_the_thread_to_the_next_loop(path: Path, gate: Gate) -> None:
    thread, go_on = connection_to(path, gate), threading.Event()

    async def begin() -> None:
        await thread.open()
        await give_up(thread.run(lambda _: go_on.wait()))
        await give_up(thread.read(lambda _: go_on.wait()))

    async def go_on_elsewhere() -> int:
        go_on.set()
        (answer,) = await thread.run(lambda connection: connection.execute("SELECT 5").fetchone())
        await thread.aclose()
        return int(answer)

    asyncio.run(begin())
    assert is_open(path)
    assert asyncio.run(go_on_elsewhere()) == 5
    assert not is_open(path)


def test_who_is_cancelled_as_he_closes_leaves_nothing_open(path: Path, gate: Gate) -> None:
    thread, go_on = connection_to(path, gate), threading.Event()

    async def run() -> None:
        await thread.open()
        await give_up(thread.run(lambda _: go_on.wait()))
        await give_up(thread.aclose())

    asyncio.run(run())
    go_on.set()
    wait_until(lambda: not gate.is_used)
    assert not is_open(path)


async def test_opening_that_fails_says_why_and_ends_its_thread(path: Path, gate: Gate) -> None:
    thread = connection_to(path.parent / "missing" / "traces.db", gate)
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        await thread.open()
    assert not gate.is_used
    await thread.aclose()


async def test_stopping_a_read_stops_none_that_comes_after_it(path: Path, gate: Gate) -> None:
    """`stop` asks again and again until its read has ended, also if another one waits meanwhile."""
    thread, runs = connection_to(path, gate), []
    begun, go_on = threading.Event(), threading.Event()

    def stubborn(_: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait()

    def patient(_: sqlite3.Connection) -> int:
        runs.append(1)
        time.sleep(0.05)
        return 7

    await thread.open()
    first = asyncio.ensure_future(thread.read(stubborn))
    await asyncio.to_thread(begun.wait)
    thread.stop()
    second = asyncio.ensure_future(thread.read(patient))
    await asyncio.sleep(0)
    go_on.set()
    assert await second == 7
    await asyncio.gather(first, return_exceptions=True)
    assert len(runs) == 1
    await thread.aclose()


async def test_no_library_logs_an_error(path: Path, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    thread = connection_to(path, gate)
    await thread.open()
    await thread.aclose()
    assert [record for record in caplog.records if record.name != "asyncio"] == []
