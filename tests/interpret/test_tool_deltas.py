"""Streamed tool calls of servers that leave out the index or the id of a fragment, or give them wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpret.wire import chat_chunk, loads, sse
from tracer.interpret.dispatch import interpret_stream


def part(
    name: str | None = None, arguments: str | None = None, *, call_id: str | None = None, index: int | None = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {"id": call_id, "index": index}
    return {**{key: value for key, value in given.items() if value is not None}, "function": function}


def merged(*chunks: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """The name and the arguments of each call that these chunks make."""
    view = interpret_stream("chat", sse([chat_chunk({"tool_calls": chunk}) for chunk in chunks]))
    calls = loads(view.outputs)["choices"][0]["message"]["tool_calls"]
    return [(call["function"].get("name"), call["function"].get("arguments", "")) for call in calls]


TWO = [("f", '{"x":1}'), ("g", '{"y":2}')]
FIRST, SECOND = ['{"x"', ":1}"], ['{"y"', ":2}"]
STREAMS: dict[str, list[list[dict[str, Any]]]] = {
    "ids, names first": [
        [part("f", "", call_id="a")],
        [part("g", "", call_id="b")],
        [part(None, '{"x":1}', call_id="a")],
        [part(None, '{"y":2}', call_id="b")],
    ],
    "ids, names first, one chunk": [
        [part("f", call_id="a"), part("g", call_id="b")],
        [part(None, '{"x"', call_id="a"), part(None, '{"y"', call_id="b")],
        [part(None, ":2}", call_id="b"), part(None, ":1}", call_id="a")],
    ],
    "ids, arguments before names": [
        [part(None, '{"x":1}', call_id="a")],
        [part(None, '{"y":2}', call_id="b")],
        [part("f", call_id="a")],
        [part("g", call_id="b")],
    ],
    "nothing but names and arguments": [
        [part("f")],
        [part(None, '{"x":1}')],
        [part("g")],
        [part(None, '{"y":2}')],
    ],
    "names with the first arguments": [
        [part("f", FIRST[0])],
        [part(None, FIRST[1])],
        [part("g", SECOND[0])],
        [part(None, SECOND[1])],
    ],
    "whole calls in one chunk": [[part("f", '{"x":1}'), part("g", '{"y":2}')]],
    "names in one chunk, then arguments in one": [
        [part("f"), part("g")],
        [part(None, '{"x":1}'), part(None, '{"y":2}')],
    ],
    "ids that are empty": [[part("f", '{"x":1}', call_id="")], [part("g", '{"y":2}', call_id="")]],
    "one index": [
        [part("f", FIRST[0], call_id="a", index=0)],
        [part(None, FIRST[1], index=0)],
        [part("g", '{"y":2}', call_id="b", index=0)],
    ],
    "one index, no ids": [[part("f", '{"x":1}', index=0)], [part("g", '{"y":2}', index=0)]],
    "one index, arguments by id": [
        [part("f", "", call_id="a", index=0)],
        [part("g", "", call_id="b", index=0)],
        [part(None, '{"x":1}', call_id="a", index=0)],
        [part(None, '{"y":2}', call_id="b", index=0)],
    ],
    "an id under another index": [
        [part("f", "", call_id="a", index=0)],
        [part("f", '{"x":1}', call_id="a", index=1)],
        [part("g", '{"y":2}', call_id="b", index=2)],
    ],
    "one id for both, but an index": [
        [part("f", '{"x":1}', call_id="a", index=0)],
        [part("g", '{"y":2}', call_id="a", index=1)],
    ],
    "by the book, interleaved": [
        [part("f", "", call_id="a", index=0)],
        [part("g", "", call_id="b", index=1)],
        [part(None, FIRST[0], index=0)],
        [part(None, '{"y":2}', index=1)],
        [part(None, FIRST[1], index=0)],
    ],
    "another id in each fragment": [
        [part("f", FIRST[0], call_id="a1", index=0)],
        [part(None, FIRST[1], call_id="a2", index=0)],
        [part("g", '{"y":2}', call_id="b1", index=1)],
    ],
    "an id that comes late": [
        [part("f", index=0)],
        [part(None, '{"x":1}', call_id="a", index=0)],
        [part("g", '{"y":2}', call_id="b", index=1)],
    ],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS)
def test_two_calls_are_two_calls(chunks: list[list[dict[str, Any]]]) -> None:
    assert merged(*chunks) == TWO


def test_two_calls_of_one_tool_are_two_calls() -> None:
    assert merged([part("f", '{"x":1}')], [part("f", '{"x":2}')]) == [("f", '{"x":1}'), ("f", '{"x":2}')]


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("call_id", [None, "a"])
def test_a_name_that_is_repeated_or_comes_in_pieces_is_one_name(index: int | None, call_id: str | None) -> None:
    given: dict[str, Any] = {"index": index, "call_id": call_id}
    assert merged([part("f", "", **given)], [part("f", '{"x"', **given)], [part("f", ":1}", **given)]) == TWO[:1]
    assert merged([part("get_", **given)], [part("rain", "{}", **given)]) == [("get_rain", "{}")]
    assert merged([part("f", '{"x":1}', **given)], [part("f", "", **given)]) == TWO[:1]
