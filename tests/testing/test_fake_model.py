"""What the default model makes of a prompt: pure functions, no server but for the embeddings."""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
import uuid
from typing import Annotated, Any, Literal

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse
from pydantic import BaseModel, Field

from tracer.testing._answer import Prompt, ToolResult, deltas, first_words
from tracer.testing._embeddings import vector
from tracer.testing._model import respond
from tracer.testing._schema import Clues, fill, proper_names


def function(name: str, **properties: Any) -> dict[str, Any]:
    return {"name": name, "parameters": {"type": "object", "properties": properties, "required": list(properties)}}


TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def called(text: str, *functions: dict[str, Any]) -> list[Any]:
    answer = respond(Prompt(text=text, functions=functions))
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("What is the weather like in Paris today?", ["Paris"]),
        ("Is Paris nicer than San Francisco, CA or Bogotá?", ["Paris", "San Francisco, CA", "Bogotá"]),
        ("Who wrote Ada Lovelace's notes?", ["Ada Lovelace"]),
        ("Paris and Paris again", ["Paris"]),
        ("nothing here", []),
    ],
)
def test_names_are_capitalised_words_that_do_not_just_open_a_sentence(text: str, names: list[str]) -> None:
    assert proper_names(text) == names


@pytest.mark.parametrize(
    ("text", "functions", "calls"),
    [
        ("Weather in Paris?", [function("get_weather", city=TEXT)], [("get_weather", {"city": "Paris"})]),
        (
            "Weather in Paris and Rome?",
            [function("getWeather", city=TEXT)],
            [("getWeather", {"city": "Paris"}), ("getWeather", {"city": "Rome"})],
        ),
        (
            "Book a flight from Paris to Rome",
            [function("book_flight", origin=TEXT, destination=TEXT)],
            [("book_flight", {"origin": "Paris", "destination": "Rome"})],
        ),
        ("Add 2 and 40.5", [function("add", a=NUMBER, b=NUMBER)], [("add", {"a": 2.0, "b": 40.5})]),
        (
            "Weather and time in Paris?",
            [function("get_time", city=TEXT), function("get_weather", city=TEXT)],
            [("get_time", {"city": "Paris"}), ("get_weather", {"city": "Paris"})],
        ),
        (
            "What's the weather?",
            [function("get_weather_history", q=TEXT), function("get_weather", query=TEXT)],
            [("get_weather", {"query": "What's the weather?"})],
        ),
        (
            "Weather in Paris in celsius",
            [function("get_weather", city=TEXT, unit={"enum": ["fahrenheit", "celsius"]})],
            [("get_weather", {"city": "Paris", "unit": "celsius"})],
        ),
        ("Tell me a joke", [function("get_weather", city=TEXT)], []),
    ],
)
def test_functions_are_called_with_what_the_question_says(text: str, functions: Any, calls: Any) -> None:
    assert called(text, *functions) == calls


def test_results_are_reported_each() -> None:
    results = (ToolResult("get_weather", {"city": "Paris"}, "15 °C."), ToolResult("now", {}, "noon"))
    answer = respond(Prompt(text="?", results=results))
    assert answer.text == "According to get_weather for Paris: 15 °C. According to now: noon."


def test_an_agents_loop_calls_each_fitting_function_once_and_then_answers() -> None:
    functions = tuple(function(name, city=TEXT) for name in ("get_weather", "get_weather_history", "get_time"))
    results: list[ToolResult] = []
    answer = respond(Prompt(text="Weather and time in Paris?", functions=functions, parallel=False))
    while answer.tool_calls:
        results.append(ToolResult(answer.tool_calls[0].name, {"city": "Paris"}, f"result {len(results)}"))
        prompt = Prompt(text="Weather and time in Paris?", functions=functions, parallel=False, results=tuple(results))
        answer = respond(prompt)
    assert [result.name for result in results] == ["get_weather", "get_time"]
    assert answer.text == "According to get_weather for Paris: result 0. According to get_time for Paris: result 1."


def test_after_a_handoff_the_next_agent_calls_its_own_functions() -> None:
    handoff = ToolResult("transfer_to_weather_agent", {}, "{}")
    weather = function("get_weather", city=TEXT)
    answer = respond(Prompt(text="Weather in Paris?", functions=(weather,), results=(handoff,)))
    assert [call.name for call in answer.tool_calls] == ["get_weather"]
    results = (handoff, ToolResult("get_weather", {"city": "Paris"}, "rain"))
    answer = respond(Prompt(text="Weather in Paris?", functions=(weather,), results=results))
    assert answer.text == "According to get_weather for Paris: rain."


