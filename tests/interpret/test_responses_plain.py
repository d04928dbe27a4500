"""Plain (not streamed) responses of all operations."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from tests.interpret.wire import body, loads
from tracer import _semconv as sc
from tracer.interpret.dispatch import child_span_id, interpret_response, interpret_stream

HEAD = {"id": "r1", "object": "chat.completion", "model": "gpt-4o-2024", "service_tier": "default"}


def chat(*messages, reason="stop", **fields):
    choices = [{"index": n, "message": message, "finish_reason": reason} for n, message in enumerate(messages)]
    return interpret_response("chat", body({**HEAD, "choices": choices, **fields}))


def responses(*output, **fields):
    return interpret_response("responses", body({"id": "r1", "status": "completed", "output": list(output), **fields}))


def test_chat_response():
    data = body(
        {**HEAD, "system_fingerprint": "fp", "choices": [{"message": {"content": "Hi\nyou"}, "finish_reason": "stop"}]}
    )
    view = interpret_response("chat", data)
    assert view.outputs is data
    assert (view.model, view.preview, view.text, view.finish) == ("gpt-4o-2024", "Hi you", "Hi\nyou", "completed")
    assert view.attributes == {
        sc.RESPONSE_ID: "r1",
        sc.RESPONSE_MODEL: "gpt-4o-2024",
        sc.RESPONSE_SERVICE_TIER: "default",
        sc.RESPONSE_SYSTEM_FINGERPRINT: "fp",
        sc.RESPONSE_FINISH_REASONS: ["stop"],
    }
    assert (view.usage, view.children, view.first_chunk_ns) == (None, [], None)


def test_tool_calls_of_all_choices_and_kinds():
    function = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "raw"}}
    view = chat({"content": None, "tool_calls": [function, custom]}, {"function_call": {"name": "h", "arguments": "1"}})
    assert view.attributes[sc.TOOL_CALLS] == [
        {"id": "c1", "name": "f", "arguments": "{}"},
        {"id": "c2", "name": "g", "arguments": "raw"},
        {"id": None, "name": "h", "arguments": "1"},
    ]
    assert view.preview == "f({}), g(raw), h(1)"


def test_empty_placeholders_beside_a_call_are_no_calls():
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}, "custom": {"name": "", "input": ""}}
    view = chat({"content": "", "tool_calls": [call], "function_call": {"name": "", "arguments": ""}})
    assert view.attributes[sc.TOOL_CALLS] == [{"id": "c", "name": "f", "arguments": "{}"}]


@pytest.mark.parametrize(
    ("message", "preview"),
    [
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "Spoken"}}, "Spoken"),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Parts"}]}, "Parts"),
        ({"content": ""}, None),
    ],
    ids=["refusal", "audio", "parts", "empty"],
)
def test_preview_of_a_message(message, preview):
    assert chat(message).preview == preview


def test_length_is_incomplete():
    view = chat({"content": "a"}, reason="length")
    assert (view.finish, view.error) == ("incomplete", "the token limit was reached (finish_reason: length)")


def test_error_under_status_200_fails():
    view = interpret_response("chat", body({"error": {"message": "Filtered", "code": "content_filter", "type": None}}))
    assert (view.finish, view.error, view.error_type) == ("failed", "Filtered", "content_filter")


@pytest.mark.parametrize(
    ("error", "words", "kind"),
    [
        ("boom", "boom", None),
        ({"code": 400}, "error 400", "400"),
        ([1], "[1]", None),
        ({"x": 1}, "error without a message", None),
    ],
)
def test_errors_of_any_shape(error, words, kind):
    view = interpret_response("chat", body([{"error": error}]))
    assert (view.finish, view.error, view.error_type) == ("failed", words, kind)


USAGES = {
    "chat": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
        },
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 2,
            "input_audio_tokens": 1,
            "reasoning_tokens": 3,
            "output_audio_tokens": 0,
        },
    ),
    "responses": (
        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}},
        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "reasoning_tokens": 0},
    ),
    "embeddings": ({"prompt_tokens": 4, "total_tokens": 4}, {"input_tokens": 4, "output_tokens": 0, "total_tokens": 4}),
    "one input": ({"prompt_tokens": 2, "total_tokens": 2}, {"input_tokens": 2, "output_tokens": 0, "total_tokens": 2}),
    "total left out": (
        {"prompt_tokens": 4, "completion_tokens": 1},
        {"input_tokens": 4, "output_tokens": 1, "total_tokens": 5},
    ),
    "deepseek": (
        {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5, "prompt_cache_hit_tokens": 3},
        {"input_tokens": 4, "output_tokens": 1, "total_tokens": 5, "cache_read_input_tokens": 3},
    ),
    "two names for one count": (
        {"prompt_tokens": 4, "input_tokens": 0, "completion_tokens": 1, "output_tokens": 1},
        {"input_tokens": 4, "output_tokens": 1, "total_tokens": 5},
    ),
    "nonsense": ({"prompt_tokens": "4", "total_tokens": -1, "completion_tokens": True}, None),
    "too large": ({"prompt_tokens": 10**30}, None),
    "nothing": (None, None),
}


@pytest.mark.parametrize(("given", "expected"), USAGES.values(), ids=USAGES)
def test_usage_in_any_spelling(given, expected):
    assert chat({"content": "a"}, usage=given).usage == expected


def test_usage_attributes():
    attributes = chat({"content": "a"}, usage=USAGES["chat"][0]).attributes
    assert attributes[sc.USAGE_INPUT_TOKENS] == 10
    assert attributes[sc.USAGE_CACHE_READ_INPUT_TOKENS] == 4
    assert attributes[sc.REASONING_TOKENS] == 3
    assert sc.OUTPUT_AUDIO_TOKENS not in attributes, "a detail that is zero stays out of the way"


def test_legacy_completion():
    choices = [{"text": "a", "index": 0, "finish_reason": "stop"}, {"text": "b", "index": 1, "finish_reason": "length"}]
    view = interpret_response("completions", body({"choices": choices}))
    assert (view.preview, view.text, view.finish) == ("a", "a\nb", "incomplete")


def test_streamed_legacy_completion_joins_text_and_logprobs_by_choice():
    def chunk(index, text, reason=None, logprobs=None):
        choice = {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}
        return b"data: " + body({"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}) + b"\n\n"

    def logprobs(*tokens):
        return {"tokens": list(tokens), "token_logprobs": [-1.0] * len(tokens), "text_offset": [0]}

    reads = [(1, chunk(0, "a", logprobs=logprobs("a"))), (2, chunk(1, "x")), (3, chunk(0, "b", "stop", logprobs("b")))]
    view = interpret_stream("completions", [*reads, (4, chunk(1, "", "length"))], content_type="text/event-stream")
    merged = {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0], "text_offset": [0, 0]}
    assert loads(view.outputs) == {
        "id": "c", "object": "text_completion", "model": "m",
        "choices": [
            {"index": 0, "text": "ab", "logprobs": merged, "finish_reason": "stop"},
            {"index": 1, "text": "x", "logprobs": None, "finish_reason": "length"},
        ],
    }  # fmt: skip
    assert (view.finish, view.first_token_ns) == ("incomplete", 1)


@pytest.mark.parametrize(
    "embedding",
    [[0.5] * 8, *(base64.b64encode(bytes(4 * 8)).decode() for _ in range(1))],
    ids=["floats", "base64"],
)
def test_embeddings_are_counted(embedding):
    data = body({"object": "list", "model": "m", "data": [{"embedding": embedding}, {"embedding": embedding}],
                 "usage": USAGES["one input"][0]})  # fmt: skip
    view = interpret_response("embeddings", data)
    assert view.outputs is data
    assert (view.preview, view.finish, view.usage) == ("2 × 8", "completed", USAGES["one input"][1])
    assert view.attributes[sc.EMBEDDINGS_DIMENSION_COUNT] == 8


def test_embeddings_of_another_shape_are_read_all_the_same():
    view = interpret_response("embeddings", body({"data": [{"vector": [1]}], "model": "m"}))
    assert (view.model, view.preview) == ("m", "1")


def test_responses_text_calls_and_status():
    view = responses(
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "No"}]},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
    )
    assert (view.preview, view.text, view.finish) == ("Hi", "Hi\nf({}), g(x)\nNo\nc1\nc2", "completed")
    assert [(child.name, child.inputs) for child in view.children] == [("custom.g", "x")]
    assert view.attributes[sc.TOOL_CALLS] == [
        {"id": "c1", "name": "f", "arguments": "{}"},
        {"id": "c2", "name": "g", "arguments": "x"},
    ]


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"status": "queued"}, "completed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "incomplete"),
        ({"status": "failed", "error": {"message": "x"}}, "failed"),
        ({"status": "failed"}, "failed"),
        ({"status": "cancelled"}, "cancelled"),
        ({"object": "response.compaction", "status": None}, "completed"),
    ],
)
def test_status_of_a_response(fields, finish):
    assert responses(**fields).finish == finish


TOOLS = {
    "web search": (
        {"type": "web_search_call", "id": "i", "action": {"type": "search", "query": "q", "sources": [{"url": "u"}]}},
        ("web_search", "RETRIEVER", {"type": "search", "query": "q"}, [{"url": "u"}]),
    ),
    "file search": (
        {"type": "file_search_call", "id": "i", "queries": ["q"], "results": [{"text": "t"}]},
        ("file_search", "RETRIEVER", {"queries": ["q"]}, [{"text": "t"}]),
    ),
    "code": (
        {"type": "code_interpreter_call", "id": "i", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]},
        ("code_interpreter", "TOOL", {"code": "1+1"}, [{"type": "logs", "logs": "2"}]),
    ),
    "computer": (
        {"type": "computer_call", "id": "i", "action": {"type": "screenshot"}},
        ("computer_use", "TOOL", {"type": "screenshot"}, None),
    ),
    "image": (
        {"type": "image_generation_call", "id": "i", "revised_prompt": "a cat", "size": "1x1", "result": "AAAA"},
        ("image_generation", "TOOL", {"prompt": "a cat", "size": "1x1"}, {"result": "AAAA"}),
    ),
    "mcp": (
        {"type": "mcp_call", "id": "i", "name": "roll", "server_label": "dice", "arguments": '{"n": 2}', "output": "7"},
        ("mcp.roll", "TOOL", {"n": 2}, "7"),
    ),
    "mcp list": (
        {"type": "mcp_list_tools", "id": "i", "server_label": "dice", "tools": [{"name": "roll"}]},
        ("mcp_list_tools", "TOOL", {"server_label": "dice"}, [{"name": "roll"}]),
    ),
}


@pytest.mark.parametrize(("item", "expected"), TOOLS.values(), ids=TOOLS)
def test_built_in_tool_is_a_child(item, expected):
    (child,) = responses(item).children
    assert (child.name, child.span_type, child.inputs, child.outputs) == expected
    assert (child.key, child.error, child.start_time_ns) == ("i", None, None)
    assert child.attributes[sc.OPERATION_NAME] == "execute_tool"


def test_shell_of_the_callers_is_a_tool_call_too():
    call = {"type": "shell_call", "id": "i", "call_id": "c", "action": {"commands": ["ls"]}}
    asked = responses(call)
    assert [(child.inputs, child.outputs) for child in asked.children] == [({"commands": ["ls"]}, None)]
    assert asked.attributes[sc.TOOL_CALLS] == [{"id": "c", "name": "shell", "arguments": '{"commands":["ls"]}'}]
    ran = responses(call, {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "a"}]})
    assert [child.outputs for child in ran.children] == [[{"stdout": "a"}]]
    assert sc.TOOL_CALLS not in ran.attributes


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"error": "boom"}, "boom"),
        ({"error": {"type": "http_error", "code": 424, "message": "no"}}, "no"),
        ({"error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no"}]}}, "no"),
        ({"status": "failed"}, "the tool call failed"),
        ({"status": "completed", "error": None}, None),
    ],
)
def test_failed_tool(fields, error):
    (child,) = responses({"type": "mcp_call", "name": "f", **fields}).children
    assert child.error == error


def test_children_without_or_with_equal_ids_have_keys_of_their_own():
    items = [
        {"type": "web_search_call", "id": "Sanitized"},
        {"type": "web_search_call", "id": "Sanitized"},
        {"type": "program"},
    ]
    keys = [child.key for child in responses(*items).children]
    assert keys == ["Sanitized", "Sanitized[1]", "output[2]"]


def test_child_span_ids_are_stable_and_differ():
    first = child_span_id("00f067aa0ba902b7", "ws_1")
    assert first == child_span_id("00f067aa0ba902b7", "ws_1")
    assert len(first) == 16
    assert int(first, 16)
    assert len({first, child_span_id("00f067aa0ba902b7", "ws_2"), child_span_id("00f067aa0ba902b8", "ws_1")}) == 3


def test_unknown_operation_is_kept_with_its_usage():
    data = body({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": {"input_tokens": 1, "output_tokens": 2}})
    view = interpret_response("images", data)
    assert (view.outputs, view.finish, view.usage) == (
        data,
        "completed",
        {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    )


def test_unknown_stream_is_a_list_of_its_events():
    view = interpret_stream(
        "audio", [(1, b'data: {"a": 1}\n\ndata: x\n\ndata: [DONE]\n\n')], content_type="text/event-stream"
    )
    assert (loads(view.outputs), view.finish) == ([{"a": 1}, "x"], "completed")


def test_truncated_response():
    data = body({**HEAD, "choices": [{"message": {"content": "long answer"}}]})[:-8]
    view = interpret_response("chat", data, truncated=8)
    assert view.attributes[sc.TRUNCATED] == {"outputs": 8}
    assert view.preview == loads(view.outputs)["choices"][0]["message"]["content"]
    assert (view.preview or "").startswith("long")


def test_body_that_is_no_json_is_kept_as_text():
    view = interpret_response("chat", b"<html>Bad gateway</html>", content_type="text/html")
    assert loads(view.outputs) == "<html>Bad gateway</html>"
    assert view.attributes[sc.NOTE].startswith("text/html: no JSON, kept as text")
    assert view.finish == "failed"


def test_empty_body_is_nothing():
    assert interpret_response("chat", b"").outputs is None


# --- what is no answer ---------------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
JSON_OPERATIONS = ["chat", "completions", "responses", "embeddings", "moderations", "images"]
OTHER_OPERATIONS = ["decisions", "retrieval", "videos", "runs"]


@pytest.mark.parametrize("operation", [*JSON_OPERATIONS, *OTHER_OPERATIONS])
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", "application/json", None])
def test_a_page_in_place_of_an_answer_is_a_failure(operation, content_type):
    view = interpret_response(operation, PAGE, content_type=content_type)
    assert (view.finish, loads(view.outputs)) == ("failed", PAGE.decode())
    assert (content_type or "text").partition(";")[0] in (view.error or "")


@pytest.mark.parametrize("operation", JSON_OPERATIONS)
@pytest.mark.parametrize("content_type", ["text/html", "text/event-stream", None])
def test_a_page_in_place_of_a_stream_is_a_failure(operation, content_type):
    view = interpret_stream(operation, [(1, PAGE[:30]), (2, PAGE[30:])], content_type=content_type)
    assert (view.finish, loads(view.outputs)) == ("failed", PAGE.decode())


REFUSALS = {
    "FastAPI": ({"detail": "Not Found"}, "Not Found", None),
    "a proxy": ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, "404 NOT_FOUND", "500"),
    "MiniMax": (
        {"id": "1", "object": "", "choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        "login fail",
        "1004",
    ),
    "nothing": ({}, "the server sent no answer of this API", None),
}


@pytest.mark.parametrize("operation", JSON_OPERATIONS)
@pytest.mark.parametrize(("answer", "error", "error_type"), REFUSALS.values(), ids=REFUSALS)
def test_a_body_without_any_field_of_an_answer_is_a_failure(operation, answer, error, error_type):
    view = interpret_response(operation, body(answer))
    assert (view.finish, view.error, view.error_type) == ("failed", error, error_type)


def test_a_body_that_was_cut_is_no_failure():
    assert interpret_response("chat", body({"id": "c", "choices": []})[:9], truncated=20).finish is None
    assert interpret_response("chat", PAGE, truncated=20).finish is None
    assert chat({"content": "Hi"}, base_resp={"status_code": 0, "status_msg": ""}).finish == "completed"


def test_a_stream_that_begins_with_an_id_or_a_retry_is_one():
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
    for start in (b"id: 1\n", b"retry: 3000\n\n", b": hello\n\n"):
        view = interpret_stream("chat", [(1, start + chunk)], content_type="text/plain")
        assert (view.preview, view.finish) == ("Hi", "completed")


# --- content that is no text ---------------------------------------------------------------------------------------

PICTURE = base64.b64encode(random.Random(7).randbytes(3_000)).decode()
FRUIT = {"fruit": "quince", "count": 3}


CONTENTS = {
    "object": FRUIT,
    "list": [FRUIT],
    "with a text": {**FRUIT, "text": "round"},
    "with a type": {**FRUIT, "type": "fruit"},
    "with a type and a text": {**FRUIT, "type": "fruit", "text": "round"},
    "with a type that is no text": {**FRUIT, "type": {"of": "fruit"}},
    "list of objects with a type": [{**FRUIT, "type": "fruit"}],
    "list in a list": [[FRUIT]],
    "with the type of a part of other kinds": {**FRUIT, "type": "context"},
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_content_that_is_a_json_object_is_shown_and_found(content):
    view = chat({"role": "assistant", "content": content})
    assert "quince" in view.preview
    assert "quince" in view.text
    assert responses({"type": "message", "content": content}).preview == view.preview


def test_a_text_part_that_is_a_json_object_is_shown_and_found():
    view = responses({"type": "message", "content": [{"type": "output_text", "text": FRUIT}]})
    assert view.preview == view.text == '{"fruit":"quince","count":3}'
    assert responses({"type": "message", "content": "Hello"}).preview == "Hello"


@pytest.mark.parametrize(
    ("content", "preview"),
    [(42, "42"), (0, "0"), (2.5, "2.5"), (True, "true"), (False, "false"), ([1, "a", None], "1 a"), ([], None)],
)
def test_content_that_is_a_number_is_shown_and_found(content, preview):
    view = chat({"role": "assistant", "content": content})
    assert (view.preview, view.text) == (preview, (preview or "").replace(" ", "\n"))
    assert responses({"type": "message", "content": content}).preview == preview


@pytest.mark.parametrize(
    ("part", "preview"),
    [
        ({"type": "image_url", "image_url": {"url": "u"}}, "[image_url]"),
        ({"type": "output_image", "url": "u"}, "[output_image]"),
        ({"image_url": {"url": "u"}}, None),
        ({}, None),
        ({"refusal": None}, None),
    ],
)
def test_a_part_without_words_is_no_json(part, preview):
    for content in (part, [part]):
        assert chat({"role": "assistant", "content": content}).preview == preview
        assert responses({"type": "message", "content": content}).preview == preview
    assert chat({"role": "assistant", "content": None, "images": [part]}).preview == preview
    assert chat({"role": "assistant", "content": "Here it is.", "images": [part]}).preview == "Here it is."


@pytest.mark.parametrize("content", [PICTURE, f"data:image/png;base64,{PICTURE}"], ids=["base64", "data URL"])
def test_a_text_that_is_only_a_picture_is_named(content):
    assert chat({"role": "assistant", "content": content}).preview == "[media]"
    assert responses({"type": "message", "content": content}).preview == "[media]"
    assert responses({"type": "message", "content": [{"type": "output_text", "text": content}]}).preview == "[media]"


def test_an_answer_that_is_only_a_picture_has_the_preview_of_a_picture():
    picture = {"type": "image_generation_call", "id": "ig", "result": "AAAA", "size": "1024x1024", "quality": "high"}
    assert responses(picture).preview == "1 image 1024x1024 high"
    assert responses(picture, picture).preview == "2 images 1024x1024 high"
    drawn = responses({"type": "reasoning", "summary": []}, {**picture, "revised_prompt": "A grey cat"})
    assert (drawn.preview, drawn.text) == ("A grey cat", "A grey cat")
    said = {"type": "message", "content": [{"type": "output_text", "text": "Here it is."}]}
    assert responses(picture, said).preview == "Here it is."
    assert responses({**picture, "result": None}).preview is None


@pytest.mark.parametrize("operation", ["chat", "responses", "completions"])
@pytest.mark.parametrize("body", [b"null", b'"Service unavailable"', b"[]", b"42", b"true"], ids=bytes.decode)
def test_json_that_is_no_object_is_no_answer(operation: str, body: bytes) -> None:
    view = interpret_response(operation, body, content_type="application/json")
    assert view.finish == "failed"
    assert view.error == "the server answered with application/json, which is no answer of this API"


@pytest.mark.parametrize(
    ("body", "finish"),
    [
        ({"status": "abort"}, "failed"),
        ({"status": "FAILED"}, "failed"),
        ({"status": "CANCELLED"}, "cancelled"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "incomplete"),
        ({"status": "incomplete", "incomplete_details": {"reason": "network_error"}}, "failed"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "incomplete"),
        ({"status": "COMPLETED"}, "completed"),
    ],
    ids=str,
)
def test_other_words_for_how_a_response_ended(body: dict[str, Any], finish: str) -> None:
    assert interpret_response("responses", json.dumps({"output": [], **body}).encode()).finish == finish
