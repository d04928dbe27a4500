"""Every spelling of token usage, read into one (openai-sdk-notes.md, section 5, and compatible servers' own)."""

from __future__ import annotations

from typing import Any

from tracer import _semconv as sc
from tracer.interpret._json import as_dict

__all__ = ["find_usage", "token_usage", "usage_attributes"]

_INPUT_DETAILS = {
    "cached_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "cache_creation_tokens": "cache_creation_input_tokens",
    "audio_tokens": "input_audio_tokens",
}
_OUTPUT_DETAILS = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "output_audio_tokens",
}
_NAMES: dict[str, str | dict[str, str]] = {
    "input_tokens": "input_tokens",
    "prompt_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "completion_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "input_tokens_details": _INPUT_DETAILS,
    "input_token_details": _INPUT_DETAILS,
    "prompt_tokens_details": _INPUT_DETAILS,
    "prompt_token_details": _INPUT_DETAILS,
    "output_tokens_details": _OUTPUT_DETAILS,
    "output_token_details": _OUTPUT_DETAILS,
    "completion_tokens_details": _OUTPUT_DETAILS,
    # Anthropic's names as gateways pass them on, DeepSeek's, Moonshot's, xAI's
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation_input_tokens": "cache_creation_input_tokens",
    "prompt_cache_hit_tokens": "cache_read_input_tokens",
    "cached_tokens": "cache_read_input_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_ATTRIBUTES = {
    "input_tokens": sc.USAGE_INPUT_TOKENS,
    "output_tokens": sc.USAGE_OUTPUT_TOKENS,
    "total_tokens": sc.TOTAL_TOKENS,
    "cache_read_input_tokens": sc.USAGE_CACHE_READ_INPUT_TOKENS,
    "cache_creation_input_tokens": sc.USAGE_CACHE_CREATION_INPUT_TOKENS,
    "reasoning_tokens": sc.REASONING_TOKENS,
    "input_audio_tokens": sc.INPUT_AUDIO_TOKENS,
    "output_audio_tokens": sc.OUTPUT_AUDIO_TOKENS,
}
_ALWAYS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
_MAX_COUNT = 2**53  # a larger number is not a count, and its sums would not fit into their columns


def find_usage(body: dict[str, Any]) -> dict[str, Any]:
    """Return the usage object of a response, also from the place where Groq's streams put it."""
    return as_dict(body.get("usage")) or ("x_groq" in body and as_dict(as_dict(body["x_groq"]).get("usage"))) or {}


def token_usage(usage: dict[str, Any]) -> dict[str, int] | None:
    """Read a usage object into the keys of `ResponseView.usage`; None if it counts no tokens.

    The first three keys are always there: if the API leaves one out (an embedding's output, a total), it is computed
    from the others.
    """
    given: dict[str, int] = {}
    _collect(given, usage, _NAMES)
    if given.keys().isdisjoint(_ALWAYS):
        return None
    read, written = given.get("input_tokens", 0), given.get("output_tokens", 0)
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written, **given}


def _collect(counts: dict[str, int], source: dict[str, Any], names: Any) -> None:
    """Add the counts in `source`. If gateways give one under two names, the greater one counts."""
    for name, value in source.items():
        if type(value) is dict:
            if type(details := names.get(name)) is dict:
                _collect(counts, value, details)
        elif name in names and (type(value) is int or (value := _whole(value)) is not None):
            target = names[name]
            if type(target) is str and counts.get(target, 0) <= value < _MAX_COUNT:
                counts[target] = value


def _whole(value: Any) -> int | None:
    """Return a count that came as a float."""
    return int(value) if type(value) is float and value.is_integer() else None


def usage_attributes(counts: dict[str, int]) -> dict[str, Any]:
    """Return the attributes of a usage. Details that are zero (audio of a text model) are left out."""
    return {_ATTRIBUTES[key]: count for key, count in counts.items() if count or key in _ALWAYS}
