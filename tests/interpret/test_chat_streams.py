"""A rebuilt chat stream equals what the SDK's accumulator builds, wherever that works."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai._models import construct_type
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.interpret.wire import chat_chunk, loads, reads, records, sse
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_stream

SSE = "text/event-stream"


def rebuilt(chunks):
    view = interpret_stream("chat", chunks, content_type=SSE)
    return None if view.outputs is None else loads(view.outputs)


def sdk_builds(chunks):
    """Feed the chunks to the SDK's accumulator; None where it fails. A role that no chunk has is the assistant's."""
    state: Any = ChatCompletionStreamState()
    try:
        for chunk in chunks:
            state.handle_chunk(construct_type(type_=ChatCompletionChunk, value=chunk))
        built = state.current_completion_snapshot.to_dict(mode="json", exclude_unset=True)
        for choice in built["choices"]:
            choice["message"]["role"] = choice["message"].get("role") or "assistant"
        return built
    except (RuntimeError, TypeError, AssertionError, AttributeError, IndexError):
        return None


def compact(value):
    """Drop what the two spell differently: nulls, and the fields that only parsing adds."""
    if isinstance(value, dict):
        return {k: compact(v) for k, v in value.items() if v is not None and k not in ("parsed", "parsed_arguments")}
    return [compact(item) for item in value] if isinstance(value, list) else value


def call(index, *, arguments, name=None, call_id=None):
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": call_id, "type": "function"} if call_id else {})


def with_logprobs(chunk, logprobs):
    return {**chunk, "choices": [{**chunk["choices"][0], "logprobs": logprobs}]}


LOGPROB = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
TOKENS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
STREAMS = {
    "text": [
        chat_chunk({"role": "assistant", "content": ""}),
        chat_chunk({"content": "Hel"}),
        chat_chunk({"content": "lo"}),
        chat_chunk({}, finish="stop"),
    ],
    "two choices, interleaved": [
        chat_chunk({"role": "assistant", "content": "a"}, index=0),
        chat_chunk({"role": "assistant", "content": "x"}, index=1),
        chat_chunk({"content": "b"}, index=0),
        chat_chunk({"content": "y"}, index=1),
        chat_chunk({}, index=1, finish="stop"),
        chat_chunk({}, index=0, finish="length"),
    ],
    "parallel tool calls": [
        chat_chunk({"role": "assistant", "content": None}),
        chat_chunk({"tool_calls": [call(0, name="f", call_id="c0", arguments="")]}),
        chat_chunk({"tool_calls": [call(0, arguments='{"a"')]}),
        chat_chunk({"tool_calls": [call(0, arguments=": 1}")]}),
        chat_chunk({"tool_calls": [call(1, name="g", call_id="c1", arguments="{}")]}),
        chat_chunk({}, finish="tool_calls"),
    ],
    "two fragments of one call in a chunk": [
        chat_chunk({"tool_calls": [call(0, name="f", call_id="c0", arguments="{"), call(0, arguments="}")]}),
        chat_chunk({}, finish="tool_calls"),
    ],
    "refusal": [
        chat_chunk({"role": "assistant", "refusal": "I "}),
        chat_chunk({"refusal": "can't"}),
        chat_chunk({}, finish="stop"),
    ],
    "logprobs": [
        with_logprobs(chat_chunk({"content": "Hi"}), {"content": [LOGPROB], "refusal": None}),
        with_logprobs(chat_chunk({"content": "Hi"}), {"content": [LOGPROB], "refusal": None}),
        chat_chunk({}, finish="stop"),
    ],
    "audio": [
        chat_chunk({"role": "assistant", "audio": {"id": "a1", "transcript": "He"}}),
        chat_chunk({"audio": {"transcript": "llo"}}),
        chat_chunk({"audio": {"data": "AAAA"}}),
        chat_chunk({"audio": {"data": "BBBB"}}),
        chat_chunk({"audio": {"expires_at": 17}}),
        chat_chunk({}, finish="stop"),
    ],
    "reasoning and other foreign fields": [
        chat_chunk({"role": "assistant", "reasoning_content": "Hm", "reasoning_details": [{"index": 0, "text": "H"}]}),
        chat_chunk({"reasoning_content": "m.", "reasoning_details": [{"index": 0, "text": "m"}], "odd": {"a": "1"}}),
        chat_chunk({"content": "Yes", "odd": {"a": "2", "b": None}}),
        chat_chunk({}, finish="stop"),
    ],
    "legacy function call": [
        chat_chunk({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}),
        chat_chunk({"function_call": {"arguments": "{}"}}),
        chat_chunk({}, finish="function_call"),
    ],
    "usage in a last chunk without choices": [
        chat_chunk({"role": "assistant", "content": "x"}),
        chat_chunk({}, finish="stop"),
        {**chat_chunk({}), "choices": [], "usage": USAGE},
    ],
}


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS)
def test_rebuilt_stream_equals_the_sdks(chunks):
    expected = sdk_builds(chunks)
    assert expected is not None
    assert compact(rebuilt(sse(chunks))) == compact(expected)


def test_recorded_streams_equal_the_sdks():
    compared = 0
    for record in records("chat", stream=True):
        chunks = chunks_of(record)
        if any(isinstance(delta.get("content"), list) for delta in deltas_of(chunks)):
            continue  # Mistral's parts: the SDK has no rule for them
        expected = sdk_builds(chunks)
        if expected is not None:
            compared += 1
            body = rebuilt(reads(record))
            assert comparable(body) == comparable(expected), record["id"]
            assert expected["id"] in (body["id"], "")  # "": the SDK takes Azure's opening chunk for the first one
    assert compared > 140


def chunks_of(record):
    lines = record["response_body"].splitlines()
    data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def deltas_of(chunks):
    return [choice.get("delta") or {} for chunk in chunks for choice in chunk.get("choices") or []]


def comparable(completion):
    """Return what the SDK accumulates by rules that we share.

    For a field outside of the message, the SDK keeps the first chunk's value, and we keep the last one. The SDK
    concatenates labels that servers repeat in each chunk, and adds up numbers.
    """
    choices = compact(completion)["choices"]
    for choice in choices:
        for key in ("role", "channel", "token_id", "reasoning_details"):
            choice["message"].pop(key, None)
    fields = ("index", "message", "logprobs", "finish_reason")
    return [{field: choice.get(field) for field in fields} for choice in choices]


# --- where real servers leave the SDK behind --------------------------------------------------------------------


def message(chunks):
    return rebuilt(sse(chunks))["choices"][0]["message"]


def test_role_repeated_in_each_chunk_stays_one_word():
    chunks = [chat_chunk({"role": "assistant", "content": "a"}), chat_chunk({"role": "assistant", "content": "a"})]
    assert message(chunks) == {"role": "assistant", "content": "aa"}


def test_delta_null_is_harmless():
    assert message([chat_chunk({"content": "a"}), chat_chunk(None, finish="stop")]) == {
        "role": "assistant",
        "content": "a",
    }


def test_content_as_lists_of_text_parts_is_joined():
    chunks = [chat_chunk({"content": [{"type": "text", "text": "a"}]}), chat_chunk({"content": "b"})]
    assert message(chunks) == {"role": "assistant", "content": "ab"}


def test_content_with_thinking_parts_keeps_them_merged():
    def thought(text):
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    chunks = [
        chat_chunk({"content": [thought("a")]}),
        chat_chunk({"content": [thought("b")]}),
        chat_chunk({"content": "c"}),
    ]
    expected = [thought("ab"), {"type": "text", "text": "c"}]
    assert message(chunks)["content"] == expected


def test_tool_calls_that_share_an_index_are_told_apart_by_id_and_name():
    chunks = [
        chat_chunk({"tool_calls": [call(0, name="f", call_id="c0", arguments="{}")]}),
        chat_chunk({"tool_calls": [call(0, name="f", call_id="c1", arguments='{"a":1}')]}),
    ]
    assert [(c["id"], c["function"]["arguments"]) for c in message(chunks)["tool_calls"]] == [
        ("c0", "{}"),
        ("c1", '{"a":1}'),
    ]


def test_tool_calls_without_index_merge_into_the_call_that_began_last():
    chunks = [
        chat_chunk({"tool_calls": [{"id": "c0", "function": {"name": "f", "arguments": "{"}}]}),
        chat_chunk({"tool_calls": [{"function": {"arguments": "}"}}]}),
    ]
    assert message(chunks)["tool_calls"] == [{"id": "c0", "function": {"name": "f", "arguments": "{}"}}]


def test_annotations_without_index_are_all_kept():
    chunks = [chat_chunk({"annotations": [{"type": "url_citation", "n": n}]}) for n in (1, 2)]
    assert [annotation["n"] for annotation in message(chunks)["annotations"]] == [1, 2]


AZURE_OPENING = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{"x": 1}]}


def test_azures_annotation_chunks_are_left_out():
    body = rebuilt(sse([AZURE_OPENING, chat_chunk({"content": "a"}, finish="stop"), AZURE_OPENING]))
    assert (body["id"], body["model"], body["created"]) == ("chatcmpl-1", "gpt-4o-2024-08-06", 1)


def test_usage_in_any_chunk_counts():
    chunks = [chat_chunk({"content": "a"}, usage=USAGE), chat_chunk({"content": "b"}, finish="stop", usage=None)]
    view = interpret_stream("chat", sse(chunks), content_type=SSE)
    assert view.usage == TOKENS
    assert loads(view.outputs)["usage"] == USAGE


@pytest.mark.parametrize("place", ["choice", "x_groq"])
def test_usage_is_found_where_compatible_servers_hide_it(place):
    chunk = chat_chunk({"content": "a"}, finish="stop")
    if place == "choice":
        chunk["choices"][0]["usage"] = USAGE
    else:
        chunk["x_groq"] = {"usage": USAGE}
    assert interpret_stream("chat", sse([chunk]), content_type=SSE).usage == TOKENS


def test_stream_without_usage_has_none():
    assert interpret_stream("chat", sse(STREAMS["text"]), content_type=SSE).usage is None


# --- how it ended -----------------------------------------------------------------------------------------------


def test_padding_is_left_out():
    assert "obfuscation" not in rebuilt(sse([chat_chunk({"content": "a"}, obfuscation="xyz")]))


def view_of(chunks, *, done):
    return interpret_stream("chat", sse(chunks, done=done), content_type=SSE)


def test_done_mark_completes_a_stream():
    assert view_of([chat_chunk({"content": "a"})], done=True).finish == "completed"


def test_finish_reason_of_each_begun_choice_completes_a_stream_without_done():
    assert view_of(STREAMS["text"], done=False).finish == "completed"


@pytest.mark.parametrize("form", [str, float])
def test_indexes_of_choices_may_come_as_texts_or_floats(form):
    chunks = [chat_chunk({"content": text}, index=form(n % 2)) for n, text in enumerate("axby")]
    choices = loads(view_of(chunks, done=True).outputs)["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "ab"), (1, "xy")]


def test_stream_with_an_unfinished_choice_does_not_say_how_it_ended():
    view = view_of(STREAMS["two choices, interleaved"][:-1], done=False)
    assert (view.finish, view.error) == (None, None)
    assert loads(view.outputs)["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("operation", ["chat", "completions"])
def test_a_stream_whose_chunks_promise_a_finish_reason_lacks_its_end(operation):
    def lacks(*choices, done=False):
        chunks = [{"id": "c", "choices": [choice]} for choice in choices]
        view = interpret_stream(operation, sse(chunks, done=done))
        assert (view.finish, view.error) == (("completed", None) if done else (None, None))
        return view.lacks_end

    piece = {"index": 0, "delta": {"content": "Hi"}, "text": "Hi"}
    assert lacks({**piece, "finish_reason": None})
    assert lacks({**piece, "finish_reason": ""})
    assert lacks({**piece, "finish_reason": "stop"}, {**piece, "index": 1, "finish_reason": None})
    assert not lacks({**piece, "finish_reason": None}, done=True)
    assert not lacks(piece)  # some servers never say how they ended
    assert interpret_stream(operation, [], content_type=SSE).lacks_end


def test_token_limit_makes_it_incomplete():
    view = view_of(STREAMS["two choices, interleaved"], done=True)
    assert view.finish == "incomplete"
    assert "length" in (view.error or "")
    assert view.attributes[sc.RESPONSE_FINISH_REASONS] == ["length", "stop"]


def test_error_mid_stream_fails_and_keeps_the_partial_answer():
    error = {"error": {"message": "Overloaded", "type": "server_error", "code": None}}
    view = view_of([chat_chunk({"content": "par"}), error], done=False)
    assert (view.finish, view.error, view.error_type) == ("failed", "Overloaded", "server_error")
    assert loads(view.outputs)["choices"][0]["message"] == {"role": "assistant", "content": "par"}
    assert view.preview == "par"


def test_nothing_arrived():
    view = interpret_stream("chat", [], content_type=SSE)
    assert (view.outputs, view.finish, view.first_chunk_ns) == (None, None, None)


def test_times_of_the_first_chunk_and_the_first_token():
    view = view_of(STREAMS["text"], done=True)
    assert (view.first_chunk_ns, view.first_token_ns) == (100, 200)


def test_events_that_are_no_json_are_counted_and_skipped():
    chunks = sse([chat_chunk({"content": "a"}, finish="stop")])
    view = interpret_stream("chat", [(1, b"data: {oops\n\n"), *chunks], content_type=SSE)
    assert view.preview == "a"
    assert view.attributes[sc.NOTE] == "1 stream events were not JSON objects"


def test_plain_json_read_through_a_stream_is_a_plain_response():
    reply = {"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    data = json.dumps(reply).encode()
    view = interpret_stream("chat", [(1, data[:20]), (2, data[20:])], content_type="application/json")
    assert (view.preview, view.finish, view.outputs, view.first_chunk_ns) == ("hi", "completed", data, None)


def test_chunk_with_an_id_is_part_of_the_answer_though_its_object_has_no_name():
    event = {"id": "c", "object": "", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    assert loads(interpret_stream("chat", sse([event])).outputs)["choices"][0]["message"]["content"] == "hi"


def test_usage_of_the_whole_wins_over_that_of_a_choice():
    event = chat_chunk({"content": "hi"}, finish="stop", usage={"prompt_tokens": 5, "completion_tokens": 1})
    event["choices"][0]["usage"] = {"prompt_tokens": 9, "completion_tokens": 9}
    assert (interpret_stream("chat", sse([event])).usage or {})["input_tokens"] == 5


def test_field_that_was_filled_once_keeps_its_value_when_it_comes_empty_later():
    events = [chat_chunk({"content": "hi"}, model=model) for model in ("gpt-5", "", None)]
    assert interpret_stream("chat", sse(events)).model == "gpt-5"


# --- servers that bend the format ------------------------------------------------------------------------------------


def test_chunks_without_id_and_object_are_part_of_the_answer_if_they_say_something():
    def blank(*choices):
        return {"id": "", "object": "", "choices": [{"index": 0, **choice} for choice in choices]}

    chunks = [
        blank({"delta": {"role": "assistant", "content": ""}}),
        blank({"delta": {"content": "H"}}),
        blank({"delta": {"content": "i"}}),
        blank({"delta": {}, "finish_reason": "length"}),
    ]
    view = view_of(chunks, done=False)
    assert (view.preview, view.finish) == ("Hi", "incomplete")
    assert message(chunks) == {"role": "assistant", "content": "Hi"}
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    assert message([blank({"delta": {"tool_calls": [call]}})])["tool_calls"] == [call]
    text = interpret_stream("completions", sse([blank({"text": "Hi"})]))
    assert text.preview == "Hi"


FILTER = {"hate": {"filtered": False, "severity": "safe"}}
AZURE_LATER = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [{"index": 0, "finish_reason": None, "content_filter_results": FILTER, "content_filter_offsets": {}}],
}


@pytest.mark.parametrize(("operation", "said"), [("chat", {"delta": {"content": "a"}}), ("completions", {"text": "a"})])
def test_what_azures_filter_says_survives_a_stream(operation, said):
    chunk = {"id": "c", "created": 7, "model": "m", "object": "chunk", "choices": [{"index": 0, **said}]}
    body = loads(interpret_stream(operation, sse([AZURE_OPENING, chunk, AZURE_LATER])).outputs)
    assert body["prompt_filter_results"] == [{"x": 1}]
    assert (body["id"], body["model"], body["created"]) == ("c", "m", 7)
    [choice] = body["choices"]
    assert choice["content_filter_results"] == FILTER
    assert "content_filter_offsets" not in choice, "it says nothing"


@pytest.mark.parametrize("delta", [{"content": "Hi"}, {"role": None, "content": "Hi"}, {"role": "", "content": "Hi"}])
def test_a_message_without_role_is_the_assistants(delta):
    assert message([chat_chunk(delta)]) == {"role": "assistant", "content": "Hi"}


def test_content_that_is_a_json_object_is_rebuilt_and_found():
    fruit = {"fruit": "quince", "count": 3}
    chunks = [
        chat_chunk({"role": "assistant", "content": ""}),
        chat_chunk({"content": fruit}),
        chat_chunk({"content": ""}),
    ]
    assert message(chunks)["content"] == fruit
    view = view_of(chunks, done=True)
    assert view.preview == view.text == '{"fruit":"quince","count":3}'


def read_blank(chunks):
    return interpret_stream("chat", sse(chunks))


def test_a_chunk_with_a_blank_head_that_brings_an_error_or_a_message_is_part_of_the_answer() -> None:
    blank = {"id": "", "object": ""}
    failed = read_blank([{**blank, "choices": [{"index": 0, "delta": {}, "error": {"message": "Upstream lost"}}]}])
    assert (failed.finish, failed.error) == ("failed", "Upstream lost")
    whole = {**blank, "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]}
    assert b"Hi" in read_blank([whole]).outputs
