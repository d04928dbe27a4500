"""Statistics: medians with intervals that assume nothing about the distribution. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks._results import Estimate

__all__ = ["added", "added_percent", "median_interval", "percentile", "ratio"]

Pairs = Sequence[tuple[float, float]]

TAIL = 40  # one in 40 intervals may lie wholly above the true median, and one in 40 wholly below: 95 % contain it


def median_interval(values: Sequence[float]) -> Estimate:
    """Return the median and its 95 % interval by order statistics.

    The number of values below the true median is binomial (n, ½), so the ranks that bracket it follow from that
    alone. Fewer than six values can't give 95 %: their interval is their range.
    """
    ordered = sorted(values)
    skipped = _values_outside(len(ordered))
    return Estimate(statistics.median(ordered), ordered[skipped], ordered[-1 - skipped], len(ordered))


def _values_outside(n: int) -> int:
    """Return how many of n ordered values can be left out at each end while the rest still contains the median."""
    ways, total, skipped = 1, 1, 0  # C(n, skipped), and the sum of C(n, 0…skipped)
    while TAIL * total <= 2**n:
        ways = ways * (n - skipped) // (skipped + 1)
        total += ways
        skipped += 1
    return max(0, skipped - 1)


def added(pairs: Pairs) -> Estimate:
    """Return the median of the differences of (un-traced, traced) pairs."""
    return median_interval([traced - plain for plain, traced in pairs])


def added_percent(pairs: Pairs) -> Estimate:
    """Return the median of the pairs' differences, in percent of the un-traced one."""
    return median_interval([100 * (traced - plain) / plain for plain, traced in pairs])


def ratio(pairs: Pairs) -> Estimate:
    """Return the median of traced over un-traced."""
    return median_interval([traced / plain for plain, traced in pairs])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the values don't exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
