"""HttpStore: the traces of a tracking server (`tracer serve`), as a `Store`."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from tracer._exceptions import ReadTimeoutError, StoreError, TracerError, TransientStoreError
from tracer._http import Backoff
from tracer._models import Feedback, Media, Trace, TracePage
from tracer.store.base import SIGN_SECONDS, StoreOptions, TraceQuery
from tracer.store.batch import Batch, Export, ExportCounts, StoredTrace
from tracer.store.http.connection import Answer, Connection, RejectedError
from tracer.store.http.encodings import compress
from tracer.store.http.pieces import split
from tracer.store.http.place import place_of
from tracer.store.numbering import Numbering
from tracer.store.process import current_process
from tracer.store.raw import Learnt
from tracer.store.search import parse_conditions
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
from tracer.store.uri import server_address
from tracer.store.wire import METHODS, decode, encode, pack_batch

__all__ = ["HttpStore"]

logger = logging.getLogger("tracer")

WRITE_SECONDS = 10.0  # for the answer; the server waits 5 s for a lock
IMPATIENT_SECONDS = 2.0  # … while nothing is answered: records wait in the queue meanwhile
CLOSE_SECONDS = 1.0
SMALL_BYTES = 1024  # from which on a body is packed


class HttpStore:
    """A `tracer.store.Store` over HTTP.

    A batch is sent as often as it takes until it is answered, by whoever calls `write` again. It carries a number
    (`Batch.once`), so it is stored once, even if only the answer to it was lost, and even if another process sends it
    in the end. `TransientStoreError.retry_after` says when to try again.

    Args:
        uri: ``http(s)://[token@]host[:port]``. A token that is not in it comes from ``TRACER_TOKEN``.
    """

    expired = 0
    files_moved_aside = 0
    may_open = True
    needs_signs_of_life = True
    only_sends = False
    export_counts: ExportCounts | None = None

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.options = StoreOptions()
        self._address = server_address(uri)
        self.beside: Path | None = place_of(self._address.url)
        self._token = self._address.token or os.environ.get("TRACER_TOKEN", "").strip() or None
        self._open_connection: Connection | None = None
        self._backoff = Backoff()
        self._encodings: list[str] = []
        self._numbering = Numbering()
        self._sent = 0
        self._sent_at = float("-inf")
        self._sources: set[str] = set()
        self._heard: Callable[[Learnt], None] | None = None
        self._told_of_retention = False
        self._told_of_exports = False

    async def open(self) -> None:
        """Do nothing: the first request connects."""

    async def aclose(self) -> None:
        """Tell the server that this process has ended, and close the connections. Never raises."""
        connection, self._open_connection = self._open_connection, None
        if connection is None:
            return
        with contextlib.suppress(Exception), anyio.move_on_after(CLOSE_SECONDS):
            if self._sent and not self._backoff.is_failing:
                name = self._numbering.name
                gone = self._sources - (set() if self._numbering.is_answered else {name, f"{name}#"})
                await self._call(connection, "end_process", current_process().process_id, sorted(gone))
                self._sources, self._sent = set(), 0
        with contextlib.suppress(Exception):
            await connection.aclose()

    async def write(self, batch: Batch) -> None:
        """Send the batch, in pieces if it is large, and wait until the server has stored it."""
        self._numbering.mark(batch)
        for piece in split(batch) if batch.raw is None else [batch]:
            await self._send(piece)
            if batch.process == current_process():
                self._sources.update(piece.sources)

    def listen(self, heard: Callable[[Learnt], None]) -> None:
        """Have a function called with what the server found in a batch of records (`tracer.store.raw`)."""
        self._heard = heard

    async def sign_of_life(self) -> None:
        """Send an empty batch if nothing was sent for a while. What fails is of no account: the next one may arrive."""
        if time.monotonic() - self._sent_at < SIGN_SECONDS or self._backoff.is_failing:
            return
        body = pack_batch(Batch(process=current_process()), current_process(), time.time_ns(), self._sent)
        with contextlib.suppress(TracerError):
            await self._connection().post("/api/ingest", body, seconds=IMPATIENT_SECONDS)

    async def _send(self, batch: Batch) -> None:
        body = pack_batch(batch, current_process(), time.time_ns(), self._sent + 1)
        encoding = None
        connection = self._connection()
        if not connection.is_near and len(body) >= SMALL_BYTES:
            body, encoding = compress(body, self._encodings)
        answered, self._numbering.is_answered = self._numbering.is_answered, False
        try:
            answer = await connection.post("/api/ingest", body, seconds=self._write_seconds(), encoding=encoding)
        except RejectedError:
            self._numbering.is_answered = answered
            raise
        except TransientStoreError as error:
            raise self._put_off(error) from error.__cause__
        except TracerError as error:  # what is wrong with the server's store may be mended
            raise self._put_off(TransientStoreError(str(error), is_refusal=True)) from None
        self._numbering.is_answered = answered
        self._sent, self._sent_at = self._sent + 1, time.monotonic()
        self._took(answer)
        if batch.raw is not None and self._heard is not None and batch.process == current_process():
            self._heard(self._decoded(answer, Learnt, "a batch"))

    def _write_seconds(self) -> float:
        patience = IMPATIENT_SECONDS if self._backoff.is_failing else WRITE_SECONDS
        return max(0.05, min(patience, self.options.ends_at - time.monotonic()))

    def _put_off(self, error: TransientStoreError) -> TransientStoreError:
        pause = self._backoff.next_pause()
        error.retry_after = pause if error.retry_after is None else max(pause, error.retry_after)
        return error

    def _took(self, answer: Answer) -> None:
        self._backoff.succeeded()
        self._encodings = answer.encodings

    def _connection(self) -> Connection:
        if self._open_connection is None:
            self._open_connection = Connection(self._address, self._token)
        return self._open_connection

    async def _ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the server's store, within the time limit."""
        limit = self.options.time_limit
        try:
            with anyio.fail_after(limit):
                return await self._call(self._connection(), method, *arguments, **named)
        except TimeoutError:
            what = "search" if arguments and isinstance(arguments[0], TraceQuery) else "read"
            raise ReadTimeoutError(
                f"{self._address.url}: the {what} took longer than {limit:g} s and was stopped; ask for less "
                "(a shorter range of time, fewer conditions) or raise read_timeout"
            ) from None

    async def _call(self, connection: Connection, method: str, *arguments: Any, **named: Any) -> Any:
        called = METHODS[method]
        fields = called.arguments.__struct_fields__
        body = encode(called.arguments(**dict(zip(fields, arguments, strict=False)), **named))
        seconds = 86_400.0 if self.options.time_limit is not None else WRITE_SECONDS * 6
        answer = await connection.post(f"/api/store/{method}", body, seconds=seconds)
        return self._decoded(answer, called.result, method)

    def _decoded(self, answer: Answer, kind: Any, method: str) -> Any:
        try:
            return decode(answer.body, kind)
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._address.url}: the answer to {method} can't be read: {error}") from error

    # --- the methods of a store ---------------------------------------------------------------------------------------

    async def taken_over(self, source: str) -> int:
        """Return how far a file beside the database was taken over; 0 if it is not known."""
        return int(await self._ask("taken_over", source))

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return the raw reads of a stream that has not ended, each with its time, oldest first."""
        chunks: list[tuple[int, bytes]] = await self._ask("live_chunks", trace_id, span_id)
        return chunks

    async def forget_source(self, source: str) -> None:
        """Forget a file beside the database, which is gone."""
        await self._ask("forget_source", source)

    async def end_process(self, process_id: str, sources: list[str]) -> None:
        """Note that a process has ended: what it left running is interrupted. Forget its sources."""
        await self._ask("end_process", process_id, sources)

    async def tidy(self) -> bool:
        """Do nothing: the server looks after its store."""
        return False

    async def expire(self) -> bool:
        """Delete nothing: what is kept is the server's choice. Say so if this process has set a limit."""
        if self.options.retention.is_limited and not self._told_of_retention:
            self._told_of_retention = True
            logger.warning(
                "retention_max_age and retention_max_bytes do nothing here: what %s keeps is set where it runs",
                self._address.url,
            )
        return False

    async def take_exports(self, taker: str, most: int) -> list[Export]:
        """Return nothing: a server's spans are not this process's to send on. Say so if it was to."""
        if not self._told_of_exports:
            self._told_of_exports = True
            logger.warning(
                "otlp_endpoint does nothing here: %s keeps what is recorded, and sends nothing on; use a database "
                "as the tracking URI, or otlp+http://",
                self._address.url,
            )
        return []

    async def end_exports(self, keys: list[int]) -> None:
        """Do nothing."""

    async def return_exports(self, taker: str) -> None:
        """Do nothing."""

    async def change_marker(self) -> object:
        """Return a value that stays equal as long as nothing new is stored."""
        return await self._ask("change_marker")

    async def get_trace(self, trace_id: str) -> Trace:
        """Return one trace with its spans. Raises TraceNotFoundError."""
        trace: Trace = await self._ask("get_trace", trace_id)
        return trace

    async def stored_traces(self, trace_ids: list[str], *, bodies: bool = True) -> list[StoredTrace]:
        """Return those of these traces that are stored, as rows, in the order of their starts."""
        found: list[StoredTrace] = await self._ask("stored_traces", trace_ids, bodies=bodies)
        return found

    async def get_media(self, media_hash: str) -> Media:
        """Return one medium. Raises MediaNotFoundError."""
        media: Media = await self._ask("get_media", media_hash)
        return media

    async def search_traces(self, query: TraceQuery) -> TracePage:
        """Return one page of the traces that match. Raises ConfigurationError for a bad query."""
        page: TracePage = await self._ask("search_traces", _portable(query))
        return page

    async def neighbours(self, query: TraceQuery, trace_id: str) -> Neighbours:
        """Return the traces before and after a trace in the list of a search."""
        found: Neighbours = await self._ask("neighbours", _portable(query), trace_id)
        return found

    async def set_trace_tag(self, trace_id: str, key: str, value: str) -> None:
        """Set one tag. Raises TraceNotFoundError."""
        await self._ask("set_trace_tag", trace_id, key, value)

    async def delete_trace_tag(self, trace_id: str, key: str) -> None:
        """Delete one tag; one that is not there is no error. Raises TraceNotFoundError."""
        await self._ask("delete_trace_tag", trace_id, key)

    async def delete_traces(
        self,
        *,
        trace_ids: list[str] | None = None,
        experiment: str | None = None,
        max_timestamp_ms: int | None = None,
        max_traces: int | None = None,
    ) -> int:
        """Delete the traces that meet all the given conditions, oldest first, and return how many."""
        return int(
            await self._ask(
                "delete_traces",
                trace_ids=trace_ids,
                experiment=experiment,
                max_timestamp_ms=max_timestamp_ms,
                max_traces=max_traces,
            )
        )

    async def add_feedback(self, feedback: Feedback) -> None:
        """Store feedback. Raises TraceNotFoundError if its trace, or its span, is not stored."""
        await self._ask("add_feedback", feedback)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete one feedback and return whether it was there."""
        return bool(await self._ask("delete_feedback", feedback_id))

    async def list_feedback(
        self, *, trace_id: str | None = None, name: str | None = None, max_results: int = 100
    ) -> list[Feedback]:
        """Return feedback, the newest first."""
        found: list[Feedback] = await self._ask("list_feedback", trace_id=trace_id, name=name, max_results=max_results)
        return found

    async def facets(self, query: TraceQuery, *, limit: int = 10) -> Facets:
        """Return the most frequent values of each field among the traces that a query selects."""
        found: Facets = await self._ask("facets", _portable(query), limit=limit)
        return found

    async def histogram(self, query: TraceQuery, *, buckets: int = 60) -> Histogram:
        """Return calls, errors and latency over time."""
        found: Histogram = await self._ask("histogram", _portable(query), buckets=buckets)
        return found

    async def overview(self, query: TraceQuery, *, buckets: int = 60, limit: int = 10) -> Overview:
        """Return totals, by model and by name over time, and the slowest and costliest traces."""
        found: Overview = await self._ask("overview", _portable(query), buckets=buckets, limit=limit)
        return found

    async def sessions(self, query: TraceQuery) -> SessionPage:
        """Return a page of the sessions of the traces that a query selects."""
        found: SessionPage = await self._ask("sessions", _portable(query))
        return found

    async def experiments(self) -> list[ExperimentSummary]:
        """Return all experiments, the one with the newest trace first."""
        found: list[ExperimentSummary] = await self._ask("experiments")
        return found

    async def storage(self) -> StorageSummary:
        """Return what the server's store holds and how much room it takes."""
        found: StorageSummary = await self._ask("storage")
        return found

    async def losses(self, *, since_ns: int = 0) -> list[LossSummary]:
        """Return what processes lost that belongs to no stored trace, by reason, if it went on after a moment."""
        found: list[LossSummary] = await self._ask("losses", since_ns=since_ns)
        return found


def _portable(query: TraceQuery) -> TraceQuery:
    """Return the query with moments as text: as this machine's time zone and clock understand them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    times = TraceQuery(since=query.since, until=query.until)
    for _ in parse_conditions(times, time.time_ns()):
        pass  # raises ConfigurationError
    return msgspec.structs.replace(query, since=_moment(query.since, now), until=_moment(query.until, now))


def _moment(value: Any, now: datetime.datetime) -> Any:
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value.strip()))
    if isinstance(value, datetime.timedelta):
        value = now - value
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat()
    return value
