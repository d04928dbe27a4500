"""Charts as SVG, made on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracer.store.summaries import HistogramBucket

__all__ = ["HEIGHT", "WIDTH", "Bar", "Stack", "bars", "polyline", "spark", "stack"]

WIDTH, HEIGHT = 1000, 60
"""In the drawing's own units: the drawing is stretched to the width of the page."""


class Bar(NamedTuple):
    """One stretch of time: where its bars stand, in the drawing's units."""

    x: float
    width: float
    calls_height: float
    errors_height: float
    start_ns: int
    end_ns: int
    bucket: HistogramBucket


class Stack(NamedTuple):
    """Bars of several series upon one another.

    Attributes:
        paths: The drawn path of each series.
        most: The height of the highest bar, in the series' unit.
    """

    paths: list[str]
    most: float


def bars(buckets: Sequence[HistogramBucket], width_ns: int) -> list[Bar]:
    """Lay out calls and, within them, errors. Even a single one stays visible."""
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


def polyline(values: Sequence[float | None], most: float | None = None) -> list[str]:
    """Return the points of each unbroken run of values: a stretch without any is a gap, not a zero.

    `most` is the value at the top of the drawing, for lines that share one drawing; by default the highest value.
    """
    most = most or max((value for value in values if value is not None), default=0) or 1
    step = WIDTH / max(len(values), 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{(index + 0.5) * step:.1f},{HEIGHT - 2 - value / most * (HEIGHT - 6):.1f}")
    # A lone point would be no line: it becomes a short one.
    return [" ".join(run) if len(run) > 1 else _dash(run[0], step) for run in runs if run]


def stack(series: Sequence[Mapping[int, float]], starts: Sequence[int]) -> Stack:
    """Lay out the values of each series, by the start of their stretch of time, the first series below."""
    most = max((sum(values.get(start, 0) for values in series) for start in starts), default=0)
    step = WIDTH / max(len(starts), 1)
    below = dict.fromkeys(starts, 0.0)
    paths = []
    for values in series:
        pieces = []
        for index, start in enumerate(starts):
            if value := values.get(start, 0):
                height = value / most * HEIGHT
                top = HEIGHT - below[start] - height
                pieces.append(f"M{index * step:.1f} {top:.2f}h{step * 0.88:.1f}v{height:.2f}h-{step * 0.88:.1f}z")
                below[start] += height
        paths.append("".join(pieces))
    return Stack(paths, most)


def spark(values: Mapping[int, float], starts: Sequence[int]) -> str:
    """Return one series as small bars: each one unit wide, the highest 20 units high, the lowest still visible."""
    most = max(values.values(), default=0) or 1
    heights = ((index, value / most * 20) for index, start in enumerate(starts) if (value := values.get(start, 0)))
    return "".join(f"M{index} 20v-{max(height, 1):.1f}h.8V20z" for index, height in heights)


def _height(count: int, most: int) -> float:
    return round(max(count / most * HEIGHT, 2), 1) if count else 0


def _dash(point: str, step: float) -> str:
    x, y = point.split(",")
    return f"{float(x) - step / 4:.1f},{y} {float(x) + step / 4:.1f},{y}"
