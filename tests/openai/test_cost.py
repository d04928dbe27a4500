"""What a call cost, on the span and summed for the trace: the real client over the fake server."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tracer
from tests.openai.calling import HELLO, Caller, only_span, only_trace
from tracer.testing import FakeOpenAI, reply

pytest.importorskip("genai_prices")

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 200, "total_tokens": 1_200}
GPT_5 = (1_000 * 1.25 + 200 * 10) / 1e6  # US dollars, https://developers.openai.com/api/docs/pricing


def answer(model: str = "gpt-5", **fields: Any) -> reply.Reply:
    """A chat completion with a known usage."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": USAGE}
    return reply.json_body(200, {**body, **fields})


async def test_a_call_costs_its_tokens_at_the_models_price(caller: Caller) -> None:
    caller.server.enqueue(answer())
    await caller.chat()
    trace = await only_trace()
    assert trace.data.spans[0].cost == pytest.approx(GPT_5)
    assert trace.info.cost == pytest.approx(GPT_5)


async def test_the_parts_of_a_cost_stand_beside_it(caller: Caller) -> None:
    caller.server.enqueue(answer())
    await caller.chat()
    span = await only_span()
    parts = {"input_cost": 1_000 * 1.25 / 1e6, "output_cost": 200 * 10 / 1e6, "total_cost": GPT_5}
    assert isinstance(span.cost, float)
    assert span.cost_parts == pytest.approx(parts)
    assert span.get_attribute("mlflow.llm.cost") == span.cost_parts
    [found] = await tracer.search_traces(filter_string="span.attributes.tracer.cost.input < 0.002")
    assert found.info.trace_id == span.trace_id


async def test_of_a_price_that_a_function_gave_only_the_total_is_known(caller: Caller) -> None:
    tracer.configure(prices=lambda call: 0.25)
    await caller.chat()
    span = await only_span()
    assert (span.cost, span.cost_parts) == (0.25, {"total_cost": 0.25})


async def test_a_call_without_a_cost_has_no_parts(caller: Caller) -> None:
    caller.server.enqueue(answer("my-own-model"))
    await caller.chat(model="my-own-model")
    span = await only_span()
    assert (span.cost_parts, span.get_attribute("mlflow.llm.cost")) == (None, None)


async def test_the_tier_that_was_served_sets_the_price(caller: Caller) -> None:
    caller.server.enqueue(answer(service_tier="flex"))
    await caller.chat(service_tier="auto")
    assert (await only_span()).cost == pytest.approx(GPT_5 / 2)


async def test_the_responses_model_sets_the_price(caller: Caller) -> None:
    caller.server.enqueue(answer("gpt-5"))
    await caller.chat(model="my-deployment")
    assert (await only_span()).cost == pytest.approx(GPT_5)


async def test_an_unknown_model_costs_nobody_knows_what(caller: Caller) -> None:
    caller.server.enqueue(answer("my-own-model"))
    await caller.chat(model="my-own-model")
    trace = await only_trace()
    assert trace.data.spans[0].cost is None
    assert trace.info.cost is None


async def test_a_stream_costs_what_its_usage_says(caller: Caller) -> None:
    stream = await caller.chat(stream=True, stream_options={"include_usage": True})
    await caller.items(stream)
    span = await only_span()
    usage = span.token_usage or {}
    assert span.cost == pytest.approx((usage["input_tokens"] * 1.25 + usage["output_tokens"] * 10) / 1e6)


async def test_a_stream_without_usage_has_no_cost(caller: Caller) -> None:
    await caller.items(await caller.chat(stream=True))
    assert (await only_span()).cost is None


async def test_a_trace_costs_the_sum_of_what_is_known(caller: Caller) -> None:
    caller.server.enqueue(answer(), answer("my-own-model"), answer())
    with tracer.start_span("run"):
        for _ in range(3):
            await caller.chat()
    trace = await only_trace()
    assert [span.cost is None for span in trace.data.spans] == [True, False, True, False]
    assert trace.info.cost == pytest.approx(2 * GPT_5)
    page = await tracer.search_traces(order_by="cost desc")
    assert page[0].info.cost == trace.info.cost


