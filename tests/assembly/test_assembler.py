"""Records become rows: whatever their order, however they are batched, and without what must not be stored."""

from __future__ import annotations

import contextlib
import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracer
from tests.reading import last_span, last_spans, last_trace, stored_bytes, stored_rows
from tracer import _semconv as sc
from tracer._models import SpanStatusCode, TraceState
from tracer.assembly import _counted_responses, assembler
from tracer.assembly.assembler import Assembler
from tracer.capture.limits import EVENTS, LIVE_BYTES
from tracer.capture.records import (
    Ending,
    Failure,
    Payload,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    TraceUpdated,
    encode,
)
from tracer.capture.snapshots import snapshot
from tracer.store import current_process, open_store
from tracer.store.batch import Batch, SpanRow
from tracer.testing import FakeOpenAI, reply

TRACE, ROOT, CHILD = "a" * 32, "1" * 16, "2" * 16
SECRET = "xyzzy-swordfish"


def value(content: object) -> Payload:
    return snapshot(content, 10_000)


def root(**fields: Any) -> SpanStarted:
    return SpanStarted(TRACE, ROOT, None, "root", "CHAIN", 1_000, "Default", **fields)


def batches(*groups: list[Record], hooks: tuple[Callable[[str], str], ...] = ()) -> list[Batch]:
    assembler = Assembler(current_process())
    taken = []
    for group in groups:
        for record in group:
            assembler.feed(encode(record), hooks)
        taken.append(assembler.take_batch())
    return taken


def rows(*records: Record, hooks: tuple[Callable[[str], str], ...] = ()) -> list[SpanRow]:
    return batches(list(records), hooks=hooks)[0].spans


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_span_is_there_as_soon_as_it_starts() -> None:
    [batch] = batches([root(inputs=value({"q": "hi"}), attributes={"a": 1})])
    [row] = batch.spans
    assert (row.name, row.end_time_ns, row.status_code, row.finish) == ("root", None, SpanStatusCode.UNSET, None)
    assert json.loads(row.inputs or b"") == {"q": "hi"}
    assert json.loads(row.attributes or b"") == {"a": 1}
    [patch] = batch.traces
    assert (patch.state, patch.name, patch.root_span_id, patch.true_root) == (
        TraceState.IN_PROGRESS,
        "root",
        ROOT,
        True,
    )
    assert patch.request_preview == "hi"


def test_an_update_is_seen_before_the_end() -> None:
    _, second, third = batches(
        [root()],
        [SpanUpdated(ROOT, outputs=value("so far"), attributes={"b": 2}, name="renamed")],
        [SpanEnded(ROOT, 2_000, Ending.RETURNED)],
    )
    [running] = second.spans
    assert (running.name, running.outputs, running.end_time_ns) == ("renamed", b'"so far"', None)
    [ended] = third.spans
    assert (ended.name, ended.outputs, ended.end_time_ns) == ("renamed", b'"so far"', 2_000)
    assert json.loads(ended.attributes or b"") == {"b": 2, sc.FINISH: "completed"}


def test_nothing_new_makes_no_rows() -> None:
    first, second = batches([root()], [])
    assert first.spans
    assert not second.spans
    assert not second.traces


def test_a_span_that_starts_and_ends_in_one_batch_is_one_row() -> None:
    [row] = rows(root(inputs=value(1)), SpanEnded(ROOT, 2_000, Ending.RETURNED, value(2)))
    assert (row.inputs, row.outputs, row.end_time_ns) == (b"1", b"2", 2_000)


def test_an_end_before_the_start_makes_no_negative_duration() -> None:
    [row] = rows(root(), SpanEnded(ROOT, 500, Ending.RETURNED))
    assert row.end_time_ns == row.start_time_ns == 1_000


