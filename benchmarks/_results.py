"""What a benchmark says: one `Result` per row, with the goals it is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

__all__ = ["Effort", "Estimate", "Goal", "Result", "Section"]

FEWEST = 6  # values that a 95 % interval of a median needs; with fewer, we know only the range


class Estimate(msgspec.Struct, frozen=True):
    """A value with its interval; `low` and `high` are None where a single figure was taken."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1


class Goal(msgspec.Struct, frozen=True):
    """Limits, in the unit of the result: the design's limit, and the one for the present stage of the work."""

    design: float
    stage: float
    at_most: bool = True

    def judge(self, limit: float, estimate: Estimate) -> str:
        """Return ``pass`` or ``miss``; with a question mark if the interval allows both, or if there is no interval."""
        met = estimate.value <= limit if self.at_most else estimate.value >= limit
        open_question = False
        if estimate.low is not None and estimate.high is not None:
            open_question = estimate.n < FEWEST or estimate.low <= limit < estimate.high
        return ("pass" if met else "miss") + ("?" if open_question else "")


class Result(msgspec.Struct, kw_only=True):
    """One row.

    Attributes:
        name: What was measured.
        estimate: The figure, its 95 % interval and how many paired batches, rounds or operations it rests on.
        unit: Of the figure, its interval and the goals.
        goal: None for rows that only inform.
        details: Further figures; their units are in their names.
        others: Cores that other processes used meanwhile, None where that can't be known.
    """

    name: str
    estimate: Estimate
    unit: str
    goal: Goal | None = None
    details: dict[str, float] = msgspec.field(default_factory=dict)
    others: float | None = None

    @property
    def verdict(self) -> str | None:
        """Whether the design's goal is met, None without a goal."""
        return self.goal.judge(self.goal.design, self.estimate) if self.goal else None

    @property
    def stage_verdict(self) -> str | None:
        """Whether the present stage's goal is met, None without a goal."""
        return self.goal.judge(self.goal.stage, self.estimate) if self.goal else None


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        pairs: Number of pairs of batches of plain calls: one batch traced, one un-traced.
        stream_pairs: The same for batches of streams.
        section_seconds: Time after which a section stops adding pairs. For sections of streams or images, whose pairs
            take longer, this is `stream_seconds`.
        loop_rounds: Alternations of the event-loop rows; each of the two sides runs for `loop_seconds`.
        throughput_rounds: Alternations of the throughput row.
        burst_calls: Calls of the burst; a slow machine begins none after `burst_seconds`.
        overload_spans: Number of spans that are pushed faster than they can be written.
        lookups: Reads of `get_trace`.
        write_spans: Spans in one round of sustained writing; there are `write_rounds` rounds.
        disk_streams: Number of streams whose size on disk is measured.
        import_runs: Fresh processes for the import time.
        kills: Processes that are killed while they make calls.
        exit_runs: Fresh processes for the time of an exit; a third as many exit with a locked database.
    """

    pairs: int = 200
    stream_pairs: int = 100
    section_seconds: float = 16.0
    stream_seconds: float = 45.0
    loop_rounds: int = 8
    loop_seconds: float = 2.0
    throughput_rounds: int = 12
    burst_calls: int = 20_000
    burst_seconds: float = 300.0
    overload_spans: int = 60_000
    lookups: int = 200
    write_spans: int = 20_000
    write_rounds: int = 3
    disk_streams: int = 100
    import_runs: int = 9
    kills: int = 20
    exit_runs: int = 9


class Section(msgspec.Struct, frozen=True):
    """A piece of the benchmark that runs alone: `run` yields its rows, over fresh stores of its own."""

    name: str
    run: Callable[[Effort], Iterator[Result]]
