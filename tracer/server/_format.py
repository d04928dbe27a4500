"""Numbers and times as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from tracer._format import format_bytes, format_cost, format_duration
from tracer.render.addresses import session_url

__all__ = [
    "FILTERS",
    "LOSS_WORDS",
    "STATE_WORDS",
    "brief",
    "count",
    "duration",
    "iso",
    "moment",
    "seconds",
    "share",
    "stretch",
]

MISSING = ""


def seconds(value: float | None) -> str:
    """Return a time span of so many seconds."""
    return MISSING if value is None else format_duration(round(value * 1e9))


def duration(nanoseconds: int | None) -> str:
    """Return a time span of nanoseconds; an empty text if it has not ended (the page then counts the time)."""
    return MISSING if nanoseconds is None else format_duration(nanoseconds)


def stretch(nanoseconds: int) -> str:
    """Return a round time span without needless digits: ``5 s``, ``2 h``, ``7 d``."""
    days, rest = divmod(nanoseconds, 86_400 * 10**9)
    if days and not rest:
        return f"{days:,} d"
    return re.sub(r"\.0+(?= )| 00 [sm]$", "", duration(nanoseconds))


def count(value: float | None) -> str:
    """Return a whole number with thousands apart: ``12,345``."""
    return MISSING if value is None else f"{value:,.0f}"


def brief(value: float | None) -> str:
    """Return a whole number in at most seven characters: ``12,345``, ``2.39 M``, ``410 B``."""
    if value is None or value < 999_500:
        return count(value)
    factor, unit = (1e9, "B") if value >= 999_500_000 else (1e6, "M")
    scaled = value / factor
    return f"{scaled:,.0f} {unit}" if scaled >= 99.95 else f"{scaled:.3g} {unit}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, never rounded to 0% or 100%: ``0.4%``, ``<0.1%``."""
    percent = 100 * part / whole if whole else 0
    if 0 < percent < 0.1:
        return "<0.1%"
    return f"{min(percent, 99.9) if part < whole else 100:.1f}".removesuffix(".0") + "%"


def iso(nanoseconds: int) -> str:
    """Return a moment as ISO 8601 in UTC, to the millisecond; the page shows it in the reader's time zone."""
    return f"{_utc(nanoseconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1_000_000 % 1000:03}Z"


def moment(nanoseconds: int) -> str:
    """Return a moment for people without JavaScript: ``2026-11-22 13:05:09``, in UTC."""
    return f"{_utc(nanoseconds):%Y-%m-%d %H:%M:%S}"


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc)


STATE_WORDS = {"OK": "OK", "ERROR": "Error", "IN_PROGRESS": "Running", "INTERRUPTED": "Interrupted"}
LOSS_WORDS = {
    "start": "spans were not recorded, because the queue was full",
    "lost": "records were not stored, because the database refused them",
    "spool": "records that waited for the database gave way to newer ones, because the spool was full",
}
FILTERS: dict[str, Callable[..., Any]] = {
    "brief": brief,
    "bytes": format_bytes,
    "cost": format_cost,
    "count": count,
    "duration": duration,
    "iso": iso,
    "moment": moment,
    "seconds": seconds,
    "session_url": session_url,
    "share": share,
}