def test_records_of_unknown_spans_and_foreign_bytes_are_counted() -> None:
    assembler = Assembler(current_process())
    orphans: list[Record] = [
        SpanChunk(CHILD, 1, b""),
        SpanNoted(CHILD, "event", 1),
        SpanUpdated(CHILD),
        SpanEnded(CHILD, 1, Ending.RETURNED),
    ]
    for record in orphans:
        assembler.feed(encode(record))
    assembler.feed(b"\xc1 no record")
    assert (assembler.counts.orphaned, assembler.counts.undecodable) == (4, 1)
    assert not assembler.take_batch().spans


def test_a_record_with_text_that_is_no_utf_8_is_counted() -> None:
    assembler = Assembler(current_process())
    assembler.feed(encode(root()).replace(b"root", b"\xffoot"))
    assert (assembler.counts.undecodable, assembler.open_spans) == (1, 0)


def test_what_was_lost_on_the_way_is_marked_on_the_trace() -> None:
    [batch] = batches([root(body_dropped=True), SpanEnded(ROOT, 2, Ending.RETURNED, lost={"chunks": 3, "bodies": 1})])
    assert batch.traces[0].dropped == {"bodies": 2, "chunks": 3}
    assert json.loads(batch.spans[0].attributes or b"")[sc.PAYLOAD_DROPPED] is True


def test_what_was_cut_off_is_marked_and_counted_for_both_sides() -> None:
    assembler = Assembler(current_process())
    request = Payload(0, b'{"model": "m", "messages": [{"role": "us', 70)  # type: ignore[arg-type]
    response = Payload(0, b'{"model": "m", "choices": [', 30)  # type: ignore[arg-type]
    assembler.feed(encode(root(operation="chat", inputs=request)))
    assembler.feed(encode(SpanEnded(ROOT, 2, Ending.RETURNED, response)))
    batch = assembler.take_batch()
    assert json.loads(batch.spans[0].attributes or b"")[sc.TRUNCATED] == {"inputs": 70, "outputs": 30}
    assert batch.traces[0].dropped == {"truncated": 2}
    assert assembler.counts.truncated == 2


def test_the_garbage_collector_has_nothing_to_look_at_in_open_spans() -> None:
    """It stops all threads for as long as it looks; 10,000 spans may be open."""
    made = Assembler(current_process())

    def start(numbers: range) -> None:
        for number in numbers:
            span_id = f"{number:016x}"
            fields: Any = {"inputs": value("question"), "attributes": {"a": "b"}}
            made.feed(encode(SpanStarted(TRACE, span_id, ROOT, "n", "CHAIN", 1_000, **fields)))
            made.feed(encode(SpanUpdated(span_id, attributes={"key": "value"}, outputs=value("answer"))))
        made.take_batch()

    start(range(10))
    gc.collect()
    before = len(gc.get_objects())
    start(range(10, 1_010))
    gc.collect()
    assert made.open_spans == 1_010
    assert len(gc.get_objects()) - before < 100


def test_the_events_of_one_span_are_bounded() -> None:
    notes: list[Record] = [SpanNoted(ROOT, "event", number) for number in range(EVENTS + 5)]
    assembler = Assembler(current_process())
    for record in (root(), *notes, SpanEnded(ROOT, 2, Ending.RETURNED)):
        assembler.feed(encode(record))
    batch = assembler.take_batch()
    assert assembler.counts.events == 5
    assert len(json.loads(batch.spans[0].events or b"")) == EVENTS
    assert batch.traces[0].dropped == {"events": 5}


def test_events_are_written_live_and_all_of_them_at_the_end() -> None:
    notes: list[Record] = [SpanNoted(ROOT, "event", number, {"text": "x" * 500}) for number in range(10)]
    live, again, all_of_them = batches([root(), *notes], [*notes], [SpanEnded(ROOT, 2, Ending.RETURNED)])
    assert [len(json.loads(batch.spans[0].events or b"")) for batch in (live, again, all_of_them)] == [10, 20, 20]


def noted(text: str, *, failure: Failure | None = None) -> SpanNoted:
    return SpanNoted(ROOT, "event", 1_500, {"text": text}, failure)


