"""Runs whose model calls go over the wire: one tree, one span for each model call."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession, function_tool, trace
from agents.testing import assistant_message

import tracer
from tests.openai.agents.running import (
    CALL_NAMES,
    LocalModel,
    config,
    shape,
    span_named,
    spans_named,
    weather_agent,
)
from tests.openai.calling import only_trace, traces
from tests.reading import last_trace, stored_rows
from tracer.testing import FakeOpenAI, reply

QUESTION = "What is the weather in Paris?"
RUN = ("AgentRunner.run", "AsyncResponses")
pytestmark = pytest.mark.usefixtures("traced")


def weather_tree(root: str, call: str, workflow: str = "Agent workflow") -> list[str]:
    return [
        f"{root} AGENT",
        f"  {workflow} TASK",
        "    Weather agent AGENT",
        "      Turn 1 CHAIN",
        f"        {call}_1 CHAT_MODEL",
        "        get_weather TOOL",
        "          look up UNKNOWN",
        "      Turn 2 CHAIN",
        f"        {call}_2 CHAT_MODEL",
    ]


@pytest.fixture
def script(server: FakeOpenAI) -> None:
    server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})), reply.text("It is sunny."))


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("api", CALL_NAMES)
async def test_run_is_one_tree_with_one_span_for_each_model_call(client: Any, api: str) -> None:
    result = await Runner.run(weather_agent(client, api), QUESTION)
    trace = await only_trace()
    assert shape(trace) == weather_tree("AgentRunner.run", CALL_NAMES[api])
    root = trace.data.spans[0]
    assert (root.inputs, root.outputs) == (QUESTION, "It is sunny.") == (QUESTION, result.final_output)
    assert (trace.info.request_preview, trace.info.response_preview) == (QUESTION, "It is sunny.")
    assert trace.info.state == "OK"
    assert {span.attributes["tracer.finish"] for span in trace.data.spans} == {"completed"}


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("api", CALL_NAMES)
async def test_streamed_run_makes_the_same_tree(client: Any, api: str) -> None:
    result = Runner.run_streamed(weather_agent(client, api), QUESTION)
    assert [event async for event in result.stream_events()]
    trace = await last_trace()
    assert shape(trace) == weather_tree("AgentRunner.run_streamed", CALL_NAMES[api])
    root = trace.data.spans[0]
    assert (root.inputs, root.outputs) == (QUESTION, "It is sunny.")
    assert trace.info.state == "OK"
    chunked = spans_named(trace, f"{CALL_NAMES[api]}_2")[0]
    assert any(event.name == "gen_ai.chunk" for event in chunked.events)


@pytest.mark.usefixtures("script")
@pytest.mark.filterwarnings("ignore:'asyncio.get_event_loop_policy' is deprecated")  # the SDK asks for it on 3.14, too
def test_run_sync_makes_the_same_tree(server: FakeOpenAI) -> None:
    async def closing(client: Any) -> None:
        await client.close()

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        client = server.async_client(max_retries=0)
        Runner.run_sync(weather_agent(client), QUESTION)
        loop.run_until_complete(closing(client))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    [trace] = tracer.sync.search_traces()
    assert shape(trace) == weather_tree("AgentRunner.run", "AsyncResponses")


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
async def test_usage_is_counted_once(client: Any, streamed: bool) -> None:
    agent = weather_agent(client)
    if streamed:
        result: Any = Runner.run_streamed(agent, QUESTION)
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(agent, QUESTION)
    used, usage = result.context_wrapper.usage, (await last_trace()).info.token_usage
    assert usage is not None
    assert usage["total_tokens"] == used.total_tokens > 0
    assert (usage["input_tokens"], usage["output_tokens"]) == (used.input_tokens, used.output_tokens)


@pytest.mark.usefixtures("script")
async def test_tool_and_agent_spans_say_what_the_sdk_knows(client: Any) -> None:
    await Runner.run(weather_agent(client), QUESTION)
    trace = await only_trace()
    tool, agent = span_named(trace, "get_weather"), span_named(trace, "Weather agent")
    assert (tool.inputs, tool.outputs) == ({"city": "Paris"}, "sunny in Paris")
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["gen_ai.tool.name"] == "get_weather"
    assert (agent.inputs, agent.outputs) == (QUESTION, "It is sunny.")
    assert agent.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert agent.attributes["gen_ai.agent.name"] == "Weather agent"
    assert agent.attributes["tracer.agent.tools"] == ["get_weather"]
    assert [span.attributes["tracer.agent.turn"] for span in trace.data.spans if span.name.startswith("Turn")] == [1, 2]


async def test_group_metadata_and_workflow_name_are_the_traces(client: Any) -> None:
    settings = config(workflow_name="Forecast", group_id="chat-7", trace_metadata={"tier": "gold", "try": 2})
    await Runner.run(weather_agent(client), "Hi", run_config=settings)
    info = (await only_trace()).info
    assert (info.name, info.session_id) == ("Forecast", "chat-7")
    assert (info.metadata["tier"], info.metadata["try"]) == ("gold", "2")
    assert info.metadata["tracer.agents.trace_id"].startswith("trace_")


async def test_memory_session_is_the_session_where_no_group_is_given(client: Any) -> None:
    session = SQLiteSession("conversation-3")
    await Runner.run(weather_agent(client), "Hi", session=session)
    session.close()
    assert (await only_trace()).info.session_id == "conversation-3"


async def test_users_trace_holds_the_runs_made_in_it(client: Any) -> None:
    with trace("Two questions", group_id="g"):
        await Runner.run(weather_agent(client), "Hi")
        await Runner.run(weather_agent(client), "Hello")
    found = await only_trace()
    assert [line for line in shape(found) if not line.startswith("    ")] == [
        "Two questions WORKFLOW",
        "  AgentRunner.run AGENT",
        "  AgentRunner.run AGENT",
    ]
    assert (found.info.name, found.info.session_id) == ("Two questions", "g")


async def test_users_span_around_a_run_is_the_root(client: Any) -> None:
    with tracer.start_span("request") as span:
        await Runner.run(weather_agent(client), "Hi", run_config=config(workflow_name="Forecast"))
        assert tracer.get_current_active_span() is span
    found = await only_trace()
    assert shape(found)[:3] == ["request UNKNOWN", "  AgentRunner.run AGENT", "    Forecast TASK"]
    assert found.info.name == "request"


@pytest.mark.usefixtures("script")
async def test_texts_that_the_run_is_told_to_leave_out_are_nowhere(client: Any, tmp_path: Path) -> None:
    await Runner.run(weather_agent(client), "my-question", run_config=config(trace_include_sensitive_data=False))
    found = await only_trace()
    assert found.info.token_usage is not None
    assert shape(found) == weather_tree(*RUN)
    stored = stored_rows(tmp_path)
    assert "gpt-4o-mini" in stored
    for text in ("my-question", "It is sunny", "sunny in Paris"):
        assert text not in stored


async def test_handoff_says_from_whom_to_whom(client: Any, server: FakeOpenAI) -> None:
    spanish = Agent(name="Spanish agent", model=weather_agent(client).model)
    triage = Agent(name="Triage agent", model=spanish.model, handoffs=[spanish])
    server.enqueue(reply.tool_calls(("transfer_to_spanish_agent", {})), reply.text("¡Hola!"))
    await Runner.run(triage, "Hola")
    found = await only_trace()
    assert shape(found)[2:] == [
        "    Triage agent AGENT",
        "      Turn 1 CHAIN",
        "        AsyncResponses_1 CHAT_MODEL",
        "        Handoff CHAIN",
        "    Spanish agent AGENT",
        "      Turn 2 CHAIN",
        "        AsyncResponses_2 CHAT_MODEL",
    ]
    handoff = span_named(found, "Handoff")
    assert handoff.inputs == {"from_agent": "Triage agent"}
    assert handoff.outputs == {"to_agent": "Spanish agent"}
    assert span_named(found, "Triage agent").attributes["tracer.agent.handoffs"] == ["Spanish agent"]
    later = span_named(found, "Spanish agent")
    assert later.inputs[0] == {"content": "Hola", "role": "user"}
    assert later.outputs == "¡Hola!"


async def test_agent_as_a_tool_is_a_run_below_the_tool(client: Any, server: FakeOpenAI) -> None:
    translator = Agent(name="Translator", model=weather_agent(client).model)
    tool = translator.as_tool(tool_name="translate", tool_description="Translate")
    boss = Agent(name="Boss", model=translator.model, tools=[tool])
    server.enqueue(reply.tool_calls(("translate", {"input": "Hi"})), reply.text("Salut"), reply.text("Done"))
    await Runner.run(boss, "Translate")
    found = await only_trace()
    lines = [line.strip() for line in shape(found)]
    assert lines[3:10] == [
        "Turn 1 CHAIN",
        "AsyncResponses_1 CHAT_MODEL",
        "translate TOOL",
        "AgentRunner.run AGENT",
        "Agent workflow TASK",
        "Translator AGENT",
        "Turn 1 CHAIN",
    ]
    assert len([line for line in lines if line.startswith("AsyncResponses")]) == 3
    inner = spans_named(found, "AgentRunner.run")[1]
    assert (inner.inputs, inner.outputs) == ("Hi", "Salut")
    assert inner.parent_id == span_named(found, "translate").span_id


async def test_parallel_tools_are_siblings_with_their_own_spans_below(client: Any, server: FakeOpenAI) -> None:
    @function_tool
    async def slow(city: str) -> str:
        async with tracer.start_span(f"inside {city}"):
            await asyncio.sleep(0)
            return city

    towns = ["Rome", "Oslo", "Bern"]
    server.enqueue(reply.tool_calls(*[("slow", {"city": town}) for town in towns]), reply.text("Done"))
    await Runner.run(weather_agent(client, tools=[slow]), "All three")
    found = await only_trace()
    tools = spans_named(found, "slow")
    assert {tool.parent_id for tool in tools} == {spans_named(found, "Turn 1")[0].span_id}
    assert sorted(tool.inputs["city"] for tool in tools) == sorted(towns)
    for tool in tools:
        assert span_named(found, f"inside {tool.inputs['city']}").parent_id == tool.span_id


async def test_model_call_in_a_tool_belongs_to_the_tool(client: Any, server: FakeOpenAI) -> None:
    @function_tool
    async def ask() -> str:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        return str(answer.choices[0].message.content)

    server.enqueue(reply.tool_calls(("ask", {})), reply.text("Inner"), reply.text("Done"))
    await Runner.run(weather_agent(client, tools=[ask]), "Ask")
    found = await only_trace()
    assert span_named(found, "AsyncCompletions").parent_id == span_named(found, "ask").span_id


async def test_task_that_outlives_the_run_it_began_in_is_a_trace_of_its_own(client: Any, server: FakeOpenAI) -> None:
    tasks: list[asyncio.Task[Any]] = []
    is_over = asyncio.Event()

    async def later() -> None:
        await is_over.wait()
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "later"}])

    @function_tool
    async def begin() -> str:
        tasks.append(asyncio.create_task(later()))
        return "begun"

    server.enqueue(reply.tool_calls(("begin", {})), reply.text("Done"))
    await Runner.run(weather_agent(client, tools=[begin]), "Begin")
    is_over.set()
    await tasks[0]
    of_task, of_run = sorted(await traces(), key=lambda trace: len(trace.data.spans))
    assert [span.name for span in of_task.data.spans] == ["AsyncCompletions"]
    assert all(span.name != "AsyncCompletions" for span in of_run.data.spans)


async def test_task_that_outlives_a_model_call_is_not_told_to_leave_texts_out(client: Any) -> None:
    tasks: list[asyncio.Task[Any]] = []
    is_over = asyncio.Event()

    async def later() -> None:
        await is_over.wait()
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "later"}])

    async def begin() -> None:
        tasks.append(asyncio.create_task(later()))

    agent = Agent(name="Local", model=LocalModel([assistant_message("Hello")], inside=begin))
    await Runner.run(agent, "Hi", run_config=config(trace_include_sensitive_data=False))
    is_over.set()
    await tasks[0]
    found = {trace.data.spans[0].name: trace for trace in await traces()}
    assert found["AsyncCompletions"].data.spans[0].inputs["messages"][0]["content"] == "later"


async def test_runs_at_once_do_not_mix(client: Any) -> None:
    agent = weather_agent(client)

    async def run(town: str) -> None:
        with tracer.start_span(town):
            await Runner.run(agent, f"What is the weather in {town}?", run_config=config(group_id=f"group of {town}"))

    towns = [f"{letter}ville" for letter in "ABCDEFGHIJKLMNOPQRST"]
    await asyncio.gather(*map(run, towns))
    found = await traces()
    assert sorted(each.data.spans[0].name for each in found) == towns
    for each in found:
        town = each.data.spans[0].name
        assert each.info.session_id == f"group of {town}"
        assert [line.strip() for line in shape(each)[1:]] == [line.strip() for line in weather_tree(*RUN)]
        assert each.data.spans[1].inputs == f"What is the weather in {town}?"
        assert span_named(each, "get_weather").outputs == f"sunny in {town}"


def test_runs_in_threads_do_not_mix(server: FakeOpenAI) -> None:
    def run(number: int) -> None:
        async def main() -> None:
            async with server.async_client(max_retries=0) as client:
                await Runner.run(weather_agent(client, tools=[]), f"Number {number}")

        asyncio.run(main())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))
    found = tracer.sync.search_traces()
    assert sorted(each.data.spans[0].inputs for each in found) == [f"Number {number}" for number in range(8)]
    assert all(len(each.data.spans) == 5 for each in found)
