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
    SIZE_STATS = "mlflow.trace.sizeStats"
    TOKEN_USAGE = "mlflow.trace.tokenUsage"
    TRACE_INFO_FINALIZED = "mlflow.trace.infoFinalized"
    COST = "mlflow.trace.cost"
    TRACE_USER = "mlflow.trace.user"
    TRACE_SESSION = "mlflow.trace.session"
    SIZE_BYTES = "mlflow.trace.sizeBytes"
    GATEWAY_ENDPOINT_ID = "mlflow.gateway.endpointId"
    GATEWAY_REQUEST_TYPE = "mlflow.gateway.requestType"
    GATEWAY_CALLER = "mlflow.gateway.caller"
    AUTH_USER_ID = "mlflow.auth.userId"
    AUTH_USERNAME = "mlflow.auth.username"


class TraceTagKey:
    """Keys of ``trace.info.tags``."""

    TRACE_NAME = "mlflow.traceName"
    EVAL_REQUEST_ID = "mlflow.eval.requestId"
    SPANS_LOCATION = "mlflow.trace.spansLocation"
    ARCHIVE_LOCATION = "mlflow.trace.archiveLocation"
    ARCHIVAL_FAILURE = "mlflow.trace.archivalFailure"
    SOURCE_SCORER_NAME = "mlflow.trace.sourceScorer"
    LINKED_PROMPTS = "mlflow.linkedPrompts"


class TokenUsageKey:
    """Keys of token usage."""

    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOTAL_TOKENS = "total_tokens"
    CACHE_READ_INPUT_TOKENS = "cache_read_input_tokens"
    CACHE_CREATION_INPUT_TOKENS = "cache_creation_input_tokens"
    CACHE_CREATION_INPUT_TOKENS_ABOVE_1HR = "cache_creation_input_tokens_above_1hr"

    @classmethod
    def all_keys(cls) -> list[str]:
        """Return all of them."""
        return [
            cls.INPUT_TOKENS,
            cls.OUTPUT_TOKENS,
            cls.TOTAL_TOKENS,
            cls.CACHE_READ_INPUT_TOKENS,
            cls.CACHE_CREATION_INPUT_TOKENS,
            cls.CACHE_CREATION_INPUT_TOKENS_ABOVE_1HR,
        ]

    @classmethod
    def cache_keys(cls) -> list[str]:
        """Return those of caches."""
        return cls.all_keys()[3:]


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
    START_TIME_NS = "mlflow.spanStartTimeNs"
    CHAT_TOOLS = "mlflow.chat.tools"
    CHAT_USAGE = "mlflow.chat.tokenUsage"
    LLM_COST = "mlflow.llm.cost"
    MODEL = "mlflow.llm.model"
    MODEL_PROVIDER = "mlflow.llm.provider"
    MESSAGE_FORMAT = "mlflow.message.format"
    INTERMEDIATE_OUTPUTS = "mlflow.trace.intermediate_outputs"
    LINKED_PROMPTS = "mlflow.linkedPrompts"
    LINKED_GATEWAY_TRACE_ID = "mlflow.gateway.linkedTraceId"
    USER_ID = "user.id"
    SESSION_ID = "session.id"
    TRACE_TAG_PREFIX = "mlflow.traceTag."
