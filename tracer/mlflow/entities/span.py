"""MLflow's span over one of tracer's: the same data under MLflow's names, and nothing stored a second time."""

from __future__ import annotations

import enum
import json
import re
import time
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES, SpanStatus, SpanStatusCode, SpanType
from tracer._models import Span as StoredSpan
from tracer._models import SpanEvent as StoredEvent
from tracer.mlflow._refusing import refuse_making, refuse_members
from tracer.mlflow.exceptions import MlflowException
from tracer.mlflow.tracing.constant import (
    STREAM_CHUNK_EVENT_NAME_FORMAT,
    STREAM_CHUNK_EVENT_VALUE_KEY,
    SpanAttributeKey,
    TokenUsageKey,
)
from tracer.openai.sdk_models import with_all_fields
from tracer.spans.live_span import LiveSpan

__all__ = [
    "LiveSpan",
    "Span",
    "SpanEvent",
    "SpanLogLevel",
    "SpanStatus",
    "SpanStatusCode",
    "SpanType",
    "is_hosted_tool",
    "mlflow_usage",
]

_ITEM_EVENT = "tracer.item"  # of a traced generator
_INFO_TYPES = MODEL_CALL_TYPES | {SpanType.TOOL, SpanType.RETRIEVER, SpanType.AGENT}
_NUMBERED = re.compile(r"(\w+)_\d+")
_ALIASES = (
    SpanAttributeKey.REQUEST_ID,
    SpanAttributeKey.SPAN_TYPE,
    SpanAttributeKey.FUNCTION_NAME,
    SpanAttributeKey.MESSAGE_FORMAT,
    SpanAttributeKey.MODEL,
    SpanAttributeKey.MODEL_PROVIDER,
    SpanAttributeKey.LLM_COST,
)


class SpanLogLevel(enum.IntEnum):
    """MLflow's severity of a span."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50

    @classmethod
    def from_value(cls, value: SpanLogLevel | str) -> SpanLogLevel:
        """Return the level of that name."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and value.strip().upper() in cls.__members__:
            return cls[value.strip().upper()]
        raise MlflowException(f"log_level must be one of {', '.join(cls.__members__)}, got {value!r}")


@refuse_members
@dataclass
class SpanEvent:
    """Something that happened at one moment of a span.

    Attributes:
        timestamp: Nanoseconds since the epoch.
    """

    name: str
    timestamp: int = field(default_factory=time.time_ns)
    attributes: dict[str, Any] = field(default_factory=dict)


class SpanContext(NamedTuple):
    """The ids of a span as OpenTelemetry has them."""

    trace_id: int
    span_id: int


class _OpenTelemetrySpan(NamedTuple):
    context: SpanContext

    def get_span_context(self) -> SpanContext:
        return self.context


