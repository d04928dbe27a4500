"""Comparisons of traces that no pipeline made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.render.traces import agent_trace, chat_answer, chat_span, make_span, make_trace, wide_trace
from tracer._exceptions import TraceNotFoundError
from tracer.render import compare, render_sides
from tracer.render._compare import MAX_CHARS, MAX_SPANS, MAX_TURN_CHARS
from tracer.render._diff import MAX_TOKENS, word_diff

WORDS = st.lists(st.sampled_from(["red", "blue", " ", "\n", ".", "é", "a  b "]), max_size=30).map("".join)


@given(WORDS, WORDS)
def test_the_pieces_of_a_diff_make_up_both_texts(left: str, right: str) -> None:
    pieces = word_diff(left, right)
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == left
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == right
    assert all(piece.text for piece in pieces)
    assert (left == right) == all(piece.kind == "same" for piece in pieces)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("a red car", "a blue car", [("same", "a "), ("removed", "red"), ("added", "blue"), ("same", " car")]),
        ("Hello world", "Hello, world", [("removed", "Hello"), ("added", "Hello,"), ("same", " world")]),
        ("nothing of it", "alike", [("removed", "nothing of it"), ("added", "alike")]),
        ("", "new", [("added", "new")]),
    ],
)
def test_words_that_differ(left: str, right: str, expected: list[tuple[str, str]]) -> None:
    assert [(piece.kind, piece.text) for piece in word_diff(left, right)] == expected


@pytest.mark.parametrize("text", ["a " * 5 * MAX_TOKENS, "line\n" * 5 * MAX_TOKENS], ids=["words", "lines"])
def test_what_is_too_long_is_told_between_its_equal_ends(text: str) -> None:
    pieces = word_diff(text + "end", "begin " + text + "end")
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == "begin " + text + "end"


def test_turns_are_paired_by_what_they_say_and_by_role() -> None:
    def asking(*contents: str) -> list[dict[str, str]]:
        roles = ("user", "assistant", "user")
        return [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]

    a = make_trace(chat_span(1, inputs={"messages": asking("Hi", "Hello", "What is red?")}))
    b = make_trace(chat_span(1, inputs={"messages": asking("Hi")}))
    turns = compare(a, b).inputs
    assert [(turn.role, turn.where, turn.differs) for turn in turns] == [
        ("user", "both", False),
        ("assistant", "a", True),
        ("user", "a", True),
    ]


def test_long_texts_are_cut_and_told_so() -> None:
    texts = [f"{letter} " * 3 * MAX_TURN_CHARS for letter in "xy"]
    a, b = (make_trace(chat_span(1, outputs=chat_answer({"content": text}))) for text in texts)
    (turn,) = compare(a, b).outputs
    assert turn.cut == 6 * MAX_TURN_CHARS - MAX_TURN_CHARS
    many = [{"role": "user", "content": "word " * 3_000} for _ in range(100)]
    found = compare(make_trace(chat_span(1, inputs={"messages": many})), b).inputs
    assert sum(len(piece.text) for turn in found for piece in turn.pieces) < 2 * MAX_CHARS


def test_texts_that_part_beyond_the_cut_differ() -> None:
    text = "word " * MAX_TURN_CHARS
    a, b = (make_trace(make_span(1, outputs=text + end)) for end in ("left", "right"))
    (turn,) = compare(a, b).outputs
    assert turn.differs


def test_large_trees_are_bounded() -> None:
    found = compare(wide_trace(600), wide_trace(601))
    assert len(found.spans) <= 2 * MAX_SPANS
    assert found.spans_left_out == 1201 - 2 * MAX_SPANS


def test_a_span_may_be_compared_with_a_trace() -> None:
    trace = agent_trace()
    call = next(span for span in trace.data.spans if span.name == "AsyncCompletions_1")
    found = compare(trace, trace, b_span=call.span_id)
    assert (found.a.span_id, found.b.span_id, found.spans) == (trace.data.spans[0].span_id, call.span_id, [])
    with pytest.raises(TraceNotFoundError, match="no span"):
        compare(trace, trace, a_span="f" * 16)
    with pytest.raises(TraceNotFoundError, match="no span"):
        render_sides(trace, "f" * 16)


def test_empty_traces_have_nothing_to_compare() -> None:
    found = compare(make_trace(), make_trace())
    assert (found.inputs, found.outputs, found.spans) == ([], [], [])


def test_links_to_spans_lead_to_the_traces_page() -> None:
    trace = agent_trace()
    call = next(span for span in trace.data.spans if span.name == "AsyncCompletions_1")
    inputs, outputs = render_sides(trace, call.span_id)
    assert f'href="/traces/{trace.info.trace_id}?span=' in inputs + outputs
    assert 'href="?span=' not in inputs + outputs
