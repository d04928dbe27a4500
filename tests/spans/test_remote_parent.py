"""`tracer.attach`: spans below a span of another process."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tracer
from tests.openai.calling import CHAT
from tests.reading import last_trace
from tracer.testing import FakeOpenAI

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


async def test_what_begins_inside_is_below_the_other_process(server: FakeOpenAI) -> None:
    tracer.autolog()
    async with server.async_client() as client:
        with tracer.attach(HEADERS):
            with tracer.start_span("first"):
                await client.chat.completions.create(**CHAT)
            with tracer.start_span("second"):
                tracer.update_current_trace(tags={"a": "b"})
    assert tracer.get_current_active_span() is None
    trace = await tracer.get_trace(TRACE)
    first, call, second = trace.data.spans
    assert [first.name, call.span_type, second.name] == ["first", "CHAT_MODEL", "second"]
    assert (first.parent_id, call.parent_id, second.parent_id) == (SPAN, first.span_id, SPAN)
    assert trace.info.tags == {"a": "b"}
    assert trace.info.state == "OK"


async def test_a_call_right_inside_and_one_in_a_function(server: FakeOpenAI) -> None:
    @tracer.trace
    def work() -> None: ...

    tracer.autolog()
    async with server.async_client() as client:
        with tracer.start_span("around"), tracer.attach(HEADERS):
            await client.chat.completions.create(**CHAT)
            work()
            detached = tracer.start_span_no_context("detached")
    detached.end()
    trace = await tracer.get_trace(TRACE)
    assert {span.parent_id for span in trace.data.spans} == {SPAN}
    assert len(trace.data.spans) == 3


async def test_the_other_span_is_not_ours_to_change(tracer_log: list[logging.LogRecord]) -> None:
    with tracer.attach(HEADERS):
        remote = tracer.get_current_active_span()
        assert remote is not None
        assert (remote.trace_id, remote.span_id, remote.is_recording) == (TRACE, SPAN, False)
        remote.set_inputs(1)
        remote.add_event("x")
        remote.end()
        assert tracer.get_current_active_span() is remote
        tracer.update_current_trace(tags={"a": "b"})
    assert ["no span of this process is open here" in record.getMessage() for record in tracer_log] == [True]
    tracer_log.clear()
    with pytest.raises(tracer.TraceNotFoundError):
        await tracer.get_trace(TRACE)


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", 7, b"00-"])
async def test_with_a_malformed_header_the_block_changes_nothing(header: Any) -> None:
    with tracer.start_span("outer") as outer, tracer.attach({"traceparent": header}):
        assert tracer.get_current_active_span() is outer
    assert [span.name for span in (await last_trace()).data.spans] == ["outer"]


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_the_header_is_found_whatever_its_case(name: str) -> None:
    with tracer.attach({"accept": "*/*", name: HEADERS["traceparent"]}), tracer.start_span("inner") as inner:
        assert inner.trace_id == TRACE


@pytest.mark.parametrize("headers", [None, {}, {"accept": "*/*"}])
async def test_without_a_header_the_block_changes_nothing(headers: dict[str, str] | None) -> None:
    with tracer.start_span("outer") as outer, tracer.attach(headers):
        assert tracer.get_current_active_span() is outer
    assert [span.name for span in (await last_trace()).data.spans] == ["outer"]


def test_what_are_no_headers_is_told() -> None:
    with pytest.raises(tracer.ConfigurationError, match="headers must be a mapping"), tracer.attach("00-"):  # type: ignore[arg-type]
        pass


def test_an_error_goes_on_and_the_context_is_left() -> None:
    with pytest.raises(KeyError), tracer.attach(HEADERS):
        raise KeyError
    assert tracer.get_current_active_span() is None


@pytest.mark.parametrize("first_ends_first", [True, False])
async def test_of_several_spans_the_one_that_began_first_stands_for_the_trace(first_ends_first: bool) -> None:
    with tracer.attach(HEADERS):
        first, second = tracer.start_span_no_context("first"), tracer.start_span_no_context("second")
    first.set_status("ERROR", "broken")
    for span in (first, second) if first_ends_first else (second, first):
        span.end()
    info = (await tracer.get_trace(TRACE)).info
    assert (info.name, info.state) == ("first", "ERROR")


async def test_a_span_without_parent_stands_for_the_trace_whenever_it_is_written() -> None:
    """A server in the same process as its client."""
    client = tracer.start_span_no_context("client")
    with (
        tracer.attach({"traceparent": f"00-{client.trace_id}-{client.span_id}-01"}),
        tracer.start_span("server") as server,
    ):
        pass
    client.end()
    assert server.trace_id == client.trace_id
    info = (await last_trace()).info
    assert (info.name, info.state) == ("client", "OK")
