"""Every spelling of token usage, read into one (openai-sdk-notes.md, section 5, and compatible servers' own)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from tracer import _semconv as sc
from tracer.interpret._json import as_dict

__all__ = [
    "MAX_COUNT",
    "charged_cost",
    "find_usage",
    "merge_usages",
    "says_something",
    "token_usage",
    "usage_attributes",
]

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
    "input_audio_tokens": sc.INPUT_AUDIO_TOKENS,
    "reasoning_tokens": sc.REASONING_TOKENS,
    "output_audio_tokens": sc.OUTPUT_AUDIO_TOKENS,
}
_ALWAYS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
_DETAILS = tuple(_ATTRIBUTES)[3:]
_SUMMED = ("input_tokens", "prompt_tokens", "output_tokens", "completion_tokens")
MAX_COUNT = 2**53  # a larger number is not a count, and its sums would not fit into their columns


def find_usage(body: dict[str, Any]) -> dict[str, Any]:
    """Return the usage object of a response, also from the place where Groq's streams put it."""
    usage = as_dict(body.get("usage"))
    if "x_groq" in body and not says_something(usage):
        return as_dict(as_dict(body["x_groq"]).get("usage")) or usage
    return usage


def says_something(usage: dict[str, Any]) -> bool:
    """Tell whether a usage object has any number but zero. Some servers send ``{}`` or zeros where none is known."""
    return any(
        (value and type(value) in (int, float)) or (type(value) is dict and says_something(value))
        for value in usage.values()
    )


def merge_usages(usages: Iterable[Any]) -> dict[str, Any]:
    """Return what the usage objects of a stream say together: of each field the last value that says something.

    A total counts what it came with. If a later object changes a part and says no total, the total is computed.
    """
    told = [usage for usage in usages if type(usage) is dict and says_something(usage)]
    if len(told) <= 1:
        return told[0] if told else {}
    merged: dict[str, Any] = {}
    is_stale = False
    for usage in told:
        if usage.get("total_tokens"):
            is_stale = False
        elif merged.get("total_tokens"):
            is_stale = is_stale or any(usage.get(key) not in (None, 0, merged.get(key)) for key in _SUMMED)
        merged = _merge(merged, usage)
    if "total_tokens" in merged:
        counts = token_usage({**merged, "total_tokens": 0} if is_stale else merged)
        merged["total_tokens"] = counts["total_tokens"] if counts else merged["total_tokens"]
    return merged


def _merge(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    merged = {**before}
    for key, value in now.items():
        known = before.get(key)
        if type(value) is type(known) is dict:
            merged[key] = _merge(known, value)
        elif value or key not in before:
            merged[key] = value
    return merged


def token_usage(usage: dict[str, Any]) -> dict[str, int] | None:
    """Read a usage object into the keys of `ResponseView.usage`; None if it counts no tokens.

    The first three keys are always there: if the API leaves one out (an embedding's output, a total), it is computed
    from the others. A total that is smaller than its parts is none.
    """
    given: dict[str, int] = {}
    _collect(given, usage, _NAMES)
    if given.keys().isdisjoint(_ALWAYS):
        return None
    total, read, written = given.get("total_tokens"), given.get("input_tokens"), given.get("output_tokens")
    if total and total < (read or 0) + (written or 0):
        total = None
    if total and read is None and written is not None:
        read = max(0, total - written)
    elif total and written is None and read is not None:
        written = max(0, total - read)
    read, written = read or 0, written or 0
    written += _reasoning_beside(given.get("reasoning_tokens", 0), read, written, total)
    sums = {"input_tokens": read, "output_tokens": written, "total_tokens": total or read + written}
    if not total and "input_tokens" in usage and "input_tokens_details" not in usage:
        # Anthropic's own form, which counts the cached input beside the rest (docs.anthropic.com, prompt caching)
        sums["total_tokens"] += given.get("cache_read_input_tokens", 0) + given.get("cache_creation_input_tokens", 0)
    return {**sums, **{key: given[key] for key in _DETAILS if key in given}}


def _reasoning_beside(thought: int, read: int, written: int, total: int | None) -> int:
    """Return the reasoning tokens if they are counted beside the output, and not as a part of it.

    xAI does that, and counts both in the total (docs.x.ai, consumption). If there is no total, more reasoning than
    output must be beside it; otherwise it may be more by a token or two, of another tokenizer (OpenRouter).
    """
    is_beside = total - read - written >= thought if total else thought > written
    return thought if is_beside else 0


_CHARGES = frozenset({"cost", "cost_in_usd_ticks"})
_TICKS = 10**10  # xAI's unit of money: so many are a US dollar (docs.x.ai, cost tracking)


def charged_cost(usage: dict[str, Any]) -> float | None:
    """Return the US dollars that the server says it charged; None if it does not say.

    OpenRouter's ``cost`` is what it charged itself; with the caller's own key at the provider (``is_byok``) the
    provider's charge comes on top (openrouter.ai/docs, usage accounting). Perplexity's ``cost`` is an object. xAI has
    ``cost_in_usd_ticks``.
    """
    if usage.keys().isdisjoint(_CHARGES):
        return None
    cost, details = usage.get("cost"), as_dict(usage.get("cost_details"))
    if type(cost) is dict:
        cost = cost.get("total_cost") if cost.get("currency") in (None, "USD") else None
    if (ticks := usage.get("cost_in_usd_ticks")) and _is_amount(ticks):  # 0 where Azure sells the model
        return ticks / _TICKS
    if not _is_amount(cost):
        return None
    upstream = details.get("upstream_inference_cost") if usage.get("is_byok") is True else None
    return float(cost) + (upstream if _is_amount(upstream) else 0)


def _is_amount(value: Any) -> TypeGuard[int | float]:
    return type(value) in (int, float) and 0 <= value < MAX_COUNT


def _collect(counts: dict[str, int], source: dict[str, Any], names: Any) -> None:
    """Add the counts in `source`. If gateways give one under two names, the greater one counts."""
    for name, value in source.items():
        target = names.get(name)
        if target is None:
            continue
        if type(target) is dict:
            if type(value) is dict:
                _collect(counts, value, target)
        elif (type(value) is int or (value := _whole(value)) is not None) and (
            counts.get(target, 0) <= value < MAX_COUNT
        ):
            counts[target] = value


def _whole(value: Any) -> int | None:
    """Return a count that came as a float."""
    return int(value) if type(value) is float and value.is_integer() else None


def usage_attributes(counts: dict[str, int]) -> dict[str, Any]:
    """Return the attributes of a usage. Details that are zero (audio of a text model) are left out."""
    return {_ATTRIBUTES[key]: count for key, count in counts.items() if count or key in _ALWAYS}
