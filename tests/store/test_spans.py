from __future__ import annotations

import json
import zlib
from pathlib import Path

import msgspec
import pytest

from tracer._exceptions import ConfigurationError, StoreError, TraceNotFoundError
from tracer._models import SpanStatusCode, TraceState
from tracer.store import TraceQuery
from tracer.store.base import Store

from .rows import SECOND, START, batch, patch, running, simple, span, span_id, started, trace_id

SSE = [(START + 1, b'data: {"a": 1}\n\ndata: {"a"'), (START + 5, b": 2}\n\ndata: [DONE]\n\n")]


def content(path: Path) -> bytes:
    return path.read_bytes()


def packed(chunks: list[tuple[int, bytes]]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(chunks))


async def test_a_span_comes_back_with_everything_that_was_written(any_store: Store) -> None:
    row = span(
        1,
        inputs='{"messages":[{"content":"héllo"}]}'.encode(),
        outputs=b"[1,2.5,null]",
        attributes=b'{"gen_ai.request.model":"gpt-5"}',
        events=msgspec.json.encode([["note", START + 9, {"x": 1}]]),
        status_code=SpanStatusCode.ERROR,
        status_description="broke",
        usage={"input_tokens": 3, "total_tokens": 3},
        cost=0.25,
        counted=True,
    )
    await any_store.write(
        batch(
            [row],
            [
                patch(
                    1,
                    experiment="E",
                    request_preview="hello",
                    response_preview="hi",
                    tags={"k": "v"},
                    metadata={"m": "n"},
                    session_id="s",
                    user_id="u",
                    dropped={"chunks": 2},
                    state=TraceState.ERROR,
                )
            ],
        )
    )
    trace = await any_store.get_trace(trace_id(1))
    found = trace.data.spans[0]
    assert (found.inputs, found.outputs) == ({"messages": [{"content": "héllo"}]}, [1, 2.5, None])
    assert found.attributes == {"gen_ai.request.model": "gpt-5"}
    assert [(event.name, event.timestamp_ns, event.attributes) for event in found.events] == [
        ("note", START + 9, {"x": 1})
    ]
    assert (found.status.status_code, found.status.description) == (SpanStatusCode.ERROR, "broke")
    assert (found.token_usage, found.cost, found.duration_ns) == (
        {"input_tokens": 3, "total_tokens": 3},
        0.25,
        SECOND // 2,
    )
    info = trace.info
    assert (info.experiment, info.name, info.state) == ("E", "AsyncCompletions", TraceState.ERROR)
    assert (info.request_preview, info.response_preview, info.duration_ns) == ("hello", "hi", SECOND // 2)
    assert (info.tags, info.metadata, info.session_id, info.user_id) == ({"k": "v"}, {"m": "n"}, "s", "u")
    assert (info.token_usage, info.cost, info.dropped) == (found.token_usage, 0.25, {"chunks": 2})


async def test_an_unknown_trace_is_not_found(any_store: Store) -> None:
    with pytest.raises(TraceNotFoundError, match=trace_id(404)):
        await any_store.get_trace(trace_id(404))


async def test_an_end_completes_its_start(any_store: Store) -> None:
    await any_store.write(batch([started(1, inputs=b'"in"', attributes=b'{"a":1}')], [running(1)]))
    assert (await any_store.get_trace(trace_id(1))).info.state == TraceState.IN_PROGRESS
    await any_store.write(simple(1, outputs=b'"out"'))
    trace = await any_store.get_trace(trace_id(1))
    (found,) = trace.data.spans
    assert (found.inputs, found.outputs, found.attributes) == ("in", "out", {"a": 1})
    assert (found.status.status_code, trace.info.state) == (SpanStatusCode.OK, TraceState.OK)


async def test_a_start_that_comes_after_its_end_changes_nothing_but_fills_gaps(any_store: Store) -> None:
    await any_store.write(simple(1, attributes=b'{"end":1}'))
    await any_store.write(batch([started(1, inputs=b'"in"', attributes=b'{"start":1}')], [running(1)]))
    trace = await any_store.get_trace(trace_id(1))
    assert (trace.data.spans[0].attributes, trace.data.spans[0].inputs) == ({"end": 1}, "in")
    assert (trace.info.state, trace.info.duration_ns) == (TraceState.OK, SECOND // 2)


async def test_writing_an_end_twice_counts_its_tokens_once(any_store: Store) -> None:
    twice = simple(1, usage={"input_tokens": 5}, cost=0.5, counted=True, model="gpt-5")
    for _ in range(2):
        await any_store.write(twice)
    info = (await any_store.get_trace(trace_id(1))).info
    assert (info.token_usage, info.cost) == ({"input_tokens": 5}, 0.5)


async def test_a_trace_sums_its_counted_spans_over_batches(any_store: Store) -> None:
    def call(number: int, **changes: object) -> object:
        return span(1, span_id=span_id(number), parent_id=span_id(1), usage={"input_tokens": number}, **changes)

    await any_store.write(batch([span(1, span_type="CHAIN")], [patch(1)]))
    await any_store.write(batch([call(10, counted=True, cost=1.0), call(20, counted=True)], [patch(1)]))  # type: ignore[list-item]
    await any_store.write(batch([call(30, counted=False, cost=9.0)], [patch(1)]))  # type: ignore[list-item]
    info = (await any_store.get_trace(trace_id(1))).info
    assert (info.token_usage, info.cost) == ({"input_tokens": 30}, 1.0)


async def test_usage_that_nobody_reported_is_none(any_store: Store) -> None:
    await any_store.write(simple(1, counted=True))
    assert (await any_store.get_trace(trace_id(1))).info.token_usage is None


async def test_a_span_without_parent_takes_the_trace_over_from_a_remote_child(any_store: Store) -> None:
    await any_store.write(
        batch(
            [span(1, span_id=span_id(7), name="remote")],
            [patch(1, root_span_id=span_id(7), true_root=False, name="remote")],
        )
    )
    await any_store.write(batch([started(1, name="root")], [running(1, name="root", start_time_ns=START)]))
    await any_store.write(
        batch([], [patch(1, root_span_id=span_id(8), true_root=False, name="late child", request_preview="x")])
    )
    trace = await any_store.get_trace(trace_id(1))
    assert (trace.info.name, trace.info.state, trace.info.start_time_ns) == ("root", TraceState.IN_PROGRESS, START)
    assert (trace.info.duration_ns, trace.info.request_preview) == (None, None)
    assert trace.data.spans[0].name == "root"


async def test_the_users_name_wins_and_maps_merge(any_store: Store) -> None:
    await any_store.write(
        batch([], [patch(1, name_override="mine", tags={"a": "1", "b": "1"}, metadata={"a": "1"}, dropped={"x": 1})])
    )
    await any_store.write(batch([], [patch(1, tags={"b": "2"}, metadata={"b": "2"}, dropped={"x": 2, "y": 5})]))
    info = (await any_store.get_trace(trace_id(1))).info
    assert (info.name, info.tags, info.metadata) == ("mine", {"a": "1", "b": "2"}, {"a": "1", "b": "2"})
    assert info.dropped == {"x": 3, "y": 5}


async def test_spans_are_ordered_root_first_then_by_start_and_calls_are_numbered(any_store: Store) -> None:
    rows = [
        span(1, span_id=span_id(3), parent_id=span_id(1), name="Completions", start_time_ns=START + 20),
        span(1, span_id=span_id(2), parent_id=span_id(1), name="Completions", start_time_ns=START + 10),
        span(1, name="root", span_type="CHAIN", start_time_ns=START + 15),
    ]
    await any_store.write(batch(rows, [patch(1)]))
    spans = (await any_store.get_trace(trace_id(1))).data.spans
    assert [(found.name, found.span_id) for found in spans] == [
        ("root", span_id(1)),
        ("Completions_1", span_id(2)),
        ("Completions_2", span_id(3)),
    ]


async def test_stream_chunks_are_read_as_events_among_the_others(any_store: Store) -> None:
    events = msgspec.json.encode([["note", START + 3, {}]])
    await any_store.write(batch([span(1, chunks=packed(SSE), events=events)], [patch(1)]))
    found = (await any_store.get_trace(trace_id(1))).data.spans[0].events
    assert [event.name for event in found] == ["gen_ai.chunk", "note", "gen_ai.chunk"], "[DONE] is none"
    assert [event.attributes.get("data") for event in found if event.name == "gen_ai.chunk"] == [{"a": 1}, {"a": 2}]
    assert [event.attributes.get("index") for event in found] == [0, None, 1]


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (b'{"x": NaN}', None),
        (b"not json", "not json"),
        (b'"\\ud800"', "?"),
        (b'"\xff"', "\ufffd"),
        (b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000),
    ],
    ids=["nan", "no json", "surrogate", "no utf-8", "deep"],
)
async def test_odd_payloads_are_kept_and_read(any_store: Store, stored: bytes, read: object) -> None:
    await any_store.write(simple(1, outputs=stored))
    outputs = (await any_store.get_trace(trace_id(1))).data.spans[0].outputs
    assert outputs == read if read is not None else outputs["x"] != outputs["x"]


