"""A batch means the same here as in SQLite, which says what it means; and what only PostgreSQL refuses is defined."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tests.store.rows import SECOND, START, batch, patch, running, simple, span, span_id, started, trace_id
from tracer._models import Feedback, SpanStatusCode, TraceState
from tracer.store import Batch, ChunkRow, TraceQuery, open_store
from tracer.store.base import Store
from tracer.store.batch import LossRow
from tracer.store.postgres.store import PostgresStore

WORDS = ["alpha", "Beta", "天気は", "école", "x" * 40]


def random_batch(rng: random.Random) -> Batch:
    """Starts and ends of a few spans of a few traces, in any order, some of them twice."""
    made = batch()
    for _ in range(rng.randrange(1, 9)):
        number, at = rng.randrange(3), rng.randrange(3)
        values: dict[str, Any] = {
            "span_id": span_id(at),
            "name": rng.choice(WORDS),
            "start_time_ns": START + at * SECOND,
            "text": rng.choice([None, *WORDS]),
            "attributes": rng.choice(
                [None, b'{"tracer.time_to_first_token":0.5,"k":1}', b'{"error.type":"E"}', b"{no"]
            ),
            "status_description": rng.choice(["", "slow down"]),
            "model": rng.choice([None, "m1", "m2"]),
            "usage": rng.choice([None, {"input_tokens": 3}, {"input_tokens": 4, "total_tokens": 9}]),
            "cost": rng.choice([None, 0.5]),
            "counted": rng.random() < 0.5,
            "inputs": rng.choice([None, b'"in"']),
            "outputs": rng.choice([None, b'"out"']),
            "links": rng.choice([None, {"response": f"r{at}"}, {"previous_response": "r1"}]),
        }
        kind = started if rng.random() < 0.4 else span
        made.spans.append(kind(number, **values))
        root = rng.choice([None, span_id(at)])
        changes: dict[str, Any] = {
            "root_span_id": root,
            "true_root": root is not None and rng.random() < 0.5,
            "name": rng.choice([None, *WORDS]),
            "start_time_ns": START + rng.randrange(3) * SECOND,
            "experiment": rng.choice([None, "E", "F"]),
            "name_override": rng.choice([None, None, "mine"]),
            "request_preview": rng.choice([None, "asked"]),
            "tags": rng.choice([{}, {"a": "1"}, {"a": "2", "b": "3"}]),
            "metadata": rng.choice([{}, {"m": "1"}, {"m": "2", "n": "3"}]),
            "dropped": rng.choice([{}, {"chunks": 1}, {"chunks": 2, "bodies": 1}]),
            "session_id": rng.choice([None, "s"]),
            "state": rng.choice([None, TraceState.OK, TraceState.ERROR]),
        }
        make = running if rng.random() < 0.3 else patch
        if make is running:
            changes.pop("state")
        made.traces.append(make(number, **changes))
    if rng.random() < 0.3:
        row = rng.choice(made.spans)
        made.chunks.append(ChunkRow(row.trace_id, row.span_id, [(START, b"data: 1\n\n")]))
    return made


async def told(store: Store) -> Any:
    page = await store.search_traces(TraceQuery(order_by=["name asc", "start_time desc"]))
    traces = sorted(msgspec.to_builtins(list(page)), key=lambda trace: str(trace["info"]["trace_id"]))
    for trace in traces:
        trace["info"]["models"].sort()
        trace["info"]["chain"].sort()  # traces of one moment have no order that both know
    return traces


@pytest.mark.parametrize("seed", range(12))
async def test_any_batches_mean_what_they_mean_to_sqlite(store: PostgresStore, seed: int) -> None:
    other = open_store("memory://")
    rng = random.Random(seed)
    for _ in range(6):
        rows = random_batch(rng)
        for each in (store, other):
            for _ in range(2):  # once more changes nothing but what is added up, which is the same for both
                await each.write(rows)
        assert await told(store) == await told(other)
        for word in ("alpha", "beta", "天気", "ecole", "slow", "E"):
            found = [
                [
                    trace.info.trace_id
                    for trace in await each.search_traces(TraceQuery(text=word, order_by="start_time"))
                ]
                for each in (store, other)
            ]
            assert sorted(map(str, found[0])) == sorted(map(str, found[1])), word
    await other.aclose()


# --- what PostgreSQL's types refuse -----------------------------------------------------------------------------------
NUL = "a\0b\ud800"
STORED = "a\ufffdb?"


async def test_nul_and_half_surrogates_cost_nothing_of_the_batch(store: PostgresStore) -> None:
    row = span(
        1,
        name=NUL,
        span_type=NUL,
        operation=NUL,
        status_code=SpanStatusCode.ERROR,
        status_description=NUL,
        finish=NUL,
        model=NUL,
        text=NUL,
        inputs=b'"raw \0 byte"',
        outputs=b'"escaped \\u0000"',
        attributes=b'{"k":"x\\u0000y","n":5}',
        events=b'[["n\\u0000",1,{}]]',
        links={"response": NUL},
        counted=True,
    )
    told_by = patch(1, name=NUL, experiment=NUL, session_id=NUL, user_id=NUL, request_preview=NUL)
    told_by.tags, told_by.metadata, told_by.dropped = {NUL: NUL}, {NUL: NUL}, {NUL: 3}
    rows = batch([row, span(2)], [told_by, patch(2)])
    rows.losses = [LossRow(reason=NUL, count=1, time_ns=1)]
    await store.write(rows)
    trace = await store.get_trace(trace_id(1))
    info, [found] = trace.info, trace.data.spans
    assert (info.name, info.experiment, info.session_id, info.user_id) == (STORED,) * 4
    assert (info.tags, info.metadata, info.dropped) == ({STORED: STORED}, {STORED: STORED}, {STORED: 3})
    assert (found.name, found.status.description, info.models) == (STORED, STORED, [STORED])
    assert (found.outputs, found.attributes) == ("escaped \0", {"k": "x\0y", "n": 5})
    assert [event.name for event in found.events] == ["n\0"]
    assert [loss.count for loss in await store.losses()] == [1]
    for query in (
        TraceQuery(name="a\0b?"),
        TraceQuery(tags={NUL: NUL}),
        TraceQuery(model=NUL),
        TraceQuery(filter_string="span.attributes.n = 5"),
        TraceQuery(filter_string="name RLIKE 'a\0b'"),
        TraceQuery(filter_string="span.content LIKE '%raw%'"),
    ):
        assert [each.info.trace_id for each in await store.search_traces(query)] == [trace_id(1)], query
    await store.add_feedback(
        Feedback(id="1", trace_id=trace_id(1), name=NUL, value=NUL, comment=NUL, source=NUL, created_ns=1)
    )
    [judged] = await store.list_feedback(name=NUL)
    assert (judged.value, judged.comment) == (STORED, STORED)
    await store.set_trace_tag(trace_id(1), "k\0", "v\0")
    await store.delete_trace_tag(trace_id(1), "k\0")
    assert (await store.get_trace(trace_id(1))).info.tags == {STORED: STORED}


async def test_texts_that_no_index_has_room_for_are_stored_and_found(store: PostgresStore) -> None:
    long = random.Random(1).randbytes(50_000).hex()
    rows = simple(1, name=long, experiment=long, session_id=long, user_id=long, model=long, links={"response": long})
    rows.traces[0].tags = {long: long}
    await store.write(rows)
    await store.add_feedback(Feedback(id="1", trace_id=trace_id(1), name=long, value=long, created_ns=1))
    for query in (
        TraceQuery(name=long),
        TraceQuery(experiment=long),
        TraceQuery(session_id=long),
        TraceQuery(user_id=long),
        TraceQuery(model=long),
        TraceQuery(tags={long: long}),
        TraceQuery(linked_to=trace_id(1)),
    ):
        assert len(await store.search_traces(query)) == 1
    assert len(await store.list_feedback(name=long)) == 1
    assert (await store.sessions(TraceQuery())).sessions[0].session_id == long


async def test_a_span_with_more_words_than_fit_is_stored_and_found_by_the_first(store: PostgresStore) -> None:
    rng = random.Random(2)
    words = " ".join(f"{rng.getrandbits(64):x}" for _ in range(120_000))
    await store.write(simple(1, text=f"first {words} {'w' * 5_000} {'same ' * 70_000}"))
    assert len(await store.search_traces(TraceQuery(text=f"first {words.split()[100]}"))) == 1
    assert len(await store.search_traces(TraceQuery(text=f'"{" ".join(words.split()[5:8])}"'))) == 1


async def test_numbers_that_are_too_large_are_left_out(store: PostgresStore) -> None:
    await store.write(simple(1, usage={"input_tokens": 2**80, "total_tokens": 2**63 - 1}, counted=True))
    row = span(1, span_id=span_id(9), usage={"total_tokens": 2**63 - 1}, counted=True)
    await store.write(batch([row], [patch(1)]))
    assert (await store.get_trace(trace_id(1))).info.token_usage == {"total_tokens": 2**63 - 1}
    for value in ("1e400", "9" * 500, "1e99999999"):
        await store.write(simple(2, attributes=b'{"n":%s,"m":7}' % value.encode()))
        assert not await store.search_traces(TraceQuery(filter_string="span.attributes.n < 5"))
        assert len(await store.search_traces(TraceQuery(filter_string="span.attributes.m = 7"))) == 1


@pytest.mark.parametrize(
    ("pattern", "text", "hit"),
    [
        (r"\d{4}-\d\d$", "on 2026-11\n", True),
        (r"\d{4}-\d\d\Z", "on 2026-11\n", False),
        (r"^b", "a\nb", False),
        (r"(?m)^b", "a\nb", True),
        (r"a.b", "a\nb", False),
        (r"(?s)a.b", "a\nb", True),
        (r"(?i)straSSe|É", "STRASSE", True),
        (r"(?i)[a-c]x", "BX", True),
        (r"[^\W\d]+\b!", "12 ab!", True),
        (r"[^\W\d]+\b!", "12!", False),
        (r"(?<!a)b(?=c)", "xbc", True),
        (r"(?<!a)b(?=c)", "abc", False),
        (r"(?P<name>x{2,300})y", "x" * 299 + "y", True),
        (r"^x{290,300}$", "x" * 301, False),
        (r"^x{290,300}$", "x" * 290, True),
        (r"[\]\-^\\]{4}", "]-^\\", True),
        (r"\.\*\+\?\(\)", ".*+?()", True),
        (r"***=x", "x", None),
        (r"é\s天", "é 天", True),
    ],
)
async def test_regular_expressions_are_pythons(store: PostgresStore, pattern: str, text: str, hit: bool | None) -> None:
    other = open_store("memory://")
    written = pattern.replace("\\", "\\\\").replace("'", "''")
    query = TraceQuery(filter_string=f"name RLIKE '{written}'")
    for each in (store, other):
        await each.write(simple(1, name=text))
        if hit is None:
            with pytest.raises(ValueError, match="RLIKE needs"):
                await each.search_traces(query)
        else:
            assert bool(await each.search_traces(query)) is hit, each.uri
    await other.aclose()
