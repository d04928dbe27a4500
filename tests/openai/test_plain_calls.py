"""A plain call leaves one right span."""

from __future__ import annotations

import tracer
from tracer.testing import FakeOpenAI


async def test_chat_call_becomes_one_span(server: FakeOpenAI) -> None:
    tracer.autolog()
    async with server.async_client() as client:
        answer = await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    trace_id = tracer.get_last_active_trace_id()
    assert trace_id is not None
    trace = await tracer.get_trace(trace_id)
    [span] = trace.data.spans
    assert span.name == "AsyncCompletions"
    assert span.inputs == {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
    assert span.outputs["choices"][0]["message"]["content"] == answer.choices[0].message.content
    assert answer.usage is not None
    assert span.token_usage is not None
    assert span.token_usage["total_tokens"] == answer.usage.total_tokens
    assert trace.info.state == "OK"
