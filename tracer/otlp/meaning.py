"""What the attributes of a span mean, whichever convention they follow.

In this order: OpenTelemetry's ``gen_ai.*``, OpenInference (Phoenix), MLflow, OpenLLMetry's former keys, events. The
body of a request or an answer goes before messages that were made of it. Sources:
https://opentelemetry.io/docs/specs/semconv/gen-ai/, https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md,
https://mlflow.org/docs/latest/genai/tracing/, https://github.com/traceloop/openllmetry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES
from tracer.otlp._messages import decoded, from_flattened, from_parts, unflattened
from tracer.otlp.received import DETAILS, ReceivedSpan

__all__ = ["Meaning", "read_meaning"]

_BY_OPERATION = {
    "chat": "CHAT_MODEL",
    "generate_content": "CHAT_MODEL",
    "text_completion": "LLM",
    "embeddings": "EMBEDDING",
    "execute_tool": "TOOL",
    "invoke_agent": "AGENT",
    "create_agent": "AGENT",
    "invoke_workflow": "WORKFLOW",
    "retrieval": "RETRIEVER",
}
_BY_KIND = {  # OpenInference's, OpenLLMetry's and MLflow's words, in upper case
    "LLM": "CHAT_MODEL",
    "PROMPT": "CHAIN",
    **{
        word: word
        for word in (
            "CHAT_MODEL", "EMBEDDING", "AGENT", "TOOL", "CHAIN", "RETRIEVER", "RERANKER", "PARSER", "MEMORY",
            "WORKFLOW", "TASK", "GUARDRAIL", "EVALUATOR",
        )
    },
}  # fmt: skip
_USAGE = {
    "input_tokens": ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens"),
    "total_tokens": ("gen_ai.usage.total_tokens", "llm.token_count.total", "llm.usage.total_tokens"),
    "cache_read_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_creation_input_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "input_audio_tokens": ("llm.token_count.prompt_details.audio",),
    "output_audio_tokens": ("llm.token_count.completion_details.audio",),
}
_MODEL = (
    sc.RESPONSE_MODEL,
    sc.REQUEST_MODEL,
    "llm.model_name",
    "embedding.model_name",
    "mlflow.llm.model",
    "llm.response.model",
    "llm.request.model",
)
_SESSION = (
    "session.id",
    sc.CONVERSATION_ID,
    "mlflow.trace.session",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
)
_USER = ("user.id", "enduser.id", "mlflow.trace.user", "langfuse.user.id", "traceloop.association.properties.user_id")
_VALUES_IN = ("input.value", "mlflow.spanInputs", "traceloop.entity.input", "gen_ai.tool.call.arguments")
_VALUES_OUT = ("output.value", "mlflow.spanOutputs", "traceloop.entity.output", "gen_ai.tool.call.result")
_REQUEST_FIELDS = {"messages": "chat", "input": "responses", "prompt": "completions"}
_ANSWER_FIELDS = {"choices": "chat", "output": "responses", "data": "embeddings"}
_OF_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_FIRST_TOKEN = "First Token Stream Event"


class Meaning(NamedTuple):
    """What a span is, and what went in and out.

    Attributes:
        name: The span's; of Logfire, whose spans are named by a template, the message.
        operation: How inputs and outputs of a model call are to be read (a key of `tracer.interpret.dispatch`); None
            for any other span.
        inputs: Of a model call a request's body, of any other span its value; None if nothing was sent.
        usage: Counts that were reported, as `tracer.TokenUsage`; None without any.
        cost: US dollars, if the span says so.
        first_token_ns: When the first token came.
    """

    name: str
    span_type: str
    operation: str | None
    model: str | None
    inputs: Any
    outputs: Any
    usage: dict[str, int] | None
    cost: float | None
    first_token_ns: int | None
    session_id: str | None
    user_id: str | None
    metadata: dict[str, str]


def read_meaning(span: ReceivedSpan) -> Meaning:
    """Return what a span means."""
    attributes = _with_details(span)
    span_type = _span_type(attributes)
    model = _first_text(attributes, _MODEL)
    if span_type == "UNKNOWN" and sc.REQUEST_MODEL in attributes and "llm.request.type" in attributes:
        span_type = "CHAT_MODEL"
    operation, inputs, outputs = None, _value(attributes, _VALUES_IN), _value(attributes, _VALUES_OUT)
    if span_type in MODEL_CALL_TYPES:
        operation, inputs, outputs = _bodies(span_type, attributes, span, inputs, outputs, model)
    elif span_type == "AGENT" and inputs is None:
        inputs, outputs = _messages_in(attributes, span) or None, _messages_out(attributes, span) or None
    return Meaning(
        _first_text(attributes, (sc.SPAN_NAME, "logfire.msg")) or span.name,
        span_type,
        operation,
        model,
        inputs,
        outputs,
        _usage(attributes),
        _cost(attributes),
        _first_token(attributes, span),
        _first_text(attributes, _SESSION),
        _first_text(attributes, _USER),
        _metadata(attributes),
    )


def _with_details(span: ReceivedSpan) -> Mapping[str, Any]:
    """Return the attributes, with those of the event that OpenTelemetry may put the messages into."""
    for name, _, attributes in span.events:
        if name == DETAILS:
            return {**attributes, **span.attributes}
    return span.attributes


def _span_type(attributes: Mapping[str, Any]) -> str:
    if (span_type := attributes.get(sc.SPAN_TYPE)) and isinstance(span_type, str):  # tracer's own
        return span_type
    if span_type := _BY_OPERATION.get(str(attributes.get(sc.OPERATION_NAME))):
        return span_type
    for key in ("openinference.span.kind", "mlflow.spanType", "traceloop.span.kind"):
        word = str(attributes.get(key, "")).strip('"')
        if span_type := _BY_KIND.get(word.upper()):
            return span_type
        if key == "mlflow.spanType" and word:  # any word may be one there, as it may be here
            return word
    return "UNKNOWN"


# --- what went in and out ---------------------------------------------------------------------------------------------
def _bodies(
    span_type: str, attributes: Mapping[str, Any], span: ReceivedSpan, inputs: Any, outputs: Any, model: str | None
) -> tuple[str, Any, Any]:
    """Return the operation, the request's body and the answer's body of a model call."""
    operation = "embeddings" if span_type == "EMBEDDING" else "chat"
    if type(inputs) is dict and (field := next((name for name in _REQUEST_FIELDS if inputs.get(name)), None)):
        operation = operation if span_type == "EMBEDDING" else _REQUEST_FIELDS[field]
        request: Any = inputs
    elif (messages := _messages_in(attributes, span)) and span_type == "EMBEDDING":
        texts = [message.get("content") for message in messages]
        request = {"model": model, "input": texts[0] if len(texts) == 1 else texts}
    elif messages:
        tools = decoded(attributes.get(sc.TOOL_DEFINITIONS))
        request = {"model": attributes.get(sc.REQUEST_MODEL, model), "messages": messages}
        if isinstance(tools, list):
            request["tools"] = tools
    else:
        request = inputs
    if type(outputs) is dict and (field := next((name for name in _ANSWER_FIELDS if name in outputs), None)):
        if request is None:
            operation = _ANSWER_FIELDS[field]
        return operation, request, outputs
    if messages := _messages_out(attributes, span):
        choices = [
            {"index": index, "finish_reason": message.pop("finish_reason", None), "message": message}
            for index, message in enumerate(messages)
        ]
        answer = {"object": "chat.completion", "id": attributes.get(sc.RESPONSE_ID), "model": model, "choices": choices}
        return operation if operation == "embeddings" else "chat", request, answer
    return operation, request, outputs


def _messages_in(attributes: Mapping[str, Any], span: ReceivedSpan) -> list[dict[str, Any]]:
    system = decoded(attributes.get("gen_ai.system_instructions"))
    before = from_parts([{"role": "system", "parts": system}]) if isinstance(system, list) else []
    return before + (
        from_parts(decoded(attributes.get("gen_ai.input.messages")))
        or from_flattened(unflattened(attributes, "llm.input_messages"))
        or from_flattened(unflattened(attributes, "gen_ai.prompt"))
        or [_of_event(name, told) for name, _, told in span.events if name in _OF_EVENTS]
    )


def _messages_out(attributes: Mapping[str, Any], span: ReceivedSpan) -> list[dict[str, Any]]:
    return (
        from_parts(decoded(attributes.get("gen_ai.output.messages")))
        or from_flattened(unflattened(attributes, "llm.output_messages"))
        or from_flattened(unflattened(attributes, "gen_ai.completion"))
        or [_of_choice(told) for name, _, told in span.events if name == "gen_ai.choice"]
    )


def _of_event(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    message = {"role": told.get("role") or _OF_EVENTS[name], "content": decoded(told.get("content"))}
    if told.get("id"):
        message["tool_call_id"] = told["id"]
    if calls := decoded(told.get("tool_calls")):
        message["tool_calls"] = calls
    return message


def _of_choice(told: Mapping[str, Any]) -> dict[str, Any]:
    message = decoded(told.get("message"))
    if not isinstance(message, dict):
        message = {"content": message if message is not None else told.get("content")}
    calls = decoded(told.get("tool_calls"))
    return {
        "role": "assistant",
        **message,
        **({"tool_calls": calls} if calls else {}),
        "finish_reason": told.get("finish_reason"),
    }


def _value(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    for key in keys:
        if attributes.get(key) is not None:
            return decoded(attributes[key])
    return None


# --- counts -----------------------------------------------------------------------------------------------------------
def _usage(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    usage = {}
    for name, keys in _USAGE.items():
        for key in keys:
            if (count := _number(attributes.get(key), 2**53)) is not None:
                usage[name] = int(count)
                break
    told = decoded(attributes.get("mlflow.chat.tokenUsage"))
    if not usage and type(told) is dict:
        usage = {name: told[name] for name in _USAGE if type(told.get(name)) is int and told[name] >= 0}
    if usage and "total_tokens" not in usage:
        usage["total_tokens"] = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
    return usage or None


def _cost(attributes: Mapping[str, Any]) -> float | None:
    for key in (sc.USAGE_COST, "llm.cost.total"):
        if (cost := _number(attributes.get(key), 1e9)) is not None:
            return float(cost)
    told = decoded(attributes.get("mlflow.llm.cost"))
    total = _number(told.get("total_cost"), 1e9) if type(told) is dict else None
    return None if total is None else float(total)


def _number(value: Any, limit: float) -> int | float | None:
    """Return a count or a price; None for anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < limit else None


def _first_token(attributes: Mapping[str, Any], span: ReceivedSpan) -> int | None:
    seconds = attributes.get("gen_ai.response.time_to_first_chunk")
    if type(seconds) is float and 0 <= seconds < 1e6:
        return span.start_ns + round(seconds * 1e9)
    return next((time_ns for name, time_ns, _ in span.events if name == _FIRST_TOKEN), None)


def _metadata(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return OpenInference's ``metadata``: an object, as JSON."""
    told = decoded(attributes.get("metadata"))
    if type(told) is not dict:
        return {}
    return {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode() for key, value in told.items()
    }


def _first_text(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = attributes.get(key)
        if isinstance(value, str) and value.strip('"'):
            return value.strip('"')  # MLflow writes each value as JSON
    return None
