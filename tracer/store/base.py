"""The interface of a store, as the pipeline uses it.

A store knows nothing of openai: it keeps what interpretation made, and gives it back as `tracer._models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tracer._models import Feedback, Media, Trace, TracePage
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.summaries import (
    ExperimentSummary,
    Facets,
    Histogram,
    LossSummary,
    Neighbours,
    Overview,
    SessionPage,
    StorageSummary,
)

__all__ = [
    "SEEN",
    "SIGN_SECONDS",
    "SILENCE_SECONDS",
    "TAKEN_BYTES",
    "TAKEN_SECONDS",
    "Retention",
    "Store",
    "StoreOptions",
    "TraceQuery",
]


class Retention(msgspec.Struct, kw_only=True, frozen=True):
    """How long traces are kept, and how much of them. None sets no limit.

    Attributes:
        max_age: Seconds since a trace has ended.
        max_bytes: Bytes that the database has in use; free pages and the write-ahead log do not count.
    """

    max_age: float | None = None
    max_bytes: int | None = None

    @property
    def is_limited(self) -> bool:
        """One of the limits is set."""
        return self.max_age is not None or self.max_bytes is not None


class StoreOptions(msgspec.Struct):
    """How a store works. Its owner may change them at any time; a change counts from the next call on.

    Attributes:
        time_limit: Seconds that a read may take; after that it raises ReadTimeoutError. None for no limit.
        durable: A write waits until it would survive a power failure.
        deadline: The moment (`time.monotonic`) from which on nothing waits for another process.
        ends_at: The moment (`time.monotonic`) from which on nothing is tried any more, as the process ends.
        retention: What `Store.expire` deletes.
        exports: What ends in a batch is noted, for `Store.take_exports`.
        export_headers: Headers for a store that sends; they may be credentials.
        export_keys: Whose attribute keys such a store sends beside OpenTelemetry's.
    """

    time_limit: float | None = None
    durable: bool = False
    deadline: float = float("inf")
    ends_at: float = float("inf")
    retention: Retention = Retention()
    exports: bool = False
    export_headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    export_keys: tuple[str, ...] = ()


class TraceQuery(msgspec.Struct, kw_only=True, frozen=True):
    """The arguments of `tracer.search_traces`, validated where they are used."""

    experiment: str | None = None
    filter_string: str | None = None
    status: str | None = None
    name: str | None = None
    model: str | None = None
    text: str | None = None
    text_prefix: bool = False
    tags: dict[str, str] | None = None
    session_id: str | None = None
    user_id: str | None = None
    linked_to: str | None = None
    since: Any = None
    until: Any = None
    min_duration: float | None = None
    order_by: str | Sequence[str] | None = "start_time desc"
    max_results: int = 100
    page_token: str | None = None
    include_spans: bool = True


SEEN = "seen:"
"""Begins the name of a source whose position is the second at which a server heard from a process: its id follows."""
SILENCE_SECONDS, SIGN_SECONDS = 60, 10.0  # after which it counts as gone; between two signs that it runs
TAKEN_SECONDS = 60.0  # for which nobody else takes what a process has taken to send it
TAKEN_BYTES = 8 * 1024 * 1024  # of spans that are taken at once, unless it is one


class Store(Protocol):
    """A place to keep traces. Every method runs on the worker's event loop (asyncio).

    `write` is called by one task at a time; the reading methods may run beside it. Failures are raised as
    `tracer.StoreError` with the driver's error chained; `TransientStoreError` says that trying again may help. If the
    task that reads is cancelled, its query is stopped.
    """

    uri: str
    options: StoreOptions
    """May be changed at any time."""
    expired: int
    """How many traces `expire` has deleted."""
    only_sends: bool
    """Keeps nothing: it wants spans when they have ended, whole, and can't be read."""
    export_counts: ExportCounts | None
    """What a store that only sends has sent; None for others."""

    @property
    def beside(self) -> Path | None:
        """The path beside which crash rings and the spool lie; None for a store that needs none.

        For a file it is the file. A server has such a place on each machine that sends to it.
        """
        ...

    @property
    def files_moved_aside(self) -> int:
        """How many damaged files this store moved aside."""
        ...

    async def open(self) -> None:
        """Open or create the place, and migrate it forward. The first use of the store does the same.

        Raises StoreError (unusable) or TransientStoreError (busy).
        """
        ...

    async def aclose(self) -> None:
        """Close connections, marking `Batch.process` as ended. Never raises."""
        ...

    async def write(self, batch: Batch) -> None:
        """Write the batch in one transaction; all or nothing."""
        ...

    @property
    def may_open(self) -> bool:
        """False in a process that must not open the database, as it was forked while that was in use."""
        ...

    @property
    def needs_signs_of_life(self) -> bool:
        """Whoever reads can't see whether this process runs, so `sign_of_life` is to be called now and then."""
        ...

    async def sign_of_life(self) -> None:
        """Let readers know that this process runs. Its running traces are interrupted when it was silent for long."""
        ...

    async def taken_over(self, source: str) -> int:
        """Return how far a file beside the database was taken over (`Batch.sources`); 0 if it is not known."""
        ...

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended, each with its time, oldest first."""
        ...

    async def forget_source(self, source: str) -> None:
        """Forget a file beside the database, which is gone."""
        ...

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended: what it left running is interrupted. Forget its sources."""
        ...

    async def tidy(self) -> bool:
        """Do a short step of upkeep that can wait for a quiet moment; return whether more is left to do."""
        ...

    async def expire(self) -> bool:
        """Delete some of the traces that `retention` no longer keeps; return whether more may be left.

        A short step, which waits for no lock. Running traces are never deleted.
        """
        ...

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return some of the spans that ended and are still to be sent (`StoreOptions.exports`), the oldest first.

        For a while (`TAKEN_SECONDS`) nobody else gets them; `taker`, a process, gets them again until `end_exports`.
        If it is killed before that, somebody else gets them. So each is sent at least once.
        """
        ...

    async def end_exports(self, keys: list[int]) -> None:
        """Forget spans that were sent, or refused."""
        ...

    async def return_exports(self, taker: str) -> None:
        """Let others have what a process has taken and could not send."""
        ...

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored. Cheap: may be polled."""
        ...

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace. Raises TraceNotFoundError."""
        ...

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that are stored, as rows, in the order of their starts.

        At most 100 at once (ConfigurationError). Without `bodies`, spans come without inputs, outputs, attributes,
        events, text and chunks.
        """
        ...

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium by its hash. Raises MediaNotFoundError."""
        ...

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page. Raises ConfigurationError for a bad query."""
        ...

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace, in the order of a query and among the traces that it selects.

        Raises TraceNotFoundError, or ConfigurationError for a bad query.
        """
        ...

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag. Raises TraceNotFoundError."""
        ...

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag; a tag that is not there is no error. Raises TraceNotFoundError."""
        ...

    async def delete_traces(
        self,
        *,
        trace_ids: list[str] | None = None,
        experiment: str | None = None,
        max_timestamp_ms: int | None = None,
        max_traces: int | None = None,
    ) -> int:
        """Delete traces with all their spans and return how many; oldest first if `max_traces` bounds it."""
        ...

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback. Raises TraceNotFoundError if its trace, or its span, is not stored."""
        ...

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete one feedback and return whether it was there."""
        ...

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return feedback, the newest first."""
        ...

    # The methods below ignore `order_by`, `max_results` and `page_token` of their query; only `sessions` uses them, as
    # its docstring says. Each method takes about as long for a million traces as for fifty thousand. If a result is an
    # estimate, its `Scope` says so.

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the `limit` most frequent values of each field among the traces that a query selects."""
        ...

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time.

        Time is cut into at most `buckets` stretches, and one more because the stretches are aligned.
        """
        ...

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals, sums by model and by name over time, and the `limit` slowest and costliest traces."""
        ...

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Return the sessions of the traces that a query selects, sorted by their latest such trace, newest first.

        A page has `query.max_results` sessions; `query.page_token` comes from the page before. `query.order_by`
        must be the default.
        """
        ...

    async def experiments(self) -> list[ExperimentSummary]:
        """Return all experiments, the one with the newest trace first."""
        ...

    async def storage(self) -> StorageSummary:
        """Return what the database holds and how much room it takes."""
        ...

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return what processes lost that belongs to no stored trace, by reason, if it went on after a moment."""
        ...
