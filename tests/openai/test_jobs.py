"""Background responses, videos, runs: the poll that sees a job's end is a span, other polls are not."""

from __future__ import annotations

import json
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

ABSENT = NotImplemented  # stands for a field that is not there
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


DONE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}
USAGE = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
ZEROS = dict.fromkeys(USAGE, 0)


def unechoed(status: object, *, done: bool = False, response_id: str = "resp_1", **fields: Any) -> Any:
    """A response of a server that does not echo ``background``; `ABSENT` leaves out the status."""
    return reply.json_body(200, bare_response(status, done=done, response_id=response_id, **fields))


def bare_response(status: object, *, done: bool = False, response_id: str = "resp_1", **fields: Any) -> dict[str, Any]:
    is_done = done or (isinstance(status, str) and status.lower() == "completed")
    whole: dict[str, Any] = {"output": [DONE], "usage": USAGE} if is_done else {"output": [], "usage": None}
    said = {} if status is ABSENT else {"status": status}
    return {"id": response_id, "object": "response", "model": "m", "created_at": 1, **said, **whole, **fields}


async def assert_the_end_is_in_the_trace(polls: int | None = None) -> None:
    """The job is one trace: of the call that started it, and of the one poll that has its answer and its usage."""
    trace = await only_trace()
    create, last = trace.data.spans
    assert last.outputs["output"][0]["content"][0]["text"] == "Done."
    assert last.get_attribute(sc.JOB_SPAN_ID) == create.span_id
    assert polls is None or last.get_attribute(sc.JOB_POLLS) == polls
    assert trace.info.response_preview == "Done."
    assert trace.info.token_usage == last.token_usage == USAGE


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


async def test_usage_of_a_job_that_runs_is_counted_with_its_end(caller: Caller) -> None:
    caller.server.enqueue(unechoed("queued", usage={**ZEROS, "input_tokens": 12}), unechoed("completed"))
    await poll(caller, (await start(caller)).id)
    await assert_the_end_is_in_the_trace(1)


@pytest.mark.parametrize("usage", [None, ZEROS], ids=["no usage", "zeros"])
@pytest.mark.parametrize("status", [ABSENT, None, "", "accepted", "QUEUED", "In_Progress", 202], ids=repr)
async def test_job_whose_server_begins_it_with_another_status(caller: Caller, status: object, usage: Any) -> None:
    states = [unechoed(status, usage=usage), unechoed(status, usage=usage), unechoed("IN_PROGRESS")]
    caller.server.enqueue(*states, unechoed("COMPLETED"), unechoed("COMPLETED"))
    await poll(caller, (await start(caller)).id, 4)
    await assert_the_end_is_in_the_trace(3)


@pytest.mark.parametrize("status", [ABSENT, None, "ready"], ids=repr)
async def test_poll_whose_answer_has_no_known_status_has_the_answer(caller: Caller, status: object) -> None:
    caller.server.enqueue(unechoed("queued"), unechoed(status), *[unechoed(status, done=True)] * 2)
    await poll(caller, (await start(caller)).id, 3)
    await assert_the_end_is_in_the_trace(2)


@pytest.mark.parametrize("status", ["completed", ABSENT], ids=repr)
@pytest.mark.parametrize("echo", [{}, {"background": True}], ids=str)
async def test_job_that_is_done_at_once_is_counted_once(caller: Caller, status: object, echo: dict[str, Any]) -> None:
    caller.server.enqueue(*[unechoed(status, done=True, **echo)] * 3)
    await poll(caller, (await start(caller)).id, 2)
    trace = await only_trace()
    [span] = trace.data.spans
    assert trace.info.token_usage == span.token_usage == USAGE


@pytest.mark.parametrize(
    ("options", "is_job"),
    [
        ({"extra_body": {"background": True}}, True),
        ({"extra_body": {"background": True}, "background": False}, True),
        ({"extra_body": {"metadata": {}}, "background": True}, True),
        ({"extra_body": {"background": False}, "background": True}, False),
    ],
    ids=["extra body", "instead of false", "beside", "instead of true"],
)
async def test_background_may_stand_in_the_extra_body(caller: Caller, options: dict[str, Any], is_job: bool) -> None:
    caller.server.enqueue(unechoed("queued"), unechoed("completed"))
    started = await caller.settle(caller.client.responses.create, model="gpt-5", input="Hi", **options)
    await poll(caller, started.id)
    assert caller.server.requests[0].json["background"] is is_job
    if is_job:
        await assert_the_end_is_in_the_trace(1)
    else:
        assert len(await spans()) == 1


async def read_raw(caller: Caller, method: Any, *args: Any, **options: Any) -> Any:
    raw = await caller.settle(method.with_raw_response, *args, **options)
    return await caller.settle(raw.parse)


async def read_parsed(caller: Caller, method: Any, *args: Any, **options: Any) -> Any:
    async with caller.entered(method.with_streaming_response(*args, **options)) as response:
        return await caller.settle(response.parse)


async def read_lines(caller: Caller, method: Any, *args: Any, **options: Any) -> Any:
    async with caller.entered(method.with_streaming_response(*args, **options)) as response:
        return json.loads("".join(await caller.items(response.iter_lines())))


async def leave_unread(caller: Caller, method: Any, *args: Any, **options: Any) -> Any:
    async with caller.entered(method.with_streaming_response(*args, **options)):
        return None