def test_large_events_beyond_the_limit_are_dropped_and_counted_but_small_ones_are_kept() -> None:
    assembler = Assembler(current_process())
    assembler.max_payload_bytes = 10_000
    for record in (root(), *[noted("x" * 4_000)] * 5, noted("small"), SpanEnded(ROOT, 2_000, Ending.RETURNED)):
        assembler.feed(encode(record))
    batch = assembler.take_batch()
    texts = [attributes["text"] for _, _, attributes in json.loads(batch.spans[0].events or b"")]
    assert [len(text) for text in texts] == [4_000, 4_000, 4_000, 5]
    assert (assembler.counts.events, batch.traces[0].dropped) == (2, {"events": 2})


def test_what_a_running_span_holds_is_written_again_only_when_it_has_changed_or_doubled() -> None:
    large = noted("x" * LIVE_BYTES)
    update = SpanUpdated(ROOT, outputs=value("out"), attributes={"a": "y" * LIVE_BYTES})
    end = SpanEnded(ROOT, 9_000, Ending.RETURNED)
    small = SpanUpdated(ROOT, attributes={"b": 1})
    given: list[list[Record]] = [[root(), large, update], [noted("1")], [small], [large], [update], [end]]
    found = [batch.spans[0] for batch in batches(*given)]
    events = [row.events and len(json.loads(row.events)) for row in found]
    assert events == [1, None, None, 3, None, 3]
    assert [row.outputs for row in found] == [b'"out"', None, None, None, b'"out"', b'"out"']
    assert [row.attributes is not None for row in found] == [True, False, False, False, True, True]
    assert json.loads(found[-1].attributes or b"")["b"] == 1


def test_attributes_beyond_the_limit_are_left_out_and_counted_but_not_those_that_replace_one_another() -> None:
    assembler = Assembler(current_process())
    assembler.max_payload_bytes = 10_000
    assembler.feed(encode(root()))
    for number in range(50):
        assembler.feed(encode(SpanUpdated(ROOT, attributes={"same": f"{number}" + "x" * 2_000})))
    assert assembler.counts.truncated == 0
    for number in range(8):
        assembler.feed(encode(SpanUpdated(ROOT, attributes={f"large {number}": "x" * 2_000, "last": number})))
    assembler.feed(encode(SpanUpdated(ROOT, attributes={"small": 1})))
    assembler.feed(encode(SpanEnded(ROOT, 2_000, Ending.RETURNED)))
    attributes = json.loads(assembler.take_batch().spans[0].attributes or b"")
    assert attributes["same"].startswith("49")
    assert attributes["small"] == 1
    assert 3 <= attributes["last"] < 6
    assert attributes[sc.TRUNCATED]["attributes"] > 2_000
    assert assembler.counts.truncated == 7 - attributes["last"]


def test_of_too_many_open_spans_the_oldest_is_closed_as_abandoned_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "OPEN_SPANS", 3)
    made = Assembler(current_process())
    for number in range(5):
        made.feed(encode(SpanStarted(TRACE, f"{number:016}", None, "never", "CHAIN", 1_000 + number, "Default")))
    assert (made.open_spans, made.counts.given_up) == (3, 2)
    closed = {row.span_id: row for row in made.take_batch().spans if row.end_time_ns is not None}
    assert sorted(closed) == ["0" * 16, "0" * 15 + "1"]
    row = closed["0" * 16]
    assert (row.finish, row.status_code, row.end_time_ns) == ("abandoned", SpanStatusCode.OK, 1_003)
    assert "closed by tracer" in json.loads(row.attributes or b"")[sc.NOTE]
    made.feed(encode(SpanEnded("0" * 16, 5_000, Ending.RETURNED)))
    assert made.counts.orphaned == 1


