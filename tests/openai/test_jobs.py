"""Background responses, videos, runs: the poll that sees a job's end is a span, other polls are not."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import tracer
from tests.openai.calling import Caller, finish, only_trace, traces
from tests.sdk import READ_FAILED
from tracer import Span
from tracer import _semconv as sc
from tracer.openai import _jobs
from tracer.testing import reply

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK: videos, assistants

HI: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def no_jobs() -> None:
    _jobs.jobs.clear()


async def start(c: Caller, **options: Any) -> Any:
    return await c.settle(c.client.responses.create, model="gpt-5", input="Hi", background=True, **options)


async def poll(c: Caller, response_id: str, times: int = 1) -> Any:
    for _ in range(times):
        response = await c.settle(c.client.responses.retrieve, response_id)
    return response


async def spans() -> list[Span]:
    return [span for trace in await traces() for span in trace.data.spans]


async def test_background_response_is_one_trace_of_the_call_and_the_poll_that_saw_its_end(caller: Caller) -> None:
    started = await start(caller)
    assert started.status == "queued"
    ended = await poll(caller, started.id, 3)
    trace = await only_trace()
    create, last = trace.data.spans
    assert (create.name, last.name) == (f"{caller.prefix}Responses_1", f"{caller.prefix}Responses_2")
    assert last.parent_id == create.span_id
    assert create.get_attribute(sc.RESPONSE_STATUS) == "queued"
    assert last.get_attribute(sc.RESPONSE_STATUS) == "completed"
    assert create.get_attribute(sc.RESPONSE_ID) == last.get_attribute(sc.RESPONSE_ID) == started.id
    assert (create.token_usage, finish(create)) == (None, "completed")
    assert last.outputs["output"][0]["content"][0]["text"] == ended.output_text
    assert trace.info.token_usage == last.token_usage
    assert last.token_usage is not None
    assert last.token_usage["total_tokens"] == ended.usage.total_tokens
    assert trace.info.response_preview == ended.output_text


async def test_last_poll_tells_what_started_the_job_and_how_long_it_took(caller: Caller) -> None:
    await poll(caller, (await start(caller)).id, 3)
    create, last = (await only_trace()).data.spans
    assert last.get_attribute(sc.JOB_SPAN_ID) == create.span_id
    assert last.get_attribute(sc.JOB_TRACE_ID) == create.trace_id
    assert last.get_attribute(sc.JOB_POLLS) == 3
    assert 0 < last.get_attribute(sc.JOB_QUEUE_TIME) < last.get_attribute(sc.JOB_ELAPSED)
    assert last.get_attribute(sc.JOB_SERVER_TIME) == 0
    assert last.start_time_ns >= (create.end_time_ns or 0)


async def test_polls_before_the_end_and_reads_after_it_leave_nothing(caller: Caller) -> None:
    started = await start(caller)
    await poll(caller, started.id, 2)
    assert len(await spans()) == 1
    await poll(caller, started.id, 3)
    assert len(await spans()) == 2


async def test_poll_below_a_users_span_stays_there_and_names_the_other_trace(caller: Caller) -> None:
    with tracer.start_span("request") as first:
        started = await start(caller)
    with tracer.start_span("later"):
        await poll(caller, started.id, 3)
    requested, later = await traces()
    assert [span.name for span in later.data.spans] == ["later", f"{caller.prefix}Responses"]
    last = later.data.spans[1]
    assert last.get_attribute(sc.JOB_TRACE_ID) == first.trace_id == requested.info.trace_id
    assert requested.info.token_usage is None
    assert later.info.token_usage == last.token_usage


async def test_job_of_another_process_is_recorded_when_its_end_is_first_seen_here(caller: Caller) -> None:
    started = await start(caller)
    _jobs.jobs.clear()  # as another process, which knows nothing of it
    await poll(caller, started.id, 4)
    create, last = await spans()
    assert last.parent_id is None
    assert last.trace_id != create.trace_id
    assert last.get_attribute(sc.JOB_POLLS) is None
    assert last.token_usage is not None


async def test_job_that_was_left_out_by_sampling_stays_out(caller: Caller) -> None:
    tracer.configure(sample_rate=0.0)
    started = await start(caller)
    tracer.configure(sample_rate=1.0)
    await poll(caller, started.id, 3)
    assert await spans() == []


async def test_background_response_that_fails_says_so(caller: Caller) -> None:
    caller.server.enqueue(reply.failed("The model failed."))
    await poll(caller, (await start(caller)).id, 3)
    _, last = (await only_trace()).data.spans
    assert (finish(last), last.status.description) == ("failed", "The model failed.")


async def test_failing_poll_leaves_nothing_and_raises_what_it_did(caller: Caller) -> None:
    started = await start(caller)
    caller.server.enqueue(reply.error(404, "Gone"))
    with pytest.raises(openai.NotFoundError, match="Gone"):
        await poll(caller, started.id)
    caller.server.enqueue(reply.raw(b'{"id": [', "application/json"))
    with pytest.raises(Exception):  # noqa: B017, PT011  the SDK's JSON parser
        await poll(caller, started.id)
    assert len(await spans()) == 1


def unechoed(status: str, **fields: Any) -> Any:
    """A response of a server that does not echo ``background``."""
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}
    usage = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    whole: dict[str, Any] = (
        {"output": [answer], "usage": usage} if status == "completed" else {"output": [], "usage": None}
    )
    body = {"id": "resp_1", "object": "response", "model": "m", "created_at": 1, "status": status, **whole, **fields}
    return reply.json_body(200, body)


@pytest.mark.parametrize("echo", [{}, {"background": None}, {"background": False}], ids=str)
async def test_job_of_a_server_that_does_not_echo_it_is_one(caller: Caller, echo: dict[str, Any]) -> None:
    states = ("queued", "queued", "in_progress", "completed", "completed")
    caller.server.enqueue(*(unechoed(status, **echo) for status in states))
    await poll(caller, (await start(caller)).id, 4)
    trace = await only_trace()
    create, last = trace.data.spans
    assert create.get_attribute(sc.RESPONSE_STATUS) == "queued"
    assert last.get_attribute(sc.RESPONSE_STATUS) == "completed"
    assert last.outputs["output"][0]["content"][0]["text"] == "Done."
    assert last.get_attribute(sc.JOB_SPAN_ID) == create.span_id
    assert last.get_attribute(sc.JOB_POLLS) == 3
    assert trace.info.response_preview == "Done."
    assert (trace.info.token_usage or {})["total_tokens"] == 17


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled"])
async def test_job_of_such_a_server_may_end_badly(caller: Caller, status: str) -> None:
    caller.server.enqueue(unechoed("pending"), unechoed("processing"), unechoed(status))
    await poll(caller, (await start(caller)).id, 2)
    _, last = (await only_trace()).data.spans
    assert (finish(last), last.get_attribute(sc.RESPONSE_STATUS)) == (status, status)


async def test_response_that_was_not_made_in_the_background_is_merely_read_again(caller: Caller) -> None:
    response = await caller.settle(caller.client.responses.create, model="gpt-5", input="Hi")
    await poll(caller, response.id, 2)
    assert len(await spans()) == 1


async def test_streamed_background_response_tells_its_queue_time_and_counts_once(caller: Caller) -> None:
    response = {"id": "resp_1", "object": "response", "background": True, "model": "m", "output": [], "created_at": 1}
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    states: list[dict[str, Any]] = [{"status": word} for word in ("queued", "in_progress", "completed")]
    states[-1] |= {"usage": usage, "completed_at": 4}
    events = [{"type": f"response.{state['status']}", "response": {**response, **state}} for state in states]
    caller.server.enqueue(reply.sse(events), reply.sse(events))
    await caller.items(await start(caller, stream=True))
    await caller.items(await caller.settle(caller.client.responses.retrieve, "resp_1", stream=True))
    first, again = await traces()
    [span] = first.data.spans
    assert span.get_attribute(sc.JOB_QUEUE_TIME) >= 0
    assert span.get_attribute(sc.JOB_SERVER_TIME) == 3
    assert first.info.token_usage == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    assert again.data.spans[0].token_usage == first.info.token_usage
    assert again.info.token_usage is None  # it was counted where it was made


async def test_beta_responses_are_responses(caller: Caller) -> None:
    beta = caller.client.beta.responses
    started = await caller.settle(beta.create, model="gpt-5", input="Hi", background=True)
    for _ in range(3):
        await caller.settle(beta.retrieve, started.id)
    create, last = (await only_trace()).data.spans
    assert create.name == f"{caller.prefix}Responses_1"
    assert last.token_usage is not None


async def test_video_that_the_sdk_polls_is_the_call_and_its_end(caller: Caller) -> None:
    video = await caller.settle(caller.client.videos.create_and_poll, prompt="A cat", poll_interval_ms=1)
    content = await caller.settle(caller.client.videos.download_content, video.id)
    assert content.content
    create, last = (await only_trace()).data.spans
    assert (create.outputs["status"], last.outputs["status"]) == ("queued", "completed")
    assert (last.name, last.parent_id) == (f"{caller.prefix}Videos", create.span_id)
    assert last.get_attribute(sc.RESPONSE_ID) == video.id


async def test_video_that_fails_says_so(caller: Caller) -> None:
    caller.server.enqueue(reply.failed("No cats today"))
    await caller.settle(caller.client.videos.create_and_poll, prompt="A cat", poll_interval_ms=1)
    _, last = (await only_trace()).data.spans
    assert (finish(last), last.status.description) == ("failed", "No cats today")


async def test_run_that_the_sdk_polls_counts_its_usage_once(caller: Caller) -> None:
    runs = caller.client.beta.threads.runs
    options = {"thread_id": "thread_1", "assistant_id": "asst_1", "poll_interval_ms": 1}
    run = await caller.settle(runs.create_and_poll, **options, additional_messages=HI)
    trace = await only_trace()
    create, last = trace.data.spans
    assert (create.name, last.name) == (f"{caller.prefix}Runs", f"{caller.prefix}Runs")
    assert (create.span_type, last.get_attribute(sc.AGENT_ID)) == ("AGENT", "asst_1")
    assert last.get_attribute(sc.CONVERSATION_ID) == "thread_1"
    assert run.usage is not None
    assert trace.info.token_usage is not None
    assert trace.info.token_usage["total_tokens"] == run.usage.total_tokens


async def test_run_that_waits_for_tools_and_goes_on(caller: Caller) -> None:
    runs = caller.client.beta.threads.runs
    caller.server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})))
    options = {"thread_id": "thread_1", "poll_interval_ms": 1}
    waiting = await caller.settle(runs.create_and_poll, **options, assistant_id="asst_1", additional_messages=HI)
    assert waiting.status == "requires_action"
    [asked] = waiting.required_action.submit_tool_outputs.tool_calls
    outputs = [{"tool_call_id": asked.id, "output": "sunny"}]
    run = await caller.settle(runs.submit_tool_outputs_and_poll, **options, run_id=waiting.id, tool_outputs=outputs)
    assert run.status == "completed"
    statuses = [span.outputs["status"] for span in await spans()]
    assert statuses == ["queued", "requires_action", "queued", "completed"]
    calls = (await spans())[1].get_attribute(sc.TOOL_CALLS)
    assert calls == [{"id": asked.id, "name": "get_weather", "arguments": '{"city":"Paris"}'}]
    assert (await spans())[2].inputs["tool_outputs"] == outputs
    assert [trace.info.token_usage is not None for trace in await traces()] == [False, True]


async def test_streamed_run_holds_what_the_assistant_said(caller: Caller) -> None:
    caller.server.enqueue(reply.text("Hello, you"))
    threads = caller.client.beta.threads
    async with caller.entered(threads.create_and_run_stream(assistant_id="asst_1", thread={"messages": HI})) as stream:
        await caller.settle(stream.until_done)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (span.name, finish(span)) == (f"{caller.prefix}Threads", "completed")
    assert trace.info.response_preview == "Hello, you"
    assert span.outputs["status"] == "completed"
    assert span.outputs["messages"][0]["content"][0]["text"]["value"] == "Hello, you"
    assert span.get_attribute(sc.TIME_TO_FIRST_TOKEN) > 0
    assert trace.info.token_usage is not None


async def test_streamed_run_that_breaks_keeps_the_words_that_had_come(caller: Caller) -> None:
    caller.server.enqueue(reply.text("one two three four").cut(after_events=7))
    runs = caller.client.beta.threads.runs
    stream = await caller.settle(runs.create, "thread_1", assistant_id="asst_1", stream=True)
    with pytest.raises(READ_FAILED):
        await caller.items(stream)
    trace = await only_trace()
    [span] = trace.data.spans
    assert finish(span) == "failed"
    assert "one two three four".startswith(trace.info.response_preview or "?")
    assert trace.info.token_usage is None
