"""Nothing of ours outlives the streams it watched."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import anyio
import pytest

import tracer
from tests.openai.calling import CHAT, Caller, collect, finish, traces
from tracer.openai._calls import Call
from tracer.openai._stream import _AsyncReader, _Tap
from tracer.spans.live_span import LiveSpan
from tracer.testing import reply

OURS = (Call, LiveSpan, _Tap, _AsyncReader)


def alive() -> Counter[str]:
    gc.collect()
    return Counter(type(item).__name__ for item in gc.get_objects() if issubclass(type(item), OURS))


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
async def test_nothing_is_left_of_streams_that_were_dropped(caller: Caller) -> None:
    await caller.chat()
    before = alive()
    for number in range(200):
        caller.server.enqueue(reply.text("one two three"))
        stream = await caller.chat(stream=True)
        if number % 2:
            await caller.first(stream, 2)
            await caller.settle(stream.close)
        else:
            await caller.items(stream)
        del stream
    await collect()
    assert not alive() - before
    recorded = await traces()
    assert Counter(finish(trace.data.spans[0]) for trace in recorded) == {"completed": 101, "abandoned": 100}


@pytest.mark.parametrize("mode", ["sync"])
async def test_nothing_is_left_of_streams_that_nobody_closed(caller: Caller) -> None:
    await caller.chat()
    before = alive()
    for number in range(20):
        client = caller.server.client()
        stream: Any = client.chat.completions.create(stream=True, **CHAT)
        if number % 2:
            next(stream)
        del stream
        gc.collect()
        client.close()
        caller.server._clients.clear()
        del client
    await collect()
    assert not alive() - before
    assert Counter(finish(trace.data.spans[0]) for trace in await traces())["abandoned"] == 20


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
async def test_a_call_that_was_read_is_let_go_while_the_caller_keeps_its_stream(caller: Caller) -> None:
    await caller.chat()
    before = alive()
    stream = await caller.chat(stream=True)
    await caller.items(stream)
    with anyio.fail_after(5):  # some SDKs leave generators behind, which the event loop closes in its time
        while (alive() - before).keys() & {"Call", "LiveSpan"}:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert tracer.stats()["open_spans"] <= 1
    del stream