async def test_text_that_is_no_unicode_does_not_cost_the_batch(any_store: Store) -> None:
    await any_store.write(batch([span(1, name="a\ud800b"), span(2)], [patch(1, tags={"k": "\udfff"}), patch(2)]))
    assert (await any_store.get_trace(trace_id(1))).data.spans[0].name == "a?b"
    assert (await any_store.get_trace(trace_id(2))).data.spans


async def test_a_batch_is_written_whole_or_not_at_all(any_store: Store) -> None:
    orphan = span(2, trace_id=trace_id(99))  # its trace is not in the batch
    with pytest.raises(StoreError):
        await any_store.write(batch([span(1), orphan], [patch(1)]))
    with pytest.raises(TraceNotFoundError):
        await any_store.get_trace(trace_id(1))
    await any_store.write(simple(1))


async def test_tags_can_be_set_changed_and_deleted(any_store: Store) -> None:
    await any_store.write(simple(1))
    await any_store.set_trace_tag(trace_id(1), "k", "1")
    await any_store.set_trace_tag(trace_id(1), "k", "2")
    assert (await any_store.get_trace(trace_id(1))).info.tags == {"k": "2"}
    await any_store.delete_trace_tag(trace_id(1), "k")
    await any_store.delete_trace_tag(trace_id(1), "never there")
    assert (await any_store.get_trace(trace_id(1))).info.tags == {}
    with pytest.raises(TraceNotFoundError):
        await any_store.set_trace_tag(trace_id(2), "k", "1")
    with pytest.raises(TraceNotFoundError):
        await any_store.delete_trace_tag(trace_id(2), "k")


async def test_deleting_everything_by_accident_is_refused(any_store: Store) -> None:
    with pytest.raises(ConfigurationError, match="got none of them"):
        await any_store.delete_traces()


async def test_a_number_alone_deletes_the_oldest(any_store: Store) -> None:
    await any_store.write(simple(3, 1, 2))
    assert await any_store.delete_traces(max_traces=2) == 2
    assert [trace.info.trace_id for trace in await any_store.search_traces(TraceQuery())] == [trace_id(3)]


async def test_a_trace_survives_json(any_store: Store) -> None:
    await any_store.write(simple(1, inputs=b'{"a":[1]}'))
    trace = await any_store.get_trace(trace_id(1))
    assert json.loads(trace.to_json())["data"]["spans"][0]["inputs"] == {"a": [1]}


def stored(path: Path) -> bool:
    return path.exists()
