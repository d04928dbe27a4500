"""Keys of MLflow's and of OpenInference (Phoenix), for servers that read more from them than from OpenTelemetry's.

OpenTelemetry has keys for what a model and a tool were given and returned, and none for any other span.
Sources: https://mlflow.org/docs/latest/genai/tracing/ (``mlflow/tracing/constant.py``),
https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tracer import _semconv as sc
from tracer._models import MODEL_CALL_TYPES, Span
from tracer.interpret import encode_value
from tracer.otlp._parts import read_messages

__all__ = ["KEYS"]

_KINDS = {
    "LLM": "LLM",
    "CHAT_MODEL": "LLM",
    "EMBEDDING": "EMBEDDING",
    "AGENT": "AGENT",
    "TOOL": "TOOL",
    "RETRIEVER": "RETRIEVER",
    "RERANKER": "RERANKER",
    "GUARDRAIL": "GUARDRAIL",
    "EVALUATOR": "EVALUATOR",
}
_COUNTS = {
    "input_tokens": "prompt",
    "output_tokens": "completion",
    "total_tokens": "total",
    "cache_read_input_tokens": "prompt_details.cache_read",
    "cache_creation_input_tokens": "prompt_details.cache_write",
    "reasoning_tokens": "completion_details.reasoning",
    "input_audio_tokens": "prompt_details.audio",
    "output_audio_tokens": "completion_details.audio",
}


_MLFLOW_COUNTS = (  # ``mlflow/tracing/constant.py``, ``TokenUsageKey``
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


def _mlflow(span: Span) -> dict[str, Any]:
    """Return MLflow's keys. It writes each value as JSON, texts included."""
    told: dict[str, Any] = {
        "mlflow.spanType": span.span_type,
        "mlflow.spanInputs": span.inputs,
        "mlflow.spanOutputs": span.outputs,
    }
    if span.span_type in MODEL_CALL_TYPES:
        counts = span.token_usage or {}
        usage = {name: count for name, count in counts.items() if name in _MLFLOW_COUNTS}
        told["mlflow.chat.tokenUsage"] = usage or None
        told["mlflow.message.format"] = span.get_attribute("mlflow.message.format")
        told["mlflow.llm.model"] = span.get_attribute("mlflow.llm.model")
    return {key: _json(value) for key, value in told.items() if value is not None}


def _openinference(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {"openinference.span.kind": _KINDS.get(span.span_type, "CHAIN")}
    for side, value in (("input", span.inputs), ("output", span.outputs)):
        if value is not None:
            told[f"{side}.value"] = value if isinstance(value, str) else _json(value)
            told[f"{side}.mime_type"] = "text/plain" if isinstance(value, str) else "application/json"
    if span.span_type not in MODEL_CALL_TYPES:
        return told
    model = span.get_attribute("mlflow.llm.model")
    told["embedding.model_name" if span.span_type == "EMBEDDING" else "llm.model_name"] = model
    told["llm.provider"] = span.attributes.get(sc.PROVIDER_NAME)
    for name, key in _COUNTS.items():
        told[f"llm.token_count.{key}"] = (span.token_usage or {}).get(name)
    told["llm.cost.total"] = span.cost
    messages = read_messages(span.attributes.get(sc.OPERATION), span.inputs, span.outputs)
    system = [{"role": "system", "parts": messages.system}] if messages.system else []
    for side, some in (("input", [*system, *messages.asked]), ("output", messages.answered)):
        for index, message in enumerate(some):
            _flatten(told, f"llm.{side}_messages.{index}.message", message)
    return {key: value for key, value in told.items() if value is not None}


def _flatten(told: dict[str, Any], prefix: str, message: dict[str, Any]) -> None:
    """Add a message of OpenTelemetry's form as OpenInference has it: a key for each field."""
    told[f"{prefix}.role"] = message["role"]
    parts = message["parts"]
    texts = [part["content"] for part in parts if part.get("type") == "text"]
    if all(part.get("type") != "uri" for part in parts):
        told[f"{prefix}.content"] = "\n".join(texts) if texts else None
    else:
        shown = [part for part in parts if part.get("type") in ("text", "uri")]
        for index, part in enumerate(shown):
            place = f"{prefix}.contents.{index}.message_content"
            is_text = part["type"] == "text"
            told[f"{place}.type"] = "text" if is_text else "image"
            told[f"{place}.{'text' if is_text else 'image.image.url'}"] = part["content" if is_text else "uri"]
    for part in parts:
        if part.get("type") == "tool_call_response":
            told[f"{prefix}.tool_call_id"] = part.get("id")
            answer = part.get("response")
            told[f"{prefix}.content"] = answer if isinstance(answer, str) else _json(answer)
    calls = [part for part in parts if part.get("type") == "tool_call"]
    for index, call in enumerate(calls):
        place = f"{prefix}.tool_calls.{index}.tool_call"
        told[f"{place}.id"] = call.get("id")
        told[f"{place}.function.name"] = call.get("name")
        arguments = call.get("arguments")
        told[f"{place}.function.arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments)


def _json(value: Any) -> str:
    return encode_value(value).decode(errors="replace")


KEYS: dict[str, Callable[[Span], dict[str, Any]]] = {"mlflow": _mlflow, "openinference": _openinference}
"""By name, the functions that return a span's keys in these conventions."""
