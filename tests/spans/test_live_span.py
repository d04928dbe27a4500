"""Live spans: what user code sets on them, and what holds when clocks, sampling and threads get in the way."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import tracer
from tests.reading import last_span, last_spans, last_trace
from tracer.testing import FakeClock, SequentialIds
from tracer.testing._isolation import isolated

HOUR = 3_600 * 1_000_000_000


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_span_keeps_what_is_set_on_it() -> None:
    with tracer.start_span("work", span_type=tracer.SpanType.TOOL, attributes={"a": 1}) as span:
        span.set_inputs({"q": ["x"]})
        span.set_outputs([1, 2])
        span.set_attribute("b", {"c": 2})
        span.set_attributes({"a": 3, "d": None})
        span.add_event("noted", {"e": 5})
        span.set_status("OK", "well done")
    stored = await last_span()
    assert (stored.name, stored.span_type) == ("work", "TOOL")
    assert (stored.inputs, stored.outputs) == ({"q": ["x"]}, [1, 2])
    assert stored.attributes == {"a": 3, "b": {"c": 2}, "d": None, "tracer.finish": "completed"}
    [event] = stored.events
    assert (event.name, event.attributes) == ("noted", {"e": 5})
    assert stored.start_time_ns <= event.timestamp_ns <= (stored.end_time_ns or 0)
    assert (stored.status.status_code, stored.status.description) == ("OK", "well done")


async def test_async_with_does_the_same() -> None:
    async with tracer.start_span() as outer:
        await anyio.lowlevel.checkpoint()
        async with tracer.start_span("inner") as inner:
            assert tracer.get_current_active_span() is inner
        assert tracer.get_current_active_span() is outer
    assert tracer.get_current_active_span() is None
    spans = await last_spans()
    assert spans["inner"].parent_id == spans["span"].span_id == outer.span_id


async def test_an_event_may_be_given_as_an_object_with_its_time() -> None:
    with tracer.start_span() as span:
        span.add_event(tracer.SpanEvent("first", 5, {"a": 1}))
        span.add_event(tracer.SpanEvent(name="now", attributes={}))
    first, now = (await last_span()).events
    assert first == tracer.SpanEvent("first", 5, {"a": 1})
    assert now.timestamp_ns > 10**18


async def test_values_of_any_kind_are_taken() -> None:
    with tracer.start_span("odd \ud800 name") as span:
        span.set_inputs({"x": object()})
        span.set_attributes({"object": object(), "\ud800": "\ud800", "set": {1}})
        span.add_event("event", {"lock": threading.Lock()})
    stored = await last_span()
    assert stored.name == "odd \\ud800 name"
    assert stored.inputs["x"].startswith("<object object")
    assert stored.attributes["\\ud800"] == "\\ud800"
    assert stored.attributes["set"] == [1]
    assert "lock" in stored.events[0].attributes["lock"]
    assert tracer.stats().dropped["encode"] == 0


@pytest.mark.parametrize(
    ("exception", "kind", "message"),
    [(ValueError("wrong"), "ValueError", "wrong"), ("in words", "Exception", "in words")],
)
async def test_an_exception_is_noted_and_makes_the_span_fail(
    exception: BaseException | str, kind: str, message: str
) -> None:
    with tracer.start_span() as span:
        span.record_exception(exception)
        assert span.status == tracer.SpanStatus(tracer.SpanStatusCode.ERROR, f"{kind}: {message}")
    stored = await last_span()
    assert (stored.status.status_code, stored.status.description) == ("ERROR", f"{kind}: {message}")
    assert stored.get_attribute("tracer.finish") == "failed"
    [event] = stored.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == kind
    assert event.attributes["exception.message"] == message
    assert (await last_trace()).info.state == "ERROR"


@pytest.mark.parametrize("wrong", [None, 5, ValueError, {"error": "x"}], ids=str)
async def test_what_is_neither_exception_nor_text_is_refused(wrong: object) -> None:
    with tracer.start_span() as span:
        with pytest.raises(tracer.ConfigurationError, match="exception must be an exception or a text, got ") as told:
            span.record_exception(wrong)  # type: ignore[arg-type]
        assert repr(wrong) in str(told.value)
    with pytest.raises(tracer.ConfigurationError):
        span.record_exception(wrong)  # type: ignore[arg-type]  # also where nothing is recorded
    stored = await last_span()
    assert (stored.events, stored.status.status_code) == ([], "OK")


async def test_each_entry_of_one_scope_is_a_span_of_its_own() -> None:
    scope = tracer.start_span("again", attributes={"k": 1})
    with scope as first:
        first.set_attribute("only", "first")
        async with scope as inside:
            assert tracer.get_current_active_span() is inside
        assert tracer.get_current_active_span() is first
    assert tracer.get_current_active_span() is None
    async with scope as second:
        pass
    with contextlib.suppress(ValueError), scope, scope:
        raise ValueError("both")
    outer, inner = (await tracer.get_trace(first.trace_id)).data.spans
    assert (outer.span_id, inner.span_id, inner.parent_id) == (first.span_id, inside.span_id, first.span_id)
    assert (outer.attributes["only"], outer.attributes["k"], inner.attributes["k"]) == ("first", 1, 1)
    assert "only" not in inner.attributes
    [alone] = (await tracer.get_trace(second.trace_id)).data.spans
    assert alone.parent_id is None
    assert [span.status.status_code for span in (await last_trace()).data.spans] == ["ERROR", "ERROR"]


async def test_tasks_that_share_a_scope_do_not_end_each_others_spans() -> None:
    scope = tracer.start_span("shared")
    entered, leave = [anyio.Event() for _ in range(3)], [anyio.Event() for _ in range(3)]
    spans: dict[int, tracer.LiveSpan] = {}

    async def hold(number: int) -> None:
        async with scope as span:
            spans[number] = span
            entered[number].set()
            await leave[number].wait()

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(hold, number)
            await entered[number].wait()
        for ending, still_open in ((0, {1, 2}), (2, {1}), (1, set())):  # neither in the order of entry nor against it
            leave[ending].set()
            await anyio.wait_all_tasks_blocked()
            assert {number for number, span in spans.items() if span.end_time_ns is None} == still_open
    assert len({span.trace_id for span in spans.values()}) == 3


async def test_a_scope_that_ends_in_another_context_ends_its_span() -> None:
    scope = tracer.start_span("moved")
    span = contextvars.copy_context().run(scope.__enter__)
    scope.__exit__(None, None, None)
    assert span.end_time_ns is not None
    assert (await last_span()).name == "moved"


async def test_a_status_may_be_given_as_an_object() -> None:
    with tracer.start_span() as span:
        span.set_status(tracer.SpanStatus(tracer.SpanStatusCode.ERROR, "bad"))
    assert (await last_span()).status == tracer.SpanStatus(tracer.SpanStatusCode.ERROR, "bad")
    with tracer.start_span() as span:
        span.set_status(tracer.SpanStatusCode.OK)
    assert (await last_span()).status.status_code == "OK"


async def test_an_exception_outweighs_the_status_that_was_set() -> None:
    with contextlib.suppress(ValueError), tracer.start_span() as span:
        span.set_status("OK")
        raise ValueError("x")
    assert span.status.description == "ValueError: x"
    assert (await last_span()).status.description == "ValueError: x"


async def test_after_its_end_a_span_takes_nothing_more() -> None:
    with tracer.start_span() as span:
        span.set_outputs("kept")
        span.end()
        span.set_inputs("late")
    span.set_outputs("late")
    span.set_attribute("late", 1)
    span.set_status("ERROR")
    span.set_span_type("TOOL")
    span.add_event("late")
    span.record_exception(ValueError("late"))
    span.end(outputs="late", status="ERROR", attributes={"late": 1})
    stored = await last_span()
    assert (stored.inputs, stored.outputs, stored.events) == (None, "kept", [])
    assert (stored.attributes, stored.status.status_code) == ({"tracer.finish": "completed"}, "OK")
    assert not span.is_recording
    assert tracer.stats().dropped["lost"] == 0


async def test_a_span_can_be_ended_by_hand() -> None:
    with tracer.start_span() as span:
        span.end(outputs={"a": 1}, attributes={"b": 2}, status="ERROR")
    stored = await last_span()
    assert (stored.outputs, stored.attributes["b"], stored.status.status_code) == ({"a": 1}, 2, "ERROR")
    assert span.end_time_ns == stored.end_time_ns


async def test_a_live_span_can_be_asked_what_it_is() -> None:
    with tracer.start_span("work", span_type="TOOL", attributes={"a": 1}) as span:
        assert (span.name, span.span_type, span.parent_id, span.end_time_ns) == ("work", "TOOL", None, None)
        assert (len(span.trace_id), len(span.span_id)) == (32, 16)
        assert int(span.trace_id, 16)
        assert span.status.status_code == "UNSET"
        span.set_inputs("in")
        span.set_outputs("out")
        assert (span.inputs, span.outputs) == ("in", "out")
        span.set_attribute("b", 2)
        assert span.attributes == {"a": 1, "b": 2}
        assert (span.get_attribute("b"), span.get_attribute("c")) == (2, None)
        span.attributes["b"] = 3
        assert span.get_attribute("b") == 2
        assert repr(span) == f"LiveSpan(name='work', trace_id={span.trace_id!r}, span_id={span.span_id!r})"
    assert span.status.status_code == "OK"
    assert (span.end_time_ns or 0) >= span.start_time_ns
    stored = await last_span()
    assert (stored.trace_id, stored.span_id) == (span.trace_id, span.span_id)
    assert (stored.start_time_ns, stored.end_time_ns) == (span.start_time_ns, span.end_time_ns)


def test_an_ended_span_keeps_no_inputs_or_outputs_alive() -> None:
    class Big:
        pass

    inputs, outputs = Big(), Big()
    gone = [weakref.ref(inputs), weakref.ref(outputs)]
    with tracer.start_span() as span:
        span.set_inputs(inputs)
        span.set_outputs(outputs)
        del inputs, outputs
        assert all(ref() is not None for ref in gone)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert (span.inputs, span.outputs) == (None, None)


async def test_threads_inherit_the_span_with_the_context() -> None:
    with tracer.start_span("root"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, tracer.trace(lambda: None, name="in thread")).result()
        pool.submit(tracer.trace(lambda: None, name="alone")).result()
    spans = await last_spans()
    assert spans.keys() == {"root", "in thread"}
    assert spans["in thread"].parent_id == spans["root"].span_id


async def test_a_span_left_in_another_context_still_ends() -> None:
    def steps() -> Iterator[None]:
        with tracer.start_span("crossing"):
            yield

    crossing = steps()
    contextvars.copy_context().run(next, crossing)
    assert next(crossing, "end") == "end"
    assert (await last_span()).get_attribute("tracer.finish") == "completed"


async def test_a_span_open_when_its_tracking_uri_changes_ends_where_it_began(tmp_path: Any) -> None:
    before = tracer.get_tracking_uri()
    with tracer.start_span("root"):
        tracer.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
        with tracer.start_span("child"):
            pass
    tracer.set_tracking_uri(before)
    assert (await last_spans()).keys() == {"root", "child"}


# --- misuse -----------------------------------------------------------------------------------------------------------

MISUSE: dict[str, tuple[Callable[[tracer.LiveSpan], object], str]] = {
    "name": (lambda span: tracer.start_span(name=3), "name must be a non-empty string, got 3"),  # type: ignore[arg-type]
    "empty name": (lambda span: tracer.start_span(""), "name must be a non-empty string, got ''"),
    "span_type": (lambda span: tracer.start_span(span_type=None), "span_type must be a non-empty string, got None"),  # type: ignore[arg-type]
    "attributes": (lambda span: tracer.start_span(attributes=3), "attributes must be a mapping with string keys"),  # type: ignore[arg-type]
    "key": (lambda span: span.set_attribute(1, 2), "attributes must have strings as keys, got 1"),  # type: ignore[arg-type]
    "keys": (lambda span: span.set_attributes({"a": 1, 2: 3}), "attributes must have strings as keys, got 2"),  # type: ignore[dict-item]
    "list": (lambda span: span.set_attributes([1]), r"attributes must be a mapping with string keys, got \[1\]"),  # type: ignore[arg-type]
    "status": (lambda span: span.set_status("GOOD"), "status must be 'OK' or 'ERROR', got 'GOOD'"),
    "status kind": (lambda span: span.set_status(1), "status must be 'OK' or 'ERROR', got 1"),  # type: ignore[arg-type]
    "type": (lambda span: span.set_span_type(""), "span_type must be a non-empty string, got ''"),
    "event": (lambda span: span.add_event(None), "name must be a non-empty string, got None"),  # type: ignore[arg-type]
    "event keys": (lambda span: span.add_event("e", {1: 2}), "attributes must have strings as keys, got 1"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("misuse", "message"), MISUSE.values(), ids=list(MISUSE))
def test_misuse_raises_at_the_call_that_is_wrong(misuse: Callable[[tracer.LiveSpan], object], message: str) -> None:
    with tracer.start_span() as span, pytest.raises(tracer.ConfigurationError, match=message):
        misuse(span)


# --- the trace --------------------------------------------------------------------------------------------------------


async def test_the_trace_takes_tags_metadata_session_user_and_name() -> None:
    with tracer.start_span("root"):
        tracer.update_current_trace(tags={"a": "1", "b": "2"}, session_id="s", user_id="u")
        with tracer.start_span("child"):
            tracer.update_current_trace(tags={"b": "3"}, metadata={"m": "4"}, name="named \ud800")
    info = (await last_trace()).info
    assert (info.tags, info.metadata) == ({"a": "1", "b": "3"}, {"m": "4"})
    assert (info.session_id, info.user_id, info.name) == ("s", "u", "named \\ud800")


def test_updating_without_a_trace_is_told(tracer_log: list[logging.LogRecord]) -> None:
    tracer.update_current_trace(tags={"a": "1"})
    [record] = tracer_log
    assert record.getMessage() == "update_current_trace() did nothing: no trace is current here"
    tracer_log.clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": "a"}, "tags must be a mapping of names to texts, got 'a'"),
        ({"metadata": [1]}, r"metadata must be a mapping of names to texts, got \[1\]"),
        ({"user_id": ""}, "user_id must be a non-empty string, got ''"),
        ({"state": "IN_PROGRESS"}, "state must be 'OK' or 'ERROR', got 'IN_PROGRESS'"),
        ({"state": False}, "state must be 'OK' or 'ERROR', got False"),
    ],
)
def test_a_wrong_update_is_refused(changes: dict[str, Any], message: str) -> None:
    with tracer.start_span(), pytest.raises(tracer.ConfigurationError, match=message):
        tracer.update_current_trace(**changes)


def test_the_last_trace_is_that_of_the_root_that_ended_last() -> None:
    assert tracer.get_last_active_trace_id() is None
    assert tracer.get_last_active_trace_id(thread_local=True) is None
    with tracer.start_span("root") as root:
        with tracer.start_span("child"):
            pass
        assert tracer.get_last_active_trace_id() is None
    assert tracer.get_last_active_trace_id() == root.trace_id

    def in_thread() -> tuple[str | None, str, str | None]:
        before = tracer.get_last_active_trace_id(thread_local=True)
        with tracer.start_span() as span:
            pass
        return before, span.trace_id, tracer.get_last_active_trace_id(thread_local=True)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        before, there, after = pool.submit(in_thread).result()
    assert (before, after) == (None, there)
    assert tracer.get_last_active_trace_id() == there
    assert tracer.get_last_active_trace_id(thread_local=True) == root.trace_id


@pytest.mark.parametrize(("rate", "low", "high"), [(0, 0, 0), (0.5, 50, 150), (1, 200, 200)])
async def test_sampling_takes_whole_traces_and_counts_the_rest(rate: float, low: int, high: int) -> None:
    tracer.configure(sample_rate=rate)
    for _ in range(200):
        with tracer.start_span("root") as root, tracer.start_span("child") as child:
            assert child.is_recording == root.is_recording
            tracer.update_current_trace(tags={"a": "b"})
            child.set_attribute("a", 1)
            child.add_event("e")
    page = await tracer.search_traces(max_results=1_000)
    assert low <= len(page) <= high
    assert tracer.stats().unsampled == 200 - len(page)
    assert all(len(trace.data.spans) == 2 for trace in page)


# --- clocks and ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
async def test_a_wall_clock_that_jumps_bends_no_duration(jump: int) -> None:
    clock = FakeClock()
    start = clock.time_ns()
    with isolated(clock=clock, ids=SequentialIds()):
        with tracer.start_span("root") as root:
            clock.advance(1)
            with tracer.start_span("child"):
                clock.set_wall(clock.time_ns() + jump)
                clock.advance(0.5)
            root.add_event("after")
            clock.advance(0.25)
        spans = await last_spans()
    assert (spans["root"].start_time_ns - start, spans["root"].duration_ns) == (0, 1_750_000_000)
    assert (spans["child"].start_time_ns - start, spans["child"].duration_ns) == (1_000_000_000, 500_000_000)
    assert spans["root"].events[0].timestamp_ns - start == 1_500_000_000


async def test_ids_come_from_the_source_that_was_given() -> None:
    with isolated(ids=SequentialIds()):
        with tracer.start_span(), tracer.start_span():
            pass
        spans = (await last_trace()).data.spans
    assert [(span.trace_id, span.span_id, span.parent_id) for span in spans] == [
        ("0" * 31 + "1", "0" * 15 + "1", None),
        ("0" * 31 + "1", "0" * 15 + "2", "0" * 15 + "1"),
    ]