async def test_responses_and_embeddings_cost_too(caller: Caller) -> None:
    with tracer.start_span("run"):
        await caller.settle(caller.client.responses.create, model="gpt-5", input="Hi")
        await caller.settle(caller.client.embeddings.create, model="text-embedding-3-small", input="Hi")
    _, response, embedding = (await only_trace()).data.spans
    usage = response.token_usage or {}
    assert response.cost == pytest.approx((usage["input_tokens"] * 1.25 + usage["output_tokens"] * 10) / 1e6)
    assert embedding.cost == pytest.approx((embedding.token_usage or {})["input_tokens"] * 0.02 / 1e6)


async def test_a_web_search_adds_its_fee(caller: Caller) -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}}
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-5",
        "status": "completed",
        "output": [search],
        "usage": {"input_tokens": 1_000, "output_tokens": 200, "total_tokens": 1_200},
    }
    caller.server.enqueue(reply.json_body(200, body))
    await caller.settle(caller.client.responses.create, model="gpt-5", input="Hi", tools=[{"type": "web_search"}])
    spans = (await only_trace()).data.spans
    assert spans[0].cost == pytest.approx(GPT_5 + 0.01)


async def test_a_call_without_content_costs_the_same(caller: Caller) -> None:
    tracer.configure(capture_content=False)
    caller.server.enqueue(answer())
    await caller.chat()
    assert (await only_span()).cost == pytest.approx(GPT_5)


# --- the user's prices ------------------------------------------------------------------------------------------------


async def test_a_local_models_price_can_be_set(caller: Caller) -> None:
    tracer.configure(prices={"my-*": {"input": 1.0, "output": 2.0}})
    caller.server.enqueue(answer("my-own-model"))
    await caller.chat(model="my-own-model")
    assert (await only_span()).cost == pytest.approx((1_000 + 400) / 1e6)


async def test_a_function_can_price_a_call(caller: Caller) -> None:
    tracer.configure(prices=lambda call: 0.25 if call.requested_model == "gpt-5" and call.provider == "openai" else 9.0)
    caller.server.enqueue(answer())
    await caller.chat()
    assert (await only_span()).cost == 0.25


async def test_azure_is_priced_as_azure(mode: str, server: FakeOpenAI) -> None:
    import openai

    tracer.autolog()
    kind: Any = openai.AzureOpenAI if mode == "sync" else openai.AsyncAzureOpenAI
    seen: list[tracer.PricedCall] = []
    tracer.configure(prices=seen.append)
    server.enqueue(answer("gpt-4o-2024-08-06"))
    async with Caller(server, is_async=mode != "sync") as caller:
        client = caller.keep(
            kind(azure_endpoint=server.url, api_key="sk-fake", api_version="2024-10-21", max_retries=0)
        )
        await caller.settle(client.chat.completions.create, model="my-deployment", messages=HELLO)
    assert (await only_span()).cost == pytest.approx((1_000 * 2.5 + 200 * 10) / 1e6)
    assert (seen[0].provider, seen[0].model) == ("azure.ai.openai", "gpt-4o-2024-08-06")
    assert seen[0].requested_model == "my-deployment"


def broken(call: tracer.PricedCall) -> float:
    raise RuntimeError("no price today")


@pytest.mark.parametrize("prices", [broken, lambda call: "cheap"], ids=["raises", "no price"])
async def test_a_function_that_fails_costs_the_cost_and_says_so(
    prices: Any, server: FakeOpenAI, tracer_log: list[logging.LogRecord], mode: str
) -> None:
    tracer.configure(prices=prices)
    tracer.autolog()
    server.enqueue(answer())
    async with Caller(server, is_async=mode != "sync") as caller:
        await caller.chat()
    span = await only_span()
    assert span.cost is None
    assert span.outputs["choices"][0]["message"]["content"] == "Hi."
    assert "a call could not be priced" in tracer_log[0].getMessage()
    tracer_log.clear()
