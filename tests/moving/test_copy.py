"""Traces are copied from store to store: whole, once, and without a change to what is there."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

import msgspec
import pytest

from tests.store.rows import SECOND, START, batch, patch, running, simple, span, span_id, started, trace_id
from tracer._exceptions import ConfigurationError, StoreError, TransientStoreError
from tracer._models import Feedback, SpanStatusCode, Trace, TraceState
from tracer.moving import Moved, StoreSource, move, mover
from tracer.store import Batch, Store, TraceQuery
from tracer.store.batch import ChunkRow, LossRow, MediaRow, ProcessRow

ALL = TraceQuery(max_results=1_000, order_by="start_time asc")
GONE = ProcessRow(process_id="elsewhere:1:1", host="elsewhere", pid=1, started="1")
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 40


def judged(number: int, trace: int, of_span: int | None = None, value: bool | float | str = True) -> Feedback:
    return Feedback(
        id=f"{number:032x}",
        trace_id=trace_id(trace),
        span_id=None if of_span is None else span_id(of_span),
        name="helpful",
        value=value,
        comment="so it is",
        source="human:ann",
        created_ns=START + number,
    )


def rich() -> Batch:
    """A trace with all that a trace may have, and its child."""
    root = span(
        1,
        name="agent",
        span_type="AGENT",
        inputs=b'{"question":"why?"}',
        outputs=b'"because"',
        attributes='{"tracer.finish":"completed","städte":["Zürich"]}'.encode(),
        events=msgspec.json.encode([["retry", START + 5, {"status": 429}]]),
        text="why? because",
        finish="completed",
    )
    chunks = [(START + SECOND, b'data: {"a":1}\n\n'), (START + 2 * SECOND, b"data: [DONE]\n\n")]
    call = span(
        2,
        trace_id=trace_id(1),
        parent_id=span_id(1),
        operation="responses",
        model="gpt-5-mini",
        usage={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 3},
        cost=0.125,
        counted=True,
        chunks=zlib.compress(msgspec.msgpack.encode(chunks)),
        links={"response": "resp_1", "conversation": "conv_1"},
        status_code=SpanStatusCode.ERROR,
        status_description="RateLimitError: slow down",
    )
    again = span(3, trace_id=trace_id(1), parent_id=span_id(1), links={"response": "resp_2"})
    told = patch(
        1,
        name_override="my agent",
        experiment="support",
        tags={"env": "prod", "team": "a b"},
        metadata={"version": "7"},
        session_id="s-1",
        user_id="ann",
        request_preview="why?",
        response_preview="because",
        dropped={"chunks": 2},
    )
    rows = batch([root, call, again], [told])
    rows.media = [
        MediaRow(
            trace_id=trace_id(1),
            span_id=span_id(2),
            hash=hashlib.sha256(PNG).hexdigest(),
            content_type="image/png",
            data=PNG,
        )
    ]
    return rows


def linked() -> Batch:
    """A trace that continues another one by its response."""
    return batch([span(9, operation="responses", links={"previous_response": "resp_1"})], [patch(9)])


async def fill(store: Store) -> None:
    await store.write(rich())
    await store.write(linked())
    await store.write(simple(20, 21, 22, model="gpt-5", counted=True, cost=1.5))
    for each in (judged(1, 1), judged(2, 1, 2, 0.75), judged(3, 20, value="good"), judged(4, 21, value=7)):
        await store.add_feedback(each)


async def everything(store: Store) -> list[Trace]:
    return list(await store.search_traces(ALL))


async def copy(source: Store, target: Store, **query: object) -> Moved:
    return await move(StoreSource(source, TraceQuery(**query)), target)  # type: ignore[arg-type]


async def test_a_copied_trace_reads_equal_in_both_stores(source: Store, target: Store) -> None:
    await fill(source)
    moved = await copy(source, target)
    assert (moved.copied, moved.spans, moved.feedback, moved.media, moved.refused) == (5, 7, 4, 1, [])
    assert await everything(target) == await everything(source)
    assert len((await target.get_trace(trace_id(1))).info.chain) == 2
    medium = hashlib.sha256(PNG).hexdigest()
    assert await target.get_media(medium) == await source.get_media(medium)
    for text in ("because", "resp_1"):
        found = await target.search_traces(TraceQuery(text=text))
        assert [t.info.trace_id for t in found] == [
            t.info.trace_id for t in await source.search_traces(TraceQuery(text=text))
        ]


async def test_the_rows_are_the_same_too_and_so_they_can_be_copied_on(source: Store, target: Store) -> None:
    await fill(source)
    await copy(source, target)
    ids = [trace_id(number) for number in (1, 9, 20, 21, 22)]

    async def rows(store: Store, *, bodies: bool = True) -> object:
        found = await store.stored_traces(ids, bodies=bodies)
        for trace in found:
            trace.patch.process_id = ""
        return found

    assert await rows(target) == await rows(source)
    assert await rows(target, bodies=False) == await rows(source, bodies=False)
    assert await target.stored_traces([trace_id(77)]) == []
    with pytest.raises(ConfigurationError, match="at most 100 traces at once, got 101"):
        await target.stored_traces([trace_id(number) for number in range(101)])


async def test_running_it_again_changes_nothing(source: Store, target: Store) -> None:
    await fill(source)
    await copy(source, target)
    before = await everything(target)
    moved = await copy(source, target)
    assert (moved.already_there, moved.copied, moved.completed, moved.spans) == (5, 0, 0, 0)
    assert await everything(target) == before


async def test_what_came_later_is_added_and_what_was_changed_there_stays(source: Store, target: Store) -> None:
    await fill(source)
    await copy(source, target)
    await target.set_trace_tag(trace_id(1), "env", "changed")
    await target.set_trace_tag(trace_id(1), "new", "there")
    late = span(30, trace_id=trace_id(1), parent_id=span_id(1), name="late", links={"response": "resp_0"})
    await source.write(batch([late], [patch(1, tags={"more": "1"}, dropped={"chunks": 1})]))
    await source.add_feedback(judged(5, 22))
    moved = await copy(source, target)
    assert (moved.completed, moved.already_there, moved.feedback) == (2, 3, 1)
    trace, original = await target.get_trace(trace_id(1)), await source.get_trace(trace_id(1))
    assert trace.data == original.data
    assert trace.info.tags == {"env": "changed", "new": "there", "team": "a b", "more": "1"}
    assert trace.info.dropped == {"chunks": 3}
    assert trace.info.name == "my agent"
    assert (await target.get_trace(trace_id(22))).info.feedback == [judged(5, 22)]
    links = [(await store.stored_traces([trace_id(1)]))[0].links for store in (source, target)]
    assert links[0] == links[1]
    assert (await copy(source, target)).already_there == 5


async def test_running_traces_come_when_they_have_ended(source: Store, target: Store) -> None:
    await source.write(batch([started(1)], [running(1)]))
    assert (await copy(source, target)).running == 1
    assert await everything(target) == []
    await source.write(simple(1))
    assert (await copy(source, target)).copied == 1
    assert await everything(target) == await everything(source)


async def test_an_interrupted_stream_keeps_what_it_had_brought(source: Store, target: Store) -> None:
    reads = [(START + SECOND, b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\n')]
    rows = batch(
        [started(1, operation="chat", inputs=b'{"stream":true}')],
        [running(1, process_id=GONE.process_id)],
        [ChunkRow(trace_id(1), span_id(1), reads)],
        GONE,
    )
    await source.write(rows)
    await source.end_process(GONE.process_id, [])
    (before,) = await everything(source)
    assert before.info.state is TraceState.INTERRUPTED
    assert before.data.spans[0].outputs is not None
    for expected in ("copied", "already_there"):
        assert getattr(await copy(source, target), expected) == 1
        assert await everything(target) == [before]


async def test_conditions_choose_what_is_copied(source: Store, target: Store) -> None:
    await fill(source)
    moved = await copy(source, target, filter_string="model = 'gpt-5'", until=(START + 22 * SECOND) / 1e9)
    assert moved.copied == 2
    assert [trace.info.trace_id for trace in await everything(target)] == [trace_id(20), trace_id(21)]


class _StopError(Exception):
    """Stands for a kill: after it, nothing more is written."""


@pytest.mark.parametrize("writes", range(4))
async def test_a_copy_that_dies_half_way_is_finished_by_the_next(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    await fill(source)
    monkeypatch.setattr(mover, "_SPANS", 1)  # a batch for each trace
    left = writes
    write = target.write

    async def dying(rows: Batch) -> None:
        nonlocal left
        left -= 1
        await write(rows)
        if left < 0:
            raise _StopError  # the rows are there, their feedback is not

    monkeypatch.setattr(target, "write", dying)
    with pytest.raises(_StopError):
        await copy(source, target)
    monkeypatch.undo()
    assert len(await everything(target)) == writes + 1
    moved = await copy(source, target)
    assert moved.copied == 5 - writes - 1
    assert await everything(target) == await everything(source)


async def test_memory_does_not_grow_with_the_number_of_traces(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(0, 600, 200):
        await source.write(simple(*range(start + 1, start + 201), inputs=b'"' + b"x" * 2_000 + b'"'))
    sizes: list[int] = []
    write = target.write

    async def counting(rows: Batch) -> None:
        sizes.append(len(rows.spans))
        await write(rows)

    monkeypatch.setattr(target, "write", counting)
    assert (await copy(source, target)).copied == 600
    assert max(sizes) <= 520
    assert sum(sizes) == 600


async def test_what_a_store_refuses_is_counted_and_the_rest_is_copied(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.write(simple(1, 2, 3))
    write = target.write

    async def refusing(rows: Batch) -> None:
        if any(row.trace_id == trace_id(2) for row in rows.spans):
            raise StoreError("this one never")
        await write(rows)

    monkeypatch.setattr(target, "write", refusing)
    moved = await copy(source, target)
    assert moved.copied == 2
    assert [(each.trace_id, each.reason) for each in moved.refused] == [(trace_id(2), "this one never")]
    assert moved.traces == 3


async def test_a_target_that_is_busy_is_asked_again(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.write(simple(1))
    monkeypatch.setattr(mover, "_FIRST_PAUSE", 0.0)
    errors: list[Exception] = [TransientStoreError("busy"), TransientStoreError("busy")]
    write = target.write

    async def busy(rows: Batch) -> None:
        if errors:
            raise errors.pop()
        await write(rows)

    monkeypatch.setattr(target, "write", busy)
    assert (await copy(source, target)).copied == 1
    monkeypatch.setattr(target, "stored_traces", _failing(TransientStoreError("who are you?", is_refusal=True)))
    with pytest.raises(TransientStoreError, match="who are you"):
        await copy(source, target)


def _failing(error: Exception) -> Callable[..., object]:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail


async def test_what_processes_lost_is_not_a_trace(source: Store, target: Store) -> None:
    rows = simple(1)
    rows.losses = [LossRow(reason="start", count=3, time_ns=START)]
    await source.write(rows)
    await copy(source, target)
    assert await target.losses() == []
