"""Which span is current, and that an ended one is never a parent."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import anyio
import pytest

import tracer
from tests.reading import last_span, last_trace
from tracer.spans.context import current_span


def open_and_end(name: str = "later") -> tracer.LiveSpan:
    """A span of whatever calls this."""
    with tracer.start_span(name) as span:
        pass
    return span


def steps(name: str = "in generator") -> Generator[tracer.LiveSpan, None, None]:
    with tracer.start_span(name) as span:
        yield span


# --- a span that has ended --------------------------------------------------------------------------------------------


def test_below_a_span_that_was_ended_by_hand_its_nearest_open_ancestor_is_the_parent() -> None:
    with tracer.start_span("root") as root, tracer.start_span("a") as a, tracer.start_span("b") as b:
        b.end()
        assert open_and_end().parent_id == a.span_id
        assert tracer.get_current_active_span() is a
        a.end()
        assert open_and_end().parent_id == root.span_id
    assert tracer.get_current_active_span() is None


def test_below_a_trace_that_has_ended_a_span_begins_its_own() -> None:
    with tracer.start_span("root") as root, tracer.start_span("child") as child:
        root.end()
        child.end()
        later = open_and_end()
    assert (later.parent_id, later.trace_id == root.trace_id) == (None, False)


def test_an_open_span_stays_the_parent_after_its_own_parent_has_ended() -> None:
    with tracer.start_span("root") as root, tracer.start_span("child") as child:
        root.end()
        later = open_and_end()
    assert (later.parent_id, later.trace_id) == (child.span_id, root.trace_id)


def test_a_trace_that_has_ended_is_not_current(tracer_log: list[logging.LogRecord]) -> None:
    with tracer.start_span("root") as root:
        root.end()
        tracer.update_current_trace(name="late")
        assert tracer.get_current_active_span() is None
    assert tracer.sync.get_trace(root.trace_id).info.name == "root"
    [record] = tracer_log
    assert "no trace is current" in record.getMessage()
    tracer_log.clear()


def test_an_ended_span_is_not_kept_alive_by_the_context() -> None:
    context = contextvars.copy_context()
    generator = steps()
    gone = weakref.ref(context.run(next, generator))
    generator.close()
    assert gone() is not None, "the context holds no span: this test shows nothing"
    context.run(open_and_end)
    gc.collect()
    assert gone() is None


async def test_tasks_that_each_begin_the_next_keep_no_ended_span_alive() -> None:
    alive: weakref.WeakSet[tracer.LiveSpan] = weakref.WeakSet()
    done = asyncio.Event()

    async def link(left: int) -> None:
        if left == 0:
            done.set()
            return
        with tracer.start_span("link") as span:
            alive.add(span)
            tasks.append(asyncio.create_task(link(left - 1)))
            await asyncio.sleep(0)  # the next one's span begins below this, and outlives it
        tasks.pop(0)

    tasks = [asyncio.create_task(link(50))]
    await done.wait()
    gc.collect()
    assert len(alive) <= 5


# --- a context that was inherited -------------------------------------------------------------------------------------


@contextlib.contextmanager
def thread_runner() -> Iterator[Callable[[contextvars.Context], tracer.LiveSpan]]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield lambda context: pool.submit(context.run, open_and_end).result()


@pytest.mark.parametrize(
    "runner",
    [lambda: contextlib.nullcontext(lambda context: context.run(open_and_end)), thread_runner],
    ids=["here", "in a thread"],
)
def test_a_copied_context_that_outlives_its_spans(runner: Any) -> None:
    with runner() as run:
        with tracer.start_span("root") as root:
            with tracer.start_span("child") as child:
                context = contextvars.copy_context()
                later = [run(context)]
            later.append(run(context))
        later.append(run(context))
    assert [span.parent_id for span in later] == [child.span_id, root.span_id, None]
    assert [span.trace_id == root.trace_id for span in later] == [True, True, False]


async def test_a_task_that_outlives_its_spans() -> None:
    turns = [asyncio.Event() for _ in range(3)]

    async def work() -> list[tracer.LiveSpan]:
        later = []
        for turn in turns:
            await turn.wait()
            later.append(open_and_end())
            told.set()
        return later

    told = asyncio.Event()

    async def go_on(number: int) -> None:
        told.clear()
        turns[number].set()
        await told.wait()

    with tracer.start_span("root") as root:
        with tracer.start_span("child") as child:
            task = asyncio.create_task(work())
            await go_on(0)
        await go_on(1)
    await go_on(2)
    later = await task
    assert [span.parent_id for span in later] == [child.span_id, root.span_id, None]
    assert [span.trace_id == root.trace_id for span in later] == [True, True, False]


async def test_a_task_under_trace_that_begins_after_its_trace_is_one_trace() -> None:
    @tracer.trace
    async def background() -> None:
        open_and_end("first")
        open_and_end("second")

    with tracer.start_span("request"):
        task = asyncio.create_task(background())
    await task
    assert [span.name for span in (await last_trace()).data.spans] == ["background", "first", "second"]


# --- generators -------------------------------------------------------------------------------------------------------


def test_a_generator_that_another_context_closes_leaves_no_parent() -> None:
    context = contextvars.copy_context()
    generator = steps()
    assert context.run(next, generator).has_ended is False
    generator.close()
    assert context.run(open_and_end).parent_id is None
    assert context.run(tracer.get_current_active_span) is None


async def test_an_async_generator_left_in_the_middle_leaves_no_parent() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        async with tracer.start_span("in generator"):
            yield 1
            yield 2

    with tracer.start_span("root") as root:
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0)  # asyncio closes it in a task of its own, whose context is another
        await asyncio.sleep(0)
        assert open_and_end().parent_id == root.span_id
        assert tracer.get_current_active_span() is root
    assert tracer.get_current_active_span() is None


@pytest.mark.parametrize("kept", [True, False])
def test_a_traced_generator_left_in_the_middle_is_not_current(kept: bool) -> None:
    @tracer.trace
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    generator = numbers()
    for _ in generator:
        break
    if not kept:
        del generator
    assert open_and_end().parent_id is None
    assert tracer.get_current_active_span() is None


async def test_a_traced_async_generator_left_in_the_middle_is_not_current() -> None:
    @tracer.trace
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    generator = numbers()
    async for _ in generator:
        break
    assert open_and_end().parent_id is None
    assert tracer.get_current_active_span() is None
    await generator.aclose()


def test_what_a_generator_left_current_goes_with_the_function_that_read_it() -> None:
    kept = []

    @tracer.trace
    def read() -> None:
        generator = steps()
        kept.append(generator)
        next(generator)

    read()
    assert tracer.get_current_active_span() is None
    assert open_and_end().parent_id is None
    kept.pop().close()
    assert tracer.get_current_active_span() is None


@pytest.mark.parametrize("end", [lambda generator: generator.close(), lambda generator: next(generator, None)])
def test_a_generator_that_ends_inside_another_block_leaves_that_current(
    end: Callable[[Generator[tracer.LiveSpan, None, None]], object],
) -> None:
    generator = steps()
    next(generator)
    with tracer.start_span("block") as block:
        end(generator)
        assert tracer.get_current_active_span() is block
        assert open_and_end().parent_id == block.span_id
    assert tracer.get_current_active_span() is None


# --- scopes that are not left -----------------------------------------------------------------------------------------


async def test_a_scope_that_is_dropped_without_being_left_ends_its_span() -> None:
    scope = tracer.start_span("dropped")
    span = scope.__enter__()
    assert tracer.get_current_active_span() is span
    del scope
    gc.collect()
    assert span.has_ended
    assert tracer.get_current_active_span() is None
    assert (await last_span()).get_attribute("tracer.finish") == "abandoned"


def test_a_scope_that_was_left_has_no_finalizer() -> None:
    """A Ctrl-C that comes in a ``__del__`` is lost."""
    scope = tracer.start_span("left")
    with scope:
        assert hasattr(scope, "__del__")
    assert not hasattr(scope, "__del__")


def test_a_block_that_cannot_begin_leaves_nothing() -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tracer.start_span("x", attributes={"a": Unspeakable()}):
        raise AssertionError("the block must not run")
    assert current_span.get() is None
    tracer.sync.flush()
    assert tracer.stats().open_spans == 0
    assert tracer.stats().dropped["lost"] == 0


async def test_blocks_that_are_cancelled_leave_nothing() -> None:
    async def hold() -> None:
        async with tracer.start_span("held"):
            await anyio.sleep_forever()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert tracer.get_current_active_span() is None
    assert (await last_span()).get_attribute("tracer.finish") == "cancelled"
