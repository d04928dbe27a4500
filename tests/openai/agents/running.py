"""Agents, models and traces for the tests of the Agents SDK."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Usage, function_tool
from agents.items import TResponseStreamEvent
from agents.models.interface import Model
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from agents.testing import assistant_message, function_call
from agents.tracing import generation_span, response_span
from openai.types.responses import Response, ResponseCompletedEvent, ResponseTextDeltaEvent, ResponseUsage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

import tracer
from tracer import Span, Trace

MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
CALL_NAMES = {"responses": "AsyncResponses", "chat": "AsyncCompletions"}
USAGE: dict[str, Any] = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


@function_tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    with tracer.start_span("look up") as span:
        span.set_outputs(city)
    return f"sunny in {city}"


def weather_agent(client: Any, api: str = "responses", **options: Any) -> Agent[Any]:
    """An agent with one tool, whose model calls go over the wire."""
    model = MODELS[api](model="gpt-4o-mini", openai_client=client)
    return Agent(**{"name": "Weather agent", "model": model, "tools": [get_weather], **options})


def shape(trace: Trace) -> list[str]:
    """The tree, a line for each span, indented by its depth."""
    children: dict[str | None, list[Span]] = {}
    for span in trace.data.spans:
        children.setdefault(span.parent_id, []).append(span)

    def lines(parent_id: str | None, depth: int) -> list[str]:
        found = []
        for span in children.get(parent_id, []):
            found.append(f"{'  ' * depth}{span.name} {span.span_type}")
            found += lines(span.span_id, depth + 1)
        return found

    return lines(None, 0)


def spans_named(trace: Trace, name: str) -> list[Span]:
    """The spans of that name, in order."""
    return [span for span in trace.data.spans if span.name == name]


def span_named(trace: Trace, name: str) -> Span:
    """The only span of that name."""
    [span] = spans_named(trace, name)
    return span


class LocalModel(Model):
    """A model of the user's own, which makes no HTTP call.

    Args:
        steps: What each call answers: output items, or an exception.
        emits: The SDK's span that it makes: ``generation``, ``response`` or None.
        before: Called before the SDK's span begins.
        inside: Called inside the SDK's span.
    """

    def __init__(self, *steps: Any, emits: str | None = "generation", before: Any = None, inside: Any = None) -> None:
        self._steps = list(steps)
        self._emits = emits
        self._before = before
        self._inside = inside

    async def answer(self, asked: Any, system: str | None, include: bool) -> Response:
        if self._before is not None:
            await self._before()
        step = self._steps.pop(0)
        with self.span() as span:
            if self._inside is not None:
                await self._inside()
            if isinstance(step, BaseException):
                raise step
            response = response_of(step)
            if self._emits == "generation":
                span.span_data.usage = USAGE
            if self._emits == "generation" and include:
                span.span_data.input = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
                span.span_data.output = [{"role": "assistant", "content": response.output_text}]
            elif self._emits == "response" and include:
                span.span_data.response, span.span_data.input = response, asked
        return response

    @contextlib.contextmanager
    def span(self) -> Any:
        if self._emits is None:
            yield None
        elif self._emits == "generation":
            with generation_span(model="local-1", model_config={"temperature": 0.5, "base_url": "http://x"}) as span:
                yield span
        else:
            with response_span() as span:
                yield span

    async def get_response(self, *args: Any, **named: Any) -> ModelResponse:
        response = await self.answer(*_read(args, named))
        return ModelResponse(output=response.output, usage=Usage(requests=1, **USAGE), response_id=None)

    async def stream_response(self, *args: Any, **named: Any) -> AsyncIterator[TResponseStreamEvent]:
        response = await self.answer(*_read(args, named))
        for number, word in enumerate(response.output_text.split()):
            yield ResponseTextDeltaEvent(
                content_index=0, delta=word, item_id="m", logprobs=[], output_index=0, sequence_number=number,
                type="response.output_text.delta",
            )  # fmt: skip
        yield ResponseCompletedEvent(response=response, sequence_number=99, type="response.completed")


def _read(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, str | None, bool]:
    """The arguments of a model call that are looked at: the input, the instructions, and whether data is traced."""
    names = ("system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs", "tracing")
    given = {**dict(zip(names, args, strict=False)), **named}
    return given["input"], given["system_instructions"], given["tracing"].include_data()


def response_of(items: list[Any]) -> Response:
    details: dict[str, Any] = {
        "input_tokens_details": InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
        "output_tokens_details": OutputTokensDetails(reasoning_tokens=0),
    }
    usage = ResponseUsage(**USAGE, **details)
    return Response(
        id="resp_local", created_at=0, model="local-1", object="response", output=items, usage=usage, tools=[],
        tool_choice="auto", parallel_tool_calls=True, status="completed",
    )  # fmt: skip


def says(text: str) -> list[Any]:
    """A step that answers in words."""
    return [assistant_message(text)]


def calls(*names: str, **arguments: Any) -> list[Any]:
    """A step that calls tools."""
    return [function_call(name, arguments, call_id=f"call_{name}_{index}") for index, name in enumerate(names)]


def config(**options: Any) -> RunConfig:
    """A run's configuration."""
    return RunConfig(**options)
