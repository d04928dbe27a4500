"""Responses streams: the terminal event's response is the output; a cut-off stream is rebuilt from its pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai._models import construct_type
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from tests.interpret.wire import loads, reads, records, sse
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_stream

SSE = "text/event-stream"
CREATED = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress", "output": []}


def view_of(events, *, names=True, done=False):
    return interpret_stream("responses", sse(events, names=names, done=done), content_type=SSE)


def output_of(events):
    return loads(view_of([lifecycle("created"), *events]).outputs)["output"]


def lifecycle(kind, **fields):
    return {"type": f"response.{kind}", "response": {**CREATED, **fields}}


def event(kind, output_index=0, **fields):
    return {"type": f"response.{kind}", "output_index": output_index, "item_id": "i1", **fields}


def data_events(record):
    lines = record["response_body"].splitlines()
    data = [line[5:].strip() for line in lines if line.startswith("data:")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def test_terminal_response_of_each_recorded_stream_is_the_output():
    for record in records("responses", stream=True):
        terminal = [e for e in data_events(record) if e.get("type") in ("response.completed", "response.incomplete")]
        view = interpret_stream("responses", reads(record), content_type=SSE)
        assert loads(view.outputs) == terminal[-1]["response"], record["id"]


def test_recorded_streams_without_their_end_rebuild_to_what_the_end_would_have_said():
    compared = 0
    for record in records("responses", stream=True):
        events = data_events(record)
        cut = [e for e in events if e.get("type") not in ("response.completed", "response.incomplete")]
        final = next(e["response"] for e in reversed(events) if "response" in e)
        view = view_of(cut)
        assert view.finish is None
        if final["output"]:
            compared += 1
            rebuilt = loads(view.outputs)["output"]
            assert [plain(item) for item in rebuilt] == [plain(item) for item in final["output"]], record["id"]
    assert compared > 100


def plain(item):
    """Leave out what differs in the terminal event: what the API encrypts anew, and what some hosts name anew."""
    return {key: value for key, value in item.items() if key not in ("encrypted_content", "id")}


def sdk_snapshot(events):
    """Return the SDK's items of a stream that was cut; None where its accumulator fails."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    try:
        for raw in events:
            state.handle_event(construct_type(type_=ResponseStreamEvent, value=raw))
        snapshot = state._ResponseStreamState__current_snapshot
        return [item.to_dict(mode="json", exclude_unset=True, warnings=False) for item in snapshot.output]
    except (RuntimeError, AttributeError, IndexError, AssertionError, TypeError):
        return None


