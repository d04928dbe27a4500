"""Spans that ended and are still to be sent: noted with their batch, and taken by one process at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.rows import START, batch, patch, running, simple, span, span_id, started, trace_id
from tracer.store import Store, open_store
from tracer.store.batch import Export


@pytest.fixture(params=["file", "memory", "postgres"])
async def exporting(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Store]:
    """Each kind of store of whose spans a process may be the sender."""
    uri = {"file": f"sqlite:///{path}", "memory": "memory://"}.get(request.param)
    store = open_store(uri or request.getfixturevalue("postgres_uri"))
    await store.open()
    store.options.exports = True
    yield store
    await store.aclose()


def ids(exports: list[Export]) -> list[str | None]:
    return [None if each.outgoing is None else each.outgoing.span.span_id for each in exports]


async def test_what_ends_is_noted_in_the_order_in_which_it_is_written(exporting: Store) -> None:
    rows = batch([span(1), started(2), span(3)], [patch(1), running(2), patch(3)])
    await exporting.write(rows)
    await exporting.write(batch([span(2)], [patch(2)]))
    assert ids(await exporting.take_exports("a", 10)) == [span_id(1), span_id(3), span_id(2)]


async def test_nothing_is_noted_unless_asked_for(exporting: Store) -> None:
    exporting.options.exports = False
    await exporting.write(simple(1))
    exporting.options.exports = True
    assert await exporting.take_exports("a", 10) == []


async def test_a_span_is_whole_and_says_of_its_trace_what_is_known(exporting: Store) -> None:
    first = started(1, inputs=b'{"a":1}', attributes=b'{"x":1}')
    await exporting.write(batch([first], [running(1, experiment="shop", session_id="s", user_id="u")]))
    last = span(1, outputs=b'"out"', usage={"input_tokens": 5}, cost=0.5, events=b'[["e",1,{"k":"v"}]]')
    inner = span(2, trace_id=trace_id(1), parent_id=span_id(1), model="m")
    await exporting.write(batch([inner, last], [patch(1, true_root=False)]))
    inside, outside = [each.outgoing for each in await exporting.take_exports("a", 10)]
    assert inside is not None
    assert outside is not None
    assert (outside.experiment, outside.session_id, outside.user_id) == ("shop", "s", "u")
    assert (outside.stands_for_trace, inside.stands_for_trace) == (True, False)
    read = outside.span
    assert (read.trace_id, read.inputs, read.outputs, read.attributes) == (trace_id(1), {"a": 1}, "out", {"x": 1})
    assert (read.token_usage, read.cost, read.start_time_ns) == ({"input_tokens": 5}, 0.5, START + 10**9)
    assert [(event.name, event.attributes) for event in read.events] == [("e", {"k": "v"})]
    assert inside.span.parent_id == span_id(1)


async def test_what_one_process_has_taken_no_other_takes_meanwhile(exporting: Store) -> None:
    await exporting.write(simple(1, 2, 3))
    assert ids(await exporting.take_exports("a", 2)) == [span_id(1), span_id(2)]
    assert ids(await exporting.take_exports("b", 2)) == [span_id(3)]
    assert ids(await exporting.take_exports("a", 2)) == [span_id(1), span_id(2)]  # its own, to try again


async def test_what_is_sent_is_taken_no_more(exporting: Store) -> None:
    await exporting.write(simple(1, 2))
    first, second = await exporting.take_exports("a", 2)
    await exporting.end_exports([first.key])
    assert await exporting.take_exports("a", 2) == [second]
    await exporting.end_exports([second.key])
    await exporting.write(simple(3))
    [third] = await exporting.take_exports("a", 2)
    assert third.key > second.key  # a late `end_exports` of another process must not hit it


async def test_what_a_process_took_and_did_not_send_others_take_later(
    exporting: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await exporting.write(simple(1))
    monkeypatch.setattr("tracer.store.base.TAKEN_SECONDS", 0.0)
    assert ids(await exporting.take_exports("a", 2)) == [span_id(1)]
    assert ids(await exporting.take_exports("b", 2)) == [span_id(1)]


async def test_what_a_process_gives_back_others_take(exporting: Store) -> None:
    await exporting.write(simple(1, 2))
    await exporting.take_exports("a", 1)
    await exporting.return_exports("a")
    assert ids(await exporting.take_exports("b", 2)) == [span_id(1), span_id(2)]
    await exporting.return_exports("a")
    assert await exporting.take_exports("a", 2) == []


async def test_a_span_that_was_deleted_before_it_was_sent_is_told(exporting: Store) -> None:
    await exporting.write(simple(1, 2))
    await exporting.delete_traces(trace_ids=[trace_id(1)])
    gone, kept = await exporting.take_exports("a", 10)
    assert (gone.outgoing, ids([kept])) == (None, [span_id(2)])


async def test_large_spans_are_taken_a_few_at_a_time(exporting: Store) -> None:
    body = json.dumps("x" * 5_000_000).encode()
    await exporting.write(simple(1, 2, 3, inputs=body))
    taken = await exporting.take_exports("a", 10)
    assert ids(taken) == [span_id(1)]
    await exporting.end_exports([each.key for each in taken])
    assert ids(await exporting.take_exports("a", 10)) == [span_id(2)]


async def test_odd_text_does_not_stop_the_others(exporting: Store) -> None:
    await exporting.write(simple(1, attributes=b"what is this", inputs=b"{", events=None))
    [taken] = await exporting.take_exports("a", 10)
    assert taken.outgoing is not None
    assert taken.outgoing.span.inputs == "{"
    assert str(taken.outgoing.span.attributes) == "what is this"
