"""Numbers and times as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

__all__ = ["FILTERS", "STATE_WORDS", "cost", "count", "duration", "iso", "moment", "seconds"]

MISSING = ""


def seconds(value: float | None) -> str:
    """Return a time span of so many seconds: ``850 µs``, ``35 ms``, ``1.24 s``, ``2 m 05 s``, ``3 h 12 m``."""
    if value is None:
        return MISSING
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms" if value < 0.0995 else f"{value * 1e3:.0f} ms"
    if value < 59.995:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} m" if minutes else f"{hours:,} h"
    return f"{minutes} m {rest:02} s" if rest else f"{minutes} m"


def duration(nanoseconds: int | None) -> str:
    """Return `seconds` of nanoseconds."""
    return MISSING if nanoseconds is None else seconds(nanoseconds / 1e9)


def cost(dollars: float | None) -> str:
    """Return US dollars with two significant digits at least, never rounded to nothing: ``$0.000085``, ``$12.40``."""
    if dollars is None:
        return MISSING
    if dollars == 0 or abs(dollars) >= 0.1:
        return f"${dollars:,.2f}"
    digits = f"{dollars:.2g}"
    return f"${float(digits):.12f}".rstrip("0")


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
    "cost": cost,
    "count": count,
    "duration": duration,
    "iso": iso,
    "moment": moment,
    "seconds": seconds,
}