def test_recorded_streams_cut_amid_their_deltas_equal_the_sdks_snapshot():
    compared = 0
    for record in records("responses", stream=True):
        events = data_events(record)
        deltas = [
            n
            for n, e in enumerate(events)
            if e["type"] in ("response.output_text.delta", "response.function_call_arguments.delta")
        ]
        if not deltas:
            continue
        events = events[: deltas[len(deltas) // 2] + 1]
        expected = sdk_snapshot(events)
        if expected is not None:
            compared += 1
            ours = loads(view_of(events).outputs)["output"]
            assert said(ours) == said(expected), record["id"]
    assert compared > 80


def said(output):
    """Return what the SDK's snapshot also has: the text of the message, or the arguments, in which the cut fell."""
    item = [item for item in output if item["type"] in ("message", "function_call")][-1]
    return [part["text"] for part in item.get("content") or []], item.get("arguments")


ITEM = "output_item.added"
CUT_OFF = {
    "text": (
        [
            event(ITEM, item={"type": "message", "id": "i1", "role": "assistant", "content": []}),
            event("content_part.added", content_index=0, part={"type": "output_text", "text": "", "annotations": []}),
            event("output_text.delta", content_index=0, delta="Hel", logprobs=[{"token": "Hel"}]),
            event("output_text.annotation.added", content_index=0, annotation_index=0, annotation={"type": "x"}),
            event("output_text.delta", content_index=0, delta="lo", logprobs=[{"token": "lo"}]),
        ],
        {
            "type": "message",
            "id": "i1",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "Hello",
                    "annotations": [{"type": "x"}],
                    "logprobs": [{"token": "Hel"}, {"token": "lo"}],
                }
            ],
        },
    ),
    "refusal": (
        [event("refusal.delta", content_index=0, delta="I "), event("refusal.delta", content_index=0, delta="can't")],
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I can't"}]},
    ),
    "function arguments": (
        [
            event(ITEM, item={"type": "function_call", "id": "i1", "call_id": "c", "name": "f", "arguments": ""}),
            event("function_call_arguments.delta", delta='{"a"'),
            event("function_call_arguments.delta", delta=": 1"),
        ],
        {"type": "function_call", "id": "i1", "call_id": "c", "name": "f", "arguments": '{"a": 1'},
    ),
    "done after deltas": (
        [event("function_call_arguments.delta", delta="{"), event("function_call_arguments.done", arguments="{}")],
        {"type": "function_call", "arguments": "{}"},
    ),
    "reasoning summary": (
        [
            event("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
            event("reasoning_summary_text.delta", summary_index=0, delta="Hm"),
            event("reasoning_summary_text.delta", summary_index=1, delta="m"),
        ],
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm"}, {"type": "summary_text", "text": "m"}],
        },
    ),
    "code": (
        [
            event(ITEM, item={"type": "code_interpreter_call", "id": "i1", "code": ""}),
            event("code_interpreter_call_code.delta", delta="1+"),
            event("code_interpreter_call_code.delta", delta="1"),
        ],
        {"type": "code_interpreter_call", "id": "i1", "code": "1+1"},
    ),
    "mcp arguments": ([event("mcp_call_arguments.delta", delta="{}")], {"type": "mcp_call", "arguments": "{}"}),
    "custom tool input": (
        [event("custom_tool_call_input.delta", delta="x")],
        {"type": "custom_tool_call", "input": "x"},
    ),
    "patch": (
        [
            event(ITEM, item={"type": "apply_patch_call", "operation": {"type": "create_file", "diff": ""}}),
            event("apply_patch_call_operation_diff.delta", delta="+a"),
        ],
        {"type": "apply_patch_call", "operation": {"type": "create_file", "diff": "+a"}},
    ),
    "shell": (
        [
            event("shell_call_command.delta", command_index=0, delta="l"),
            event("shell_call_command.delta", command_index=0, delta="s"),
        ],
        {"type": "shell_call", "action": {"commands": ["ls"]}},
    ),
    "item done replaces its deltas": (
        [
            event("output_text.delta", content_index=0, delta="x"),
            event("output_item.done", item={"type": "message", "n": 1}),
        ],
        {"type": "message", "n": 1},
    ),
}


@pytest.mark.parametrize(("events", "item"), CUT_OFF.values(), ids=CUT_OFF)
def test_cut_off_item_is_rebuilt(events, item):
    assert output_of(events) == [item]


def test_items_stand_in_the_order_of_their_index():
    items = [event("output_item.done", 1, item={"n": 1}), event("output_item.done", 0, item={"n": 0})]
    assert output_of(items) == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize("form", [str, float])
