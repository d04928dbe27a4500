"""tracer's spans and OpenTelemetry's inside one another: one trace, each below the other's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

import tracer
from tracer.asgi import TraceMiddleware
from tracer.testing import FakeOpenAI

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

Ids = tuple[str, str]


class Theirs:
    """OpenTelemetry's SDK, and what it recorded."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.span = self.provider.get_tracer("theirs").start_as_current_span

    def parents(self) -> dict[str, str | None]:
        """The span id of the parent of each span, by its name."""
        return {
            span.name: None if span.parent is None else f"{span.parent.span_id:016x}"
            for span in self.exporter.get_finished_spans()
        }


@pytest.fixture
def theirs() -> Iterator[Theirs]:
    tracer.otel.connect()
    yield Theirs()
    tracer.otel.disconnect()


def ids_of(span: Any) -> Ids:
    ids = span.get_span_context()
    return f"{ids.trace_id:032x}", f"{ids.span_id:016x}"


def ours(span: tracer.LiveSpan) -> Ids:
    return span.trace_id, span.span_id


def test_ours_begins_below_theirs(theirs: Theirs, server: FakeOpenAI) -> None:
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    tracer.autolog()
    with theirs.span("request") as request:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    trace_id, span_id = ids_of(request)
    stored = tracer.sync.get_trace(trace_id)
    assert [span.parent_id for span in stored.data.spans] == [span_id, span_id]
    assert stored.info.state == "OK"
    client.close()


def test_theirs_begins_below_ours(theirs: Theirs) -> None:
    with tracer.start_span("outer") as outer, theirs.span("inner") as inner:
        pass
    assert ids_of(inner)[0] == outer.trace_id
    assert theirs.parents() == {"inner": outer.span_id}


def test_they_alternate_to_any_depth(theirs: Theirs) -> None:
    with theirs.span("1") as first, tracer.start_span("2") as second, theirs.span("3") as third:
        with tracer.start_span("4") as fourth, theirs.span("5"):
            pass
        with theirs.span("6"), tracer.start_span("7") as seventh, tracer.start_span("8") as eighth:
            pass
    with theirs.span("alone"):
        pass
    parents = theirs.parents()
    assert parents == {
        "1": None, "3": second.span_id, "5": fourth.span_id, "6": ids_of(third)[1], "alone": None,
    }  # fmt: skip
    assert (second.parent_id, fourth.parent_id) == (ids_of(first)[1], ids_of(third)[1])
    assert eighth.parent_id == seventh.span_id
    assert {span.trace_id for span in (second, fourth, seventh, eighth)} == {ids_of(first)[0]}
    stored = tracer.sync.get_trace(second.trace_id)
    assert (stored.info.name, len(stored.data.spans)) == ("2", 4)


def test_both_are_as_before_when_a_span_has_ended(theirs: Theirs) -> None:
    with theirs.span("1") as first:
        with tracer.start_span("2"):
            assert trace.get_current_span() is not first
        assert trace.get_current_span() is first
        with theirs.span("3"):
            pass
    with tracer.start_span("4") as fourth:
        pass
    assert theirs.parents()["3"] == ids_of(first)[1]
    assert (fourth.parent_id, fourth.trace_id != ids_of(first)[0]) == (None, True)


async def test_tasks_and_threads_inherit_both(theirs: Theirs) -> None:
    found: list[tracer.LiveSpan] = []

    async def work() -> None:
        with theirs.span("inner"), tracer.start_span("innermost") as span:
            await asyncio.sleep(0)
            found.append(span)

    with tracer.start_span("outer") as outer:
        await asyncio.gather(work(), work())
        token_of_caller = otel_context.get_current()

        def in_thread() -> None:
            token = otel_context.attach(token_of_caller)
            with tracer.start_span("in thread") as span:
                found.append(span)
            otel_context.detach(token)

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join(30)
    assert {span.trace_id for span in found} == {outer.trace_id}
    assert found[2].parent_id == outer.span_id
    assert theirs.parents() == {"inner": outer.span_id}


def test_baggage_set_inside_ours_changes_no_parent(theirs: Theirs) -> None:
    with tracer.start_span("outer") as outer:
        token = otel_context.attach(otel_context.set_value("k", "v"))
        with tracer.start_span("middle") as middle, theirs.span("inner"):
            assert otel_context.get_value("k") == "v"
        otel_context.detach(token)
    assert middle.parent_id == outer.span_id
    assert theirs.parents() == {"inner": middle.span_id}


def test_their_propagators_send_our_ids(theirs: Theirs) -> None:
    headers: dict[str, str] = {}
    with tracer.start_span("outer") as outer:
        propagate.inject(headers)
    assert headers["traceparent"] == f"00-{outer.trace_id}-{outer.span_id}-01"


def test_a_parent_in_another_process_is_theirs_too(theirs: Theirs) -> None:
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tracer.attach({"traceparent": header}), theirs.span("inner") as inner, tracer.start_span("innermost") as span:
        pass
    assert theirs.parents() == {"inner": "b7ad6b7169203331"}
    assert (span.trace_id, span.parent_id) == (header[3:35], ids_of(inner)[1])


async def test_a_request_is_below_their_span_of_it(theirs: Theirs) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    traced = TraceMiddleware(app)

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        with theirs.span("server"):
            await traced(scope, receive, send)

    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(instrumented), base_url="http://s") as client:
        await client.get("/", headers={"traceparent": header})
    [stored] = await tracer.search_traces()
    [server] = theirs.exporter.get_finished_spans()
    assert server.context is not None
    assert stored.data.spans[0].parent_id == f"{server.context.span_id:016x}"


def test_what_either_does_not_sample_is_no_parent() -> None:
    tracer.otel.connect()
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("theirs")
    with unsampled.start_as_current_span("request"), tracer.start_span("a") as span:
        assert span.parent_id is None
    theirs = Theirs()
    with tracer.context(enabled=False), tracer.start_span("b"), theirs.span("inner"):
        pass
    assert theirs.parents() == {"inner": None}
    tracer.otel.disconnect()


def test_nothing_is_joined_unless_asked_for() -> None:
    theirs = Theirs()
    with theirs.span("1") as first, tracer.start_span("2") as second, theirs.span("3"):
        pass
    assert (second.parent_id, theirs.parents()["3"]) == (None, ids_of(first)[1])


def test_connecting_twice_and_disconnecting_leaves_their_context_as_it_was() -> None:
    before = otel_context._RUNTIME_CONTEXT
    tracer.otel.disconnect()
    tracer.otel.connect()
    tracer.otel.connect()
    with tracer.start_span("outer"):
        tracer.otel.disconnect()
    assert otel_context._RUNTIME_CONTEXT is before


def test_their_context_works_though_ours_fails(
    theirs: Theirs, tracer_log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    with theirs.span("1") as first, tracer.start_span("2"):
        monkeypatch.setattr("tracer.otel.open_current", fail)
        assert trace.get_current_span() is first
        with theirs.span("3"):
            pass
    assert theirs.parents()["3"] == ids_of(first)[1]
    [record] = tracer_log
    assert record.getMessage().startswith("giving OpenTelemetry the current span failed; the call goes on without it")
    tracer_log.clear()


def test_a_context_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", object())
    with pytest.raises(tracer.ConfigurationError, match="does not know this version of opentelemetry-api"):
        tracer.otel.connect()
