"""What finish reasons mean: OpenAI's own, and those that compatible servers and gateways send under the same name.

Collected from DeepSeek's API reference (``insufficient_system_resource``), Z.ai's (``network_error``, ``sensitive``,
``model_context_window_exceeded``), OpenRouter's (``error``, with an ``error`` on the choice), vLLM (``abort``,
vllm-project/vllm#57082), Mistral (``model_length``), Anthropic's, Cohere's and Google's names, which many gateways pass
on as they are (BerriAI/litellm ``core_helpers.py``), and those of Google's compatible endpoint
(``content_filter: SAFETY``, ``function_call_filter: MALFORMED_FUNCTION_CALL``).
"""

from __future__ import annotations

import functools

from tracer.interpret._views import Finish

__all__ = ["read_reason"]

_GAVE_UP = frozenset(
    {
        "abort",
        "aborted",
        "failed",
        "failure",
        "function_call_filter",
        "insufficient_system_resource",
        "malformed_function_call",
        "malformed_response",
        "missing_thought_signature",
        "timeout",
        "too_many_tool_calls",
        "unexpected_tool_call",
    }
)
_CANCELLED = frozenset({"cancelled", "canceled", "user_cancel"})
_AT_A_LIMIT = frozenset(
    {
        "compaction",
        "context_length_exceeded",
        "context_window_exceeded",
        "error_limit",
        "length",
        "model_context_window_exceeded",
        "model_length",
        "token_limit",
    }
)
_FILTERED = frozenset(
    {
        "blocklist",
        "content_filter",
        "content_filtered",
        "error_toxic",
        "guardrail_intervened",
        "image_prohibited_content",
        "image_recitation",
        "image_safety",
        "prohibited_content",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "spii",
    }
)


@functools.lru_cache(maxsize=64)
def read_reason(reason: str) -> tuple[Finish, str | None]:
    """Return how an answer with this finish reason ended, and why in words; no words for a complete one.

    ::

        >>> read_reason("MAX_TOKENS")
        ('incomplete', 'the token limit was reached (finish_reason: MAX_TOKENS)')
    """
    word = reason.rpartition("FinishReason.")[2].partition(":")[0].strip().lower().replace("-", "_")
    if word in _FILTERED:
        return "incomplete", f"the content filter cut the answer (finish_reason: {reason})"
    if word in _AT_A_LIMIT or word.startswith("max_"):  # max_tokens, MAX_OUTPUT_TOKENS, max_length
        return "incomplete", f"the token limit was reached (finish_reason: {reason})"
    if word in _CANCELLED:
        return "cancelled", f"the server cancelled the answer (finish_reason: {reason})"
    if word in _GAVE_UP or "error" in word:
        return "failed", f"the server gave up (finish_reason: {reason})"
    return "completed", None
