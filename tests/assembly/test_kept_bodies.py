"""``keep_bodies``: which spans keep their inputs and outputs, and what the others still say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.reading import last_trace, stored_rows
from tracer import _semconv as sc
from tracer._config import BodyRule
from tracer.assembly._kept_bodies import is_chosen
from tracer.assembly.assembler import Assembler
from tracer.capture.records import Ending, Record, SpanChunk, SpanEnded, SpanStarted, SpanUpdated, encode
from tracer.capture.snapshots import snapshot
from tracer.store import current_process
from tracer.store.batch import Batch
from tracer.testing import FakeOpenAI, reply

WORD = "xyzzy-swordfish"
MESSAGES: Any = [{"role": "user", "content": f"What is {WORD}?"}]
TRACE, SPAN = "a" * 32, "1" * 16
SECOND = 1_000_000_000


def started() -> SpanStarted:
    return SpanStarted(TRACE, SPAN, None, "root", "CHAIN", SECOND, "Default", inputs=snapshot(WORD, 1_000))


def assembled(rule: BodyRule | None, *groups: list[Record]) -> tuple[list[Batch], Assembler]:
    assembler = Assembler(current_process())
    assembler.keep_bodies = rule
    batches = []
    for group in groups:
        for record in group:
            assembler.feed(encode(record))
        batches.append(assembler.take_batch())
    return batches, assembler


async def test_a_call_without_its_body_still_says_all_else(server: FakeOpenAI, client: openai.OpenAI) -> None:
    tracer.configure(keep_bodies=0)
    client.chat.completions.create(model="gpt-5", messages=MESSAGES, tools=[tool()])
    (span,) = (await last_trace()).data.spans
    assert (span.inputs, span.outputs) == (None, None)
    assert span.attributes[sc.BODY_LEFT_OUT] is True
    assert sc.TOOL_DEFINITIONS not in span.attributes
    assert span.attributes[sc.REQUEST_MODEL] == "gpt-5"
    assert span.token_usage
    assert span.cost is not None
    info = (await last_trace()).info
    assert WORD in (info.request_preview or "")  # one line stays, for lists
    assert tracer.stats().bodies_left_out == 1


@pytest.fixture
def client(server: FakeOpenAI) -> Iterator[openai.OpenAI]:
    tracer.openai.autolog()
    with server.client(max_retries=0) as client:
        yield client


def tool() -> Any:
    return {"type": "function", "function": {"name": "nothing", "description": "of use", "parameters": {}}}


async def test_a_stream_keeps_no_raw_reads_either(server: FakeOpenAI, client: openai.OpenAI, tmp_path: Path) -> None:
    tracer.configure(keep_bodies={"rate": 0.0})
    server.enqueue(reply.text("and the answer is plugh-plugh"))
    for _ in client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True):
        pass
    (span,) = (await last_trace()).data.spans
    assert (span.inputs, span.outputs, span.events) == (None, None, [])
    assert span.attributes[sc.TIME_TO_FIRST_TOKEN] > 0
    assert (await last_trace()).info.response_preview == "and the answer is plugh-plugh"
    assert stored_rows(tmp_path).count("plugh-plugh") == 1  # the preview


async def test_failed_calls_keep_their_bodies_unless_told_otherwise(server: FakeOpenAI, client: openai.OpenAI) -> None:
    for rule, kept in ((0, True), ({"errors": False}, False)):
        tracer.configure(keep_bodies=rule)
        server.enqueue(reply.error(400, "no"))
        with contextlib.suppress(openai.APIError):
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        (span,) = (await last_trace()).data.spans
        assert (span.inputs is not None) is kept
        assert (sc.BODY_LEFT_OUT in span.attributes) is not kept
        assert "no" in span.status.description


async def test_all_bodies_are_kept_by_default(client: openai.OpenAI) -> None:
    client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    (span,) = (await last_trace()).data.spans
    assert span.inputs["messages"] == MESSAGES
    assert sc.BODY_LEFT_OUT not in span.attributes
    assert tracer.stats().bodies_left_out == 0


@pytest.mark.parametrize(("seconds", "kept"), [(9, False), (11, True)], ids=["quick", "slow"])
def test_slow_spans_keep_their_bodies(seconds: int, kept: bool) -> None:
    ended = SpanEnded(SPAN, SECOND * (1 + seconds), Ending.RETURNED, outputs=snapshot("done", 1_000))
    (batch,), assembler = assembled(BodyRule(slower_than=10.0), [started(), ended])
    (row,) = batch.spans
    assert (row.inputs, row.outputs) == ((f'"{WORD}"'.encode(), b'"done"') if kept else (None, None))
    assert assembler.counts.bodies_left_out == (0 if kept else 1)
    assert (b"body_left_out" in (row.attributes or b"")) is not kept


@pytest.mark.parametrize(
    ("ending", "kept"), [(Ending.RETURNED, False), (Ending.COLLECTED, True)], ids=["done", "abandoned"]
)
def test_a_running_span_waits_with_its_body_until_it_is_known_how_it_ends(ending: Ending, kept: bool) -> None:
    told = SpanUpdated(SPAN, outputs=snapshot("half done", 1_000))
    chunk = SpanChunk(SPAN, SECOND + 1, b"data: {}\n\n")
    ended = SpanEnded(SPAN, SECOND * 2, ending)
    (first, last), _ = assembled(BodyRule(), [started(), told, chunk], [ended])
    (running,) = first.spans
    assert (running.inputs, running.outputs, running.text, first.chunks) == (None, None, None, [])
    (row,) = last.spans
    assert (row.inputs, row.outputs) == ((f'"{WORD}"'.encode(), b'"half done"') if kept else (None, None))
    assert (row.text is not None) is kept


def test_a_chosen_trace_is_written_at_once() -> None:
    (first,), _ = assembled(BodyRule(rate=1.0), [started()])
    assert first.spans[0].inputs == f'"{WORD}"'.encode()


def test_a_span_without_a_body_lacks_nothing() -> None:
    bare = SpanStarted(TRACE, SPAN, None, "root", "CHAIN", SECOND, "Default")
    (batch,), assembler = assembled(BodyRule(), [bare, SpanEnded(SPAN, SECOND * 2, Ending.RETURNED)])
    assert b"body_left_out" not in (batch.spans[0].attributes or b"")
    assert assembler.counts.bodies_left_out == 0


async def test_tools_that_openai_ran_go_with_their_call(server: FakeOpenAI, client: openai.OpenAI) -> None:
    tracer.configure(keep_bodies=0)
    client.responses.create(model="gpt-5", input=f"Search the web for {WORD}", tools=[{"type": "web_search"}])
    spans = (await last_trace()).data.spans
    assert len(spans) > 1
    assert all((span.inputs, span.outputs) == (None, None) for span in spans)
    assert spans[1].attributes[sc.BODY_LEFT_OUT] is True


def test_the_rate_chooses_whole_traces_and_always_the_same() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    rule = BodyRule(rate=0.25)
    chosen = {trace_id for trace_id in ids if is_chosen(rule, trace_id)}
    assert 0.24 < len(chosen) / len(ids) < 0.26
    assert chosen == {trace_id for trace_id in ids if is_chosen(rule, trace_id)}
    more = {trace_id for trace_id in ids if is_chosen(BodyRule(rate=0.5), trace_id)}
    assert chosen < more
    assert not any(is_chosen(BodyRule(rate=0.0), trace_id) for trace_id in ids)
    assert all(is_chosen(BodyRule(rate=1.0), trace_id) for trace_id in ids)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (2, "rate'] must be a number from 0 to 1"),
        ("often", "keep_bodies must be None, a rate"),
        (True, "keep_bodies must be None, a rate"),
        ({"rates": 1.0}, "unknown field `rates`"),
        ({"slower_than": -1}, "slower_than'] must be a number"),
    ],
    ids=["too much", "text", "true", "unknown", "negative"],
)
def test_a_wrong_rule_says_what_is_wrong(given: object, problem: str) -> None:
    with pytest.raises(tracer.ConfigurationError, match=problem):
        tracer.configure(keep_bodies=given)
