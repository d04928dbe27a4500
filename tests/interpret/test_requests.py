from __future__ import annotations

import json
from typing import Any

import pytest

from tests.interpret.wire import body
from tracer import _semconv as sc
from tracer.interpret.dispatch import interpret_request
from tracer.interpret.previews import PREVIEW_CHARS

USER = {"role": "user", "content": "Hello\n  there"}


def view_of(operation="chat", **fields):
    return interpret_request(operation, body({"model": "gpt-4o", **fields}))


def test_the_very_bytes_are_the_inputs():
    data = b'{ "model":"gpt-4o" ,"messages":[] }'
    assert interpret_request("chat", data).inputs is data


def test_parameters_become_attributes_and_nulls_do_not():
    view = view_of(
        messages=[USER],
        temperature=0.5,
        top_p=1,
        max_completion_tokens=7,
        seed=0,
        n=2,
        stop="END",
        presence_penalty=None,
        frequency_penalty=0.1,
        service_tier="flex",
        stream=True,
        reasoning_effort="low",
        top_k=3,
    )
    assert view.attributes == {
        sc.REQUEST_MODEL: "gpt-4o",
        sc.REQUEST_TEMPERATURE: 0.5,
        sc.REQUEST_TOP_P: 1,
        sc.REQUEST_TOP_K: 3,
        sc.REQUEST_MAX_TOKENS: 7,
        sc.REQUEST_FREQUENCY_PENALTY: 0.1,
        sc.REQUEST_SEED: 0,
        sc.REQUEST_SERVICE_TIER: "flex",
        sc.REQUEST_REASONING_EFFORT: "low",
        sc.REQUEST_STOP_SEQUENCES: ["END"],
        sc.REQUEST_CHOICE_COUNT: 2,
        sc.STREAM: True,
    }
    assert view.model == "gpt-4o"


SCHEMA = {"type": "object", "properties": {}}
FORMATS = {
    "chat": ("chat", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}),
    "responses": ("responses", {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}),
}


@pytest.mark.parametrize(("operation", "fields"), FORMATS.values(), ids=FORMATS)
def test_output_schema(operation, fields):
    attributes = view_of(operation, **fields).attributes
    assert (attributes[sc.OUTPUT_TYPE], attributes[sc.OUTPUT_SCHEMA]) == ("json", SCHEMA)


def test_json_mode_has_no_schema_and_audio_is_speech():
    assert sc.OUTPUT_SCHEMA not in view_of(response_format={"type": "json_object"}).attributes
    assert view_of(modalities=["text", "audio"]).attributes[sc.OUTPUT_TYPE] == "speech"


FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
CHAT_FORM = {"type": "function", "function": FUNCTION}
TOOLS = {
    "chat": ({"type": "function", "function": FUNCTION}, [CHAT_FORM]),
    "responses": ({"type": "function", **FUNCTION}, [CHAT_FORM]),
    "namespace": ({"type": "namespace", "name": "n", "tools": [{"type": "function", **FUNCTION}]}, [CHAT_FORM]),
    "custom": ({"type": "custom", "name": "c"}, [{"type": "custom", "custom": {"name": "c"}}]),
    "web search": (
        {"type": "web_search_preview_2025_03_11"},
        [{"type": "function", "function": {"name": "web_search"}}],
    ),
    "computer": (
        {"type": "computer_use_preview", "environment": "linux"},
        [{"type": "function", "function": {"name": "computer_use"}, "computer_use_preview": {"environment": "linux"}}],
    ),
    "mcp without its credentials": (
        {"type": "mcp", "server_label": "s", "authorization": "token", "headers": {"X-Key": "k"}},
        [{"type": "function", "function": {"name": "mcp"}, "mcp": {"server_label": "s"}}],
    ),
}


@pytest.mark.parametrize(("tool", "expected"), TOOLS.values(), ids=TOOLS)
def test_tool_definitions_take_chat_form(tool, expected):
    assert view_of("responses", tools=[tool]).attributes[sc.TOOL_DEFINITIONS] == expected


def test_legacy_functions_are_tools():
    assert view_of(functions=[FUNCTION]).attributes[sc.TOOL_DEFINITIONS] == [CHAT_FORM]


IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
PREVIEWS = {
    "last user message": (
        "chat",
        {"messages": [USER, {"role": "user", "content": "Bye"}, {"role": "tool", "content": "r"}]},
        "Bye",
    ),
    "on one line": ("chat", {"messages": [USER]}, "Hello there"),
    "parts": ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "See"}, IMAGE]}]}, "See"),
    "picture only": ("chat", {"messages": [{"role": "user", "content": [IMAGE]}]}, "[image_url]"),
    "picture after words of others": (
        "chat",
        {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": [IMAGE]}]},
        "[image_url]",
    ),
    "picture that is no list": ("chat", {"messages": [{"role": "user", "content": IMAGE}]}, "[image_url]"),
    "picture as a text": (
        "chat",
        {"messages": [{"role": "user", "content": IMAGE["image_url"]["url"]}]},
        "[media]",
    ),
    "responses picture": (
        "responses",
        {
            "input": [
                {"role": "developer", "content": "Be kind"},
                {"role": "user", "content": [{"type": "input_image"}]},
            ]
        },
        "[input_image]",
    ),
    "responses picture as a text": ("responses", {"input": IMAGE["image_url"]["url"]}, "[media]"),
    "an object": (
        "chat",
        {"messages": [{"role": "user", "content": {"type": "fruit", "name": "quince"}}]},
        '{"type":"fruit","name":"quince"}',
    ),
    "a number": ("chat", {"messages": [{"role": "user", "content": 42}]}, "42"),
    "no user": ("chat", {"messages": [{"role": "system", "content": "Be kind"}]}, "Be kind"),
    "no messages": ("chat", {}, None),
    "responses text": ("responses", {"input": "Hi", "instructions": "Be kind"}, "Hi"),
    "responses items": (
        "responses",
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
        "Hi",
    ),
    "tool output only": ("responses", {"input": [{"type": "function_call_output", "output": "42"}]}, "42"),
    "prompt template": ("responses", {"prompt": {"id": "pmpt_1"}}, "pmpt_1"),
    "completion": ("completions", {"prompt": "Once"}, "Once"),
    "completions": ("completions", {"prompt": ["Once", "Twice"]}, "2 prompts"),
    "embedding": ("embeddings", {"input": "word"}, "word"),
    "embeddings": ("embeddings", {"input": ["a", "b", "c"]}, "3 inputs"),
    "one in a list": ("embeddings", {"input": ["word"]}, "word"),
    "tokens": ("embeddings", {"input": [1, 2, 3]}, "3 tokens"),
    "lists of tokens": ("embeddings", {"input": [[1, 2], [3]]}, "2 inputs"),
}