def test_with_many_open_spans_the_texts_for_search_are_still_whole_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "MANY_OPEN_SPANS", 0)
    question, answer = "question " * 200, "answer"
    found = batches(
        [root(inputs=value(question))], [noted("x")], [SpanEnded(ROOT, 2_000, Ending.RETURNED, value(answer))]
    )
    first, second, last = [batch.spans[0].text for batch in found]
    assert second is None
    assert last == f"{first}\n{answer}"
    assert first is not None
    assert first.startswith("question question")


def test_a_response_read_again_is_counted_once_among_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_counted_responses, "MAX_RESPONSES", 2)

    def read(operation: str, response_id: str) -> list[Record]:
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        answer = {"id": response_id, "object": "response", "status": "completed", "output": [], "usage": usage}
        body = Payload(0, json.dumps(answer).encode())  # type: ignore[arg-type]
        return [root(operation=operation), SpanEnded(ROOT, 2_000, Ending.RETURNED, body)]

    asked = [("responses", "a"), ("retrieved", "a"), ("retrieved", "b"), ("retrieved", "a"), ("responses", "b")]
    found = batches(*(read(*one) for one in [*asked, ("retrieved", "c"), ("retrieved", "d"), ("retrieved", "a")]))
    assert [batch.spans[0].counted for batch in found] == [True, False, True, False, True, True, True, True]


def test_a_failed_root_fails_its_trace_and_says_why() -> None:
    failure = Failure("ValueError", "wrong", [("file.py", 1, "f")])
    [batch] = batches([root(), SpanEnded(ROOT, 2_000, Ending.RAISED, failure=failure)])
    [row], [patch] = batch.spans, batch.traces
    assert (row.status_code, row.status_description, row.finish) == (
        SpanStatusCode.ERROR,
        "ValueError: wrong",
        "failed",
    )
    assert patch.state == TraceState.ERROR
    [[name, time_ns, attributes]] = json.loads(row.events or b"")
    assert (name, time_ns, attributes[sc.EXCEPTION_TYPE]) == ("exception", 2_000, "ValueError")
    assert json.loads(row.attributes or b"")[sc.ERROR_TYPE] == "ValueError"


def test_a_span_below_another_process_stands_for_its_trace_until_the_root_comes() -> None:
    [batch] = batches([SpanStarted(TRACE, CHILD, ROOT, "child", "CHAIN", 1_000, "Default")])
    assert (batch.traces[0].root_span_id, batch.traces[0].true_root) == (CHILD, False)


# --- any order, any batching ------------------------------------------------------------------------------------------


def some_spans() -> list[list[Record]]:
    """Two traces: a tree of four spans, one of them with items; and one span that stays open."""
    other = "b" * 32

    def start(span_id: str, parent: str | None, at: int, trace: str = TRACE, **fields: Any) -> SpanStarted:
        experiment = "Default" if parent is None else None
        return SpanStarted(trace, span_id, parent, f"span {span_id[0]}", "TOOL", at, experiment, **fields)

    return [
        [
            start(ROOT, None, 1_000, inputs=value({"q": 1})),
            SpanUpdated(ROOT, attributes={"a": 1}),
            SpanUpdated(ROOT, attributes={"a": 2}, outputs=value("early")),
            SpanEnded(ROOT, 9_000, Ending.RETURNED, value("late")),
        ],
        [
            start(CHILD, ROOT, 2_000),
            SpanNoted(CHILD, "tracer.item", 2_500, {"index": 0}, value=value({"i": 0})),
            SpanNoted(CHILD, "tracer.item", 2_600, {"index": 1}, value=value({"i": 1})),
            SpanEnded(CHILD, 3_000, Ending.CLOSED, lost={"details": 2}),
        ],
        [
            start("3" * 16, CHILD, 2_100),
            SpanUpdated("3" * 16, status=("ERROR", "bad"), inputs=value([1])),
            SpanEnded("3" * 16, 2_200, Ending.RETURNED),
        ],
        [
            start("4" * 16, ROOT, 4_000, body_dropped=True),
            SpanEnded("4" * 16, 5_000, Ending.RAISED, failure=Failure("ValueError", "x")),
        ],
        [start("5" * 16, None, 1_500, other, inputs=value("open")), SpanNoted("5" * 16, "seen", 1_600)],
        [
            TraceUpdated(TRACE, 1_000, tags={"env": "dev", "who": "me"}),
            TraceUpdated(TRACE, 1_000, tags={"env": "prod"}, session_id="s", name="named"),
        ],
    ]


