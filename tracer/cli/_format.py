"""Numbers and times as people read them, and as programs do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from tracer._models import TokenUsage

__all__ = ["iso_text", "local_text", "pairs_text", "seconds_text", "short_text", "tokens_text"]


def local_text(nanoseconds: int) -> str:
    """Return a moment in local time: ``2026-11-22 13:05:09``."""
    return f"{_local(nanoseconds):%Y-%m-%d %H:%M:%S}"


def short_text(nanoseconds: int) -> str:
    """Return a moment in local time, without the year if it is the current one: ``11-22 13:05:09``."""
    moment = _local(nanoseconds)
    return f"{moment:%m-%d %H:%M:%S}" if moment.year == datetime.now().astimezone().year else f"{moment:%Y-%m-%d %H:%M}"


def iso_text(nanoseconds: int) -> str:
    """Return a moment as ISO 8601 with the local offset, to the millisecond."""
    return _local(nanoseconds).isoformat(timespec="milliseconds")


def seconds_text(nanoseconds: int | None) -> str:
    """Return seconds as a plain number; empty if there are none yet."""
    return "" if nanoseconds is None else f"{nanoseconds / 1e9:.6f}"


def tokens_text(usage: TokenUsage | None) -> str:
    """Return ``1,200 → 35``: tokens in and out; empty if none were reported."""
    return "" if usage is None else f"{usage.get('input_tokens', 0):,} → {usage.get('output_tokens', 0):,}"


def pairs_text(pairs: Mapping[str, object]) -> str:
    """Return ``env=prod build=7``."""
    return " ".join(f"{key}={value}" for key, value in pairs.items())


def _local(nanoseconds: int) -> datetime:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest // 1_000).astimezone()
