"""What a call is found by: words of any script, its ids, its error, the names of its tools."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import tracer
from tests.openai.calling import CHAT, Caller, only_trace
from tracer import _semconv as sc
from tracer.testing import reply


async def names(**conditions: Any) -> list[str | None]:
    return [trace.info.name for trace in await tracer.search_traces(**conditions)]


async def test_a_call_is_found_by_words_of_its_sentences_and_by_its_ids(caller: Caller) -> None:
    answer = reply.text("문장입니다. 我要退货").with_headers({"x-request-id": "req_4a1b7e2f9c0d"})
    caller.server.enqueue(answer)
    asked = [{"role": "user", "content": "東京都の天気は晴れです"}]
    await caller.settle(caller.client.chat.completions.create, model="gpt-5", messages=asked)
    trace = await only_trace()
    [span] = trace.data.spans
    response = span.attributes[sc.RESPONSE_ID]
    ids = (trace.info.trace_id, trace.info.trace_id[:8], span.span_id, span.span_id[:8], "req_4a1b7e2f", response)
    for text in ("天気", "문장입니다", "문장", "退货", *ids):
        assert len(await tracer.search_traces(text=text)) == 1, text
    assert await names(text="天晴") == []


async def test_a_failed_call_is_found_by_its_error(caller: Caller) -> None:
    caller.server.enqueue(reply.error(429, "Please slow down."))
    with pytest.raises(openai.RateLimitError):
        await caller.settle(caller.client.chat.completions.create, **CHAT)
    for text in ("RateLimitError", "slow down", '"please slow"'):
        assert len(await names(text=text)) == 1, text
    for condition in ("error = 'RateLimitError'", "error LIKE '%slow down%'", "finish = 'failed'"):
        assert len(await names(filter_string=condition)) == 1, condition
    assert await names(filter_string="finish = 'completed'") == []


async def test_a_call_is_found_by_the_tools_that_it_asked_for(caller: Caller) -> None:
    caller.server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})))
    await caller.settle(caller.client.chat.completions.create, **CHAT)
    assert len(await names(filter_string="tool = 'get_weather'")) == 1
    assert len(await names(text="get_weather")) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_call_is_found_by_the_ids_of_the_tool_calls_that_it_asked_for(caller: Caller, stream: bool) -> None:
    caller.server.enqueue(reply.tool_calls(("get_weather", {"city": "Paris"})))
    answer = await caller.settle(caller.client.chat.completions.create, **CHAT, stream=stream)
    if stream:
        await caller.items(answer)
    [call] = (await only_trace()).data.spans[0].attributes[sc.TOOL_CALLS]
    assert len(await names(text=call["id"])) == 1
    await caller.chat(messages=[{"role": "tool", "tool_call_id": call["id"], "content": "sunny"}])
    assert len(await names(text=call["id"])) == 2


async def test_a_stream_is_found_by_the_time_to_its_first_token(caller: Caller) -> None:
    stream = await caller.settle(caller.client.chat.completions.create, **CHAT, stream=True)
    await caller.items(stream)
    assert len(await names(filter_string="time_to_first_token > 0")) == 1
    assert await names(filter_string="time_to_first_token > 3600") == []


async def test_an_own_span_is_found_by_its_name_and_its_exception() -> None:
    with pytest.raises(ValueError, match="Straße"), tracer.start_span("plan_trip", span_type="TOOL"):
        raise ValueError("no such Straße")
    for text in ("plan_trip", "trip", "ValueError", "STRASSE"):
        assert await names(text=text) == ["plan_trip"], text
    for condition in ("tool = 'plan_trip'", "error = 'ValueError'", "error ILIKE '%STRASSE'", "span_type = 'TOOL'"):
        assert await names(filter_string=condition) == ["plan_trip"], condition


async def test_what_privacy_withholds_is_not_found_either(caller: Caller) -> None:
    tracer.configure(capture_content=False)
    caller.server.enqueue(reply.error(429, "Ann's secret"))
    with pytest.raises(openai.RateLimitError):
        await caller.settle(caller.client.chat.completions.create, **CHAT)
    assert len(await names(text="RateLimitError")) == 1
    assert await names(text="secret") == []
