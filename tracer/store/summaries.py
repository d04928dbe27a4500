"""What a store can say about many traces at once: facets, histograms, overviews, sessions, experiments, storage.

Plain data: ``msgspec.to_builtins`` or any msgspec encoder makes JSON of it. Times are nanoseconds since the epoch,
durations nanoseconds, cost US dollars.
"""

from __future__ import annotations

import msgspec

from tracer._models import TraceInfo

__all__ = [
    "ExperimentSummary",
    "Facet",
    "FacetValue",
    "Facets",
    "Histogram",
    "HistogramBucket",
    "LossSummary",
    "ModelSummary",
    "NameSummary",
    "Neighbours",
    "Overview",
    "OverviewPoint",
    "Scope",
    "SessionPage",
    "SessionSummary",
    "StorageSummary",
]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """How much was looked at. If there are over 10,000 candidates, an even sample of about 10,000 stands for all.

    The sample is chosen by the traces' keys, so that the same question has the same answer.

    Attributes:
        traces: How many traces match; approximate unless `exact`.
        examined: How many traces were looked at for the answer.
        exact: Every candidate was looked at, so the counts are exact.
    """

    traces: int
    examined: int
    exact: bool


class FacetValue(msgspec.Struct, frozen=True):
    """One value of a facet, and how many of the traces have it."""

    value: str
    traces: int


class Facet(msgspec.Struct, frozen=True):
    """The most frequent values of one field.

    Attributes:
        field: As in ``filter_string``: ``status``, ``model``, ``experiment``, ``name``, ``tags.env``,
            ``feedback.helpful``.
        values: The most frequent first.
        more: There are values beyond the limit.
    """

    field: str
    values: list[FacetValue]
    more: bool = False


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """Fields and values that can narrow a search. A trace with two models counts for both."""

    scope: Scope
    facets: list[Facet]


class HistogramBucket(msgspec.Struct, frozen=True, kw_only=True):
    """The traces that started within one stretch of time.

    Attributes:
        errors: How many of them are in state ERROR.
        p50_ns: Median duration of those that have ended; None if none has.
        p95_ns: The same for the 95th percentile.
    """

    start_ns: int
    calls: int = 0
    errors: int = 0
    p50_ns: int | None = None
    p95_ns: int | None = None


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Traces over time. The buckets follow one another without gaps. Without traces there are none.

    Attributes:
        width_ns: Width of each bucket: a round time (1 s, 5 min, 1 d, …). Buckets start at its multiples (UTC).
    """

    scope: Scope
    width_ns: int
    buckets: list[HistogramBucket]


class OverviewPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What one model, or one name, did within one stretch of time; stretches without calls are left out."""

    start_ns: int
    calls: int
    errors: int
    total_tokens: int
    cost: float | None = None


class NameSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The traces of one name. `cost` is None when none is known."""

    name: str
    calls: int
    errors: int
    p50_ns: int | None = None
    p95_ns: int | None = None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float | None = None
    points: list[OverviewPoint]


class ModelSummary(NameSummary, frozen=True, kw_only=True):
    """The model calls (spans) of one model; each counted once, as in a trace's totals."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, errors, latency, tokens and cost of the traces that a query selects.

    Attributes:
        errors: How many traces are in state ERROR.
        running: How many traces are in state IN_PROGRESS.
        histogram: All selected traces over time.
        models: By model, the one with the most calls first.
        names: By the trace's name, the one with the most calls first.
        slowest: The longest traces that have ended, without spans.
        costliest: The traces that cost most, also without spans.
        ranked_exactly: `slowest` and `costliest` are the top ones of all selected traces, not only of the sample.
    """

    scope: Scope
    errors: int
    running: int
    p50_ns: int | None = None
    p95_ns: int | None = None
    p99_ns: int | None = None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float | None = None
    histogram: Histogram
    models: list[ModelSummary]
    names: list[NameSummary]
    slowest: list[TraceInfo]
    costliest: list[TraceInfo]
    ranked_exactly: bool


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All traces of one session, including those that the query doesn't select.

    Of a session with more than 10,000 traces, only the newest 10,000 are summed.

    Attributes:
        traces: How many were summed.
        complete: No trace was left out.
        first_ns: Start of the first.
        last_ns: Start of the last.
        errors: How many of them are in state ERROR.
        state: State of the last trace; IN_PROGRESS if any trace runs.
        request_preview: Preview of the first trace's request: what the session began with.
        response_preview: Preview of the last trace's response.
    """

    session_id: str
    user_id: str | None = None
    traces: int
    complete: bool = True
    first_ns: int
    last_ns: int
    errors: int
    state: str
    duration_ns: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    request_preview: str | None = None
    response_preview: str | None = None


class SessionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions in the order of their latest selected trace, the newest first.

    Attributes:
        next_page_token: Token for the next page; None on the last page.
    """

    sessions: list[SessionSummary]
    next_page_token: str | None = None


class ExperimentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment: how many traces it has, and when its first and last began."""

    name: str
    traces: int
    first_ns: int
    last_ns: int


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of the traces before and after one in a list; None where the list ends."""

    previous: str | None = None
    next: str | None = None


class LossSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What processes lost for one reason, as a whole: no stored trace can say that it is missing.

    Attributes:
        reason: As in `Stats.dropped`: ``start`` counts spans that a full queue refused; ``lost`` counts records that
            could not be stored.
        processes: How many processes lost some.
        first_ns: When the first of these losses was noticed; `last_ns` is for the last.
    """

    reason: str
    count: int
    processes: int
    first_ns: int
    last_ns: int


class StorageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds, how much room it takes, and what is missing.

    Attributes:
        file_bytes: Size of the database file; 0 for a database in memory.
        log_bytes: Size of its write-ahead log.
        free_bytes: The part of the file that deleting has freed.
        rows: How many rows each table has.
        oldest_ns: Start of the oldest trace; None when there is none.
        traces_with_losses: How many traces lack records that were lost.
        dropped: How many records of each kind were lost, in the newest 10,000 of these traces.
        losses: What was lost as a whole, and is missing from no stored trace.
    """

    uri: str
    schema_version: int
    file_bytes: int
    log_bytes: int
    free_bytes: int
    rows: dict[str, int]
    oldest_ns: int | None = None
    newest_ns: int | None = None
    traces_with_losses: int
    dropped: dict[str, int]
    losses: list[LossSummary]
