"""What is too large is cut, marked and counted, wherever it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import tracer
from tests.reading import last_span
from tracer import _semconv as sc
from tracer.capture.limits import COPIED_ITEMS, VALUE_ITEMS


async def test_attributes_beyond_the_limit_are_cut_and_counted() -> None:
    tracer.configure(max_payload_bytes=1_000)
    with tracer.start_span("large") as span:
        span.set_attribute("note", "x" * 50_000)
        span.add_event("large", {"text": "y" * 50_000})
        span.set_attribute("small", 1)
    read = await last_span()
    assert read.attributes["small"] == 1
    assert len(read.attributes["note"]) < 1_100
    assert len(read.events[0].attributes["text"]) < 1_100
    assert tracer.stats().truncated == 2


async def test_large_inputs_beside_small_attributes_are_cut_once() -> None:
    tracer.configure(max_payload_bytes=1_000)

    @tracer.trace(attributes={"kind": "test"})
    def work(text: str) -> int:
        return len(text)

    work("x" * 50_000)
    read = await last_span()
    assert read.attributes["kind"] == "test"
    assert tracer.stats().truncated == 1


async def test_the_items_of_a_generator_are_one_value_and_reach_their_reader_unchanged() -> None:
    tracer.configure(max_payload_bytes=2_000)
    items = [f"{number:04}" * 50 for number in range(50)]

    @tracer.trace
    def give() -> Iterator[str]:
        yield from items

    assert all(mine is yours for mine, yours in zip(items, give(), strict=True))
    read = await last_span()
    assert read.outputs[:4] == items[:4]
    assert sum(map(len, read.outputs)) < 1_200
    assert read.attributes[sc.TRUNCATED]["outputs"] >= 40
    assert [event.attributes["index"] for event in read.events] == list(range(50))
    assert "value" not in read.events[-1].attributes
    assert tracer.stats().truncated == 1


async def test_the_items_of_an_async_generator_are_one_value_too() -> None:
    tracer.configure(max_payload_bytes=2_000)

    @tracer.trace
    async def give() -> AsyncIterator[str]:
        for _ in range(50):
            yield "x" * 200

    assert [len(item) async for item in give()] == [200] * 50
    read = await last_span()
    assert sum(map(len, read.outputs)) < 1_200
    assert tracer.stats().truncated == 1


async def test_too_many_items_are_cut_in_arguments_attributes_and_events_and_stay_whole_for_the_user() -> None:
    many = [0] * (VALUE_ITEMS + 1)

    @tracer.trace
    def work(values: list[int]) -> int:
        return len(values)

    with tracer.start_span("large", attributes={"start": many}) as span:
        span.set_attribute("many", many)
        span.add_event("event", {"many": many})
        assert span.get_attribute("many") is many
        assert span.attributes["many"] is many
        assert work(many) == len(many) == VALUE_ITEMS + 1
        trace_id = span.trace_id
    trace = await tracer.get_trace(trace_id)
    outer, inner = trace.data.spans
    assert len(outer.attributes["start"]) == len(outer.attributes["many"]) == COPIED_ITEMS
    assert len(outer.events[0].attributes["many"]) == COPIED_ITEMS
    assert len(inner.inputs["values"]) < COPIED_ITEMS
    assert inner.attributes[sc.TRUNCATED]["inputs"] > VALUE_ITEMS - COPIED_ITEMS
    assert tracer.stats().truncated == 4


class Unaskable:
    """Its repr would be large, and shows that somebody asked for it."""

    def __init__(self) -> None:
        self.items = [0] * 1_000_000

    def __repr__(self) -> str:
        raise AssertionError("nobody may ask for this")


async def test_an_argument_with_a_large_repr_is_marked() -> None:
    @tracer.trace
    def work(value: object) -> None: ...

    work(Unaskable())
    read = await last_span()
    assert "too large for repr()" in read.inputs["value"]
    assert read.attributes[sc.TRUNCATED] == {"inputs": 1}


async def test_an_exception_with_too_many_parts_is_marked_and_reaches_the_user_unchanged() -> None:
    error = first = ValueError("first")
    for number in range(20):
        cause, error = error, ValueError(str(number))
        error.__cause__ = cause
    with pytest.raises(ValueError, match="19") as caught, tracer.start_span("failing"):
        raise error
    assert caught.value is error
    assert first.__cause__ is None
    read = await last_span()
    assert read.attributes[sc.TRUNCATED] == {"exceptions": 1}
    assert "[1 more not kept]" in read.events[0].attributes[sc.EXCEPTION_STACKTRACE]
    assert tracer.stats().truncated == 1


async def test_attributes_set_one_by_one_are_all_there_and_the_first_ones_stay_as_they_were() -> None:
    given = {"given": 1}
    with tracer.start_span("many", attributes=given) as span:
        for number in range(500):
            span.set_attribute(f"key {number}", number)
        span.set_attribute("given", 2)
        assert (span.get_attribute("given"), span.get_attribute("key 7"), span.get_attribute("no")) == (2, 7, None)
        assert len(span.attributes) == 501
        span.attributes["added to a copy"] = 1
        assert len(span.attributes) == 501
    assert given == {"given": 1}
    read = await last_span()
    assert (read.attributes["given"], read.attributes["key 499"]) == (2, 499)
