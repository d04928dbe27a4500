"""`tracer.context`, `enabled`, ``@trace(sample_rate=)``: which traces are recorded, and with what from the start."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

import tracer
from tests.reading import last_trace
from tracer.testing import FakeOpenAI


async def names() -> set[str | None]:
    return {trace.info.name for trace in await tracer.search_traces()}


async def test_traces_that_begin_in_the_block_have_what_it_says(server: FakeOpenAI) -> None:
    tracer.autolog()
    async with server.async_client() as client:
        with tracer.context(session_id="s", user_id=7, tags={"a": 1, "b": 2}, metadata={"m": 1}):  # type: ignore[arg-type]
            with tracer.context(tags={"b": 3}, session_id="inner"):
                await client.responses.create(model="m", input="x")
            inner = (await last_trace()).info
            with tracer.start_span("own"):
                tracer.update_current_trace(user_id="u", tags={"a": "own"})
            own = (await last_trace()).info
        await client.responses.create(model="m", input="x")
    after = (await last_trace()).info
    assert (inner.session_id, inner.user_id, inner.tags, inner.metadata) == (
        "inner",
        "7",
        {"a": "1", "b": "3"},
        {"m": "1"},
    )
    assert (own.session_id, own.user_id, own.tags) == ("s", "u", {"a": "own", "b": "2"})
    assert (after.session_id, after.user_id, after.tags, after.metadata) == (None, None, {}, {})


async def test_the_block_holds_in_its_own_tasks_only() -> None:
    async def work(name: str) -> None:
        await anyio.lowlevel.checkpoint()
        with tracer.start_span(name):
            pass

    async with anyio.create_task_group() as tasks:
        with tracer.context(tags={"in": "yes"}):
            tasks.start_soon(work, "inside")
        tasks.start_soon(work, "outside")
    tags = {trace.info.name: trace.info.tags for trace in await tracer.search_traces()}
    assert tags == {"inside": {"in": "yes"}, "outside": {}}


async def test_a_block_can_switch_recording_off_and_on_again() -> None:
    with tracer.context(enabled=False), tracer.start_span("off"):
        tracer.update_current_trace(tags={"a": "b"})
        with tracer.context(enabled=True, tags={"a": "b"}), tracer.start_span("on"):
            pass
        with tracer.context(tags={"a": "b"}), tracer.start_span("off, too"):
            pass
    with tracer.start_span("after"):
        pass
    assert await names() == {"on", "after"}


async def test_a_running_trace_has_gaps_where_recording_is_off() -> None:
    with tracer.start_span("root") as root:
        with tracer.start_span("on"):
            pass
        with tracer.context(enabled=False), tracer.start_span("off"):
            assert tracer.get_current_active_span() is root
            with tracer.context(enabled=True), tracer.start_span("on inside"):
                pass
    trace = await last_trace()
    assert [span.name for span in trace.data.spans] == ["root", "on", "on inside"]
    assert {span.parent_id for span in trace.data.spans[1:]} == {trace.data.spans[0].span_id}


async def test_a_hook_stays_unrecorded_whatever_it_asks_for() -> None:
    def hook(text: str) -> str:
        with tracer.context(enabled=True), tracer.start_span("in the hook"):
            return text

    tracer.configure(redact=[hook])
    with tracer.start_span("root") as root:
        root.set_inputs("x")
    assert await names() == {"root"}


async def test_nothing_begins_while_tracing_is_switched_off(server: FakeOpenAI) -> None:
    tracer.autolog()
    with tracer.start_span("root"):
        tracer.configure(enabled=False)
        with tracer.start_span("child of a running trace"):
            pass
    with tracer.start_span("off"), server.client() as client:
        client.responses.create(model="m", input="x")
    tracer.configure(enabled=True)
    with tracer.start_span("on"):
        pass
    assert await names() == {"root", "on"}
    assert tracer.stats().unsampled == 0


@pytest.mark.parametrize(("setting", "own", "recorded"), [(1, 0, 0), (0, 1, 20), (0, None, 0), (1, None, 20)])
async def test_a_function_may_have_a_sample_rate_of_its_own(setting: float, own: float | None, recorded: int) -> None:
    tracer.configure(sample_rate=setting)

    @tracer.trace(sample_rate=own)
    def work() -> None: ...

    for _ in range(20):
        work()
    assert len(await tracer.search_traces()) == recorded


async def test_inside_a_trace_a_sample_rate_says_nothing() -> None:
    @tracer.trace(sample_rate=0)
    def work() -> None: ...

    with tracer.start_span("root"):
        work()
    assert len((await last_trace()).data.spans) == 2


@pytest.mark.parametrize("rate", [-0.1, 1.5, "1", True])
def test_a_wrong_sample_rate_is_refused(rate: Any) -> None:
    with pytest.raises(tracer.ConfigurationError, match=r"sample_rate must be a number from 0 to 1, got "):
        tracer.trace(sample_rate=rate)


def test_wrong_defaults_are_refused() -> None:
    with pytest.raises(tracer.ConfigurationError, match="tags must be a mapping"), tracer.context(tags="x"):  # type: ignore[arg-type]
        pass
    with pytest.raises(tracer.ConfigurationError, match="enabled must be"), tracer.context(enabled=0):  # type: ignore[arg-type]
        pass


async def test_outputs_that_a_function_has_set_itself_stay() -> None:
    @tracer.trace
    def work() -> str:
        span = tracer.get_current_active_span()
        assert span is not None
        span.set_outputs({"short": 1})
        return "long"

    assert work() == "long"
    assert (await last_trace()).data.spans[0].outputs == {"short": 1}
