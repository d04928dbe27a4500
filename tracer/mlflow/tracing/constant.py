"""MLflow's attribute keys (mlflow/tracing/constant.py), as far as spans and traces of `tracer.mlflow` have them."""

from __future__ import annotations

__all__ = [
    "STREAM_CHUNK_EVENT_NAME_FORMAT",
    "STREAM_CHUNK_EVENT_VALUE_KEY",
    "CostKey",
    "SpanAttributeKey",
    "TokenUsageKey",
    "TraceMetadataKey",
    "TraceTagKey",
]

STREAM_CHUNK_EVENT_NAME_FORMAT = "mlflow.chunk.item.{index}"
STREAM_CHUNK_EVENT_VALUE_KEY = "mlflow.chunk.value"


class TraceMetadataKey:
    """Keys of ``trace.info.trace_metadata``."""

    INPUTS = "mlflow.traceInputs"
    OUTPUTS = "mlflow.traceOutputs"
    SOURCE_RUN = "mlflow.sourceRun"
    MODEL_ID = "mlflow.modelId"
    TOKEN_USAGE = "mlflow.trace.tokenUsage"
    COST = "mlflow.trace.cost"
    TRACE_USER = "mlflow.trace.user"
    TRACE_SESSION = "mlflow.trace.session"


class TraceTagKey:
    """Keys of ``trace.info.tags``."""

    TRACE_NAME = "mlflow.traceName"


class TokenUsageKey:
    """Keys of token usage."""

    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOTAL_TOKENS = "total_tokens"
    CACHE_READ_INPUT_TOKENS = "cache_read_input_tokens"
    CACHE_CREATION_INPUT_TOKENS = "cache_creation_input_tokens"

    @classmethod
    def all_keys(cls) -> list[str]:
        """Return all of them."""
        return [
            cls.INPUT_TOKENS,
            cls.OUTPUT_TOKENS,
            cls.TOTAL_TOKENS,
            cls.CACHE_READ_INPUT_TOKENS,
            cls.CACHE_CREATION_INPUT_TOKENS,
        ]


class CostKey:
    """Keys of costs."""

    INPUT_COST = "input_cost"
    OUTPUT_COST = "output_cost"
    TOTAL_COST = "total_cost"


class SpanAttributeKey:
    """Keys of ``span.attributes``."""

    EXPERIMENT_ID = "mlflow.experimentId"
    REQUEST_ID = "mlflow.traceRequestId"
    INPUTS = "mlflow.spanInputs"
    OUTPUTS = "mlflow.spanOutputs"
    SPAN_TYPE = "mlflow.spanType"
    LOG_LEVEL = "mlflow.spanLogLevel"
    FUNCTION_NAME = "mlflow.spanFunctionName"
    DESCRIPTION = "mlflow.spanDescription"
    CHAT_TOOLS = "mlflow.chat.tools"
    CHAT_USAGE = "mlflow.chat.tokenUsage"
    LLM_COST = "mlflow.llm.cost"
    MODEL = "mlflow.llm.model"
    MODEL_PROVIDER = "mlflow.llm.provider"
    MESSAGE_FORMAT = "mlflow.message.format"
