"""Retries: one span, an event for each attempt that failed, the number of retries."""

from __future__ import annotations

from typing import Any

import anyio
import openai
import pytest

from tests.openai.calling import CHAT, Caller, finish, only_span, only_trace, said
from tracer import _semconv as sc
from tracer._models import Span
from tracer.testing import FakeOpenAI, reply


def retries(span: Span) -> list[dict[str, Any]]:
    return [event.attributes for event in span.events if event.name == sc.EVENT_RETRY]


async def test_failed_attempts_are_events_of_the_one_span(caller: Caller) -> None:
    failed = [reply.error(status).with_headers({"x-request-id": f"req_{status}"}) for status in (429, 503)]
    caller.server.enqueue(*failed, reply.text("At last"))
    await caller.settle(caller.make_client(max_retries=2).chat.completions.create, **CHAT)
    trace = await only_trace()
    [span] = trace.data.spans
    assert (finish(span), said(span), trace.info.state) == ("completed", "At last", "OK")
    assert span.attributes[sc.RETRIES] == 2
    assert [event[sc.HTTP_STATUS_CODE] for event in retries(span)] == [429, 503]
    assert [event[sc.REQUEST_ID] for event in retries(span)] == ["req_429", "req_503"]
    assert [event["tracer.retry.attempt"] for event in retries(span)] == [1, 2]
    assert all(0.001 <= event["tracer.retry.delay"] < 5 for event in retries(span))
    assert len(caller.server.requests) == 3


async def test_retries_that_run_out_fail_with_the_last_attempt(caller: Caller) -> None:
    caller.server.enqueue(reply.error(500), reply.error(503, "Still down.").with_headers({"x-request-id": "req_last"}))
    with pytest.raises(openai.InternalServerError, match="Still down"):
        await caller.settle(caller.make_client(max_retries=1).chat.completions.create, **CHAT)
    span = await only_span()
    assert finish(span) == "failed"
    assert span.attributes[sc.RETRIES] == 1
    assert span.attributes[sc.REQUEST_ID] == "req_last"
    assert span.attributes[sc.HTTP_STATUS_CODE] == 503
    assert [event[sc.HTTP_STATUS_CODE] for event in retries(span)] == [500]


async def test_attempts_without_an_answer_are_told_by_their_error(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    caller.server.enqueue(reply.held(), reply.default().cut(), reply.text("ok"))
    client = caller.make_client(max_retries=2, timeout=openai.Timeout(30, read=1))
    await caller.settle(client.chat.completions.create, **CHAT)
    span = await only_span()
    assert span.attributes[sc.RETRIES] == 2
    assert [event[sc.ERROR_TYPE] for event in retries(span)] == ["ReadTimeout", "RemoteProtocolError"]


async def test_a_retried_stream_is_one_span(caller: Caller) -> None:
    caller.server.enqueue(reply.error(500), reply.text("ok"))
    client = caller.make_client(max_retries=1)
    await caller.items(await caller.settle(client.chat.completions.create, stream=True, **CHAT))
    span = await only_span()
    assert (finish(span), said(span), span.attributes[sc.RETRIES]) == ("completed", "ok", 1)


async def test_a_call_that_was_not_retried_has_no_such_attribute(caller: Caller) -> None:
    await caller.chat()
    assert sc.RETRIES not in (await only_span()).attributes


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
async def test_a_pause_that_is_cancelled_counts_no_retry(
    caller: Caller, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.enqueue(reply.error(500, retry_after=30))
    client = caller.make_client(max_retries=1)
    pauses, sleep = anyio.Event(), anyio.sleep

    async def sleep_and_tell(delay: float) -> None:
        pauses.set()
        await sleep(delay)

    async with anyio.create_task_group() as tasks:
        monkeypatch.setattr(anyio, "sleep", sleep_and_tell)  # the SDK pauses so
        tasks.start_soon(lambda: client.chat.completions.create(**CHAT))
        await pauses.wait()
        tasks.cancel_scope.cancel()
    monkeypatch.undo()
    span = await only_span()
    assert finish(span) == "cancelled"
    assert sc.RETRIES not in span.attributes
    [event] = retries(span)
    assert event[sc.HTTP_STATUS_CODE] == 500
    assert event["tracer.retry.delay"] < 30