@pytest.mark.parametrize(("operation", "fields", "preview"), PREVIEWS.values(), ids=PREVIEWS)
def test_preview(operation, fields, preview):
    assert view_of(operation, **fields).preview == preview


@pytest.mark.parametrize(("room", "expected"), [(9, "old words\n"), (0, "")], ids=["fits exactly", "no room for more"])
def test_text_has_all_that_fits_and_else_the_latest(room, expected):
    latest = ("word " * 4_000)[: 16_000 - room - 1]
    messages = [{"role": "user", "content": "old words"}, {"role": "user", "content": latest}]
    assert view_of(messages=messages).text == expected + latest


def test_preview_and_text_are_bounded_and_text_keeps_the_latest():
    messages = [{"role": "user", "content": f"word{n} " * 1000} for n in range(10)]
    view = view_of(messages=messages)
    assert len(view.preview) == PREVIEW_CHARS
    assert len(view.text) <= 16_000
    assert "word9" in view.text
    assert "word0" not in view.text


def test_text_holds_messages_calls_and_tool_results_but_no_media():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    content = [{"type": "text", "text": "look"}, IMAGE]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "r"},
    ]
    assert view_of(messages=messages).text == 'look\nf({"a":1})\nc\nr'


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("chat", {"messages": [{"role": "tool", "tool_call_id": "call_7", "content": "r"}]}),
        ("chat", {"messages": [{"role": "assistant", "tool_calls": [{"id": "call_7", "function": {"name": "f"}}]}]}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "call_7", "output": "r"}]}),
        ("responses", {"input": [{"type": "function_call", "call_id": "call_7", "name": "f", "arguments": "{}"}]}),
        ("runs", {"tool_outputs": [{"tool_call_id": "call_7", "output": "r"}]}),
    ],
    ids=["chat result", "chat call", "responses result", "responses call", "run"],
)
def test_ids_of_tool_calls_are_found_and_in_no_preview(operation, fields):
    view = view_of(operation, **fields)
    assert "call_7" in view.text.split()
    assert "call_7" not in (view.preview or "")


def test_conversation_and_previous_response():
    view = view_of(
        "responses", conversation={"id": "conv_1"}, previous_response_id="resp_0", reasoning={"effort": "high"}
    )
    assert view.attributes[sc.CONVERSATION_ID] == "conv_1"
    assert view.attributes[sc.PREVIOUS_RESPONSE_ID] == "resp_0"
    assert view.attributes[sc.REQUEST_REASONING_EFFORT] == "high"


def test_embedding_parameters():
    attributes = view_of("embeddings", input="a", dimensions=8, encoding_format="base64").attributes
    assert (attributes[sc.EMBEDDINGS_DIMENSION_COUNT], attributes[sc.REQUEST_ENCODING_FORMATS]) == (8, ["base64"])


def test_unknown_operation_is_kept_raw():
    view = view_of("unknown", prompt="a cat")
    assert view.attributes == {sc.REQUEST_MODEL: "gpt-4o"}
    assert json.loads(view.inputs) == {"model": "gpt-4o", "prompt": "a cat"}


def test_truncated_request_is_read_as_far_as_it_goes():
    data = body({"model": "gpt-4o", "messages": [USER, {"role": "user", "content": "a long question"}]})[:-10]
    view = interpret_request("chat", data, truncated=10)
    assert view.attributes == {sc.REQUEST_MODEL: "gpt-4o", sc.TRUNCATED: {"inputs": 10}}
    assert (
        json.loads(view.inputs)["messages"][1]["content"]
        == "a long ques"[: len(json.loads(view.inputs)["messages"][1]["content"])]
    )
    assert (view.preview or "").startswith("a long")


def test_what_is_no_json_is_kept_as_text_with_a_note():
    view = interpret_request("chat", b"not \xff json")
    assert json.loads(view.inputs) == "not \ufffd json"
    assert view.attributes[sc.NOTE].startswith("no JSON, kept as text: ")


def test_loose_json_is_encoded_anew_with_a_note():
    view = interpret_request("chat", b'{"model": "m", "temperature": NaN}')
    assert json.loads(view.inputs) == {"model": "m", "temperature": "NaN"}
    assert view.attributes[sc.NOTE] == "not strict JSON: encoded anew"