class Wrapped:
    """The raw and streaming versions of one method of `responses`."""

    def __init__(self, caller: Caller, name: str) -> None:
        self.with_raw_response = getattr(caller.client.responses.with_raw_response, name)
        self.with_streaming_response = getattr(caller.client.responses.with_streaming_response, name)


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("read", [read_raw, read_parsed, read_lines])
async def test_job_may_be_polled_by_raw_and_streaming_responses(caller: Caller, read: Any, gzipped: bool) -> None:
    states = [unechoed(status) for status in ("queued", "queued", "in_progress", "completed", "completed")]
    caller.server.enqueue(*(state.gzipped() if gzipped else state for state in states))
    started = await start(caller)
    for _ in range(4):
        await read(caller, Wrapped(caller, "retrieve"), started.id)
    await assert_the_end_is_in_the_trace(3)
    [_, last] = (await only_trace()).data.spans
    assert (finish(last), last.get_attribute(sc.HTTP_STATUS_CODE)) == ("completed", 200)


async def test_poll_whose_answer_nobody_read_did_not_see_the_end(caller: Caller) -> None:
    caller.server.enqueue(unechoed("queued"), unechoed("completed"), unechoed("completed"))
    started = await start(caller)
    await leave_unread(caller, Wrapped(caller, "retrieve"), started.id)
    assert len(await spans()) == 1
    await poll(caller, started.id)
    await assert_the_end_is_in_the_trace(2)


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("read", [read_raw, read_parsed, read_lines])
async def test_job_may_be_started_by_raw_and_streaming_responses(caller: Caller, read: Any, gzipped: bool) -> None:
    first = unechoed("queued")
    caller.server.enqueue(first.gzipped() if gzipped else first, unechoed("completed"))
    await read(caller, Wrapped(caller, "create"), model="gpt-5", input="Hi", background=True)
    await poll(caller, "resp_1")
    await assert_the_end_is_in_the_trace(1)


@pytest.mark.parametrize("response_id", ["resp/1", "resp 1", "resp%1", "rés:p=1"])
async def test_id_that_is_encoded_in_the_path_is_the_same_id(caller: Caller, response_id: str) -> None:
    states = ("queued", "in_progress", "completed", "completed")
    caller.server.enqueue(*(unechoed(status, response_id=response_id) for status in states))
    started = await start(caller)
    await poll(caller, started.id, 3)
    await assert_the_end_is_in_the_trace(2)
    assert [span.get_attribute(sc.RESPONSE_ID) for span in await spans()] == [response_id] * 2


EVENTS: list[Any] = [
    {"type": "response.created", "response": bare_response("queued")},
    {"type": "response.in_progress", "response": bare_response("in_progress")},
    {"type": "response.output_item.added", "output_index": 0, "item": {**DONE, "id": "m", "content": []}},
    {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "Do"},
    {"type": "response.completed", "response": bare_response("completed")},
]


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("count", range(1, 5))
async def test_stream_that_is_cut_off_leaves_the_end_to_a_poll(caller: Caller, count: int, gzipped: bool) -> None:
    cut = reply.sse(EVENTS[:count])
    caller.server.enqueue(cut.gzipped() if gzipped else cut, unechoed("in_progress"), *[unechoed("completed")] * 2)
    await caller.items(await start(caller, stream=True))
    await poll(caller, "resp_1", 3)
    await assert_the_end_is_in_the_trace(2)


async def test_stream_whose_reader_left_leaves_the_end_to_a_poll(caller: Caller) -> None:
    caller.server.enqueue(reply.sse(EVENTS), unechoed("completed"), unechoed("completed"))
    stream = await start(caller, stream=True)
    await caller.first(stream.__iter__() if not caller.is_async else stream, 2)
    await caller.settle(stream.close)
    await poll(caller, "resp_1", 2)
    trace = await only_trace()
    assert len(trace.data.spans) in (1, 2)  # the whole stream may have come in one read
    assert trace.info.token_usage == USAGE


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("split", [None, 7])
@pytest.mark.parametrize("end", ["completed", "failed", "incomplete"])
async def test_polls_after_a_whole_stream_leave_nothing(
    caller: Caller, end: str, split: int | None, gzipped: bool
) -> None:
    last = {"type": f"response.{end}", "response": bare_response(end, done=True, background=True)}
    whole = reply.sse([*EVENTS[:-1], last])
    whole = whole.split(split) if split else whole
    caller.server.enqueue(whole.gzipped() if gzipped else whole, unechoed(end, done=True, background=True))
    await caller.items(await start(caller, stream=True))
    await poll(caller, "resp_1")
    trace = await only_trace()
    assert len(trace.data.spans) == 1
    assert trace.info.token_usage == USAGE


async def test_stream_that_is_taken_up_again_counts_once(caller: Caller) -> None:
    caller.server.enqueue(reply.sse(EVENTS[:3]), reply.sse(EVENTS[3:]), unechoed("completed"))
    await caller.items(await start(caller, stream=True))
    await caller.items(await caller.settle(caller.client.responses.retrieve, "resp_1", stream=True, starting_after=2))
    await poll(caller, "resp_1")
    usages = [trace.info.token_usage for trace in await traces()]
    assert usages == [None, USAGE]
    assert len(await spans()) == 2


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


async def test_run_that_was_streamed_to_its_end_is_merely_read_again(caller: Caller) -> None:
    threads = caller.client.beta.threads
    stream = await caller.settle(threads.runs.create, "thread_1", assistant_id="asst_1", stream=True)
    events = await caller.items(stream)
    [run_id] = {event.data.id for event in events if event.event.startswith("thread.run.completed")}
    for _ in range(3):  # the fake server begins with "queued" all the same
        run = await caller.settle(threads.runs.retrieve, run_id, thread_id="thread_1")
    assert run.status == "completed"
    trace = await only_trace()
    assert len(trace.data.spans) == 1
    assert (trace.info.token_usage or {})["total_tokens"] == run.usage.total_tokens
