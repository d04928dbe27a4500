"""Charts as SVG, made on the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tracer.store.summaries import HistogramBucket

__all__ = ["HEIGHT", "WIDTH", "Bar", "bars", "polyline"]

WIDTH, HEIGHT = 1000, 60
"""The drawing's own units; it is stretched to the width of the page."""


class Bar(NamedTuple):
    """One stretch of time: where its bars stand, in the drawing's units."""

    x: float
    width: float
    calls_height: float
    errors_height: float
    start_ns: int
    end_ns: int
    bucket: HistogramBucket


def bars(buckets: Sequence[HistogramBucket], width_ns: int) -> list[Bar]:
    """Lay out calls and, within them, errors: a single one is still seen."""
    most = max((bucket.calls for bucket in buckets), default=0) or 1
    step = WIDTH / max(len(buckets), 1)
    return [
        Bar(
            x=round(index * step, 2),
            width=round(step, 2),
            calls_height=_height(bucket.calls, most),
            errors_height=_height(bucket.errors, most),
            start_ns=bucket.start_ns,
            end_ns=bucket.start_ns + width_ns,
            bucket=bucket,
        )
        for index, bucket in enumerate(buckets)
    ]


def polyline(values: Sequence[float | None]) -> list[str]:
    """Return the points of each unbroken run of values: a stretch without any is a gap, not a zero."""
    most = max((value for value in values if value is not None), default=0) or 1
    step = WIDTH / max(len(values), 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{(index + 0.5) * step:.1f},{HEIGHT - 2 - value / most * (HEIGHT - 6):.1f}")
    # A lone point would be no line: it becomes a short one.
    return [" ".join(run) if len(run) > 1 else _dash(run[0], step) for run in runs if run]


def _height(count: int, most: int) -> float:
    return round(max(count / most * HEIGHT, 2), 1) if count else 0


def _dash(point: str, step: float) -> str:
    x, y = point.split(",")
    return f"{float(x) - step / 4:.1f},{y} {float(x) + step / 4:.1f},{y}"