def stored(groups: list[list[Record]]) -> list[dict[str, Any]]:
    """Write each group's batch to a real store in turn, and return both traces as the store gives them back."""

    async def write() -> list[dict[str, Any]]:
        store = open_store("memory://")
        await store.open()
        try:
            for batch in batches(*groups):
                await store.write(batch)
            return [(await store.get_trace(trace_id)).to_dict() for trace_id in (TRACE, "b" * 32)]
        finally:
            await store.aclose()

    return anyio.run(write)


@pytest.fixture(scope="module")
def in_one_batch() -> list[dict[str, Any]]:
    return stored([[record for span in some_spans() for record in span]])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_interleaving_and_any_batching_rebuild_the_same_tree(
    in_one_batch: list[dict[str, Any]], data: st.DataObject
) -> None:
    spans = some_spans()
    order = data.draw(st.permutations([index for index, span in enumerate(spans) for _ in span]))
    cuts = data.draw(st.sets(st.integers(1, len(order) - 1), max_size=6))
    groups: list[list[Record]] = [[]]
    for position, index in enumerate(order):
        if position in cuts:
            groups.append([])
        groups[-1].append(spans[index].pop(0))
    assert stored(groups) == in_one_batch


def test_the_tree_is_what_was_recorded(in_one_batch: list[dict[str, Any]]) -> None:
    whole, still_open = in_one_batch
    assert [(span["name"], span["parent_id"], span["status"]["status_code"]) for span in whole["data"]["spans"]] == [
        ("span 1", None, "OK"),
        ("span 2", ROOT, "OK"),
        ("span 3", CHILD, "ERROR"),
        ("span 4", ROOT, "ERROR"),
    ]
    info = whole["info"]
    assert (info["state"], info["name"], info["duration_ns"]) == ("OK", "named", 8_000)
    assert (info["tags"], info["dropped"]) == ({"env": "prod", "who": "me"}, {"details": 2, "bodies": 1})
    assert whole["data"]["spans"][1]["outputs"] == [{"i": 0}, {"i": 1}]
    assert still_open["info"]["state"] == "IN_PROGRESS"


# --- privacy ----------------------------------------------------------------------------------------------------------


def hide(text: str) -> str:
    return re.sub(SECRET, "***", text)


def tell_everything() -> None:
    """Put the secret wherever a user can put a text."""

    @tracer.trace(attributes={"static": SECRET})
    def work(argument: str, data: bytes) -> list[object]:
        tracer.update_current_trace(tags={"t": SECRET}, metadata={"m": SECRET}, session_id=SECRET, name=SECRET)
        with tracer.start_span("inner", attributes={"a": SECRET}) as span:
            span.set_inputs({"deep": [SECRET]})
            span.set_outputs(SECRET.encode())
            span.set_attribute("later", {"b": SECRET})
            span.add_event("event", {"c": SECRET})
            span.set_status("ERROR", SECRET)
        with tracer.start_span("noted") as span:
            span.record_exception(ValueError(SECRET))
            span.record_exception(SECRET)
        with contextlib.suppress(RuntimeError), tracer.start_span("raised"):
            raise RuntimeError(SECRET) from KeyError(SECRET)
        list(items())
        return [SECRET, argument, data]

    @tracer.trace
    def items() -> Any:
        yield SECRET

    work(SECRET, SECRET.encode())


