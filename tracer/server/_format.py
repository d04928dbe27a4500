"""Numbers and times as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from tracer._format import format_bytes, format_cost, format_duration

__all__ = ["FILTERS", "STATE_WORDS", "count", "duration", "iso", "moment", "seconds"]

MISSING = ""


def seconds(value: float | None) -> str:
    """Return a time span of so many seconds."""
    return MISSING if value is None else format_duration(round(value * 1e9))


def duration(nanoseconds: int | None) -> str:
    """Return a time span of nanoseconds; nothing for one that has not ended, of which the page counts the time."""
    return MISSING if nanoseconds is None else format_duration(nanoseconds)


def count(value: float | None) -> str:
    """Return a whole number with thousands apart: ``12,345``."""
    return MISSING if value is None else f"{value:,.0f}"


def iso(nanoseconds: int) -> str:
    """Return a moment as ISO 8601 in UTC, to the millisecond; the page shows it in the reader's time zone."""
    return f"{_utc(nanoseconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1_000_000 % 1000:03}Z"


def moment(nanoseconds: int) -> str:
    """Return a moment for people without JavaScript: ``2026-11-22 13:05:09``, in UTC."""
    return f"{_utc(nanoseconds):%Y-%m-%d %H:%M:%S}"


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc)


STATE_WORDS = {"OK": "OK", "ERROR": "Error", "IN_PROGRESS": "Running", "INTERRUPTED": "Interrupted"}
FILTERS: dict[str, Callable[..., Any]] = {
    "bytes": format_bytes,
    "cost": format_cost,
    "count": count,
    "duration": duration,
    "iso": iso,
    "moment": moment,
    "seconds": seconds,
}