@refuse_making(StoredSpan)
@refuse_members
class Span:
    """One span as MLflow shows it. ``stored`` is tracer's own `tracer.Span`, which has more."""

    def __init__(self, stored: StoredSpan) -> None:
        self.stored = stored

    trace_id = property(lambda self: self.stored.trace_id, doc="32 hex digits.")
    request_id = property(lambda self: self.stored.trace_id, doc="MLflow's old name of `trace_id`.")
    span_id = property(lambda self: self.stored.span_id, doc="16 hex digits.")
    parent_id = property(lambda self: self.stored.parent_id, doc="The parent's span id; None for the root.")
    span_type = property(lambda self: self.stored.span_type, doc="One of `SpanType`, or any string.")
    start_time_ns = property(lambda self: self.stored.start_time_ns, doc="Nanoseconds since the epoch.")
    end_time_ns = property(lambda self: self.stored.end_time_ns, doc="Nanoseconds since the epoch; None while it runs.")
    status = property(lambda self: self.stored.status, doc="`SpanStatus`.")
    model_name = property(lambda self: self.stored.get_attribute(SpanAttributeKey.MODEL), doc="As the response has it.")
    llm_cost = property(lambda self: self.stored.cost_parts, doc="US dollars: input_cost, output_cost, total_cost.")
    description = property(
        lambda self: self.stored.attributes.get(SpanAttributeKey.DESCRIPTION), doc="If one was given."
    )

    @property
    def _span(self) -> _OpenTelemetrySpan:
        """MLflow's private attribute, which some code reads OpenTelemetry's ids from."""
        return _OpenTelemetrySpan(SpanContext(int(self.trace_id, 16), int(self.span_id, 16)))

    @property
    def name(self) -> str:
        """As it was given: tracer numbers the calls of a trace (``Completions_1``), MLflow does not."""
        match = _NUMBERED.fullmatch(self.stored.name) if sc.OPERATION in self.stored.attributes else None
        return self.stored.name if match is None else match[1]

    @property
    def inputs(self) -> Any:
        """What the caller gave: without the ``encoding_format`` that the SDK adds to requests for embeddings."""
        inputs, attributes = self.stored.inputs, self.stored.attributes
        if attributes.get(sc.OPERATION) != "embeddings" or sc.BASE64_VECTORS in attributes or type(inputs) is not dict:
            return inputs
        return {key: value for key, value in inputs.items() if (key, value) != ("encoding_format", "base64")}

    @property
    def outputs(self) -> Any:
        """What came back, with the fields that the SDK's objects have; None for a call that the server refused.

        For a stream of legacy completions its text.
        """
        outputs, attributes = self.stored.outputs, self.stored.attributes
        refused = attributes.get(sc.HTTP_STATUS_CODE)
        if type(refused) is int and refused >= 400:
            return None
        if attributes.get(sc.OPERATION) == "completions" and attributes.get(sc.STREAM) and type(outputs) is dict:
            choices = outputs.get("choices") or [{}]
            return choices[0].get("text") or ""
        return with_all_fields(attributes.get(sc.OPERATION), outputs)

    @property
    def log_level(self) -> SpanLogLevel:
        """The level that was given, or MLflow's for the span's type."""
        given = self.stored.attributes.get(SpanAttributeKey.LOG_LEVEL)
        if given is not None:
            return SpanLogLevel(given)
        return SpanLogLevel.INFO if self.span_type in _INFO_TYPES else SpanLogLevel.DEBUG

    @property
    def attributes(self) -> dict[str, Any]:
        """MLflow's attributes, the parameters of a model call, and tracer's own."""
        found = {
            **self._parameters(),
            **self.stored.attributes,
            **{key: self.stored.get_attribute(key) for key in _ALIASES},
            SpanAttributeKey.INPUTS: self.inputs,
            SpanAttributeKey.OUTPUTS: self.outputs,
            SpanAttributeKey.CHAT_TOOLS: _chat_tools(self.stored),
            SpanAttributeKey.CHAT_USAGE: mlflow_usage(self.stored.token_usage),
            SpanAttributeKey.LOG_LEVEL: self.log_level.value,
        }
        return {key: value for key, value in found.items() if value is not None}

    def _parameters(self) -> dict[str, Any]:
        inputs = self.inputs if sc.OPERATION in self.stored.attributes else None
        if type(inputs) is not dict:
            return {}
        return {key: value for key, value in inputs.items() if key not in ("messages", "input")}

    def get_attribute(self, key: str) -> Any:
        """Return one attribute, or None."""
        found = self.attributes.get(key)
        return self.stored.get_attribute(key) if found is None else found

    @property
    def events(self) -> list[SpanEvent]:
        """The events by time; chunks of streams and items of generators as ``mlflow.chunk.item.N``."""
        events, count = [], 0
        for event in self.stored.events:
            value = _chunk_of(event)
            if value is None:
                events.append(SpanEvent(event.name, event.timestamp_ns, event.attributes))
                continue
            name = STREAM_CHUNK_EVENT_NAME_FORMAT.format(index=count)
            events.append(SpanEvent(name, event.timestamp_ns, {STREAM_CHUNK_EVENT_VALUE_KEY: json.dumps(value[0])}))
            count += 1
        return events

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_id,
            "name": self.name,
            "start_time_unix_nano": self.start_time_ns,
            "end_time_unix_nano": self.end_time_ns,
            "events": [
                {"name": event.name, "time_unix_nano": event.timestamp, "attributes": event.attributes}
                for event in self.events
            ],
            "status": {"code": f"STATUS_CODE_{self.status.status_code}", "message": self.status.description},
            "attributes": self.attributes,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.stored == other.stored

    __hash__ = None  # type: ignore[assignment]  # a span holds dicts

    def __repr__(self) -> str:
        ids = f"trace_id={self.trace_id!r}, span_id={self.span_id!r}, parent_id={self.parent_id!r}"
        return f"Span(name={self.name!r}, {ids})"


def _chat_tools(span: StoredSpan) -> list[Any] | None:
    """Return the tools of a request in MLflow's form: as in chat, and of OpenAI's own only the type, as a name."""
    tools = span.inputs.get("tools") if sc.OPERATION in span.attributes and type(span.inputs) is dict else None
    if type(tools) is not list or not all(type(tool) is dict for tool in tools):
        found: list[Any] | None = span.get_attribute(SpanAttributeKey.CHAT_TOOLS)
        return found
    return [_chat_tool(tool) for tool in tools]


def _chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    kind = tool.get("type", "function")
    if kind != "function":
        return {"type": "function", "function": {"name": kind}}
    if "function" in tool:
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def is_hosted_tool(span: StoredSpan, calls: Container[str]) -> bool:
    """Tell whether a span is a tool that OpenAI ran inside one of these calls. MLflow has no such spans."""
    if span.parent_id not in calls or sc.OPERATION in span.attributes:
        return False
    return sc.TOOL_TYPE in span.attributes and sc.CODE_FUNCTION_NAME not in span.attributes


def _chunk_of(event: StoredEvent) -> tuple[Any] | None:
    """Return what a chunk, or an item of a generator, holds; None for any other event."""
    if event.name == sc.EVENT_CHUNK:
        return (event.attributes.get("data"),)
    return (event.attributes.get("value"),) if event.name == _ITEM_EVENT else None


def mlflow_usage(usage: dict[str, int] | None) -> dict[str, int] | None:
    """Return the counts that MLflow knows, in its order."""
    return None if usage is None else {key: usage[key] for key in TokenUsageKey.all_keys() if key in usage}
