"""The span tree and the waterfall: one row a span, depth first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tracer import _semconv as sc
from tracer._models import Span, SpanStatusCode, Trace

__all__ = ["Row", "Timeline", "failing_span", "rows", "timeline"]

_LEAST_WIDTH = 0.1  # percent: a bar without width would not be drawn


class Timeline(NamedTuple):
    """From the first start to the last end, in nanoseconds."""

    start_ns: int
    length_ns: int

    def place(self, time_ns: int) -> float:
        """Return a moment as percent of the whole."""
        return round(min(100.0, max(0.0, (time_ns - self.start_ns) * 100 / self.length_ns)), 2)


class Row(NamedTuple):
    """One line of the tree.

    Attributes:
        level: 1 for the root.
        left: Where its bar begins, in percent; `width` is in percent, too.
        first_token: Where the first token came, in percent; None if that isn't known.
        on_path: A span below it failed.
    """

    span: Span
    level: int
    has_children: bool
    left: float
    width: float
    first_token: float | None
    on_path: bool

    @property
    def failed(self) -> bool:
        """Whether the span itself ended in an error."""
        return self.span.status.status_code is SpanStatusCode.ERROR


def timeline(trace: Trace, now_ns: int | None = None) -> Timeline:
    """Return the time that the waterfall covers; `now_ns` is the end of spans that still run."""
    spans = trace.data.spans
    start = min((span.start_time_ns for span in spans), default=trace.info.start_time_ns)
    last = max((max(span.start_time_ns, span.end_time_ns or now_ns or 0) for span in spans), default=start)
    return Timeline(start, max(1, last - start))


def rows(trace: Trace, line: Timeline) -> list[Row]:
    """Return a row for each span. A span whose parent is missing, or in a circle of parents, is at the top level."""
    path = _error_path(trace)
    return [_row(span, level, has_children, line, path) for span, level, has_children in _walk(trace.data.spans)]


def _row(span: Span, level: int, has_children: bool, line: Timeline, path: set[str]) -> Row:
    left = line.place(span.start_time_ns)
    right = 100.0 if span.end_time_ns is None else line.place(span.end_time_ns)
    seconds = span.attributes.get(sc.TIME_TO_FIRST_TOKEN)
    first = None
    if isinstance(seconds, (int, float)) and seconds >= 0:
        first = line.place(span.start_time_ns + int(min(seconds, 1e9) * 1e9))
    width = max(_LEAST_WIDTH, round(right - left, 2))
    return Row(span, level, has_children, left, width, first, span.span_id in path)


def _walk(spans: list[Span]) -> Iterator[tuple[Span, int, bool]]:
    known = {span.span_id for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    seen: set[str] = set()
    for top in [*children.get(None, []), *spans]:
        stack = [(top, 1)] if top.span_id not in seen else []
        while stack:
            span, level = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            below = children.get(span.span_id, [])
            yield span, level, bool(below)
            stack.extend((child, level + 1) for child in reversed(below))


def _error_path(trace: Trace) -> set[str]:
    """Return the spans above those that failed."""
    parents = {span.span_id: span.parent_id for span in trace.data.spans}
    path: set[str] = set()
    for span in trace.data.spans:
        above = span.parent_id if span.status.status_code is SpanStatusCode.ERROR else None
        while above is not None and above in parents and above not in path:
            path.add(above)
            above = parents[above]
    return path


def failing_span(trace: Trace) -> Span | None:
    """Return the span in which the failure began: the deepest one on the way down from the first that failed."""
    failed = [span for span in trace.data.spans if span.status.status_code is SpanStatusCode.ERROR]
    if not failed:
        return None
    below: dict[str | None, Span] = {span.parent_id: span for span in failed}  # the last one is what was not caught
    span, seen = failed[0], set[str]()
    while span.span_id in below and span.span_id not in seen:
        seen.add(span.span_id)
        span = below[span.span_id]
    return span