async def test_a_hook_sees_every_text_before_it_is_stored(tmp_path: Path) -> None:
    tracer.configure(redact=hide)
    tell_everything()
    trace = await last_trace()
    await tracer.flush()
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert SECRET not in stored_rows(tmp_path)
    assert trace.info.tags == {"t": "***"}
    assert trace.info.name == "***"
    root_span = trace.data.spans[0]
    assert root_span.inputs == {"argument": "***", "data": "***"}
    assert root_span.outputs == ["***", "***", "***"]
    assert root_span.attributes["static"] == "***"
    spans = {span.name: span for span in trace.data.spans}
    assert spans["inner"].status.description == "***"
    assert "RuntimeError: ***" in spans["raised"].events[0].attributes["exception.stacktrace"]
    assert spans["items"].outputs == ["***"]


async def test_a_hook_that_raises_lets_nothing_through(tmp_path: Path) -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    tracer.configure(redact=broken)
    tell_everything()
    assert (await last_trace()).data.spans[0].outputs == ["[redaction failed]"] * 3
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert SECRET not in stored_rows(tmp_path)
    assert tracer.stats().redaction_failed > 10


async def test_without_content_no_text_of_a_users_span_is_stored(tmp_path: Path) -> None:
    tracer.configure(capture_content=False)
    with tracer.start_span("root", attributes={"a": SECRET, "n": 3}) as span:
        span.set_inputs({"question": SECRET, "temperature": 0.5})
        span.set_outputs(SECRET)
        span.set_status("ERROR", SECRET)
        span.add_event("event", {"c": SECRET})
        with pytest.raises(ValueError, match=SECRET), tracer.start_span("child"):
            raise ValueError(SECRET)
    spans = await last_spans()
    assert SECRET not in stored_rows(tmp_path)
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert spans["root"].inputs == {"question": "[withheld]", "temperature": 0.5}
    assert spans["root"].attributes["n"] == 3
    assert spans["child"].status.description == "ValueError"
    assert spans["child"].events[0].attributes["exception.type"] == "ValueError"
    assert (spans["child"].end_time_ns or 0) >= spans["child"].start_time_ns


async def chat(server: FakeOpenAI, *, stream: bool) -> list[str]:
    """Return the pieces in which the answer came."""
    async with server.async_client() as client:
        answer: Any = await client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": f"say {SECRET}"}], stream=stream
        )
        if not stream:
            return [answer.choices[0].message.content]
        return [chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("private", [False, True], ids=["redact", "no content"])
async def test_a_model_call_keeps_its_secrets(server: FakeOpenAI, tmp_path: Path, stream: bool, private: bool) -> None:
    server.enqueue(reply.text(f"the {SECRET} swims"))
    tracer.configure(capture_content=False) if private else tracer.configure(redact=hide)
    tracer.autolog()
    pieces = await chat(server, stream=stream)
    assert SECRET in "".join(pieces)
    assert any(SECRET in piece for piece in pieces) is not stream  # streamed, it lies across two chunks
    span = await last_span()
    assert SECRET not in stored_rows(tmp_path)
    assert SECRET.encode() not in stored_bytes(tmp_path)
    hidden = "[withheld]" if private else "the *** swims"
    assert span.outputs["choices"][0]["message"]["content"] == hidden
    assert span.inputs["messages"][0]["role"] == "user"
    assert span.get_attribute("gen_ai.request.model") == "gpt-5"
    assert span.get_attribute("gen_ai.response.model")
    assert (span.token_usage is None) is stream


@pytest.mark.parametrize("private", [False, True], ids=["redact", "no content"])
async def test_a_failed_call_keeps_its_secrets(server: FakeOpenAI, tmp_path: Path, private: bool) -> None:
    server.enqueue(reply.error(400, f"no {SECRET} here"))
    tracer.configure(capture_content=False) if private else tracer.configure(redact=hide)
    tracer.autolog()
    with pytest.raises(openai.BadRequestError, match=SECRET):
        await chat(server, stream=False)
    span = await last_span()
    assert SECRET not in stored_rows(tmp_path)
    assert SECRET.encode() not in stored_bytes(tmp_path)
    assert span.status.status_code == "ERROR"
    assert span.status.description.startswith("BadRequestError")
