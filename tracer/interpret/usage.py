"""Every spelling of token usage, read into one (openai-sdk-notes.md, section 5, and compatible servers' own)."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict

__all__ = ["find_usage", "token_usage", "usage_attributes"]

_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")

# (our key, the names it goes by)
_TOTALS = (
    ("input_tokens", ("input_tokens", "prompt_tokens")),
    ("output_tokens", ("output_tokens", "completion_tokens")),
    ("total_tokens", ("total_tokens",)),
)
_IN_INPUT_DETAILS = (
    ("cache_read_input_tokens", ("cached_tokens",)),
    ("cache_creation_input_tokens", ("cache_write_tokens", "cache_creation_tokens")),
    ("input_audio_tokens", ("audio_tokens",)),
)
_IN_OUTPUT_DETAILS = (
    ("reasoning_tokens", ("reasoning_tokens",)),
    ("output_audio_tokens", ("audio_tokens",)),
)
# Anthropic's names as gateways pass them on, DeepSeek's, Moonshot's, Mistral's
_IN_USAGE = (
    ("cache_read_input_tokens", ("cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")),
    ("cache_creation_input_tokens", ("cache_creation_input_tokens",)),
    ("reasoning_tokens", ("reasoning_tokens",)),
)
_ATTRIBUTES = (
    ("input_tokens", sc.USAGE_INPUT_TOKENS),
    ("output_tokens", sc.USAGE_OUTPUT_TOKENS),
    ("total_tokens", sc.TOTAL_TOKENS),
    ("cache_read_input_tokens", sc.USAGE_CACHE_READ_INPUT_TOKENS),
    ("cache_creation_input_tokens", sc.USAGE_CACHE_CREATION_INPUT_TOKENS),
    ("reasoning_tokens", sc.REASONING_TOKENS),
)
_WITHOUT_ATTRIBUTE = ("input_audio_tokens", "output_audio_tokens")
_MAX_COUNT = 2**53  # a count beyond is no count, and would not fit into the columns it is summed in


def find_usage(body: dict[str, Any]) -> dict[str, Any]:
    """Return the usage object of a response, also where Groq's streams hide it."""
    return as_dict(body.get("usage")) or as_dict(as_dict(body.get("x_groq")).get("usage"))


def token_usage(usage: dict[str, Any]) -> dict[str, int] | None:
    """Read a usage object into the keys of `ResponseView.usage`; None if it counts no tokens.

    The first three keys are always there: what the API leaves out (an embedding's output, a total) follows from
    the rest.
    """
    given: dict[str, int] = {}
    _add_counts(given, usage, _TOTALS)
    if not given:
        return None
    counts = {"input_tokens": given.get("input_tokens", 0), "output_tokens": given.get("output_tokens", 0)}
    counts["total_tokens"] = given["total_tokens"] if "total_tokens" in given else sum(counts.values())
    _add_counts(counts, usage, _IN_USAGE)
    _add_counts(counts, _first_object(usage, _INPUT_DETAILS), _IN_INPUT_DETAILS)
    _add_counts(counts, _first_object(usage, _OUTPUT_DETAILS), _IN_OUTPUT_DETAILS)
    return counts


def _add_counts(
    counts: dict[str, int], source: dict[str, Any], fields: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    for key, names in fields:
        for name in names:
            if name in source and (count := _as_count(source[name])) is not None:
                counts[key] = count
                break


def _first_object(usage: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    for name in names:
        if type(value := usage.get(name)) is dict:
            return value
    return {}


def _as_count(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < _MAX_COUNT else None


def usage_attributes(counts: dict[str, int]) -> dict[str, Any]:
    """Return the attributes of a usage: the convention's, and the whole where a count has none of its own."""
    attributes: dict[str, Any] = {name: counts[key] for key, name in _ATTRIBUTES if key in counts}
    if any(key in counts for key in _WITHOUT_ATTRIBUTE):
        attributes[sc.TOKEN_USAGE] = counts
    return attributes
