"""Streamed tool calls of servers that leave out the index or the id of a fragment, or give them wrongly."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interpret.wire import chat_chunk, loads, sse
from tracer.interpret.dispatch import interpret_stream

NULL: Any = object()


def part(name: Any = None, arguments: Any = None, *, call_id: str | None = None, index: Any = None) -> dict[str, Any]:
    told = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    function = {key: None if value is NULL else value for key, value in told.items()}
    given = {key: value for key, value in (("id", call_id), ("index", index)) if value is not None}
    return {**{key: None if value is NULL else value for key, value in given.items()}, "function": function}


def merged(*chunks: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """The name and the arguments of each call that these chunks make."""
    given = [[None if entry is NULL else entry for entry in chunk] for chunk in chunks]
    view = interpret_stream("chat", sse([chat_chunk({"tool_calls": chunk}) for chunk in given]))
    calls = loads(view.outputs)["choices"][0]["message"]["tool_calls"]
    assert all(call.get("index") in (None, 0, 1, 2, "0", "1") for call in calls)
    return [(call["function"].get("name"), call["function"].get("arguments") or "") for call in calls]


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
    "names first, empty arguments": [
        [part("f", "")],
        [part("g", "")],
        [part(None, '{"x":1}')],
        [part(None, '{"y":2}')],
    ],
    "names first, one index, ids only there": [
        [part("f", "", call_id="a", index=0)],
        [part("g", "", call_id="b", index=0)],
        [part(None, FIRST[0], index=0)],
        [part(None, FIRST[1], index=0)],
        [part(None, SECOND[0], index=0)],
        [part(None, SECOND[1], index=0)],
    ],
    "names first, then again with arguments": [
        [part("f", "")],
        [part("g", "")],
        [part("f", '{"x":1}')],
        [part("g", '{"y":2}')],
    ],
    "names in each fragment, interleaved": [
        [part("f", FIRST[0])],
        [part("g", SECOND[0])],
        [part("f", FIRST[1])],
        [part("g", SECOND[1])],
    ],
    "null arguments with the names": [
        [part("f", NULL)],
        [part(None, '{"x":1}')],
        [part("g", NULL)],
        [part(None, '{"y":2}')],
    ],
    "null names with the arguments": [
        [part("f", "", call_id="a")],
        [part(NULL, '{"x":1}', call_id=NULL)],
        [part("g", "", call_id="b")],
        [part(NULL, '{"y":2}', call_id="")],
    ],
    "one index, whole calls in one chunk": [
        [part("f", '{"x":1}', call_id="a", index=0), part("g", '{"y":2}', call_id="b", index=0)]
    ],
    "one index, no ids, whole calls in one chunk": [
        [part("f", '{"x":1}', index=0), part("g", '{"y":2}', index=0)],
    ],
    "one index, a name that is repeated": [
        [part("f", '{"x":1}', index=0)],
        [part("f", "", index=0)],
        [part("g", '{"y":2}', index=0)],
    ],
    "indexes as texts": [
        [part("f", "", call_id="a", index="0"), part("g", "", call_id="b", index="1")],
        [part(None, '{"x"', index="0"), part(None, '{"y"', index="1")],
        [part(None, ":2}", index="1"), part(None, ":1}", index="0")],
    ],
    "indexes as numbers of both kinds": [
        [part("f", "", index=0), part("g", "", index=1.0)],
        [part(None, '{"y":2}', index="1"), part(None, '{"x":1}', index=0.0)],
    ],
    "an entry that is null": [[part("f", '{"x":1}'), NULL], [NULL, part("g", '{"y":2}')]],
    "an id that comes late": [
        [part("f", index=0)],
        [part(None, '{"x":1}', call_id="a", index=0)],
        [part("g", '{"y":2}', call_id="b", index=1)],
    ],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS)
def test_two_calls_are_two_calls(chunks: list[list[dict[str, Any]]]) -> None:
    assert merged(*chunks) == TWO


OF_ONE_TOOL: dict[str, list[list[dict[str, Any]]]] = {
    "whole": [[part("f", '{"x":1}')], [part("f", '{"x":2}')]],
    "whole, one chunk": [[part("f", '{"x":1}'), part("f", '{"x":2}')]],
    "whole, one index": [[part("f", '{"x":1}', index=0)], [part("f", '{"x":2}', index=0)]],
    "whole, one index, one chunk": [[part("f", '{"x":1}', index=0), part("f", '{"x":2}', index=0)]],
    "whole, one index, ids": [
        [part("f", '{"x":1}', index=0, call_id="a")],
        [part("f", '{"x":2}', index=0, call_id="b")],
    ],
    "whole, the second has an id": [[part("f", '{"x":1}', index=0)], [part("f", '{"x":2}', index=0, call_id="b")]],
    "in pieces": [[part("f", FIRST[0])], [part(None, FIRST[1])], [part("f", FIRST[0])], [part(None, ":2}")]],
    "in pieces, one index": [
        [part("f", FIRST[0], index=0)],
        [part("f", FIRST[1], index=0)],
        [part("f", FIRST[0], index=0)],
        [part("f", ":2}", index=0)],
    ],
    "names with empty arguments": [
        [part("f", "")],
        [part(None, '{"x":1}')],
        [part("f", "")],
        [part(None, '{"x":2}')],
    ],
    "names with null arguments, one index": [
        [part("f", NULL, index=0)],
        [part(None, '{"x":1}', index=0)],
        [part("f", NULL, index=0)],
        [part(None, '{"x":2}', index=0)],
    ],
}


@pytest.mark.parametrize("chunks", OF_ONE_TOOL.values(), ids=OF_ONE_TOOL)
def test_two_calls_of_one_tool_are_two_calls(chunks: list[list[dict[str, Any]]]) -> None:
    assert merged(*chunks) == [("f", '{"x":1}'), ("f", '{"x":2}')]


@pytest.mark.parametrize("ids", [(None, None), ("a", "b")], ids=str)
@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("second", ["f", "g"])
@pytest.mark.parametrize("chunks", [1, 2])
def test_arguments_that_are_objects_are_whole(ids: Any, index: int | None, second: str, chunks: int) -> None:
    calls = [("f", {"x": 1}), (second, {})]
    parts = [part(*call, index=index, call_id=call_id) for call, call_id in zip(calls, ids, strict=True)]
    given = [parts] if chunks == 1 else [[one] for one in parts]
    view = interpret_stream("chat", sse([chat_chunk({"tool_calls": chunk}) for chunk in given]))
    made = loads(view.outputs)["choices"][0]["message"]["tool_calls"]
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in made] == calls


def test_an_object_after_an_empty_text_is_the_arguments() -> None:
    chunks = [[part("f", "")], [part(None, {"x": 1})], [part("g", NULL)], [part(None, {"y": 2})], [part(None, "")]]
    assert merged(*chunks) == [("f", {"x": 1}), ("g", {"y": 2})]


@pytest.mark.parametrize("empty", ["", NULL, "{}", "null", {}], ids=["blank", "null", "object", "word", "decoded"])
def test_calls_without_arguments_are_calls(empty: Any) -> None:
    names = [name for name, _ in merged([part("f", empty)], [part("g", empty)], [part("h", empty)])]
    assert names == ["f", "g", "h"]


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("call_id", [None, "a"])
def test_a_name_that_is_repeated_or_comes_in_pieces_is_one_name(index: int | None, call_id: str | None) -> None:
    given: dict[str, Any] = {"index": index, "call_id": call_id}
    assert merged([part("f", "", **given)], [part("f", '{"x"', **given)], [part("f", ":1}", **given)]) == TWO[:1]
    assert merged([part("get_", **given)], [part("rain", "{}", **given)]) == [("get_rain", "{}")]
    assert merged([part("f", '{"x":1}', **given)], [part("f", "", **given)]) == TWO[:1]
