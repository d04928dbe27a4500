"""What is computed of many traces' figures, apart from any database: facets, buckets of time, percentiles, summaries.

A store groups and sums in its database, over all traces or an even sample of them. `Share` turns what was counted in
the sample into an estimate for all.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from tracer._exceptions import ConfigurationError
from tracer.store.summaries import Facet, FacetValue, HistogramBucket, NameSummary, OverviewPoint

__all__ = [
    "MAX_BUCKETS",
    "MAX_LIMIT",
    "NARROWEST",
    "Share",
    "bucket_of",
    "check_whole",
    "facets_of",
    "percentile",
    "points_of",
    "round_width",
    "summary_of",
]

S = TypeVar("S", bound=NameSummary)
MAX_BUCKETS = 1_000
MAX_LIMIT = 1_000
_MAX_KEYS = 50  # so many tag keys and feedback names become facets
_SECOND, _MINUTE, _HOUR, _DAY = 10**9, 60 * 10**9, 3_600 * 10**9, 86_400 * 10**9
_WIDTHS: tuple[int, ...] = (
    *(10**power for power in range(6, 9)),  # 1 ms to 100 ms
    *(count * _SECOND for count in (1, 2, 5, 10, 15, 30)),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14, 28, 91, 364, 3_640, 36_400)),
)
NARROWEST = _WIDTHS[0]
_FACET_ORDER = ("status", "model", "experiment", "name")


class Share(NamedTuple):
    """Which share of the matching traces was looked at; 1.0 for all."""

    share: float

    def scaled(self, number: float) -> int:
        """Turn a number counted in the sample into an estimate for all matching traces."""
        return round(number / self.share)

    def scaled_cost(self, cost: float | None) -> float | None:
        """Do the same for a sum of costs; None if none is known."""
        return None if cost is None else cost / self.share


def check_whole(parameter: str, value: Any, maximum: int) -> None:
    """Refuse what is no whole number from 1 to the maximum. Raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise ConfigurationError(f"{parameter} must be a whole number from 1 to {maximum}, got {value!r}")


# --- facets -----------------------------------------------------------------------------------------------------------
def facets_of(counted: Iterable[tuple[str, Any, int]], share: Share, limit: int) -> list[Facet]:
    """Make facets of ``(field, value, traces)``, up to one more than `limit` values of each field."""
    found: dict[str, list[FacetValue]] = defaultdict(list)
    for field, value, traces in counted:
        found[field].append(FacetValue(str(value), share.scaled(traces)))
    fields = [*(field for field in _FACET_ORDER if field in found), *_frequent(found)]
    return [_facet(field, found[field], limit) for field in fields]


def _frequent(found: dict[str, list[FacetValue]]) -> list[str]:
    """Return the tags and feedback names that occur in the most traces, sorted by name."""
    others = sorted(
        (field for field in found if field not in _FACET_ORDER), key=lambda field: -sum(v.traces for v in found[field])
    )
    return sorted(others[:_MAX_KEYS])


def _facet(field: str, values: list[FacetValue], limit: int) -> Facet:
    values.sort(key=lambda each: (-each.traces, each.value))
    prefix, dot, key = field.partition(".")
    return Facet(f"{prefix}{dot}{_quoted(key)}", values[:limit], more=len(values) > limit)


def _quoted(key: str) -> str:
    """Write a key in the form that ``filter_string`` accepts."""
    if not key or re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", key):
        return key
    return f"`{key}`" if "`" not in key else '"{}"'.format(re.sub(r'(["\\])', r"\\\1", key))


# --- over time --------------------------------------------------------------------------------------------------------
def bucket_of(start_ns: int, calls: int, errors: int, times: list[int]) -> HistogramBucket:
    """Make the bucket of one stretch of time; `times` are durations of its traces, in any order."""
    times.sort()
    return HistogramBucket(
        start_ns=start_ns,
        calls=calls,
        errors=min(errors, calls),
        p50_ns=percentile(times, 0.5),
        p95_ns=percentile(times, 0.95),
    )


def round_width(span_ns: int, buckets: int) -> int:
    """Return the narrowest round width of which so many buckets cover the time."""
    widths = (width for width in _WIDTHS if span_ns <= width * buckets)
    return next(widths, _WIDTHS[-1])


def percentile(ordered: list[int], share: float) -> int | None:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


# --- overview ---------------------------------------------------------------------------------------------------------
def points_of(rows: Iterable[Any], width: int, share: Share) -> dict[str, list[OverviewPoint]]:
    """Make points of ``[label, bucket, calls, errors, total_tokens, cost]``, by label."""
    points: dict[str, list[OverviewPoint]] = defaultdict(list)
    for label, bucket, count, errors, tokens, cost in rows:
        points[label].append(
            OverviewPoint(
                start_ns=bucket * width,
                calls=share.scaled(count),
                errors=share.scaled(errors),
                total_tokens=share.scaled(tokens),
                cost=share.scaled_cost(cost),
            )
        )
    return points


def summary_of(row: Any, points: list[OverviewPoint], share: Share, kind: type[S]) -> S:
    """Make a summary of ``[label, calls, errors, input, output and total tokens, cost, durations]``."""
    label, calls, errors, inputs, outputs, tokens, cost, times = row
    times.sort()
    return kind(
        name=label,
        calls=share.scaled(calls),
        errors=share.scaled(errors),
        p50_ns=percentile(times, 0.5),
        p95_ns=percentile(times, 0.95),
        input_tokens=share.scaled(inputs),
        output_tokens=share.scaled(outputs),
        total_tokens=share.scaled(tokens),
        cost=share.scaled_cost(cost),
        points=points,
    )
