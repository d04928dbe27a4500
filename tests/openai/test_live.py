"""A call can be looked at while it runs."""

from __future__ import annotations

import tracer
from tracer.testing import FakeOpenAI, reply


async def test_running_stream_shows_its_prompt_and_the_answer_so_far(server: FakeOpenAI) -> None:
    tracer.autolog()
    server.enqueue(reply.text("one two three four five six").held(after_events=4))
    async with server.async_client() as client:
        stream = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "Count"}], stream=True
        )
        pieces = [(await anext(stream)).choices[0].delta.content or "" for _ in range(3)]
        so_far = "".join(pieces)
        assert so_far

        page = await tracer.search_traces(status="IN_PROGRESS")
        [span] = page[0].data.spans
        assert span.end_time_ns is None
        assert span.inputs["messages"] == [{"role": "user", "content": "Count"}]
        assert span.outputs["choices"][0]["message"]["content"].startswith(so_far)
        assert [event.name for event in span.events][:3] == ["gen_ai.chunk"] * 3

        server.release()
        async for _ in stream:
            pass
        [span] = (await tracer.get_trace(span.trace_id)).data.spans
        assert span.outputs["choices"][0]["message"]["content"] == "one two three four five six"
        assert str(span.status) == "OK"
