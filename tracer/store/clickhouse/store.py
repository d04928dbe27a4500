"""Traces in a ClickHouse database, through clickhouse-connect, in threads."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

import anyio

from tracer._exceptions import StoreError, TraceNotFoundError
from tracer._models import Feedback, Media, Trace, TracePage
from tracer.store.base import SEEN, StoreOptions, TraceQuery
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.clickhouse import _aggregate, _deletion, _feedback, _interrupted, _sessions
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._media import read_media
from tracer.store.clickhouse._merge import Row
from tracer.store.clickhouse._query import neighbours, search
from tracer.store.clickhouse._read import read_live_chunks, read_traces, trace_row
from tracer.store.clickhouse._rows import Clock, change_trace
from tracer.store.clickhouse._sql import storable
from tracer.store.clickhouse._stored import stored_traces
from tracer.store.clickhouse._threads import Connections
from tracer.store.clickhouse._upkeep import delete_gone
from tracer.store.clickhouse._write import end_process, stored_sources, write_batch, write_sources
from tracer.store.clickhouse.address import place_name, read_address
from tracer.store.deletion import deletion_conditions
from tracer.store.http.place import place_of
from tracer.store.numbering import Numbering
from tracer.store.process import current_process
from tracer.store.stored import check_ids
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
from tracer.store.uri import redact_uri

__all__ = ["ClickHouseStore"]

logger = logging.getLogger("tracer")

_SWEEP_INTERVAL = 1.0  # seconds between two looks for traces whose process is gone
_TIDY_INTERVAL = 60.0  # … for rows to delete


class ClickHouseStore:
    """A `tracer.store.Store` over a ClickHouse database, which any number of processes and machines may share.

    It connects when it is needed. Each call runs in a thread: one at a time changes something, several may read.

    Args:
        uri: ``clickhouse://user:password@host:port/database`` or ``chdb:///directory``, in normal form.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.options = StoreOptions()
        self.expired = 0
        self.beside: Path | None = place_of(place_name(uri))
        self._connections = Connections(read_address(uri), self.options, redact_uri(uri))
        self._clock = Clock()
        self._process_id: str | None = None
        self._sources: dict[str, int] = {}
        self._numbering = Numbering()
        self._told_of_exports = False
        self._next_sweep = 0.0
        self._next_tidy = time.monotonic() + _TIDY_INTERVAL

    def __repr__(self) -> str:
        return f"ClickHouseStore({redact_uri(self.uri)!r})"

    async def open(self) -> None:
        """Connect, and make or migrate the tables. This call is optional: the first use does the same.

        Raises:
            StoreError: The server refuses the user or the database, or the tables there are not ours.
            TransientStoreError: The server does not answer.
        """
        await self._connections.change("open", _nothing)

    async def aclose(self) -> None:
        """Mark the process as ended, and close the client. Never raises."""
        if self._connections.is_ready and self._process_id is not None:
            with contextlib.suppress(Exception), anyio.move_on_after(5):
                kept = set() if self._numbering.is_answered else {self._numbering.name}
                await self.end_process(self._process_id, sorted(self._sources.keys() - kept))
        with contextlib.suppress(Exception):
            await self._connections.aclose()

    async def write(self, batch: Batch) -> None:
        """Write the batch; also when the calling task is cancelled.

        ClickHouse has no transaction for it. What belongs to a trace is inserted before the trace itself, and the
        batch's number (`Batch.once`) last. If it fails half-way, the next try of the same batch makes it whole.
        """
        self._numbering.mark(batch)
        answered, self._numbering.is_answered = self._numbering.is_answered, False
        await self._connections.change("write", write_batch, batch, self._clock)
        self._numbering.is_answered = answered
        if batch.process == current_process():  # else it is what a dead one left
            self._process_id = batch.process.process_id
            self._sources.update(batch.sources)

    @property
    def may_open(self) -> bool:
        """False in a child of a process that had chdb in it; with a server, a child connects anew."""
        return self._connections.may_open

    needs_signs_of_life = True
    only_sends = False
    export_counts: ExportCounts | None = None

    async def sign_of_life(self) -> None:
        """Let readers on other machines know that this process runs."""
        source = {SEEN + current_process().process_id: int(time.time())}
        await self._connections.change("write", write_sources, source, self._clock)

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended: what it left running is interrupted. Forget its sources."""
        await self._connections.change("write", end_process, process_id, sources, self._clock)
        self._next_sweep = 0.0

    @property
    def files_moved_aside(self) -> int:
        """0: there are no files."""
        return 0

    async def taken_over(self, source: str) -> int:
        """Return how far a file was taken over; 0 if it is not known."""
        return (await self._connections.read("read", stored_sources, [source])).get(source, 0)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended, each with its time, oldest first."""
        return await self._connections.read("read", read_live_chunks, trace_id, span_id)

    async def forget_source(self, source: str) -> None:
        """Forget a file, which is gone."""
        await self._connections.change("write", end_process, None, [source], self._clock)
        self._next_sweep = 0.0  # what its process left open will not end any more

    async def tidy(self) -> bool:
        """Delete rows that were replaced or deleted, when there are many or they are old."""
        if self._connections.is_ready and (now := time.monotonic()) >= self._next_tidy:
            self._next_tidy = now + _TIDY_INTERVAL
            with contextlib.suppress(StoreError):
                await self._connections.change("tidy", delete_gone)
        return False

    async def expire(self) -> bool:
        """Delete some of the traces that `options.retention` no longer keeps; return whether more may be left."""
        retention = self.options.retention
        if not retention.is_limited:
            return False
        await self._sweep()  # the traces of processes that are gone do not run
        excess = 0.0
        if retention.max_bytes is not None:
            size, share = await self._connections.read("read", _deletion.tables_bytes)
            if size * share > retention.max_bytes:
                excess = 1 - retention.max_bytes / (size * share)
        now = time.time_ns()
        deleted = await self._connections.change("expire", _deletion.delete_old, retention, now, excess, self._clock)
        self.expired += deleted
        if not deleted and retention.max_age is not None:
            await self._connections.change("expire", _deletion.drop_days, now - int(retention.max_age * 1e9))
        return deleted > 0

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return nothing: without transactions, what ended and what was sent can't be noted together. Say so once."""
        if not self._told_of_exports:
            self._told_of_exports = True
            logger.warning(
                "otlp_endpoint does nothing here: from ClickHouse (%s) nothing is sent on; use SQLite or PostgreSQL as "
                "the tracking URI, or otlp+http://",
                redact_uri(self.uri),
            )
        return []

    async def end_exports(self, keys: list[int]) -> None:
        """Do nothing."""

    async def return_exports(self, taker: str) -> None:
        """Do nothing."""

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored."""
        return await self._connections.read("read", _marker)

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace with its spans. Raises TraceNotFoundError."""
        await self._sweep()
        return await self._connections.read("read", _get_trace, trace_id)

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that are stored, in the order of their starts."""
        check_ids(trace_ids)
        await self._sweep()
        return await self._connections.read("read", stored_traces, trace_ids, bodies)

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium. Raises MediaNotFoundError."""
        return await self._connections.read("read", read_media, media_hash)

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of the traces that match. Raises ConfigurationError for a bad query."""
        await self._sweep("search")
        return await self._connections.read("search", search, query)

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace in the list of a search."""
        await self._sweep("search")
        return await self._connections.read("search", neighbours, query, trace_id)

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag. Raises TraceNotFoundError."""

        def change(row: Row) -> None:
            row["tags"] = {**row["tags"], storable(key): value}

        await self._connections.change("write", change_trace, self._clock, trace_id, change)

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag; one that is not there is no error. Raises TraceNotFoundError."""

        def change(row: Row) -> None:
            row["tags"] = {name: value for name, value in row["tags"].items() if name != storable(key)}

        await self._connections.change("write", change_trace, self._clock, trace_id, change)

    async def delete_traces(
        self,
        *,
        trace_ids: list[str] | None = None,
        experiment: str | None = None,
        max_timestamp_ms: int | None = None,
        max_traces: int | None = None,
    ) -> int:
        """Delete the traces that meet all the given conditions, oldest first, and return how many.

        Raises:
            ConfigurationError: Nothing is given, which would delete everything.
        """
        given = deletion_conditions(trace_ids, experiment, max_timestamp_ms, max_traces)
        return await self._connections.change("delete", _deletion.delete_traces, given, max_traces, self._clock)

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback. Raises TraceNotFoundError if its trace, or its span, is not stored."""
        await self._connections.change("write", _feedback.add_feedback, feedback, self._clock)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete one feedback and return whether it was there."""
        return await self._connections.change("write", _feedback.delete_feedback, feedback_id, self._clock)

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return feedback, the newest first."""
        return await self._connections.read("read", _feedback.list_feedback, trace_id, name, max_results)

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the most frequent values of each field among the traces that a query selects."""
        await self._sweep("search")
        return await self._connections.read("search", _aggregate.facets, query, limit)

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time."""
        await self._sweep("search")
        return await self._connections.read("search", _aggregate.histogram, query, buckets)

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals, by model and by name over time, and the slowest and costliest traces."""
        await self._sweep("search")
        return await self._connections.read("search", _aggregate.overview, query, buckets, limit)

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Return a page of the sessions of the traces that a query selects."""
        await self._sweep("search")
        return await self._connections.read("search", _sessions.sessions, query)

    async def experiments(self) -> list[ExperimentSummary]:
        """Return all experiments, the one with the newest trace first."""
        return await self._connections.read("read", _sessions.experiments)

    async def storage(self) -> StorageSummary:
        """Return what the database holds and how much room it takes."""
        return await self._connections.read("read", _sessions.storage, redact_uri(self.uri))

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return what processes lost that belongs to no stored trace, by reason, if it went on after a moment."""
        return await self._connections.read("read", _sessions.losses, since_ns)

    async def _sweep(self, what: str = "read") -> None:
        """Mark the traces whose process is gone, at most once an interval."""
        if (now := time.monotonic()) < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_INTERVAL
        if gone := await self._connections.read(what, _interrupted.find_gone_processes):
            with contextlib.suppress(StoreError):  # a user who may only read
                await self._connections.change("write", _interrupted.mark_interrupted, gone, self._clock)


def _nothing(_: Connection) -> None: ...


def _marker(connection: Connection) -> object:
    return connection.value("SELECT max(version) FROM taken_over")


def _get_trace(connection: Connection, trace_id: str) -> Trace:
    row = trace_row(connection, trace_id)
    if row is None:
        raise TraceNotFoundError(f"no trace {trace_id!r} is stored")
    return read_traces(connection, [row])[0]
