"""Traces in a PostgreSQL database, through asyncpg."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio

from tracer._exceptions import (
    MediaNotFoundError,
    ReadTimeoutError,
    StoreError,
    TraceNotFoundError,
    TransientStoreError,
)
from tracer._models import Feedback, Media, Trace, TracePage
from tracer.store.base import SEEN, StoreOptions, TraceQuery
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.deletion import deletion_conditions
from tracer.store.http.place import place_of
from tracer.store.numbering import Numbering
from tracer.store.postgres import _aggregate, _deletion, _feedback, _interrupted, _outbox, _sessions
from tracer.store.postgres._connection import Connections, roll_back, translated
from tracer.store.postgres._query import neighbours, search
from tracer.store.postgres._read import TRACE_COLUMNS, read_live_chunks, read_traces
from tracer.store.postgres._sql import fetch, fetch_row, fetch_value, storable
from tracer.store.postgres._stored import stored_traces
from tracer.store.postgres._write import claim_sources, write_batch, write_tags
from tracer.store.postgres.address import place_name, read_address
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

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresStore"]

P = ParamSpec("P")
T = TypeVar("T")
_SWEEP_INTERVAL = 1.0  # seconds between two looks for traces whose process is gone
_MEASURE_INTERVAL = 600.0  # seconds between two sums of all that is stored, while `max_bytes` is near


class PostgresStore:
    """A `tracer.store.Store` over a PostgreSQL database, which any number of processes and machines may share.

    It connects when it is needed, and again after a connection was lost or the process has forked. One connection
    writes, each batch in one transaction; up to six others read at the same time.

    Args:
        uri: ``postgresql://user:password@host:port/database``, in normal form.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.options = StoreOptions()
        self.expired = 0
        self.beside: Path | None = place_of(place_name(uri))
        self._connections = Connections(read_address(uri), self.options)
        self._process_id: str | None = None
        self._sources: dict[str, int] = {}
        self._numbering = Numbering()
        self._next_sweep = 0.0
        self._live_bytes = 0
        self._next_measure = 0.0

    def __repr__(self) -> str:
        return f"PostgresStore({redact_uri(self.uri)!r})"

    async def open(self) -> None:
        """Connect, and migrate the database forward. This call is optional: the first use does the same.

        Raises:
            StoreError: The server refuses the user or the database, or the tables there are not ours.
            TransientStoreError: The server does not answer, or has no connection left.
        """
        with self._translated("open"):
            await self._connections.open()

    async def aclose(self) -> None:
        """Mark the process as ended, and close the connections. Never raises."""
        if self._connections.is_ready and self._process_id is not None:
            with contextlib.suppress(Exception), anyio.move_on_after(5):
                kept = set() if self._numbering.is_answered else {self._numbering.name}
                await self.end_process(self._process_id, sorted(self._sources.keys() - kept))
        with contextlib.suppress(Exception):
            await self._connections.aclose()

    async def write(self, batch: Batch) -> None:
        """Write the batch in one transaction; all or nothing, also when the calling task is cancelled.

        It carries a number (`Batch.once`), which is stored in the same transaction: if only the answer to the commit
        was lost, the batch is not stored again.
        """
        self._numbering.mark(batch)
        with self._translated("write"):
            async with self._connections.writing() as connection:
                await self._commit(connection, batch)
        if batch.process == current_process():  # else it is what a dead one left
            self._process_id = batch.process.process_id
            self._sources.update(batch.sources)

    async def _commit(self, connection: Connection[Any], batch: Batch) -> None:
        try:
            await connection.execute(self._connections.change_begin())
            await write_batch(connection, batch, exports=self.options.exports)
        except BaseException:
            await roll_back(connection)
            raise
        answered, self._numbering.is_answered = self._numbering.is_answered, False
        try:
            with anyio.CancelScope(shield=True):
                await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()  # nobody knows in what state it is
            raise
        self._numbering.is_answered = answered

    @property
    def may_open(self) -> bool:
        """True: a child of a fork opens connections of its own."""
        return True

    needs_signs_of_life = True
    only_sends = False
    export_counts: ExportCounts | None = None

    async def sign_of_life(self) -> None:
        """Let readers on other machines know that this process runs."""
        await self._change("write", _say_alive, current_process().process_id)

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended: what it left running is interrupted. Forget its sources."""
        await self._change("write", _end_process, process_id, sources)
        self._next_sweep = 0.0

    @property
    def files_moved_aside(self) -> int:
        """0: there are no files."""
        return 0

    async def taken_over(self, source: str) -> int:
        """Return how far a file was taken over; 0 if it is not known."""
        sql = "SELECT batches FROM taken_over WHERE source = ?::text"
        return int(await self._read("read", fetch_value, sql, (source,)) or 0)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended, each with its time, oldest first."""
        return await self._read("read", read_live_chunks, trace_id, span_id)

    async def forget_source(self, source: str) -> None:
        """Forget a file, which is gone."""
        await self._change("write", _forget_sources, [source])
        self._next_sweep = 0.0  # what its process left open will not end any more

    async def tidy(self) -> bool:
        """Make the partitions of the next days; the rest of the upkeep PostgreSQL's own processes do."""
        if self._connections.is_ready:
            with contextlib.suppress(StoreError), self._translated("tidy"):
                await self._connections.look_ahead()
        return False

    async def expire(self) -> bool:
        """Delete some of the traces that `options.retention` no longer keeps; return whether more may be left."""
        retention = self.options.retention
        if not retention.is_limited:
            return False
        await self._sweep()  # the traces of processes that are gone do not run
        excess = await self._excess(retention.max_bytes)
        deleted, freed = await self._change("expire", _deletion.delete_old, retention, time.time_ns(), excess)
        self.expired += deleted
        self._live_bytes -= freed
        if not deleted and retention.max_age is not None:
            since = time.time_ns() - int(retention.max_age * 1e9)
            with contextlib.suppress(TransientStoreError):  # somebody reads there
                await self._change("expire", _deletion.drop_days, since)
        return deleted > 0

    async def _excess(self, most: int | None) -> float:
        """Return how many bytes there are too many, about. What deleting has freed does not count."""
        if most is None or await self._read("read", _deletion.tables_bytes) <= most:
            return 0.0
        if (now := time.monotonic()) >= self._next_measure or self._live_bytes <= most:
            self._live_bytes = await self._read("read", _deletion.live_bytes)
            self._next_measure = now + _MEASURE_INTERVAL
        return self._live_bytes - most

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return some of the spans that ended and are still to be sent, the oldest first."""
        return await self._change("export", _outbox.take_exports, taker, most)

    async def end_exports(self, keys: list[int]) -> None:
        """Forget spans that were sent, or refused."""
        await self._change("export", _outbox.end_exports, keys)

    async def return_exports(self, taker: str) -> None:
        """Let others have what a process has taken and could not send."""
        await self._change("export", _outbox.return_exports, taker)

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored: which transactions have ended.

        Those of other programs on the same server count, too.
        """
        return await self._read("read", fetch_value, "SELECT pg_current_snapshot()::text")

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace with its spans. Raises TraceNotFoundError."""
        await self._sweep()
        return await self._read("read", _get_trace, trace_id)

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that are stored, as rows, in the order of their starts."""
        check_ids(trace_ids)
        await self._sweep()
        return await self._read("read", stored_traces, trace_ids, bodies)

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium. Raises MediaNotFoundError."""
        return await self._read("read", _get_media, media_hash)

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of the traces that match. Raises ConfigurationError for a bad query."""
        await self._sweep("search")
        return await self._read("search", search, query, self._case)

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace in the list of a search."""
        await self._sweep("search")
        return await self._read("search", neighbours, query, trace_id, self._case)

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag. Raises TraceNotFoundError."""
        await self._change("write", _set_tag, trace_id, key, value)

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag; one that is not there is no error. Raises TraceNotFoundError."""
        await self._change("write", _delete_tag, trace_id, key)

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
        return await self._change("delete", _deletion.delete_traces, given, max_traces)

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback. Raises TraceNotFoundError if its trace, or its span, is not stored."""
        await self._change("write", _feedback.add_feedback, feedback)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete one feedback and return whether it was there."""
        return await self._change("write", _feedback.delete_feedback, feedback_id)

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return feedback, the newest first."""
        return await self._read("read", _feedback.list_feedback, trace_id, name, max_results)

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the most frequent values of each field among the traces that a query selects."""
        await self._sweep("search")
        return await self._read("search", _aggregate.facets, query, limit, self._case)

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time."""
        await self._sweep("search")
        return await self._read("search", _aggregate.histogram, query, buckets, self._case)

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals, by model and by name over time, and the slowest and costliest traces."""
        await self._sweep("search")
        return await self._read("search", _aggregate.overview, query, buckets, limit, self._case)

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Return a page of the sessions of the traces that a query selects."""
        await self._sweep("search")
        return await self._read("search", _sessions.sessions, query, self._case)

    async def experiments(self) -> list[ExperimentSummary]:
        """Return all experiments, the one with the newest trace first."""
        return await self._read("read", _sessions.experiments)

    async def storage(self) -> StorageSummary:
        """Return what the database holds and how much room it takes."""
        return await self._read("read", _sessions.storage, redact_uri(self.uri))

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return what processes lost that belongs to no stored trace, by reason, if it went on after a moment."""
        return await self._read("read", _sessions.losses, since_ns)

    @property
    def _case(self) -> str:
        return self._connections.case

    async def _read(
        self,
        what: str,
        function: Callable[Concatenate[Connection[Any], P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read within the time limit: at its end the query is cancelled."""
        limit = self.options.time_limit
        try:
            with anyio.fail_after(limit), self._translated(what, reads=True):
                async with self._connections.snapshot() as connection:
                    return await function(connection, *args, **kwargs)
        except TimeoutError:
            raise ReadTimeoutError(
                f"{redact_uri(self.uri)}: the {what} took longer than {limit:g} s and was stopped; ask for "
                "less (a shorter range of time, fewer conditions) or raise read_timeout"
            ) from None

    async def _change(
        self,
        what: str,
        function: Callable[Concatenate[Connection[Any], P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        with self._translated(what):
            async with self._connections.changing() as connection:
                return await function(connection, *args, **kwargs)

    def _translated(self, what: str, *, reads: bool = False) -> contextlib.AbstractContextManager[None]:
        return translated(f"{redact_uri(self.uri)}: {what} failed", reads=reads)

    async def _sweep(self, what: str = "read") -> None:
        """Mark the traces whose process is gone, at most once an interval."""
        if (now := time.monotonic()) < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_INTERVAL
        if gone := await self._read(what, _interrupted.find_gone_processes):
            with contextlib.suppress(StoreError):  # a user who may only read
                await self._change("write", _interrupted.mark_interrupted, gone)


async def _say_alive(connection: Connection[Any], process_id: str) -> None:
    await claim_sources(connection, {SEEN + process_id: int(time.time())})


async def _end_process(connection: Connection[Any], process_id: str, sources: list[str]) -> None:
    ended = "UPDATE processes SET ended_ns = ?::bigint WHERE process_id = ?::text"
    await fetch(connection, ended, (time.time_ns(), process_id))
    await _forget_sources(connection, [*sources, SEEN + process_id])


async def _forget_sources(connection: Connection[Any], sources: list[str]) -> None:
    """Forget sources, and what is noted of them while their batches come in pieces (`tracer.store.http.pieces`)."""
    names = [storable(name) for source in sources for name in (source, f"{source}#")]
    await fetch(connection, "DELETE FROM taken_over WHERE source = ANY(?::text[])", (names,))


async def _get_trace(connection: Connection[Any], trace_id: str) -> Trace:
    row = await fetch_row(connection, f"SELECT {TRACE_COLUMNS} FROM traces WHERE trace_id = ?::text", (trace_id,))
    if row is None:
        raise _not_found(trace_id)
    return (await read_traces(connection, [row]))[0]


async def _get_media(connection: Connection[Any], media_hash: str) -> Media:
    row = await fetch_row(connection, "SELECT content_type, data FROM media WHERE hash = ?::text", (media_hash,))
    if row is None:
        raise MediaNotFoundError(f"no media with the hash {media_hash!r} are stored")
    return Media(hash=media_hash, content_type=row[0], data=row[1])


async def _set_tag(connection: Connection[Any], trace_id: str, key: str, value: str) -> None:
    await write_tags(connection, {(await _key(connection, trace_id), key): value})


async def _delete_tag(connection: Connection[Any], trace_id: str, key: str) -> None:
    found = await _key(connection, trace_id)
    await fetch(connection, "DELETE FROM tags WHERE trace_key = ?::bigint AND key = ?::text", (found, key))


async def _key(connection: Connection[Any], trace_id: str) -> int:
    key = await fetch_value(connection, "SELECT key FROM traces WHERE trace_id = ?::text FOR KEY SHARE", (trace_id,))
    if key is None:
        raise _not_found(trace_id)
    return int(key)


def _not_found(trace_id: str) -> TraceNotFoundError:
    return TraceNotFoundError(f"no trace {trace_id!r} is stored")
