"""Traces that continue one another, through ``previous_response_id`` or ``conversation``."""

from __future__ import annotations

import msgspec
import pytest

import tracer
from tests.store.rows import batch, patch, span, trace_id
from tracer import _semconv as sc
from tracer._exceptions import ConfigurationError
from tracer.store import TraceQuery
from tracer.store.base import Store
from tracer.store.batch import Batch
from tracer.testing import FakeOpenAI


def call(number: int, *, after: str | None = None, conversation: str | None = None) -> Batch:
    """A trace of one call whose response is ``resp_<number>``."""
    ids = {"response": f"resp_{number}", "previous_response": after, "conversation": conversation}
    keys = (sc.RESPONSE_ID, sc.PREVIOUS_RESPONSE_ID, sc.CONVERSATION_ID)
    attributes = {key: value for key, value in zip(keys, ids.values(), strict=True) if value}
    row = span(number, operation="responses", attributes=msgspec.json.encode(attributes))
    row.links = {kind: value for kind, value in ids.items() if value}
    return batch([row], [patch(number)])


async def chain(any_store: Store, number: int) -> list[str]:
    return (await any_store.get_trace(trace_id(number))).info.chain


async def write(any_store: Store, *batches: Batch) -> None:
    for each in batches:
        await any_store.write(each)


async def test_a_chain_is_told_whole_from_any_of_its_traces(any_store: Store) -> None:
    await write(any_store, call(1), call(2, after="resp_1"), call(3, after="resp_2"), call(4, after="resp_1"), call(9))
    expected = [trace_id(n) for n in (1, 2, 3, 4)]
    assert [await chain(any_store, n) for n in (1, 2, 3, 4)] == [expected] * 4
    assert await chain(any_store, 9) == []


async def test_a_conversation_links_too(any_store: Store) -> None:
    await write(
        any_store, call(1, conversation="conv_a"), call(2, conversation="conv_a"), call(3, conversation="conv_b")
    )
    assert await chain(any_store, 2) == [trace_id(1), trace_id(2)]
    assert await chain(any_store, 3) == []


async def test_a_deleted_trace_breaks_its_chain(any_store: Store) -> None:
    await write(any_store, call(1), call(2, after="resp_1"), call(3, after="resp_2"))
    await any_store.delete_traces(trace_ids=[trace_id(2)])
    assert await chain(any_store, 1) == []


async def test_a_response_that_is_read_again_is_linked_to_its_call(any_store: Store) -> None:
    again = call(2)
    again.spans[0].links = {"response": "resp_1"}
    await write(any_store, call(1), again)
    assert await chain(any_store, 1) == [trace_id(1), trace_id(2)]


async def test_a_response_that_continues_itself_ends(any_store: Store) -> None:
    await write(any_store, call(1, after="resp_2"), call(2, after="resp_1"))
    assert await chain(any_store, 1) == [trace_id(1), trace_id(2)]


async def test_search_follows_a_chain(any_store: Store) -> None:
    await write(any_store, call(1), call(2, after="resp_1"), call(3, after="resp_2"), call(9))
    page = await any_store.search_traces(TraceQuery(linked_to=trace_id(2), order_by="start_time", include_spans=False))
    assert [trace.info.trace_id for trace in page] == [trace_id(n) for n in (1, 2, 3)]
    assert page[0].info.chain == [trace_id(n) for n in (1, 2, 3)]
    assert await any_store.search_traces(TraceQuery(linked_to=trace_id(77))) == []
    with pytest.raises(ConfigurationError, match="linked_to"):
        await any_store.search_traces(TraceQuery(linked_to=5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        ("response_id = 'resp_2'", [2]),
        ("previous_response_id = 'resp_1'", [2]),
        ("conversation_id = 'conv_a'", [3]),
        ("conversation_id IS NULL", [1, 2]),
    ],
)
async def test_ids_can_be_filtered_by(any_store: Store, written: str, numbers: list[int]) -> None:
    await write(any_store, call(1), call(2, after="resp_1"), call(3, conversation="conv_a"))
    page = await any_store.search_traces(TraceQuery(filter_string=written, order_by="start_time"))
    assert [int(trace.info.trace_id, 16) for trace in page] == numbers


async def test_calls_of_the_real_client_are_linked(server: FakeOpenAI) -> None:
    tracer.autolog()
    async with server.async_client() as client:
        first = await client.responses.create(model="gpt-5", input="Hi")
        await client.responses.create(model="gpt-5", input="And?", previous_response_id=first.id)
        await client.responses.create(model="gpt-5", input="Alone")
    alone, *linked = await tracer.search_traces()
    assert [trace.info.chain for trace in linked] == [[trace.info.trace_id for trace in reversed(linked)]] * 2
    assert alone.info.chain == []
    assert await tracer.search_traces(linked_to=linked[0].info.trace_id) == linked
