"""Numbers for people: never a price of ``$0.00`` for a call that cost something."""

from __future__ import annotations

from datetime import datetime, timezone

from tracer._format import format_bytes, format_cost, format_duration
from tracer._models import TokenUsage

__all__ = ["format_bytes", "format_cost", "format_count", "format_duration", "format_time", "format_tokens"]


def format_count(count: int) -> str:
    """Return a number of tokens in at most five characters: ``950``, ``12.4k``, ``3.1M``."""
    for limit, unit in ((1_000_000, "M"), (10_000, "k")):
        if count >= limit:
            return f"{count / (limit if unit == 'M' else 1000):.1f}{unit}"
    return f"{count}"


def format_tokens(usage: TokenUsage | None) -> str:
    """Return ``input → output``, an empty text if nothing was reported."""
    if not usage:
        return ""
    return f"{format_count(usage.get('input_tokens', 0))} → {format_count(usage.get('output_tokens', 0))}"


def format_time(time_ns: int) -> str:
    """Return a moment in UTC, to the millisecond; the page shows it in the reader's own zone where scripts run."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
