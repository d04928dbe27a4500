"""The setting `propagate_to_threads`: work in an executor belongs to the span that was current at its `submit`."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tracer
from tests.openai.calling import CHAT
from tracer import Span
from tracer.testing import FakeOpenAI


def spans() -> dict[str, Span]:
    return {span.name: span for trace in tracer.sync.search_traces() for span in trace.data.spans}


@tracer.trace
def work(number: int = 1) -> int:
    return number


def in_submit(executor: ThreadPoolExecutor) -> None:
    assert executor.submit(work, number=1).result() == 1


def in_map(executor: ThreadPoolExecutor) -> None:
    assert list(executor.map(work, [1])) == [1]


def in_loop(executor: ThreadPoolExecutor) -> None:
    async def run() -> int:
        return await asyncio.get_running_loop().run_in_executor(executor, work, 1)

    assert asyncio.run(run()) == 1


def in_context(executor: ThreadPoolExecutor) -> None:
    async def run() -> int:
        return await asyncio.to_thread(work)  # in the loop's own executor

    assert asyncio.run(run()) == 1


WAYS = [in_submit, in_map, in_loop, in_context]


@pytest.mark.parametrize("way", WAYS)
def test_work_in_an_executor_belongs_to_the_span_around(way: Callable[[ThreadPoolExecutor], None]) -> None:
    tracer.configure(propagate_to_threads=True)
    with ThreadPoolExecutor(1) as executor, tracer.start_span("around") as around:
        way(executor)
        assert executor.submit(tracer.get_current_active_span).result() is around
    assert spans()["work"].parent_id == around.span_id
    assert len(spans()["work"].trace_id) == 32


@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_keeps_no_span_for_the_work_that_comes_after(fails: bool) -> None:
    """The thread lives on, and so does the span; but work that is handed over outside of it is not below it."""
    tracer.configure(propagate_to_threads=True)
    with ThreadPoolExecutor(1) as executor, tracer.start_span("around"):
        first = executor.submit(int, "x" if fails else "1")
        assert isinstance(first.exception(), ValueError) == fails
        after = contextvars.Context().run(executor.submit, tracer.get_current_active_span)
        assert after.result() is None


@pytest.mark.parametrize("way", [in_submit, in_map, in_loop])
def test_it_is_off_unless_asked_for_and_switched_off_again(way: Callable[[ThreadPoolExecutor], None]) -> None:
    original = ThreadPoolExecutor.submit
    for switch_off in (
        lambda: None,
        lambda: tracer.configure(propagate_to_threads=False),
        lambda: tracer.autolog(disable=True),
    ):
        switch_off()
        assert ThreadPoolExecutor.submit is original
        with ThreadPoolExecutor(1) as executor, tracer.start_span("around"):
            way(executor)
        assert spans()["work"].parent_id is None
        tracer.sync.delete_traces(max_traces=100)
        tracer.configure(propagate_to_threads=True)
        assert ThreadPoolExecutor.submit is not original


def test_autolog_brings_it_back(server: FakeOpenAI) -> None:
    tracer.configure(propagate_to_threads=True)
    tracer.autolog(disable=True)
    tracer.autolog()
    with server.client() as client, ThreadPoolExecutor(4) as executor, tracer.start_span("around"):
        create: Any = client.chat.completions.create
        for future in [executor.submit(create, **CHAT) for _ in range(4)]:
            future.result()
    [trace] = tracer.sync.search_traces()
    assert [span.name.partition("_")[0] for span in trace.data.spans] == ["around", *["Completions"] * 4]


def test_a_thread_of_an_executor_forgets_the_span_when_its_work_is_done() -> None:
    tracer.configure(propagate_to_threads=True)
    with ThreadPoolExecutor(1) as executor:
        with tracer.start_span("around"):
            executor.submit(work).result()
        assert executor.submit(tracer.get_current_active_span).result() is None


def test_work_that_outlasts_the_span_belongs_to_the_nearest_that_is_open() -> None:
    tracer.configure(propagate_to_threads=True)
    may_go = threading.Event()

    def late() -> int:
        may_go.wait(20)
        return work()

    with ThreadPoolExecutor(1) as executor, tracer.start_span("outer") as outer:
        with tracer.start_span("inner"):
            future = executor.submit(late)
        may_go.set()
        assert future.result() == 1
    assert spans()["work"].parent_id == outer.span_id


def test_errors_and_odd_arguments_are_as_before() -> None:
    tracer.configure(propagate_to_threads=True)

    def fails(span: Any, fn: Any, self: Any) -> None:
        raise ValueError(span, fn, self)

    with ThreadPoolExecutor(1) as executor, tracer.start_span("around"):
        with pytest.raises(ValueError, match="1, 2, 3"):
            executor.submit(fails, span=1, fn=2, self=3).result()
        with pytest.raises(TypeError):
            executor.submit()  # type: ignore[call-arg]
