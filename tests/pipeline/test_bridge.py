"""Answers cross from the worker's thread to whoever waits, and a wait that is given up leaves nothing behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import Iterator

import anyio
import pytest
import trio

from tracer.pipeline.bridge import blocking, wait

Future = concurrent.futures.Future[int]


@pytest.fixture(
    params=["asyncio", pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"), "trio"],
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


async def test_an_answer_arrives(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    assert await wait(pool.submit(lambda: 5)) == 5


async def test_an_answer_that_is_there_already_arrives() -> None:
    future: Future = Future()
    future.set_result(5)
    assert await wait(future) == 5


async def test_an_error_arrives_as_itself(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    error = LookupError("gone")

    def fail() -> int:
        raise error

    with pytest.raises(LookupError) as caught:
        await wait(pool.submit(fail))
    assert caught.value is error


async def test_many_wait_at_once(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await wait(pool.submit(lambda: number)))

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(ask, number)
    assert sorted(answers) == list(range(100))


async def test_a_wait_that_takes_too_long_withdraws_its_question() -> None:
    future: Future = Future()
    with pytest.raises(TimeoutError):
        await wait(future, timeout=0.01)
    assert future.cancelled()


async def test_a_cancelled_wait_withdraws_its_question() -> None:
    future: Future = Future()
    with anyio.move_on_after(0.01) as scope:
        await wait(future)
    assert scope.cancelled_caught
    assert future.cancelled()


async def test_a_question_that_cannot_be_withdrawn_stays() -> None:
    future: Future = Future()
    with anyio.move_on_after(0.01):
        await wait(future, withdraw=False)
    future.set_result(5)
    assert await wait(future) == 5


async def test_an_answer_that_comes_too_late_disturbs_nobody() -> None:
    future: Future = Future()
    future.set_running_or_notify_cancel()
    with anyio.move_on_after(0.01):
        await wait(future)
    future.set_result(5)
    await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_an_answer_after_the_loops_end_disturbs_nobody(run: object) -> None:
    future: Future = Future()
    future.set_running_or_notify_cancel()

    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            await wait(future)

    run(give_up) if run is trio.run else run(give_up())  # type: ignore[operator]
    future.set_result(5)


async def ask(future: Future, timeout: float | None = None) -> int:
    """Ask."""
    return await wait(future, timeout)


def test_blocking_waits_for_the_answer() -> None:
    future: Future = Future()
    threading.Timer(0.01, future.set_result, [5]).start()
    assert blocking(ask)(future) == 5


def test_blocking_raises_what_the_other_raises() -> None:
    future: Future = Future()
    future.set_exception(LookupError("gone"))
    with pytest.raises(LookupError, match="gone"):
        blocking(ask)(future)


def test_blocking_gives_up_in_time() -> None:
    future: Future = Future()
    with pytest.raises(TimeoutError, match=r"no answer from tracer's worker within 0\.01 s"):
        blocking(ask)(future, timeout=0.01)
    assert future.cancelled()


def test_a_blocking_function_looks_like_the_async_one() -> None:
    call = blocking(ask)
    assert call.__name__ == "ask"
    assert inspect.signature(call) == inspect.signature(ask)
    assert not inspect.iscoroutinefunction(call)
    assert (call.__doc__ or "").startswith("Block until `tracer.ask` is done")


async def test_blocking_leaves_the_async_way_as_it_was(pool: concurrent.futures.ThreadPoolExecutor) -> None:
    future: Future = Future()
    future.set_result(1)
    assert blocking(ask)(future) == 1
    assert await ask(pool.submit(lambda: 2)) == 2
