"""Chat, through the real client; bodies and chunks are checked against the SDK's types, strictly."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tracer.testing import FakeOpenAI, Reply, reply

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION: Any = [{"role": "user", "content": "What is the weather like in Paris today?"}]


class City(BaseModel):
    name: str
    inhabitants: int
    twin: City | None


REQUESTS: dict[str, dict[str, Any]] = {
    "text": {},
    "tools": {"tools": [WEATHER]},
    "several choices": {"n": 3},
    "logprobs": {"logprobs": True},
    "reasoning": {"reasoning_effort": "low"},
    "truncated": {"max_completion_tokens": 2},
    "json object": {"response_format": {"type": "json_object"}},
}
REPLIES: dict[str, Reply] = {
    "text": reply.text("Grüße 🌍, naïve world"),
    "empty": reply.text(""),
    "refusal": reply.refusal("I can't help with that."),
    "tool calls": reply.tool_calls(("f", {"x": 1}), ("g", '{"broken'), text="Wait."),
    "truncated": reply.text("Once upon", truncated=True),
    "reasoning": reply.text("42", reasoning="Six by nine."),
}


def raw_body(client: openai.OpenAI, **options: Any) -> Any:
    return json.loads(client.chat.completions.with_raw_response.create(model="m", messages=QUESTION, **options).text)


def chunks(client: openai.OpenAI, **options: Any) -> list[ChatCompletionChunk]:
    return list(client.chat.completions.create(model="m", messages=QUESTION, stream=True, **options))


def said(found: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(c.delta.content or "" for chunk in found for c in chunk.choices if c.index == index)


def functions(message: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]


@pytest.mark.parametrize("options", REQUESTS.values(), ids=REQUESTS)
def test_completions_and_chunks_fit_the_sdk_types(client: openai.OpenAI, options: dict[str, Any]) -> None:
    ChatCompletion.model_validate(raw_body(client, **options), strict=True)
    for chunk in chunks(client, stream_options={"include_usage": True}, **options):
        ChatCompletionChunk.model_validate_json(chunk.model_dump_json(), strict=True)


@pytest.mark.parametrize("scripted", REPLIES.values(), ids=REPLIES)
def test_the_sdk_rebuilds_from_a_stream_what_the_plain_reply_says(
    server: FakeOpenAI, client: openai.OpenAI, scripted: Reply
) -> None:
    server.enqueue(scripted, scripted)
    plain = ChatCompletion.model_validate(raw_body(client), strict=True)
    with client.chat.completions.stream(model="m", messages=QUESTION) as stream:
        if plain.choices[0].finish_reason == "length":
            with pytest.raises(openai.LengthFinishReasonError) as caught:
                stream.get_final_completion()
            rebuilt: ChatCompletion = caught.value.completion
        else:
            rebuilt = stream.get_final_completion()
    ours, theirs = plain.choices[0].message, rebuilt.choices[0].message
    assert (theirs.content or "") == (ours.content or "")
    assert theirs.refusal == ours.refusal
    assert functions(theirs) == functions(ours)
    assert rebuilt.choices[0].finish_reason == plain.choices[0].finish_reason


def test_a_question_that_fits_a_function_gets_a_call_and_the_result_an_answer(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(model="m", messages=QUESTION, tools=[WEATHER]).choices[0].message
    assert message.content is None
    [call] = message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    told: Any = {"role": "tool", "tool_call_id": call.id, "content": "15 °C and cloudy."}
    asked: Any = [*QUESTION, message.to_dict(), told]
    answer = client.chat.completions.create(model="m", messages=asked, tools=[WEATHER]).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content == "According to get_weather for Paris: 15 °C and cloudy."


def test_streamed_parallel_calls_are_told_apart_by_index(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Compare the weather in Paris, London and Rome."}]
    merged: dict[int, str] = {}
    for chunk in client.chat.completions.create(model="m", messages=asked, tools=[WEATHER], stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            merged[call.index] = merged.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(text)["city"] for text in merged.values()] == ["Paris", "London", "Rome"]


def test_parallel_tool_calls_false_gets_one_call(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Weather in Paris and Rome?"}]
    body = client.chat.completions.create(model="m", messages=asked, tools=[WEATHER], parallel_tool_calls=False)
    assert len(body.choices[0].message.tool_calls or ()) == 1


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_tool_choice_forces_a_call(client: openai.OpenAI, choice: Any) -> None:
    body = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], tools=[WEATHER], tool_choice=choice
    )
    assert body.choices[0].finish_reason == "tool_calls"


def test_tool_choice_none_gets_text(client: openai.OpenAI) -> None:
    body = client.chat.completions.create(model="m", messages=QUESTION, tools=[WEATHER], tool_choice="none")
    assert body.choices[0].message.tool_calls is None
    assert body.choices[0].message.content == "You said: What is the weather like in Paris today?"


def test_parse_gets_an_instance_of_a_recursive_model(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Paris has 2102650 inhabitants"}]
    city = client.chat.completions.parse(model="m", messages=asked, response_format=City).choices[0].message.parsed
    assert city is not None
    assert (city.name, city.inhabitants) == ("Paris", 2102650)
    with client.chat.completions.stream(model="m", messages=asked, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == city


def test_streamed_choices_take_turns_and_differ(client: openai.OpenAI) -> None:
    found = chunks(client, n=2)
    assert [chunk.choices[0].index for chunk in found[:4]] == [0, 1, 0, 1]
    assert said(found, 1) == said(found, 0) + " (2)"
    assert [c.choices[0].index for c in found if c.choices[0].finish_reason] == [0, 1]


def test_usage_counts_words_and_streams_only_on_request(client: openai.OpenAI) -> None:
    usage = client.chat.completions.create(model="m", messages=QUESTION).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (8, 10, 18)
    assert all(chunk.usage is None for chunk in chunks(client))
    *rest, last = chunks(client, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == usage
    assert all(chunk.usage is None for chunk in rest)


def test_text_is_cut_at_the_limit_of_tokens(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model="m", messages=QUESTION, max_completion_tokens=3).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("You said: What", "length")


def test_raw_and_streaming_wrappers_get_the_same_body_and_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=QUESTION)
    assert raw.request_id is not None
    assert raw.request_id.startswith("req_")
    assert raw.headers["openai-version"] == "2020-10-01"
    assert int(raw.headers["openai-processing-ms"]) >= 1
    assert int(raw.headers["x-ratelimit-remaining-requests"]) < int(raw.headers["x-ratelimit-limit-requests"])
    with client.chat.completions.with_streaming_response.create(model="m", messages=QUESTION, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert said(list(map(parsed, lines[:-1]))) == raw.parse().choices[0].message.content


def parsed(line: str) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate_json(line.removeprefix("data: "))


# On trio the SDK leaves its generators to the collector when it breaks out of a stream at [DONE].
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_async_client_creates_parses_and_streams() -> None:
    async with FakeOpenAI() as server:
        completions = server.async_client().chat.completions
        plain = (await completions.create(model="m", messages=QUESTION)).choices[0].message.content
        stream = await completions.create(model="m", messages=QUESTION, stream=True)
        assert said([chunk async for chunk in stream]) == plain
        async with completions.stream(model="m", messages=QUESTION) as managed:
            assert (await managed.get_final_completion()).choices[0].message.content == plain
        assert (await completions.parse(model="m", messages=QUESTION, response_format=City)).choices[0].message.parsed
        raw = await completions.with_raw_response.create(model="m", messages=QUESTION)
        assert raw.parse().choices[0].message.content == plain
        async with completions.with_streaming_response.create(model="m", messages=QUESTION) as response:
            assert (await response.parse()).object == "chat.completion"


def test_legacy_completions_answer_and_stream(client: openai.OpenAI) -> None:
    raw = client.completions.with_raw_response.create(model="m", prompt="Say hi", n=2)
    plain = Completion.model_validate_json(raw.text, strict=True)
    assert [choice.text for choice in plain.choices] == ["You said: Say hi", "You said: Say hi (2)"]
    found = list(
        client.completions.create(model="m", prompt="Say hi", stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].text for chunk in found[:-1]) == "You said: Say hi"
    assert found[-2].choices[0].finish_reason == "stop"
    assert found[-1].usage is not None
    assert (found[-1].usage.prompt_tokens, found[-1].usage.completion_tokens) == (2, 4)


def test_azure_deployment_names_the_model(server: FakeOpenAI) -> None:
    azure = openai.AzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2025-04-01-preview")
    with azure:
        assert azure.chat.completions.create(model="my-gpt", messages=QUESTION).model == "my-gpt"
        assert server.requests[-1].path == "/openai/deployments/my-gpt/chat/completions"
        assert azure.responses.create(model="my-gpt", input="Hi").output_text == "You said: Hi"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/nowhere", {"model": "m"}, 404, r"Invalid URL \(POST /v1/nowhere\)"),
        ("/chat/completions", {"messages": []}, 400, "you must provide a model parameter"),
        ("/chat/completions", {"model": "m"}, 400, "Missing required parameter: 'messages'"),
        ("/chat/completions", [], 400, "could not parse the JSON"),
    ],
)
def test_what_the_api_would_refuse_gets_its_error_object(
    client: openai.OpenAI, path: str, body: Any, status: int, message: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as caught:
        client.post(path, body=body, cast_to=object)
    assert caught.value.status_code == status
    assert caught.value.type == "invalid_request_error"
