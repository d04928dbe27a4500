"""Batches are written in their order while the next ones are made; who is cancelled leaves none half-written."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tracer.pipeline._write_behind import AHEAD, WriteBehind
from tracer.store.batch import Batch
from tracer.store.process import current_process


def batch(number: int) -> Batch:
    return Batch(process=current_process(), sources={"ring": number})


class Disk:
    """Writes one batch after the other, as soon as it may."""

    def __init__(self) -> None:
        self.may_write = asyncio.Semaphore(0)
        self.begun: list[int] = []
        self.written: list[int] = []
        self.error: Exception | None = None

    async def write(self, batch: Batch) -> None:
        self.begun.append(batch.sources["ring"])
        assert len(self.begun) == len(self.written) + 1, "two at a time"
        await self.may_write.acquire()
        if self.error is not None:
            raise self.error
        self.written.append(batch.sources["ring"])

    def release(self, count: int) -> None:
        for _ in range(count):
            self.may_write.release()


async def put(writing: WriteBehind, *numbers: int) -> None:
    for number in numbers:
        await writing.put(batch(number))


async def test_the_next_batches_are_made_while_one_is_written() -> None:
    disk = Disk()
    async with WriteBehind(disk.write) as writing:
        await put(writing, *range(AHEAD))
        await anyio.wait_all_tasks_blocked()
        assert (disk.begun, disk.written) == ([0], [])
        disk.release(AHEAD)
    assert disk.written == [*range(AHEAD)]


async def test_no_more_than_a_few_batches_wait() -> None:
    disk = Disk()
    async with WriteBehind(disk.write) as writing:
        await put(writing, *range(AHEAD))
        late = asyncio.ensure_future(put(writing, AHEAD))
        await anyio.wait_all_tasks_blocked()
        assert not late.done()
        disk.release(1)
        await late
        disk.release(AHEAD)
    assert disk.written == [*range(AHEAD + 1)]


async def test_after_a_pause_it_goes_on() -> None:
    disk = Disk()
    disk.release(2)
    async with WriteBehind(disk.write) as writing:
        await put(writing, 0)
        await anyio.wait_all_tasks_blocked()
        assert disk.written == [0]
        await put(writing, 1)
    assert disk.written == [0, 1]


async def test_nothing_to_write() -> None:
    async with WriteBehind(Disk().write):
        pass


@pytest.mark.parametrize("at_once", [1, 2, AHEAD])
async def test_nothing_is_written_after_a_batch_that_could_not_be_written(at_once: int) -> None:
    disk = Disk()
    disk.error = OSError("full")
    disk.release(100)

    async def work() -> None:
        async with WriteBehind(disk.write) as writing:
            await put(writing, *range(at_once))
            await anyio.wait_all_tasks_blocked()
            await put(writing, at_once)

    with pytest.raises(OSError, match="full"):
        await work()
    assert (disk.begun, disk.written) == ([0], [])


async def test_a_failure_of_the_last_batch_is_raised_at_the_end() -> None:
    disk = Disk()
    disk.error = OSError("full")
    disk.release(1)

    async def work() -> None:
        async with WriteBehind(disk.write) as writing:
            await put(writing, 0)

    with pytest.raises(OSError, match="full"):
        await work()


@pytest.mark.parametrize("waits_for_room", [False, True])
async def test_who_is_cancelled_waits_for_the_batch_that_is_being_written(waits_for_room: bool) -> None:
    disk = Disk()
    over = anyio.Event()

    async def work() -> None:
        try:
            async with WriteBehind(disk.write) as writing:
                await put(writing, *range(AHEAD + waits_for_room))
                await anyio.sleep_forever()
        finally:
            over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert not over.is_set()
            disk.release(1)
            await over.wait()
    assert (disk.begun, disk.written) == ([0], [0])


async def test_what_waits_is_dropped_if_the_next_one_can_not_be_made() -> None:
    disk = Disk()

    async def work() -> None:
        async with WriteBehind(disk.write) as writing:
            await put(writing, 0, 1)
            await anyio.wait_all_tasks_blocked()
            disk.release(1)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await work()
    assert disk.written == [0]
