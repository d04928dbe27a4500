"""Traces in one SQLite file, or in memory, through aiosqlite."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import anyio

from tracer._exceptions import (
    MediaNotFoundError,
    ReadTimeoutError,
    StoreError,
)
from tracer._models import Feedback, Media, Trace, TracePage
from tracer.store.base import StoreOptions, TraceQuery
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.deletion import deletion_conditions
from tracer.store.process import current_process
from tracer.store.sqlite import _aggregate, _feedback, _interrupted, _processes, _sessions, _tags
from tracer.store.sqlite._carry import Running, put_running, take_running
from tracer.store.sqlite._connection import CHECKPOINT_BYTES, checkpoint, shrink, transaction, translated, unless_locked
from tracer.store.sqlite._database import Database
from tracer.store.sqlite._deletion import Expired, choose_expired, delete_expired, delete_traces, has_much_free
from tracer.store.sqlite._file_problem import is_damage
from tracer.store.sqlite._gate import forked_in_use
from tracer.store.sqlite._outbox import end, find_due, give_back, read_exports, take
from tracer.store.sqlite._query import neighbours, search
from tracer.store.sqlite._read import TRACE_COLUMNS, read_live_chunks, read_traces
from tracer.store.sqlite._schema import migrate
from tracer.store.sqlite._stored import stored_traces
from tracer.store.sqlite._text import count_steps, index_text
from tracer.store.sqlite._write import write_batch
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
from tracer.store.uri import MEMORY_URI, redact_uri, sqlite_path

__all__ = ["SqliteStore"]

logger = logging.getLogger("tracer")

P = ParamSpec("P")
T = TypeVar("T")
_SWEEP_INTERVAL = 1.0  # seconds between two looks for traces whose process is gone
_INDEX_ROWS = 2_000  # spans per step of the text index; with 70 rare words each, nobody else could write for 0.2 s
_IDLE_INDEX_ROWS = 500  # … when nobody waits for the index, but new records may come
_IDLE_FREE_PAGES = 500  # pages of 4 KiB given back in a step


class SqliteStore:
    """A `tracer.store.Store` over one SQLite file in WAL mode, which several processes may share.

    It opens itself when it is needed, and again after a fork (see `Database`). One connection writes, each batch in one
    transaction in one call; others read at the same time. ``memory://`` has a single connection. The connections run in
    threads that inherit "daemon" from the thread that opens them. So use the store in a daemon thread, or close it: an
    open connection in a non-daemon thread keeps the interpreter from exiting.

    Measured with Python 3.11 and SQLite 3.40 on 2 cores shared with busy neighbours: spans of 1.7 KB, each in its
    own trace, in batches of 500, took 59 to 99 µs CPU and 69 to 118 µs a span, including moving the log (8,500 to
    14,500 spans/s). The quickest batches took 36 µs CPU without moving the log. Beside a thread that computes, it wrote
    2,150 spans/s. With 100,000 traces stored, the first page of 100, spans included, took 9 ms.

    Args:
        uri: ``sqlite:///…`` or ``memory://``.
        rescues: Move a damaged file aside when it is opened or written to, and go on with a new one.
    """

    def __init__(self, uri: str, *, rescues: bool = False) -> None:
        self.uri = uri
        self._path = None if uri == MEMORY_URI else sqlite_path(uri)
        self.options = StoreOptions()
        self.expired = 0
        self._database = Database(self._path, self._prepare, self.options, rescues=rescues)
        self._process_id: str | None = None
        self._sources: dict[str, int] = {}
        self._carried: Running | None = None
        self._next_sweep = 0.0
        self._log_problem: str | None = None

    async def open(self) -> None:
        """Open or create the database, and migrate it forward. This call is optional: the first use does the same.

        Raises:
            StoreError: The file can't be ours or can't be made.
            TransientStoreError: Another process keeps it locked, the disk is full, or it can no longer be opened.
        """
        with self._translated("open"):
            await self._database.open()
            await self._sweep()

    async def aclose(self) -> None:
        """Mark the process as ended, empty the write-ahead log and close. Never raises."""
        if self._database.is_open:
            with contextlib.suppress(StoreError, sqlite3.Error, OSError):
                await self._database.write(self._finish)
        await self._database.leave()

    async def write(self, batch: Batch) -> None:
        """Write the batch in one transaction; all or nothing, also when the calling task is cancelled.

        If the file was deleted or replaced meanwhile, the path is opened anew, with a warning: SQLite would go on
        writing to a file that nobody can read any more. If that happens during the write, the batch is written again.
        """
        with self._translated("write"):
            while True:
                if self._database.is_open and not self._database.is_current:
                    await self._leave_replaced_file()
                await self._write_or_rescue(batch)
                if self._database.is_current:
                    return

    @property
    def may_open(self) -> bool:
        """False in a process that was forked while SQLite was in use; every use raises StoreError."""
        return self._path is None or not forked_in_use()

    needs_signs_of_life = False
    only_sends = False
    export_counts: ExportCounts | None = None

    async def sign_of_life(self) -> None:
        """Do nothing: whoever shares the file sees the process."""

    async def taken_over(self, source: str) -> int:
        """Return how far a file beside the database was taken over; 0 if it is not known."""
        with self._translated("read"):
            return await self._database.read(_processes.taken_over, source)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended, each with its time, oldest first."""
        with self._translated("read"):
            return await self._database.read(read_live_chunks, trace_id, span_id)

    async def forget_source(self, source: str) -> None:
        """Forget a file beside the database, which is gone."""
        with self._translated("write"):
            await self._database.write(_processes.forget_source, source)
        self._next_sweep = 0.0  # what its process left open will not end any more

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended: what it left running is interrupted. Forget its sources."""
        with self._translated("write"):
            await self._database.write(_processes.end_process, process_id, sources)
        self._next_sweep = 0.0

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self._path

    @property
    def beside(self) -> Path | None:
        """The file, beside which crash rings and the spool lie; None in memory."""
        return self._path

    async def _write_or_rescue(self, batch: Batch) -> None:
        """Write. If the file is damaged, try again over a new connection; if it still is, write into a new file."""
        try:
            return await self._database.write(self._write, batch)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        await self._database.aclose()  # perhaps only the connection's memory is wrong, not the file
        try:
            return await self._database.write(self._write, batch)
        except sqlite3.DatabaseError as error:
            if not await self._database.rescue(error):
                raise
        return await self._database.write(self._write, batch)

    async def _leave_replaced_file(self) -> None:
        """Close a file that is no longer at the path. It keeps its commits; its running traces go to the next file."""
        logger.warning("%s was deleted or replaced while it was in use; it is opened anew", redact_uri(self.uri))
        if self._process_id is not None:
            with contextlib.suppress(sqlite3.Error):  # a damaged file may fail here
                self._carried = await self._database.write(take_running, self._process_id)
        await self._database.leave()

    @property
    def files_moved_aside(self) -> int:
        """How many damaged files were moved aside, so that a new one could take their place."""
        return self._database.moved_aside

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored. Reads no page."""
        with self._translated("read"):
            return await self._database.write(_change_marker)  # always the same connection: another counts anew

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace with its spans. Raises TraceNotFoundError."""
        with self._reading("read"):
            await self._sweep()
            return await self._database.read(_get_trace, trace_id)

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that are stored, as rows, in the order of their starts."""
        check_ids(trace_ids)
        with self._reading("read"):
            await self._sweep()
            return await self._database.read(stored_traces, trace_ids, bodies)

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium. Raises MediaNotFoundError."""
        with self._reading("read"):
            return await self._database.read(_get_media, media_hash)

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of the traces that match. Raises ConfigurationError for a bad query.

        While another process is writing, spans whose text is not in the full-text index yet are not found by `text`.
        """
        with self._reading("search"):
            await self._sweep()
            if query.text:
                await self._catch_up()
            return await self._database.search(search, query)

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace in the list of a search."""
        return await self._summarized(query, neighbours, query, trace_id)

    async def index_text(self, limit: int = _INDEX_ROWS) -> bool:
        """Add the text of up to `limit` spans to the full-text index; return whether more is left to add.

        Filling it lazily keeps the write path short: see `tracer.store.sqlite._text`.
        """
        with self._translated("index"):
            return await self._database.write(index_text, limit)

    async def tidy(self) -> bool:
        """Bring the full-text index up to date, give back the pages that deleting freed, and empty the log, in steps.

        Then the file alone holds everything, for whoever copies or moves it.
        """
        if not self._database.is_open:
            return False
        if await self.index_text(_IDLE_INDEX_ROWS):
            return True
        with self._translated("shrink"):
            if await self._database.write(shrink, _IDLE_FREE_PAGES):
                return True
            await self._database.write(self._empty_log)
        return False

    async def expire(self) -> bool:
        """Delete some of the traces that `options.retention` no longer keeps; return whether more may be left.

        A file that is no longer at the path, because it was moved to be kept, stays as it is.
        """
        retention = self.options.retention
        if not retention.is_limited or not self._database.is_open or not self._database.is_current:
            return False
        with self._translated("expire"):
            await self._sweep()  # the traces of processes that are gone do not run
            chosen = await self._database.read(choose_expired, retention, time.time_ns())
            if chosen is not None:
                return await self._database.write(self._expire, chosen)
            if await self._database.read(has_much_free):
                return await self._database.write(shrink, _IDLE_FREE_PAGES)
        return False

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return some of the spans that ended and are still to be sent, the oldest first."""
        with self._translated("export"):
            if not (keys := await self._database.read(find_due, taker, most, time.time_ns())):
                return []
            return await self._database.read(
                read_exports, await self._database.write(take, taker, keys, time.time_ns())
            )

    async def end_exports(self, keys: list[int]) -> None:
        """Forget spans that were sent, or refused."""
        with self._translated("export"):
            await self._database.write(end, keys)

    async def return_exports(self, taker: str) -> None:
        """Let others have what a process has taken and could not send."""
        with self._translated("export"):
            await self._database.write(give_back, taker)

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag. Raises TraceNotFoundError."""
        with self._translated("write"):
            await self._database.write(_tags.set_tag, trace_id, key, value)

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag; one that is not there is no error. Raises TraceNotFoundError."""
        with self._translated("write"):
            await self._database.write(_tags.delete_tag, trace_id, key)

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
        with self._translated("delete"):
            return await self._database.write(delete_traces, given, -1 if max_traces is None else max_traces)

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback. Raises TraceNotFoundError if its trace, or its span, is not stored."""
        with self._translated("write"):
            await self._database.write(_feedback.add_feedback, feedback)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete one feedback and return whether it was there."""
        with self._translated("write"):
            return await self._database.write(_feedback.delete_feedback, feedback_id)

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return feedback, the newest first."""
        with self._reading("read"):
            return await self._database.read(_feedback.list_feedback, trace_id, name, max_results)

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the most frequent values of each field among the traces that a query selects."""
        return await self._summarized(query, _aggregate.facets, query, limit)

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time."""
        return await self._summarized(query, _aggregate.histogram, query, buckets)

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals, by model and by name over time, and the slowest and costliest traces."""
        return await self._summarized(query, _aggregate.overview, query, buckets, limit)

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Return a page of the sessions of the traces that a query selects."""
        return await self._summarized(query, _sessions.sessions, query)

    async def experiments(self) -> list[ExperimentSummary]:
        """Return all experiments, the one with the newest trace first."""
        with self._reading("read"):
            return await self._database.sum_up(_sessions.experiments)

    async def storage(self) -> StorageSummary:
        """Return what the database holds and how much room it takes."""
        with self._reading("read"):
            return await self._database.sum_up(_sessions.storage, redact_uri(self.uri), self._path)

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return what processes lost that belongs to no stored trace, by reason, if it went on after a moment."""
        with self._translated("read"):
            return await self._database.read(_sessions.losses, since_ns)

    async def _summarized(
        self,
        query: TraceQuery,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a question about the traces of a query, after the same preparations as for a search."""
        with self._reading("search"):
            await self._sweep()
            if query.text:
                await self._catch_up()
            return await self._database.sum_up(function, *args, **kwargs)

    def _translated(self, what: str) -> contextlib.AbstractContextManager[None]:
        return translated(f"{redact_uri(self.uri)}: {what} failed", opened=self._database.was_open)

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Read in this block, within the time limit: at its end the block is cancelled, which stops the query."""
        try:
            limit = self.options.time_limit
            with self._translated(what), anyio.fail_after(limit):
                yield
        except TimeoutError:
            raise ReadTimeoutError(
                f"{redact_uri(self.uri)}: the {what} took longer than {limit:g} s and was stopped; ask for "
                "less (a shorter range of time, fewer conditions) or raise read_timeout"
            ) from None

    async def _sweep(self) -> None:
        """Mark the traces whose process is gone, at most once an interval."""
        if (now := time.monotonic()) < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP_INTERVAL
        if await self._database.read(_interrupted.find_gone_processes):
            await self._database.write(self._mark_interrupted)

    async def _catch_up(self) -> None:
        """Index the text that is stored now; text that is written meanwhile can wait."""
        for _ in range(await self._database.read(count_steps, _INDEX_ROWS)):
            if not await self.index_text(_INDEX_ROWS):
                break

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if migrate(connection):
            self._empty_log(connection)  # so that the file has its tables if somebody moves it, which leaves its log

    def _mark_interrupted(self, connection: sqlite3.Connection) -> None:
        """Mark the traces of processes that are gone.

        If somebody else is writing just now, do nothing: readers call this, and should not wait.
        """
        with unless_locked(connection):
            _interrupted.mark_interrupted(connection, _interrupted.find_gone_processes(connection))

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        with transaction(connection):
            if self._carried is not None:
                put_running(connection, self._carried)
            reached = {name: _processes.taken_over(connection, name) for name in batch.once}
            if not any(at >= batch.sources[name] for name, at in reached.items()):
                write_batch(connection, batch, exports=self.options.exports)
        self._carried = None
        if batch.process == current_process():  # else it is what a dead one left
            self._process_id = batch.process.process_id
            self._sources.update(batch.sources)
        self._empty_log(connection, at_least=CHECKPOINT_BYTES)

    def _expire(self, connection: sqlite3.Connection, chosen: Expired) -> bool:
        """Delete, and count that, in one step: a caller who is cancelled does not wait for the count."""
        deleted, has_changed = delete_expired(connection, chosen)
        self.expired += deleted
        self._empty_log(connection, at_least=CHECKPOINT_BYTES)
        return has_changed

    def _finish(self, connection: sqlite3.Connection) -> None:
        if self._process_id is not None:
            _processes.end_process(connection, self._process_id, list(self._sources))
        if self._database.is_current:
            self._empty_log(connection)

    def _empty_log(self, connection: sqlite3.Connection, *, at_least: int = 1) -> None:
        """Move the write-ahead log into the file. If that fails, the log keeps what was committed: say so once."""
        if self._path is None:
            return
        try:
            checkpoint(connection, self._path, at_least=at_least)
        except (OSError, sqlite3.Error) as error:
            if str(error) != self._log_problem:
                self._log_problem = str(error)
                logger.warning("%s-wal can't be moved into its database, and grows: %s", self._path, error)
        else:
            self._log_problem = None


def _change_marker(connection: sqlite3.Connection) -> tuple[int, int]:
    """``data_version`` counts commits of other connections, in any process; `total_changes` counts our changes."""
    return connection.execute("PRAGMA data_version").fetchone()[0], connection.total_changes


def _get_trace(connection: sqlite3.Connection, trace_id: str) -> Trace:
    with transaction(connection, "DEFERRED"):  # one snapshot for the trace, its tags and its spans
        row = connection.execute(f"SELECT {TRACE_COLUMNS} FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
        if row is None:
            raise _tags.not_found(trace_id)
        return read_traces(connection, [row])[0]


def _get_media(connection: sqlite3.Connection, media_hash: str) -> Media:
    row = connection.execute("SELECT content_type, data FROM media WHERE hash = ?", (media_hash,)).fetchone()
    if row is None:
        raise MediaNotFoundError(f"no media with the hash {media_hash!r} are stored")
    return Media(hash=media_hash, content_type=row[0], data=row[1])
