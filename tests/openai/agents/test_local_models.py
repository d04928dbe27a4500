"""Models that don't come through the seam: what the SDK's own span says becomes the model call's span."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, Runner

import tracer
from tests.openai.agents.running import (
    USAGE,
    LocalModel,
    calls,
    config,
    get_weather,
    response_of,
    says,
    shape,
    span_named,
    spans_named,
)
from tests.openai.calling import only_trace
from tests.reading import last_trace, stored_rows
from tracer.testing import FakeOpenAI, reply

pytestmark = pytest.mark.usefixtures("traced")


async def answer(model: LocalModel, *, streamed: bool = False, **options: Any) -> tracer.Trace:
    agent = Agent(name="Local", model=model, instructions="Be brief", **options)
    if streamed:
        async for _ in Runner.run_streamed(agent, "Hi").stream_events():
            pass
    else:
        await Runner.run(agent, "Hi")
    return await last_trace()


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize(("emits", "name"), [("generation", "Generation"), ("response", "Response")])
async def test_model_call_without_http_is_a_span_with_its_usage(emits: str, name: str, streamed: bool) -> None:
    trace = await answer(LocalModel(says("Hello"), emits=emits), streamed=streamed)
    assert shape(trace)[1:] == [
        "  Agent workflow TASK",
        "    Local AGENT",
        "      Turn 1 CHAIN",
        f"        {name} CHAT_MODEL",
    ]
    call = span_named(trace, name)
    assert call.token_usage is not None
    assert call.token_usage.items() >= USAGE.items()
    assert trace.info.token_usage == call.token_usage
    assert call.status.status_code == "OK"
    assert span_named(trace, "Local").outputs == "Hello"


async def test_generation_holds_what_was_sent_and_said() -> None:
    call = span_named(await answer(LocalModel(says("Hello"))), "Generation")
    assert call.get_attribute("mlflow.message.format") == "openai-agent"
    assert call.inputs["messages"][0] == {"role": "system", "content": "Be brief"}
    assert call.inputs["model"] == "local-1"
    assert "base_url" not in call.inputs
    assert call.outputs["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert call.attributes["gen_ai.request.model"] == "local-1"
    assert call.attributes["gen_ai.request.temperature"] == 0.5
    assert call.attributes["gen_ai.operation.name"] == "chat"


async def test_response_holds_what_was_sent_and_said() -> None:
    call = span_named(await answer(LocalModel(says("Hello"), emits="response")), "Response")
    assert call.inputs["input"][0]["content"] == "Hi"
    assert call.outputs["output"][0]["content"][0]["text"] == "Hello"
    assert call.attributes["gen_ai.response.model"] == "local-1"


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
async def test_model_without_any_span_is_known_by_its_turns_usage(streamed: bool) -> None:
    model = LocalModel(calls("get_weather", city="Rome"), says("Sunny"), emits=None)
    trace = await answer(model, streamed=streamed, tools=[get_weather])
    assert trace.info.token_usage is not None
    assert trace.info.token_usage["total_tokens"] == 36
    first, second = spans_named(trace, "Generation_1") + spans_named(trace, "Generation_2")
    turn = span_named(trace, "Turn 1")
    assert (first.parent_id, first.start_time_ns) == (turn.span_id, turn.start_time_ns)
    assert "turn" in first.attributes["tracer.note"]
    assert second.token_usage is not None


async def test_failed_model_call_is_an_error() -> None:
    with pytest.raises(ValueError, match="no memory"):
        await answer(LocalModel(ValueError("no memory")))
    trace = await last_trace()
    for name in ("Generation", "Turn 1", "Local", "Agent workflow", "AgentRunner.run"):
        status = span_named(trace, name).status
        assert (status.status_code, status.description) == ("ERROR", "ValueError: no memory"), name
    [event] = [event for event in span_named(trace, "Generation").events if event.name == "exception"]
    assert event.attributes["exception.type"] == "ValueError"
    assert trace.info.state == "ERROR"


async def test_local_model_that_calls_openai_is_counted_once(client: Any, server: FakeOpenAI) -> None:
    """A model of the user's own that goes through the seam, inside the SDK's span or without one."""

    class Proxy(LocalModel):
        async def answer(self, asked: Any, system: str | None, include: bool) -> Any:
            with self.span() as span:
                if span is not None:
                    span.span_data.usage = USAGE
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
            return response_of(says("Hello"))

    for emits in ("generation", None):
        server.enqueue(reply.text("Hello"))
        trace = await answer(Proxy(emits=emits))
        calls_made = [span for span in trace.data.spans if span.span_type == "CHAT_MODEL"]
        assert [span.name for span in calls_made] == ["AsyncCompletions"]


async def test_embedding_inside_does_not_stand_for_the_model_call(client: Any) -> None:
    async def embed() -> None:
        await client.embeddings.create(model="e", input="Hi")

    trace = await answer(LocalModel(says("Hello"), inside=embed))
    assert {span.name for span in trace.data.spans} >= {"AsyncEmbeddings", "Generation"}


async def test_sensitive_data_left_out_by_the_run_is_nowhere(tmp_path: Any) -> None:
    agent = Agent(name="Local", model=LocalModel(calls("get_weather", city="Secretville"), says("my-answer")),
                  tools=[get_weather])  # fmt: skip
    await Runner.run(agent, "my-question", run_config=config(trace_include_sensitive_data=False))
    trace = await only_trace()
    assert trace.info.token_usage is not None
    assert span_named(trace, "get_weather").attributes["gen_ai.tool.name"] == "get_weather"
    stored = stored_rows(tmp_path)
    assert "my-question" not in stored
    assert "my-answer" not in stored
