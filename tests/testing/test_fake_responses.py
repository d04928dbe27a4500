"""The Responses API, through the real client; bodies and events are checked against the SDK's types, strictly."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tracer.testing import FakeOpenAI, Reply, reply

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
MCP: Any = {"type": "mcp", "server_label": "deepwiki", "server_url": "https://example.com", "require_approval": "never"}


class City(BaseModel):
    name: str


REQUESTS: dict[str, dict[str, Any]] = {
    "text": {"input": "Hello"},
    "message items": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]},
    "function": {"input": "What's the weather in Paris and Rome?", "tools": [WEATHER]},
    "reasoning": {"input": "Think", "reasoning": {"effort": "low", "summary": "auto"}},
    "truncated": {"input": "Hello", "max_output_tokens": 1},
    "web search": {"input": "Search the web for cats", "tools": [{"type": "web_search"}]},
    "web search preview": {"input": "Latest news?", "tools": [{"type": "web_search_preview"}]},
    "file search": {
        "input": "Search the files for cats",
        "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
        "include": ["file_search_call.results"],
    },
    "code interpreter": {
        "input": "Calculate 20 + 22",
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
        "include": ["code_interpreter_call.outputs"],
    },
    "image": {"input": "Draw a cat", "tools": [{"type": "image_generation", "partial_images": 2}]},
    "mcp": {"input": "Ask deepwiki about cats", "tools": [MCP]},
    "mcp approval": {"input": "Use mcp", "tools": [{**MCP, "require_approval": "always"}]},
    "forced": {
        "input": "Hello",
        "tools": [{"type": "web_search_preview"}],
        "tool_choice": {"type": "web_search_preview"},
    },
    "required": {"input": "Hello", "tools": [MCP], "tool_choice": "required"},
    "shell": {"input": "Show the directory", "tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
    "caller's shell": {"input": "Open a terminal", "tools": [{"type": "shell", "environment": {"type": "local"}}]},
    "local shell": {"input": "Open a terminal", "tools": [{"type": "local_shell"}]},
    "computer": {"input": "Click on OK", "tools": [{"type": "computer"}]},
    "computer preview": {
        "input": "Take a screenshot",
        "tools": [
            {"type": "computer_use_preview", "display_width": 9, "display_height": 9, "environment": "browser"},
        ],
    },
    "custom": {"input": "Use sql", "tools": [{"type": "custom", "name": "sql"}]},
}
ITEM_TYPES = {
    "text": ["message"],
    "message items": ["message"],
    "function": ["function_call", "function_call"],
    "reasoning": ["reasoning", "message"],
    "truncated": ["message"],
    "web search": ["web_search_call", "message"],
    "web search preview": ["web_search_call", "message"],
    "file search": ["file_search_call", "message"],
    "code interpreter": ["code_interpreter_call", "message"],
    "image": ["image_generation_call", "message"],
    "mcp": ["mcp_list_tools", "mcp_call", "message"],
    "mcp approval": ["mcp_list_tools", "mcp_approval_request"],
    "forced": ["web_search_call", "message"],
    "required": ["mcp_list_tools", "mcp_call", "message"],
    "shell": ["shell_call", "shell_call_output", "message"],
    "caller's shell": ["shell_call"],
    "local shell": ["local_shell_call"],
    "computer": ["computer_call"],
    "computer preview": ["computer_call"],
    "custom": ["custom_tool_call"],
}
REPLIES: dict[str, Reply] = {
    "text": reply.text("Grüße 🌍, naïve world", reasoning="Hm."),
    "empty": reply.text(""),
    "refusal": reply.refusal("I can't help with that."),
    "tool calls": reply.tool_calls(("f", {"x": 1}), ("g", '{"broken'), text="Wait."),
    "truncated": reply.text("Once upon", truncated=True),
    "failed": reply.failed("Out of memory", text="I was ab"),
    "custom tool": reply.output({"type": "custom_tool_call", "call_id": "call_1", "name": "sql", "input": "SELECT 1"}),
    "failed mcp": reply.output(
        {
            "type": "mcp_call",
            "server_label": "s",
            "name": "f",
            "arguments": "{}",
            "status": "failed",
            "output": None,
            "error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no"}]},
        }
    ),
}


def events(client: openai.OpenAI, **options: Any) -> list[Any]:
    with client.responses.with_streaming_response.create(model="m", stream=True, **options) as response:
        lines = list(response.iter_lines())
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names == [json.loads(text)["type"] for text in data]
    return [EVENT.validate_json(text, strict=True) for text in data]


def comparable(response: Response) -> Any:
    """A response without what differs from call to call."""
    text = response.to_json(indent=None, exclude_unset=False)
    found = json.loads(text, parse_float=lambda _: None)
    for each in (found, *found["output"]):
        each.pop("id", None)
        each.pop("call_id", None)
    return {key: value for key, value in found.items() if key not in {"created_at", "completed_at"}}


@pytest.mark.parametrize("name", REQUESTS)
def test_response_and_events_fit_the_sdk_types_and_agree(client: openai.OpenAI, name: str) -> None:
    raw = client.responses.with_raw_response.create(model="m", **REQUESTS[name])
    plain = Response.model_validate_json(raw.text, strict=True)
    assert [item.type for item in plain.output] == ITEM_TYPES[name]
    streamed = events(client, **REQUESTS[name])
    assert [event.type for event in streamed[:2]] == ["response.created", "response.in_progress"]
    assert [event.sequence_number for event in streamed] == list(range(len(streamed)))
    assert comparable(streamed[-1].response) == comparable(plain)
    done = [event.item for event in streamed if event.type == "response.output_item.done"]
    assert done == streamed[-1].response.output


@pytest.mark.parametrize("scripted", REPLIES.values(), ids=REPLIES)
def test_deltas_add_up_to_what_is_done(server: FakeOpenAI, client: openai.OpenAI, scripted: Reply) -> None:
    server.enqueue(scripted)
    parts: dict[Any, str] = {}
    finished: dict[Any, str] = {}
    for event in events(client, input="?"):
        kind, _, phase = event.type.rpartition(".")
        place = (kind, getattr(event, "output_index", None), getattr(event, "content_index", None))
        if phase == "delta":
            parts[place] = parts.get(place, "") + event.delta
        if phase == "done" and (words := {"text", "refusal", "arguments", "input"} & event.to_dict().keys()):
            finished[place] = getattr(event, words.pop())
    assert parts == {place: text for place, text in finished.items() if text}


@pytest.mark.parametrize("name", REQUESTS)
def test_stream_helper_runs_to_its_final_response(client: openai.OpenAI, name: str) -> None:
    with client.responses.stream(model="m", **REQUESTS[name]) as stream:
        types = [event.type for event in stream]
        if types[-1] == "response.completed":
            assert [item.type for item in stream.get_final_response().output] == ITEM_TYPES[name]
        else:
            assert name == "truncated"
            assert types[-1] == "response.incomplete"


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("web search", ["in_progress", "searching", "completed"]),
        ("file search", ["in_progress", "searching", "completed"]),
        ("code interpreter", ["in_progress", "interpreting", "completed"]),
        ("image", ["in_progress", "generating", "partial_image", "partial_image", "completed"]),
    ],
)
def test_hosted_tools_report_their_progress(client: openai.OpenAI, name: str, inner: list[str]) -> None:
    item = ITEM_TYPES[name][0]
    types = [event.type for event in events(client, **REQUESTS[name])]
    assert [kind.rpartition(".")[2] for kind in types if kind.startswith(f"response.{item}.")] == inner


def test_function_result_is_used_over_previous_response_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="m", input="Weather in Paris?", tools=[WEATHER])
    [call] = first.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "15 °C"}
    second = client.responses.create(model="m", input=[result], previous_response_id=first.id, tools=[WEATHER])
    assert second.output_text == "According to get_weather for Paris: 15 °C."
    assert second.previous_response_id == first.id


def test_citations_cover_what_they_cite(client: openai.OpenAI) -> None:
    response = client.responses.create(model="m", **REQUESTS["web search"])
    message = response.output[-1]
    assert message.type == "message"
    [part] = message.content
    assert part.type == "output_text"
    [annotation] = part.annotations
    assert annotation.type == "url_citation"
    assert part.text[annotation.start_index : annotation.end_index] == f"({annotation.url})"


def test_results_of_hosted_tools_come_only_when_included(client: openai.OpenAI) -> None:
    request = {**REQUESTS["code interpreter"], "include": []}
    [call, _] = client.responses.create(model="m", **request).output
    assert call.type == "code_interpreter_call"
    assert call.outputs is None
    [call, _] = client.responses.create(model="m", **REQUESTS["code interpreter"]).output
    assert call.type == "code_interpreter_call"
    assert call.to_dict()["outputs"] == [{"type": "logs", "logs": "42\n"}]


def test_mcp_runs_after_approval(client: openai.OpenAI) -> None:
    tool: Any = {**MCP, "require_approval": "always"}
    first = client.responses.create(model="m", input="Use mcp", tools=[tool])
    approval: Any = {"type": "mcp_approval_response", "approval_request_id": first.output[-1].id, "approve": True}
    second = client.responses.create(model="m", input=[approval], previous_response_id=first.id, tools=[tool])
    assert [item.type for item in second.output] == ["mcp_list_tools", "mcp_call", "message"]


def test_parse_gets_an_instance_plain_and_streamed(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="m", input="Where is Paris?", text_format=City).output_parsed
    assert parsed == City(name="Paris")
    with client.responses.stream(model="m", input="Where is Paris?", text_format=City) as stream:
        assert stream.get_final_response().output_parsed == parsed


def test_usage_counts_words_reasoning_apart(client: openai.OpenAI) -> None:
    usage = client.responses.create(model="m", input="two words", instructions="be kind", reasoning={}).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.output_tokens_details.reasoning_tokens) == (4, 4, 0)
    usage = client.responses.create(model="m", input="two words", reasoning={"effort": "low"}).usage
    assert usage is not None
    assert usage.output_tokens - usage.output_tokens_details.reasoning_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens > 0


def test_a_stored_response_is_retrieved_plain_and_streamed(client: openai.OpenAI) -> None:
    made = client.responses.create(model="m", input="Keep me")
    assert client.responses.retrieve(made.id).output_text == made.output_text
    resumed = list(client.responses.retrieve(made.id, stream=True, starting_after=3))
    assert resumed[0].sequence_number == 4
    assert resumed[-1].type == "response.completed"
    gone = client.responses.create(model="m", input="Forget me", store=False)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(gone.id)


def test_failed_response_ends_with_its_error(server: FakeOpenAI, client: openai.OpenAI) -> None:
    server.enqueue(reply.failed("Out of memory"), reply.failed("Out of memory"))
    last = events(client, input="?")[-1]
    assert last.type == "response.failed"
    assert last.response.error.message == "Out of memory"
    with pytest.raises(openai.InternalServerError, match="Out of memory"):
        client.chat.completions.create(model="m", messages=[])


async def test_async_client_creates_parses_and_streams() -> None:
    async with FakeOpenAI() as server:
        responses = server.async_client().responses
        assert (await responses.create(model="m", input="Hi")).output_text == "You said: Hi"
        assert (await responses.parse(model="m", input="Paris", text_format=City)).output_parsed == City(name="Paris")
        raw = await responses.with_raw_response.create(model="m", input="Hi")
        assert raw.parse().output_text == "You said: Hi"
        found = [event.type async for event in await responses.create(model="m", input="Hi", stream=True)]
        assert found[-1] == "response.completed"
        async with responses.stream(model="m", input="Hi") as stream:
            assert (await stream.get_final_response()).output_text == "You said: Hi"
        async with responses.with_streaming_response.create(model="m", input="Hi", stream=True) as response:
            assert b"response.completed" in b"".join([part async for part in response.iter_bytes()])
