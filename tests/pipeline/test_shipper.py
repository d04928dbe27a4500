"""Records that are interpreted elsewhere become the same traces, wherever they are cut into batches."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recorded_calls import Records, everything, record_calls
from tracer._config import BodyRule, Settings
from tracer.assembly.assembler import Assembler
from tracer.assembly.raw_batches import interpret
from tracer.capture.records import (
    Codec,
    Encoded,
    Ending,
    Failure,
    LargeRecord,
    Payload,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    encode,
)
from tracer.capture.snapshots import snapshot
from tracer.pipeline.interpreter import MAX_RAW_BYTES, Interpreter
from tracer.store import Batch, Store, current_process, open_store
from tracer.store.numbering import Numbering
from tracer.store.raw import Learnt, RawBatch
from tracer.store.wire import decode as from_wire
from tracer.store.wire import encode as to_wire


@pytest.fixture(scope="module")
def recorded() -> Records:
    return record_calls()


class Far(Interpreter):
    """Takes what an interpreter would send to a server, interprets it there, and brings back the answer."""

    def __init__(self, store: Store) -> None:
        self.heard: list[Any] = []
        self.sent: list[Batch] = []
        store.listen = self.heard.append  # type: ignore[attr-defined]
        super().__init__(current_process(), store, fail)
        self.configure(Settings(), (), None)

    def take(self, *, is_private: bool = False) -> Batch:
        assert self._shipper is not None
        self._shipper._has_private = self._shipper._has_private or is_private
        batch = self.take_batch(lambda: None)
        if batch.raw is None:
            return batch
        there = from_wire(to_wire(batch), Batch)
        self.sent.append(there)
        rows, learnt = interpret(there, there.raw, fail)
        self.heard[0](from_wire(to_wire(learnt), Learnt))
        back: Batch = from_wire(to_wire(rows), Batch)
        return back


def fail(what: str, error: Exception) -> None:
    raise AssertionError(what) from error


def cut(records: list[Encoded], places: set[int]) -> list[list[Encoded]]:
    edges = [0, *sorted(places), len(records)]
    return [records[one:two] for one, two in itertools.pairwise(edges)]


async def stored_by_rows(groups: list[list[Encoded]]) -> Any:
    store = open_store("memory://")
    assembler = Assembler(current_process(), fail)
    for group in groups:
        for record in group:
            assembler.feed(record)
        await store.write(assembler.take_batch())
    found = await everything(store)
    await store.aclose()
    return found


async def stored_by_records(groups: list[list[Encoded]], private: list[bool]) -> Any:
    store = open_store("memory://")
    far = Far(store)
    for group, is_private in zip(groups, itertools.chain(private, itertools.repeat(False)), strict=False):
        for record in group:
            far.feed(record)
        await store.write(far.take(is_private=is_private))
    assert not far.open_spans
    found = await everything(store)
    await store.aclose()
    return found


@settings(max_examples=60)
@given(places=st.sets(st.integers(1, 60)), private=st.lists(st.booleans(), max_size=10))
def test_they_become_the_same_traces_wherever_they_are_cut(
    recorded: Records, places: set[int], private: list[bool]
) -> None:
    """Also if some batches are interpreted by the sender itself, as what they hold is private."""
    groups = cut(recorded, {place for place in places if place < len(recorded)})
    here, there = anyio.run(stored_by_rows, groups), anyio.run(stored_by_records, groups, private)
    assert len(here) == 7
    for one, other in zip(here, there, strict=True):
        assert one == other


@settings(max_examples=60)
@given(places=st.sets(st.integers(1, 60)), order=st.randoms(use_true_random=False), twice=st.sets(st.integers(0, 60)))
def test_they_become_the_same_traces_in_any_order_and_however_often_they_arrive(
    recorded: Records, places: set[int], order: random.Random, twice: set[int]
) -> None:
    """What waited in the spool of another process comes late, and what was not answered comes again."""
    groups = cut(recorded, {place for place in places if place < len(recorded)})
    far = Far(open_store("memory://"))
    numbering = Numbering()
    batches = []
    for group in groups:
        for record in group:
            far.feed(record)
        batch = far.take()
        numbering.mark(batch)
        batch.once.clear()  # in any order, a number says nothing about those below it
        batches.append(batch)
    arriving = [*batches, *(batches[number] for number in twice if number < len(batches))]
    order.shuffle(arriving)

    async def stored(arriving: list[Batch]) -> Any:
        store = open_store("memory://")
        for batch in arriving:
            await store.write(batch)
        found = await everything(store)
        await store.aclose()
        return found

    here, there = anyio.run(stored, batches), anyio.run(stored, arriving)
    for one, other in zip(here, there, strict=True):
        assert one == other


def test_nearly_all_of_it_is_sent_as_it_came(recorded: Records) -> None:
    far = Far(open_store("memory://"))
    sizes = {"remembered": 0, "state": 0, "counted": 0}
    for record in recorded:
        far.feed(record)
        far.take()
    for batch in far.sent:
        assert batch.raw is not None
        sizes["remembered"] += len(batch.raw.remembered)
        sizes["state"] += sum(span.state is not None for span in batch.raw.remembered)
        sizes["counted"] += len(batch.raw.counted)
    assert len(far.sent) > len(recorded) - 10  # a failed call is not, and a status, and what comes after it
    assert sizes["remembered"] > 20 < sizes["state"]


# --- single spans -----------------------------------------------------------------------------------------------------

TRACE, ROOT, CHILD = "a" * 32, "1" * 16, "2" * 16


def value(content: object, limit: int = 1_000_000) -> Payload:
    return snapshot(content, limit)


def call(span_id: str = CHILD, parent: str | None = None, operation: str = "chat", **fields: Any) -> SpanStarted:
    return SpanStarted(TRACE, span_id, parent, "c", "CHAT_MODEL", 5, None if parent else "Default", operation, **fields)


def function(span_id: str = ROOT, **fields: Any) -> SpanStarted:
    return SpanStarted(TRACE, span_id, None, "f", "CHAIN", 1, "Default", **fields)


def ended(span_id: str = CHILD, **fields: Any) -> SpanEnded:
    return SpanEnded(span_id, 9, Ending.RETURNED, **fields)


BODY = Payload(Codec.WIRE, b'{"model":"gpt-5","messages":[{"role":"user","content":"a secret question"}]}')
FAILURE = Failure("ValueError", "wrong")


def raws(*groups: list[Record]) -> list[RawBatch | None]:
    far = Far(open_store("memory://"))
    taken = []
    for group in groups:
        for record in group:
            far.feed(encode(record))
        taken.append(far.take_batch(lambda: None).raw)
    return taken


@pytest.mark.parametrize(
    "group",
    [
        [call(capture=False), ended()],
        [call(inputs=Payload(Codec.WIRE, b'{"tools":[{"type":"mcp","headers":{"x":"y"}}]}')), ended()],
        [call(), ended(failure=FAILURE)],
        [call(), SpanNoted(CHILD, "exception", 6, {}, FAILURE)],
        [call(), SpanUpdated(CHILD, status=("ERROR", "sk-abcdefghijklmnopqrstuvwxyz0123456789"))],
    ],
    ids=["not captured", "credentials", "failure", "failed event", "status"],
)
def test_what_is_private_is_interpreted_at_once(group: list[Record]) -> None:
    assert raws(group) == [None]
    _first, *later = raws(group[:1], *([record] for record in group[1:]), [call("3" * 16)])
    assert all(raw is None for raw in later[:-1])
    assert later[-1] is not None, "other spans are sent"


def test_a_span_below_a_private_one_brings_how_that_began_so_it_is_not_sent() -> None:
    private, child = raws([function(capture=False)], [call(parent=ROOT), ended()])
    assert private is None is child


def test_a_span_above_comes_without_its_inputs_and_with_what_they_showed() -> None:
    store = open_store("memory://")
    far = Far(store)
    far.feed(encode(function(inputs=value({"text": "asked of the function"}))))
    far.take()
    for number in range(2):
        far.feed(encode(call(f"{number:016x}", parent=ROOT, inputs=BODY)))
        far.feed(encode(ended(f"{number:016x}")))
        far.take()
    _, first, second = far.sent
    for sent in (first, second):
        assert sent.raw is not None
        [above] = sent.raw.remembered
        [start] = above.records
        assert isinstance(start, bytes)
        assert b"asked of the function" not in start
        assert above.state is not None
        assert above.state.preview == above.state.preview_sent == "asked of the function"


def test_many_changes_are_sent_when_they_have_doubled() -> None:
    """Each batch brings what was changed before; sending it with every small change would cost more and more."""
    store = open_store("memory://")
    far = Far(store)
    far.feed(encode(function()))
    for number in range(400):
        far.feed(encode(SpanUpdated(ROOT, attributes={f"k{number}": "v" * 1_000})))
        far.take()
    sent = sum(len(to_wire(batch)) for batch in far.sent)
    assert sent < 20 * 400_000
    far.feed(encode(ended(ROOT)))
    [row] = far.take().spans
    assert len(json.loads(row.attributes or b"")) >= 400, "the end brings all of it"


def test_a_large_batch_is_interpreted_here_because_rows_can_be_cut_into_pieces() -> None:
    [raw] = raws([call(inputs=Payload(Codec.WIRE, b'{"x":"' + b"y" * MAX_RAW_BYTES + b'"}')), ended()])
    assert raw is None


def test_a_body_beside_its_record_is_sent_beside_it() -> None:
    far = Far(open_store("memory://"))
    start = call(inputs=Payload(Codec.WIRE, b"", beside=True))
    far.feed(LargeRecord(encode(start), BODY.data))
    far.feed(encode(ended()))
    [row] = far.take().spans
    assert json.loads(row.inputs or b"")["messages"][0]["content"] == "a secret question"


def test_records_of_unknown_spans_and_what_is_no_record_are_counted_and_not_sent() -> None:
    far = Far(open_store("memory://"))
    for record in (encode(ended()), encode(SpanChunk(CHILD, 1, b"x")), b"\xc1", encode(ended(is_repeated=True))):
        far.feed(record)
    assert far.take_batch(lambda: None).raw is None
    assert (far.counts.orphaned, far.counts.undecodable) == (2, 1)


def test_what_the_other_side_could_not_keep_is_counted_here() -> None:
    far = Far(open_store("memory://"))
    far.feed(encode(function(inputs=value("x" * 100, 10))))
    far.feed(encode(ended(ROOT)))
    batch = far.take()
    assert far.counts.truncated == 1
    assert batch.traces[0].dropped == {"truncated": 1}


def test_what_was_counted_is_not_counted_again_when_it_comes_again() -> None:
    far = Far(open_store("memory://"))
    counted = []
    for record in (
        function(inputs=value("x" * 100, 10), body_dropped=True),
        SpanNoted(ROOT, "event", 2, {}),
        SpanUpdated(ROOT, attributes={"a": 1}),
        ended(ROOT),
    ):
        far.feed(encode(record))
        counted.append([patch.dropped for patch in far.take().traces])
    assert counted[0] == [{"bodies": 1, "truncated": 1}]
    assert counted[1:] == [[{}], [{}], [{}]]
    assert far.counts.truncated == 1


def test_the_oldest_of_too_many_spans_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.pipeline.shipper.OPEN_SPANS", 3)
    far = Far(open_store("memory://"))
    for number in range(5):
        far.feed(encode(call(f"{number:016x}")))
    ends = {row.span_id[-1]: row.finish for row in far.take().spans}
    assert {key for key, finish in ends.items() if finish == "abandoned"} == {"0", "1"}
    assert (far.open_spans, far.counts.given_up, far.is_open(f"{0:016x}")) == (3, 2, False)


@pytest.mark.parametrize(
    "settings_", [{"redact": (str.upper,)}, {"capture_content": False}, {"keep_bodies": BodyRule()}]
)
def test_with_hooks_nothing_is_sent_as_it_came_and_open_spans_are_taken_along(settings_: dict[str, Any]) -> None:
    """`configure` may be called at any time."""
    far = Far(open_store("memory://"))
    far.feed(encode(call(inputs=BODY)))
    far.feed(encode(call("3" * 16)))
    assert far.take_batch(lambda: None).raw is not None
    changed = msgspec.structs.replace(Settings(), **settings_)
    far.configure(changed, settings_.get("redact", ()), None)
    far.feed(encode(ended()))
    batch = far.take_batch(lambda: None)
    assert batch.raw is None
    assert [(row.span_id, row.finish) for row in batch.spans] == [(CHILD, "completed")]
    far.configure(Settings(), (), None)
    far.feed(encode(ended("3" * 16)))
    assert far.take_batch(lambda: None).raw is None, "as long as spans from then are open"
    far.configure(Settings(), (), None)
    far.feed(encode(call("4" * 16)))
    assert far.take_batch(lambda: None).raw is not None


def test_a_response_that_is_read_again_is_not_counted_again() -> None:
    body = b'{"id":"resp_1","object":"response","status":"completed","usage":{"input_tokens":1,"output_tokens":1}}'
    far = Far(open_store("memory://"))
    counted = []
    for span_id, operation in (("1" * 16, "responses"), ("2" * 16, "retrieved"), ("3" * 16, "retrieved")):
        far.feed(encode(call(span_id, operation=operation, attributes={"gen_ai.response.id": "resp_1"})))
        far.take()
        far.feed(encode(ended(span_id, outputs=Payload(Codec.WIRE, body))))
        counted.append(far.take().spans[0].counted)
    assert counted == [True, False, False]


def test_what_is_stored_of_a_running_stream_is_not_written_again() -> None:
    far = Far(open_store("memory://"))
    far.feed(encode(call(inputs=BODY)))
    far.feed(encode(SpanChunk(CHILD, 6, b"data: one")))
    assert far.take().chunks[0].chunks == [(6, b"data: one")]
    far.feed(encode(SpanChunk(CHILD, 7, b"data: two")))
    batch = far.take()
    assert batch.chunks[0].chunks == [(7, b"data: two")]
    [row] = batch.spans
    assert (row.inputs, row.text, row.attributes, row.events) == (None, None, None, None)


def test_what_was_counted_elsewhere_is_known_when_records_are_interpreted_here_from_now_on() -> None:
    body = b'{"id":"resp_1","object":"response","status":"completed","usage":{"input_tokens":1,"output_tokens":1}}'
    far = Far(open_store("memory://"))
    counted = []
    for span_id, operation in (("1" * 16, "responses"), ("2" * 16, "retrieved")):
        far.feed(encode(call(span_id, operation=operation, attributes={"gen_ai.response.id": "resp_1"})))
        far.feed(encode(ended(span_id, outputs=Payload(Codec.WIRE, body))))
        counted.append(far.take().spans[0].counted)
        far.configure(Settings(), (str.strip,), None)
    assert counted == [True, False]
