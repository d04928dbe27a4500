"""What the attributes of one span mean, in each convention."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tracer.otlp.meaning import read_meaning
from tracer.otlp.received import ReceivedSpan


def span(events: list[tuple[str, int, dict[str, Any]]] | None = None, **attributes: Any) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id="1" * 32,
        span_id="2" * 16,
        parent_id=None,
        name="n",
        start_ns=1_000_000_000,
        end_ns=2_000_000_000,
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
        events=events or [],
    )


def given(attributes: dict[str, Any], *events: tuple[str, int, dict[str, Any]]) -> ReceivedSpan:
    return span(list(events), **attributes)


QUESTION = {"role": "user", "content": "Why?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
FLAT = {
    "{0}.0.{1}role": "user",
    "{0}.0.{1}content": "Why?",
    "{0}.1.{1}role": "assistant",
    "{0}.1.{1}tool_calls.0.{2}id": "c1",
    "{0}.1.{1}tool_calls.0.{2}{3}name": "look",
    "{0}.1.{1}tool_calls.0.{2}{3}arguments": '{"x": 1}',
}


def flat(*names: str) -> dict[str, Any]:
    return {key.format(*names): value for key, value in FLAT.items()}


@pytest.mark.parametrize(
    "read",
    [
        given({"gen_ai.operation.name": "chat", **flat("gen_ai.prompt", "", "", "")}),
        given(
            {
                "openinference.span.kind": "LLM",
                **flat("llm.input_messages", "message.", "tool_call.", "function."),
            }
        ),
        given(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.input.messages": json.dumps(
                    [
                        {"role": "user", "parts": [{"type": "text", "content": "Why?"}]},
                        {
                            "role": "assistant",
                            "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"x": 1}}],
                        },
                    ]
                ),
            }
        ),
        given(
            {"gen_ai.operation.name": "chat"},
            ("gen_ai.user.message", 1, {"content": "Why?"}),
            ("gen_ai.assistant.message", 1, {"tool_calls": json.dumps([CALL])}),
        ),
        given(
            {"gen_ai.operation.name": "chat"},
            (
                "gen_ai.client.inference.operation.details",
                1,
                {
                    "gen_ai.input.messages": [
                        {"role": "user", "parts": [{"type": "text", "content": "Why?"}]},
                        {
                            "role": "assistant",
                            "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"x": 1}'}],
                        },
                    ]
                },
            ),
        ),
    ],
)
def test_messages_are_read_alike_in_each_convention(read: ReceivedSpan) -> None:
    meaning = read_meaning(read)
    assert (meaning.span_type, meaning.operation) == ("CHAT_MODEL", "chat")
    asked, called = meaning.inputs["messages"]
    assert asked == QUESTION
    assert (called["role"], called["tool_calls"]) == ("assistant", [CALL])


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"So."}]}]'},
        {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "So."},
        {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "So."},
        {"output.value": '{"choices":[{"message":{"role":"assistant","content":"So."}}]}'},
        {"mlflow.spanOutputs": '{"choices":[{"message":{"role":"assistant","content":"So."}}]}'},
    ],
)
def test_answers_are_read_alike_in_each_convention(attributes: dict[str, Any]) -> None:
    meaning = read_meaning(given({"gen_ai.operation.name": "chat", **attributes}))
    [choice] = meaning.outputs["choices"]
    assert choice["message"] == {"role": "assistant", "content": "So."}


def test_a_body_goes_before_the_messages_that_were_made_of_it() -> None:
    body = {"model": "m", "input": "Why?", "instructions": "Be brief."}
    attributes = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps(body),
        "llm.input_messages.0.message.content": "x",
    }
    meaning = read_meaning(given(attributes))
    assert (meaning.operation, meaning.inputs) == ("responses", body)


def test_the_answers_of_tools_are_messages_of_their_own() -> None:
    parts = [{"type": "tool_call_response", "id": "c1", "response": {"t": 20}}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "tool", "parts": parts}]),
    }
    meaning = read_meaning(given(attributes))
    assert meaning.inputs["messages"] == [{"role": "tool", "tool_call_id": "c1", "content": '{"t": 20}'}]


def test_reasoning_and_pictures_stay_in_the_message() -> None:
    parts = [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "Look"},
        {"type": "blob", "mime_type": "image/png", "content": "AAE="},
    ]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
    }
    [message] = read_meaning(given(attributes)).inputs["messages"]
    assert message["reasoning_content"] == "hm"
    assert message["content"] == [{"type": "text", "text": "Look"}, parts[2]]


@pytest.mark.parametrize(
    ("attributes", "span_type"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, "TOOL"),
        ({"gen_ai.operation.name": "invoke_agent"}, "AGENT"),
        ({"gen_ai.operation.name": "text_completion"}, "LLM"),
        ({"gen_ai.operation.name": "embeddings"}, "EMBEDDING"),
        ({"openinference.span.kind": "RERANKER"}, "RERANKER"),
        ({"mlflow.spanType": '"RETRIEVER"'}, "RETRIEVER"),
        ({"traceloop.span.kind": "workflow"}, "WORKFLOW"),
        ({"gen_ai.request.model": "m", "llm.request.type": "chat"}, "CHAT_MODEL"),
        ({"gen_ai.operation.name": "something new"}, "UNKNOWN"),
        ({"http.request.method": "GET"}, "UNKNOWN"),
    ],
)
def test_each_conventions_word_for_a_kind_is_known(attributes: dict[str, Any], span_type: str) -> None:
    assert read_meaning(given(attributes)).span_type == span_type


@pytest.mark.parametrize(
    ("attributes", "usage"),
    [
        (
            {
                "gen_ai.usage.input_tokens": 3,
                "gen_ai.usage.output_tokens": 4,
                "gen_ai.usage.cache_read.input_tokens": 1,
            },
            {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "cache_read_input_tokens": 1},
        ),
        (
            {"llm.token_count.prompt": 3, "llm.token_count.completion": 4, "llm.token_count.total": 8},
            {"input_tokens": 3, "output_tokens": 4, "total_tokens": 8},
        ),
        ({"mlflow.chat.tokenUsage": '{"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}'},
         {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}),
        ({"gen_ai.usage.prompt_tokens": 3, "gen_ai.usage.completion_tokens": 4, "llm.usage.total_tokens": 7},
         {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}),
        ({"gen_ai.usage.input_tokens": -1, "gen_ai.usage.output_tokens": True, "llm.token_count.total": "7"}, None),
    ],
)  # fmt: skip
def test_tokens_are_read_in_each_convention(attributes: dict[str, Any], usage: dict[str, int] | None) -> None:
    assert read_meaning(given(attributes)).usage == usage


@pytest.mark.parametrize(
    "attributes",
    [
        {"session.id": "s", "user.id": "u"},
        {"gen_ai.conversation.id": "s", "enduser.id": "u"},
        {"mlflow.trace.session": '"s"', "mlflow.trace.user": '"u"'},
        {"traceloop.association.properties.session_id": "s", "traceloop.association.properties.user_id": "u"},
    ],
)
def test_session_and_user_are_read_in_each_convention(attributes: dict[str, Any]) -> None:
    meaning = read_meaning(given(attributes))
    assert (meaning.session_id, meaning.user_id) == ("s", "u")


def test_what_a_tool_took_and_gave_is_its_value() -> None:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.call.arguments": '{"x": 1}',
        "gen_ai.tool.call.result": "20",
    }
    meaning = read_meaning(given(attributes))
    assert (meaning.operation, meaning.inputs, meaning.outputs) == (None, {"x": 1}, "20")


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm.input_messages.0": 5, "llm.input_messages.0.message.role": "user"},
        {"llm.input_messages.x.message": "user"},
        {"gen_ai.prompt." + "0." * 3_000 + "role": "user"},
        {"gen_ai.input.messages": "[1, null, {}]", "gen_ai.output.messages": "[[]]"},
        {"gen_ai.input.messages": "[", "gen_ai.system_instructions": "plain text"},
        {"input.value": '{"messages": 5}', "output.value": '{"choices": null}'},
        {"mlflow.chat.tokenUsage": "null", "metadata": "[1]", "gen_ai.tool.definitions": "{}"},
        {"gen_ai.input.messages": '[{"role": 5, "parts": [{"type": ["x"]}, 7]}]'},
    ],
)
def test_attributes_that_no_convention_has_raise_nothing(attributes: dict[str, Any]) -> None:
    assert read_meaning(given({"gen_ai.operation.name": "chat", **attributes})).span_type == "CHAT_MODEL"


def test_a_span_that_is_named_by_a_template_has_its_message_as_name() -> None:
    assert read_meaning(given({"logfire.msg": "Chat with 'm'"})).name == "Chat with 'm'"
    assert read_meaning(given({})).name == "n"


@pytest.mark.parametrize(("texts", "wanted"), [(["a"], "a"), (["a", "b"], ["a", "b"])])
def test_what_was_embedded_is_the_input_of_a_request(texts: list[str], wanted: Any) -> None:
    messages = {f"gen_ai.prompt.{place}.content": text for place, text in enumerate(texts)}
    meaning = read_meaning(given({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "m", **messages}))
    assert (meaning.operation, meaning.inputs) == ("embeddings", {"model": "m", "input": wanted})


@pytest.mark.parametrize(
    "read",
    [
        given({"gen_ai.response.time_to_first_chunk": 0.25}),
        given({}, ("First Token Stream Event", 1_250_000_000, {})),
    ],
)
def test_the_moment_of_the_first_token_is_read(read: ReceivedSpan) -> None:
    assert read_meaning(read).first_token_ns == 1_250_000_000


@pytest.mark.parametrize(
    ("attributes", "cost"),
    [({"gen_ai.usage.cost": 0.5}, 0.5), ({"llm.cost.total": 2}, 2.0), ({"llm.cost.total": "2"}, None)],
)
def test_a_cost_that_the_span_says_is_read(attributes: dict[str, Any], cost: float | None) -> None:
    assert read_meaning(given(attributes)).cost == cost


def test_metadata_are_read_as_texts() -> None:
    assert read_meaning(given({"metadata": '{"a": "b", "c": [1]}'})).metadata == {"a": "b", "c": "[1]"}