def test_indexes_may_come_as_texts_or_floats(form):
    events = [text_delta(text, output=form(n // 2), content=form(n % 2)) for n, text in enumerate("abcd")]
    assert [[part["text"] for part in item["content"]] for item in output_of(events)] == [["a", "b"], ["c", "d"]]


def test_nonsense_indexes_are_harmless():
    events = [event("output_text.delta", content_index=10**12, delta="a"), event("output_text.delta", "x", delta="b")]
    assert output_of(events) == [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ab"}]}
    ]


def test_unnamed_events_are_told_by_their_type():
    view = view_of([lifecycle("created"), *CUT_OFF["text"][0]], names=False)
    assert view.preview == "Hello"


def test_terminal_response_without_output_takes_the_finished_items():
    item = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    view = view_of([event("output_item.done", item=item), lifecycle("completed", status="completed", output=None)])
    assert loads(view.outputs)["output"] == [item]
    assert (view.preview, view.finish) == ("hi", "completed")


ENDS = {
    "completed": (lifecycle("completed", status="completed"), "completed", None, None),
    "incomplete": (
        lifecycle("incomplete", status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        "incomplete",
        "the response is incomplete: max_output_tokens",
        None,
    ),
    "failed": (
        lifecycle("failed", status="failed", error={"code": "server_error", "message": "Broken"}),
        "failed",
        "Broken",
        "server_error",
    ),
    "cancelled": (lifecycle("cancelled", status="cancelled"), "cancelled", "the response was cancelled", None),
    "error": (
        {"type": "error", "code": "rate_limit", "message": "Slow down", "param": None},
        "failed",
        "Slow down",
        "rate_limit",
    ),
    "wrapped error": ({"type": "error", "error": {"type": "x", "message": "No"}}, "failed", "No", "x"),
    "cut off": (lifecycle("in_progress"), None, None, None),
}


@pytest.mark.parametrize(("last", "finish", "error", "error_type"), ENDS.values(), ids=ENDS)
def test_how_a_stream_ended(last, finish, error, error_type):
    view = view_of([lifecycle("created"), *CUT_OFF["text"][0], last])
    assert (view.finish, view.error, view.error_type) == (finish, error, error_type)
    assert view.preview == "Hello"


def test_done_mark_ends_a_stream_that_lacks_its_terminal_event():
    assert view_of([lifecycle("created"), *CUT_OFF["text"][0]], done=True).finish == "completed"


def test_child_span_of_a_tool_has_the_times_of_its_events():
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
    view = view_of(
        [
            lifecycle("created"),
            event("output_item.added", item={**item, "status": "in_progress"}),
            event("output_item.done", item=item),
            lifecycle("completed", status="completed", output=[item]),
        ]
    )
    (child,) = view.children
    assert (child.name, child.start_time_ns, child.end_time_ns) == ("web_search", 200, 300)
    assert (view.first_chunk_ns, view.first_token_ns) == (100, None)


def test_open_tool_of_a_cut_off_stream_has_no_end():
    item = {"type": "code_interpreter_call", "code": "1"}
    (child,) = view_of([lifecycle("created"), event("output_item.added", item=item)]).children
    assert (child.key, child.start_time_ns, child.end_time_ns) == ("output[0]", 200, None)


def test_first_token_is_the_first_delta():
    assert view_of([lifecycle("created"), *CUT_OFF["text"][0]]).first_token_ns == 400


def test_unreadable_events_are_counted():
    chunks = [*sse([lifecycle("completed", status="completed")], done=False), (9, b"data: {oops\n\n")]
    view = interpret_stream("responses", chunks, content_type=SSE)
    assert view.attributes[sc.NOTE] == "1 stream events were not JSON objects"


def test_response_that_is_announced_twice_before_its_end_keeps_what_came_between():
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert output_of([done, lifecycle("created")]) == [item]


def text_delta(text, *, output=0, content=0):
    place = {"output_index": output, "content_index": content}
    return {"type": "response.output_text.delta", **place, "delta": text}


def item_done(text, index):
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def texts(output):
    return [[part["text"] for part in item["content"]] for item in output]


def test_items_of_a_response_that_another_follows_are_not_those_of_the_other():
    first = [item_done("a", 0), item_done("b", 1), lifecycle("completed", status="completed")]
    second = [lifecycle("created"), item_done("c", 0), lifecycle("completed", status="completed")]
    assert texts(output_of([*first, *second])) == [["c"]]


def test_item_that_an_error_cut_short_is_kept_beside_those_that_were_done():
    error = {"type": "error", "message": "overloaded"}
    assert texts(output_of([item_done("a", 0), text_delta("hal", output=1), error])) == [["a"], ["hal"]]


def test_part_that_is_done_leaves_the_text_of_another():
    part = {"type": "output_text", "text": "b"}
    done = {"type": "response.content_part.done", "output_index": 0, "content_index": 1, "part": part}
    assert texts(output_of([text_delta("a"), text_delta("x", content=1), done])) == [["a", "b"]]


# --- servers that leave the index out, or repeat it --------------------------------------------------------------


def message_item(item_id, text=None):
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": item_id, "type": "message", "role": "assistant", "content": content}


def bare(kind, **fields):
    return {"type": f"response.{kind}", **fields}


def told(item_id, *pieces, **place):
    """The events of one message whose text comes in pieces; `place` is the index that they all have."""
    deltas = [bare("output_text.delta", item_id=item_id, content_index=0, delta=piece, **place) for piece in pieces]
    return [bare("output_item.added", item=message_item(item_id), **place), *deltas]


def words(events):
    """What each message says; other items by their kind."""
    output = loads(view_of([lifecycle("created"), *events]).outputs)["output"]
    return ["".join(p["text"] for p in i["content"]) if i["type"] == "message" else i["type"] for i in output]


COMPLETED = lifecycle("completed", status="completed", output=[])


@pytest.mark.parametrize("end", [[], [COMPLETED]], ids=["cut", "completed without output"])
@pytest.mark.parametrize("place", [{}, *({"output_index": index} for index in (None, 0, "0", 0.0, -1, "x"))], ids=str)
def test_items_without_an_index_or_with_the_same_one_are_told_by_their_id(place, end):
    one, two = told("a", "Hel", "lo", **place), told("b", "Wor", "ld", **place)
    assert words([*one, *two, *end]) == ["Hello", "World"]
    assert words([one[0], two[0], one[1], two[1], one[2], two[2], *end]) == ["Hello", "World"]


@pytest.mark.parametrize("place", [{}, {"output_index": 0}], ids=str)
def test_items_of_different_kinds_under_one_index_are_all_there(place):
    thought = {"id": "rs", "type": "reasoning", "summary": []}
    call = {"id": "fc", "type": "function_call", "name": "f", "arguments": "", "call_id": "c"}
    events = [
        bare("output_item.added", item=thought, **place),
        bare("reasoning_summary_text.delta", item_id="rs-1", summary_index=0, delta="Hm", **place),
        *told("a", "Hel", "lo", **place),
        bare("output_item.added", item=call, **place),
        bare("function_call_arguments.delta", item_id="fc", delta="{}", **place),
    ]
    view = view_of([lifecycle("created"), *events])
    assert view.preview == "Hello"
    assert view.attributes[sc.REASONING] == "Hm"
    assert view.attributes[sc.TOOL_CALLS] == [{"id": "c", "name": "f", "arguments": "{}"}]


@pytest.mark.parametrize("place", [{}, {"output_index": 0}], ids=str)
def test_events_of_one_item_that_all_have_another_id_are_one_item(place):
    events = [
        bare("output_item.added", item=message_item("x1"), **place),
        bare("output_text.delta", item_id="x2", content_index=0, delta="Hel", **place),
        bare("output_text.delta", item_id="x3", content_index=0, delta="lo", **place),
        bare("output_item.done", item=message_item("x4", "Hello"), **place),
    ]
    assert words(events) == words(events[:-1]) == ["Hello"]


def test_deltas_without_any_item_are_a_message():
    events = [bare("output_text.delta", delta="Hel"), bare("output_text.delta", delta="lo")]
    assert words(events) == ["Hello"]
    assert words([*events, bare("output_text.done", text="Hello!"), COMPLETED]) == ["Hello!"]


def test_done_items_without_an_index_keep_their_order():
    done = [bare("output_item.done", item=message_item(None, text)) for text in ("a", "b")]
    assert words([*done, COMPLETED]) == ["a", "b"]


def test_an_item_that_never_was_done_is_kept_beside_one_that_was():
    events = [*told("a", "Hello", output_index=1), event("output_item.done", 0, item={"type": "reasoning"}), COMPLETED]
    assert words(events) == ["reasoning", "Hello"]


@pytest.mark.parametrize(
    "output",
    [
        [{"type": "reasoning", "summary": []}],
        [message_item("a")],
        [{"type": "reasoning", "summary": []}, message_item("a", ""), {"type": "function_call", "name": "f"}],
    ],
    ids=["no message", "an empty message", "more items"],
)
def test_what_was_said_is_there_though_the_last_event_leaves_it_out(output):
    end = lifecycle("completed", status="completed", output=output)
    view = view_of([lifecycle("created"), *told("a", "Hel", "lo", output_index=0), end])
    assert (view.preview, view.finish) == ("Hello", "completed")
    kinds = [item["type"] for item in loads(view.outputs)["output"]]
    assert [kind for kind in kinds if kind == "function_call"] == [i["type"] for i in output if "name" in i]


def test_tools_without_an_index_have_their_times():
    search = {"id": "ws", "type": "web_search_call", "status": "completed"}
    code = {"id": "ci", "type": "code_interpreter_call", "status": "completed"}
    events = [bare(f"output_item.{phase}", item=item) for item in (search, code) for phase in ("added", "done")]
    children = view_of([*events, lifecycle("completed", output=[search, code])]).children
    assert [(c.start_time_ns, c.end_time_ns) for c in children] == [(100, 200), (300, 400)]


def items(*texts):
    """Streamed messages with the ids a, b, …: the events, and the finished items."""
    done = [message_item(chr(97 + n), text) for n, text in enumerate(texts)]
    events = [told(item["id"], *text, output_index=n) for n, (item, text) in enumerate(zip(done, texts, strict=True))]
    return [event for one in events for event in one], done


CALL = {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}
LEFT_OUT = {
    "the first": lambda one, two: [two],
    "the second": lambda one, two: [one],
    "its words": lambda one, two: [one, {**two, "content": []}],
    "half of them": lambda one, two: [one, message_item("b", "Wor")],
    "its part's words": lambda one, two: [one, message_item("b", "")],
    "ids": lambda one, two: [message_item(None, "Hello"), message_item(None, "World")],
    "ids and the first": lambda one, two: [message_item(None, "World")],
    "ids and words": lambda one, two: [message_item(None, "Hello"), message_item(None, "")],
    "all, but has new ids": lambda one, two: [message_item("x", "Hello"), message_item("y", "World")],
    "the first, and has new ids": lambda one, two: [message_item("y", "World")],
    "all": lambda one, two: [],
    "output": lambda one, two: None,
}


@pytest.mark.parametrize("whole", [True, False], ids=["items are done", "deltas only"])
@pytest.mark.parametrize("output", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_was_streamed_is_there_whatever_the_last_event_leaves_out(output, whole):
    events, (one, two) = items("Hello", "World")
    done = [bare("output_item.done", item=item, output_index=n) for n, item in enumerate((one, two))]
    end = lifecycle("completed", status="completed", output=output(one, two))
    assert words([*events, *(done if whole else []), end]) == ["Hello", "World"]


@pytest.mark.parametrize("place", [{}, {"output_index": 0}], ids=str)
@pytest.mark.parametrize("output", [[CALL], [message_item("a", "Hello")], [{**CALL, "arguments": ""}]], ids=str)
def test_a_call_or_a_message_that_the_last_event_leaves_out_is_there(output, place):
    call = {**CALL, "arguments": ""}
    events = [
        *told("a", "Hel", "lo", **place),
        bare("output_item.added", item=call, **({**place, "output_index": 1} if place else {})),
        bare(
            "function_call_arguments.delta", item_id="fc", delta="{}", **({**place, "output_index": 1} if place else {})
        ),
    ]
    view = view_of([lifecycle("created"), *events, lifecycle("completed", status="completed", output=output)])
    assert [item["type"] for item in loads(view.outputs)["output"]] == ["message", "function_call"]
    assert view.preview == "Hello"
    assert view.attributes[sc.TOOL_CALLS] == [{"id": "c", "name": "f", "arguments": "{}"}]


def test_what_only_the_last_event_says_stands_where_it_puts_it():
    events, (one, two) = items("Hello", "World")
    search = {"id": "ws", "type": "web_search_call", "status": "completed"}
    assert words([*events, lifecycle("completed", output=[search, two])]) == ["Hello", "web_search_call", "World"]
    assert words([*events, lifecycle("completed", output=[two, search, one])]) == ["World", "web_search_call", "Hello"]


def test_an_item_that_said_nothing_is_not_added_to_the_last_events():
    events = [*told("a", output_index=0), *told("b", "Hello", output_index=1)]
    assert words([*events, lifecycle("completed", output=[message_item("b", "Hello")])]) == ["Hello"]


def pieces_of(kind, **fields):
    return [bare(f"{kind}.delta", delta=delta, **fields) for delta in ("Hel", "lo")]


NEVER_ANNOUNCED = {  # the events, and what the item says
    "text": (pieces_of("output_text"), ("content", 0, "text")),
    "refusal": (pieces_of("refusal"), ("content", 0, "refusal")),
    "a refusal at its end": ([bare("refusal.done", refusal="Hello")], ("content", 0, "refusal")),
    "reasoning": (pieces_of("reasoning_text"), ("content", 0, "text")),
    "reasoning, old name": ([bare("reasoning.delta", delta={"text": "Hello"})], ("content", 0, "text")),
    "summary": (pieces_of("reasoning_summary_text"), ("summary", 0, "text")),
    "summary, old name": ([bare("reasoning_summary.delta", delta={"text": "Hello"})], ("summary", 0, "text")),
    "a part of a summary": (
        [bare("reasoning_summary_part.done", part={"type": "summary_text", "text": "Hello"})],
        ("summary", 0, "text"),
    ),
    "transcript": (pieces_of("audio.transcript"), ("content", 0, "transcript")),
    "transcript, Realtime": (pieces_of("output_audio_transcript"), ("content", 0, "transcript")),
    "arguments": (pieces_of("function_call_arguments"), ("arguments",)),
    "arguments of MCP": (pieces_of("mcp_call_arguments"), ("arguments",)),
    "input": (pieces_of("custom_tool_call_input"), ("input",)),
    "code": (pieces_of("code_interpreter_call_code"), ("code",)),
    "diff": (pieces_of("apply_patch_call_operation_diff"), ("operation", "diff")),
    "command": (pieces_of("shell_call_command", command_index=0), ("action", "commands", 0)),
    "an item at its end": (
        [bare("output_item.done", item={"type": "custom_tool_call", "input": "Hello"})],
        ("input",),
    ),
    "a part at its end": (
        [bare("content_part.done", part={"type": "output_text", "text": "Hello"})],
        ("content", 0, "text"),
    ),
    "a picture so far": (
        [bare("image_generation_call.partial_image", partial_image_b64="Hello", partial_image_index=0)],
        ("result",),
    ),
}
NO_OUTPUT: dict[str, list[Any]] = {
    "cut": [],
    "no output": [lifecycle("completed", output=[])],
    "output is null": [lifecycle("completed", output=None)],
}


@pytest.mark.parametrize("end", NO_OUTPUT.values(), ids=NO_OUTPUT)
@pytest.mark.parametrize(
    "place", [{}, {"item_id": "x"}, {"output_index": 0}, {"item_id": 7, "output_index": "0"}], ids=str
)
@pytest.mark.parametrize("kind", NEVER_ANNOUNCED)
def test_pieces_of_an_item_that_was_never_announced_are_there(kind, place, end):
    events, path = NEVER_ANNOUNCED[kind]
    [said] = loads(view_of([lifecycle("created"), *({**event, **place} for event in events), *end]).outputs)["output"]
    for step in path:
        said = said[step]
    assert said == "Hello"


@pytest.mark.parametrize("place", [{"item_id": "x"}, {"output_index": 0}], ids=str)
def test_a_tool_that_was_never_announced_is_there_by_its_own_events(place):
    events = [bare(f"web_search_call.{phase}", **place) for phase in ("in_progress", "searching", "completed")]
    [item] = loads(view_of([lifecycle("created"), *events]).outputs)["output"]
    assert item == {"type": "web_search_call", "status": "completed"}
    search = {"id": "x", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
    whole = lifecycle("completed", output=[search])
    assert loads(view_of([lifecycle("created"), *events, whole]).outputs)["output"] == [search]


def test_what_contradicts_the_last_event_stands_behind_it():
    """Words of an item that was never announced, and a terminal event that says something else (MLflow's own tests)."""
    pieces = [bare("output_text.delta", item_id=0, output_index=0, content_index=0, delta=one) for one in ("Hel", "lo")]
    assert words([*pieces, lifecycle("completed", output=[message_item("test", "Bye")])]) == ["Bye", "Hello"]
    reasoning = bare("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Hm")
    later = [{**piece, "output_index": 1} for piece in pieces]
    end = lifecycle("completed", output=[message_item("test", "Bye")])
    assert words([reasoning, *later, end]) == ["reasoning", "Bye", "Hello"]


def test_the_last_event_has_the_last_word_on_an_item():
    end = lifecycle("completed", output=[message_item("a", "[removed]")])
    assert words([*told("a", "Hel", "lo", output_index=0), end]) == ["[removed]"]


HEAD = {"id": "resp_1", "model": "gpt-5", "usage": {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}}
SILENT_ENDS = {
    "nothing": {},
    "nulls": {"id": None, "model": None, "usage": None, "output": None},
    "blanks": {"id": "", "model": "", "usage": {}, "output": []},
    "zeros": {"usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, "created_at": 0},
    "half a usage": {"usage": {"input_tokens": 0, "output_tokens": 5}},
}


@pytest.mark.parametrize("said_in", ["created", "queued", "in_progress"])
@pytest.mark.parametrize("end", SILENT_ENDS.values(), ids=SILENT_ENDS)
@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_what_the_last_event_does_not_say_is_what_those_before_it_said(kind, end, said_in):
    first = {"type": f"response.{said_in}", "response": {**HEAD, "status": "in_progress", "output": []}}
    last = {"type": f"response.{kind}", "response": end}
    view = view_of([first, *told("a", "Hel", "lo", output_index=0), last])
    assert (view.model, view.attributes[sc.RESPONSE_ID], view.preview) == ("gpt-5", "resp_1", "Hello")
    assert [view.usage[key] for key in ("input_tokens", "output_tokens", "total_tokens")] == [12, 5, 17]
    assert (view.finish, loads(view.outputs)["status"]) == (kind, kind)


def test_a_last_event_without_a_response_ends_what_was_known():
    view = view_of([lifecycle("created"), *told("a", "Hi", output_index=0), {"type": "response.completed"}])
    assert (view.finish, view.model, view.preview) == ("completed", "gpt-5", "Hi")
    assert view.attributes[sc.RESPONSE_FINISH_REASONS] == ["completed"]


def test_a_response_that_failed_has_failed_though_the_server_goes_on():
    failed = lifecycle("failed", status="failed", error={"code": "server_error", "message": "Broken"})
    for after in (lifecycle("completed", status="completed", error=None), lifecycle("in_progress")):
        view = view_of([lifecycle("created"), failed, after])
        assert (view.finish, view.error) == ("failed", "Broken")