def test_a_forced_function_is_called_once() -> None:
    forced = Prompt(text="Hello", functions=(function("get_weather", city=TEXT),), choice="get_weather")
    assert len(respond(forced).tool_calls) == 1
    result = ToolResult("get_weather", {"city": "Hello"}, "rain")
    answered = Prompt(text="Hello", functions=forced.functions, choice="required", results=(result,))
    assert respond(answered).text == "According to get_weather for Hello: rain."


def test_the_same_prompt_gets_the_same_answer() -> None:
    prompt = Prompt(text="Weather in Paris?", functions=(function("get_weather", city=TEXT),), reasoning=True)
    assert respond(prompt) == respond(prompt)


class Leaf(BaseModel):
    kind: Literal["leaf"]
    colour: Literal["red", "green"]


class Tree(BaseModel):
    label: Annotated[str, Field(min_length=5, max_length=8)]
    age: Annotated[int, Field(ge=10, lt=20)]
    height: Annotated[float, Field(gt=0, multiple_of=0.5)] | None
    share: Annotated[float, Field(gt=0, lt=1)]
    alive: bool
    leaves: Annotated[list[Leaf], Field(min_length=2)]
    branches: list[Tree]
    first: Leaf | Tree


TREE = Tree.model_json_schema()


@given(st.text() | st.integers().map(str) | st.floats(allow_nan=False).map(str))
def test_filled_schemas_are_valid_whatever_the_text(text: str) -> None:
    tree = Tree.model_validate(fill(TREE, Clues(text)))
    assert len(tree.leaves) == 2


def test_only_required_properties_are_filled() -> None:
    schema: Any = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["b"]}
    assert fill(schema, Clues('Say "yes"')) == {"b": "yes"}


class Formats(BaseModel):
    day: datetime.date
    moment: datetime.datetime
    length: datetime.timedelta
    time: datetime.time
    id: uuid.UUID
    four: ipaddress.IPv4Address
    six: ipaddress.IPv6Address


def test_formats_get_values_of_their_form() -> None:
    schema = Formats.model_json_schema()
    assert {"date", "date-time", "duration", "time", "uuid", "ipv4", "ipv6"} == {
        each["format"] for each in schema["properties"].values()
    }
    Formats.model_validate(fill(schema, Clues("whatever")))


@given(st.text())
def test_deltas_join_to_the_text(text: str) -> None:
    assert "".join(deltas(text)) == text


@given(st.text(), st.integers(0, 5))
def test_first_words_are_a_prefix_of_so_many_words(text: str, count: int) -> None:
    cut = first_words(text, count)
    assert text.startswith(cut)
    assert len(cut.split()) == min(count, len(text.split()))


def cosine(one: list[float], other: list[float]) -> float:
    return sum(map(lambda a, b: a * b, one, other))


def test_vectors_have_unit_length_and_texts_that_share_words_lie_close() -> None:
    cats, kittens, tax = (vector(text, 256) for text in ("cats purr loudly", "kittens purr loudly", "pay the tax"))
    assert math.isclose(cosine([*cats], [*cats]), 1, rel_tol=1e-9)
    assert cosine([*cats], [*kittens]) > 0.5 > abs(cosine([*cats], [*tax]))


def test_embeddings_agree_in_both_formats_and_fit_the_sdk_types(client: openai.OpenAI) -> None:
    request: Any = {"model": "text-embedding-3-small", "input": ["two words", "one"], "dimensions": 8}
    raw = client.embeddings.with_raw_response.create(**request, encoding_format="float")
    CreateEmbeddingResponse.model_validate_json(raw.text, strict=True)
    floats, decoded = raw.parse(), client.embeddings.create(**request)
    assert (floats.usage.prompt_tokens, [each.index for each in floats.data]) == (3, [0, 1])
    for one, other in zip(floats.data, decoded.data, strict=True):
        assert len(one.embedding) == 8
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


@pytest.mark.parametrize(("given_", "count"), [("text", 1), ([1, 2, 3], 1), ([[1], [2]], 2)])
def test_embeddings_take_texts_and_tokens(client: openai.OpenAI, given_: Any, count: int) -> None:
    made = client.embeddings.create(model="text-embedding-3-large", input=given_)
    assert len(made.data) == count
    assert len(made.data[0].embedding) == 3072


def test_embeddings_of_nothing_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"\$\.input"):
        client.embeddings.create(model="m", input=[])
