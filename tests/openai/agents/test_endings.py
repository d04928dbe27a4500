"""Runs that don't end well, or are left: each span says how it ended, and none stays open."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    OutputGuardrailTripwireTriggered,
    Runner,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from agents.tracing import custom_span, trace

import tracer
from tests.openai.agents.running import LocalModel, calls, get_weather, says, shape, span_named, weather_agent
from tests.openai.calling import finish, only_trace
from tests.reading import last_trace
from tracer.testing import FakeOpenAI, reply

pytestmark = pytest.mark.usefixtures("traced")


@function_tool
def broken() -> str:
    """Fail."""
    raise RuntimeError("no such table")


@function_tool(failure_error_function=None)
def fatal() -> str:
    """Fail, and the run with it."""
    raise RuntimeError("no such table")


@input_guardrail(run_in_parallel=False)
async def strict(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info="no", tripwire_triggered=True)


@input_guardrail
async def parallel(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info="no", tripwire_triggered=True)


@output_guardrail
async def proofread(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info="no", tripwire_triggered=True)


async def streamed(agent: Agent[Any], given: str = "Hi", **options: Any) -> Any:
    result = Runner.run_streamed(agent, given, **options)
    async for _ in result.stream_events():
        pass
    return result


async def plain(agent: Agent[Any], given: str = "Hi", **options: Any) -> Any:
    return await Runner.run(agent, given, **options)


BOTH = pytest.mark.parametrize("run", [plain, streamed], ids=["run", "run_streamed"])


@BOTH
async def test_tool_error_that_the_model_is_told_marks_the_tool_only(run: Any) -> None:
    await run(Agent(name="A", model=LocalModel(calls("broken"), says("Sorry")), tools=[broken]))
    found = await last_trace()
    tool = span_named(found, "broken")
    assert tool.status.status_code == "ERROR"
    assert tool.status.description.startswith("Error running tool (non-fatal)")  # the SDK's words: it redacts
    [event] = [event for event in tool.events if event.name == "exception"]
    assert event.attributes["exception.message"] == tool.status.description
    assert "error occurred" in tool.outputs
    assert {str(span.status) for span in found.data.spans if span is not tool} == {"OK"}


@BOTH
async def test_tool_error_that_ends_the_run_marks_all_it_passes(run: Any) -> None:
    with pytest.raises(Exception, match="no such table"):
        await run(Agent(name="A", model=LocalModel(calls("fatal")), tools=[fatal]))
    found = await last_trace()
    failed = [span.name for span in found.data.spans if str(span.status) == "ERROR"]
    assert failed == [found.info.name, "Agent workflow", "A", "Turn 1", "fatal"]
    assert all("no such table" in span.status.description for span in found.data.spans if span.name in failed)


@BOTH
@pytest.mark.parametrize("guardrail", [strict, parallel], ids=["before", "beside"])
async def test_input_guardrail_that_trips_fails_the_run(run: Any, guardrail: Any) -> None:
    with pytest.raises(InputGuardrailTripwireTriggered):
        await run(Agent(name="A", model=LocalModel(says("Hello")), input_guardrails=[guardrail]))
    found = await last_trace()
    span = span_named(found, guardrail.get_name())
    assert span.span_type == "GUARDRAIL"
    assert span.outputs == {"triggered": True}
    assert span.attributes["tracer.guardrail.triggered"] is True
    assert str(span.status) == "OK"
    assert found.info.state == "ERROR"
    assert str(span_named(found, "A").status) == "ERROR"


@BOTH
async def test_output_guardrail_that_trips_fails_the_run(run: Any) -> None:
    with pytest.raises(OutputGuardrailTripwireTriggered):
        await run(Agent(name="A", model=LocalModel(says("Hello")), output_guardrails=[proofread]))
    found = await last_trace()
    assert span_named(found, "proofread").outputs == {"triggered": True}
    assert found.info.state == "ERROR"


@BOTH
async def test_guardrail_that_does_not_trip_says_so(run: Any) -> None:
    @input_guardrail
    async def lenient(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    await run(Agent(name="A", model=LocalModel(says("Hello")), input_guardrails=[lenient]))
    found = await last_trace()
    assert span_named(found, "lenient").outputs == {"triggered": False}
    assert found.info.state == "OK"


@BOTH
async def test_too_many_turns_fail_the_run(run: Any) -> None:
    model = LocalModel(*[calls("get_weather", city="Rome") for _ in range(3)])
    with pytest.raises(MaxTurnsExceeded):
        await run(Agent(name="A", model=model, tools=[get_weather]), max_turns=2)
    found = await last_trace()
    assert found.info.state == "ERROR"
    assert "axTurnsExceeded" in found.data.spans[0].status.description or run is streamed
    assert "ax turns" in found.data.spans[0].status.description or run is plain
    assert span_named(found, "Turn 2").status.status_code == "OK"


async def test_error_of_the_api_marks_the_call_and_the_run(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.error(400, "bad model"))
    with pytest.raises(Exception, match="bad model"):
        await plain(weather_agent(client))
    found = await last_trace()
    assert {str(span.status) for span in found.data.spans} == {"ERROR"}
    assert span_named(found, "AsyncResponses").attributes["http.response.status_code"] == 400
    assert len(found.data.spans) == 5


async def test_cancelled_run_is_cancelled_everywhere(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.held())
    task = asyncio.create_task(plain(weather_agent(client)))
    await server.async_wait_for_held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await last_trace()
    assert {finish(span) for span in found.data.spans} == {"cancelled"}
    assert len(found.data.spans) == 5


async def test_streamed_run_that_its_caller_cancels_is_cancelled(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.text("one two three four").held(after_events=3))
    result = Runner.run_streamed(weather_agent(client), "Count")
    async for _ in result.stream_events():
        await server.async_wait_for_held()
        result.cancel()
    found = await last_trace()
    assert finish(found.data.spans[0]) == "cancelled"
    assert finish(span_named(found, "AsyncResponses")) in ("cancelled", "abandoned")
    assert all(span.end_time_ns for span in found.data.spans)


async def test_streamed_run_that_is_cancelled_before_its_first_step_is_recorded(client: Any) -> None:
    result: Any = Runner.run_streamed(weather_agent(client), "Count")
    task = result.run_loop_task
    result.cancel()
    await asyncio.wait([task])
    found = await only_trace()
    assert shape(found) == ["AgentRunner.run_streamed AGENT"]
    assert (finish(found.data.spans[0]), found.data.spans[0].inputs) == ("cancelled", "Count")


async def test_streamed_run_that_is_left_half_read_goes_on_to_its_end(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.tool_calls(("get_weather", {"city": "Rome"})), reply.text("It is sunny."))
    result = Runner.run_streamed(weather_agent(client), "Weather?")
    events: Any = result.stream_events()
    await events.__anext__()
    await events.aclose()
    found = await last_trace()
    assert found.info.state == "OK"
    assert found.data.spans[0].outputs == "It is sunny."
    assert len([span for span in found.data.spans if span.span_type == "CHAT_MODEL"]) == 2


async def test_streamed_run_that_is_never_read_is_recorded(client: Any) -> None:
    result: Any = Runner.run_streamed(weather_agent(client, tools=[]), "Hi")
    task = result.run_loop_task
    del result
    await task
    await asyncio.sleep(0)
    found = await last_trace()
    assert shape(found)[0] == "AgentRunner.run_streamed AGENT"
    assert found.data.spans[0].outputs == "You said: Hi"
    assert found.info.state == "OK"


async def test_reader_of_a_streamed_run_that_is_cancelled_cancels_it(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.text("one two three").held(after_events=3))
    task = asyncio.create_task(streamed(weather_agent(client)))
    await server.async_wait_for_held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    found = await only_trace()
    assert finish(found.data.spans[0]) == "cancelled"
    assert all(span.end_time_ns for span in found.data.spans)


async def test_nothing_is_current_after_a_run_however_it_ended(client: Any, server: FakeOpenAI) -> None:
    server.enqueue(reply.text("Hi"), reply.error(400), reply.text("Hi"))
    await plain(weather_agent(client))
    with pytest.raises(Exception, match="400"):
        await plain(weather_agent(client))
    await streamed(weather_agent(client))
    assert tracer.get_current_active_span() is None


async def test_error_handled_around_a_run_is_none_of_its_own() -> None:
    try:
        raise KeyError("earlier")
    except KeyError:
        await plain(Agent(name="A", model=LocalModel(says("Hello"))))
    found = await last_trace()
    assert {str(span.status) for span in found.data.spans} == {"OK"}


async def test_span_that_is_dropped_without_an_end_is_abandoned() -> None:
    with trace("W"):
        custom_span("forgotten").start()
        gc.collect()
    found = await last_trace()
    assert finish(span_named(found, "forgotten")) == "abandoned"


async def test_spans_that_end_out_of_order_leave_the_right_one_current() -> None:
    with trace("W"):
        first = custom_span("first")
        first.start(mark_as_current=True)
        second = custom_span("second")
        second.start(mark_as_current=True)
        first.finish()
        assert getattr(tracer.get_current_active_span(), "name", None) == "second"
        second.finish()
    assert tracer.get_current_active_span() is None


async def test_no_task_exception_is_taken_for_retrieved(client: Any, server: FakeOpenAI) -> None:
    """asyncio complains of a streamed run that failed and was never read, as it does without tracing."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    server.enqueue(reply.error(400))
    result: Any = Runner.run_streamed(weather_agent(client), "Hi")
    await asyncio.wait([result.run_loop_task])
    del result
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    assert any("never retrieved" in complaint for complaint in complaints)
    assert (await last_trace()).info.state == "ERROR"
