"""Which of a trace's words are the user's and which the answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.render.traces import chat_answer, chat_span, make_span, make_trace
from tracer import _semconv as sc
from tracer._models import SpanType, Trace, TraceState
from tracer.render import render_turn
from tracer.render._media import MediaLinks
from tracer.render._turn import PART_CHARS, read_turn


def texts(trace: Trace) -> list[tuple[str, str]]:
    """(role, text or value) of each message of the turn."""
    messages = read_turn(trace, MediaLinks())
    return [(one.role, " ".join(part.text or str(part.value) for part in one.parts)) for one in messages]


def asked(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": role, "content": content} for role, content in messages]}


def test_only_the_last_question_of_a_history_is_new() -> None:
    history = asked(("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?"))
    trace = make_trace(chat_span(1, inputs=history, outputs=chat_answer({"content": "2"})))
    assert texts(trace) == [("user", "Two?"), ("assistant", "2")]


def test_an_agent_says_what_its_last_call_said() -> None:
    called = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    trace = make_trace(
        make_span(1, span_type=SpanType.AGENT, inputs={"client": "<object>"}, outputs={"id": 7}),
        make_span(2, span_type=SpanType.EMBEDDING, inputs={"input": "vector"}, attributes={sc.OPERATION: "embeddings"}),
        chat_span(3, inputs=asked(("user", "Where is it?")), outputs=chat_answer({"tool_calls": [called]})),
        chat_span(4, inputs=asked(("user", "Is it on its way?")), outputs=chat_answer({"content": "On its way."})),
    )
    assert texts(trace) == [("user", "Where is it?"), ("assistant", "On its way.")]


def test_a_function_with_words_of_its_own_says_them() -> None:
    call = chat_span(2, inputs=asked(("user", "Rephrase: hello")), outputs=chat_answer({"content": "draft"}))
    trace = make_trace(make_span(1, inputs="hello", outputs="the final *text*"), call)
    assert texts(trace) == [("input", "hello"), ("output", "the final *text*")]


def test_a_function_without_model_calls_shows_its_values() -> None:
    trace = make_trace(make_span(1, inputs={"a": 1}, outputs=[2]))
    assert texts(trace) == [("input", "{'a': 1}"), ("output", "[2]")]


@pytest.mark.parametrize("body", [{"messages": 3}, {"messages": [None, 7]}, {"input": [{"role": []}]}, 5, "", None])
def test_what_nobody_foresaw_is_no_failure(body: Any) -> None:
    attributes = {sc.OPERATION: "chat"}
    span = make_span(1, inputs=body, outputs=body, attributes=attributes, span_type=SpanType.CHAT_MODEL)
    assert "</div>" in render_turn(make_trace(span))


def test_long_texts_are_cut() -> None:
    trace = make_trace(make_span(1, inputs="x" * (PART_CHARS + 1_500), outputs="short"))
    (_, question), (_, answer) = texts(trace)
    assert question.startswith("x" * PART_CHARS + "\n\n… 1,500 more")
    assert answer == "short"


def test_a_turn_that_has_not_begun_says_so() -> None:
    assert "Nothing was said yet" in render_turn(make_trace(make_span(1, end=None), state=TraceState.IN_PROGRESS))
    assert "Nothing that can be shown" in render_turn(make_trace())


def test_a_failure_leads_to_its_span() -> None:
    trace = make_trace(make_span(1), make_span(2, failed=True), state=TraceState.OK)
    assert "tv-alert" not in render_turn(trace)  # it was handled
    failed = make_trace(make_span(1, failed=True), make_span(2, failed=True), state=TraceState.ERROR)
    page = render_turn(failed, base="/base")
    assert f'href="/base/traces/{failed.info.trace_id}?span=0000000000000002"' in page
