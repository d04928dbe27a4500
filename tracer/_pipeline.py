"""Pipeline: one queue, one worker, one store, and the counts that make their sum come out.

A change of the tracking URI makes a new pipeline; the old one writes what it has accepted, and ends the spans that
began in it. After a fork the child makes its own, and forgets its parent's.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tracer._assembler import Assembler, AssemblyCounts
from tracer._clock import Clock, Ids
from tracer._config import Settings
from tracer._exceptions import ClosedError
from tracer._queue import RecordQueue, Tally
from tracer._records import (
    Codec,
    Payload,
    Rank,
    Record,
    SpanChunk,
    SpanEnded,
    SpanNoted,
    SpanStarted,
    SpanUpdated,
    encode,
)
from tracer._values import encode_attributes
from tracer._worker import Worker, WorkerCounts
from tracer.store import open_store
from tracer.store.base import Store
from tracer.store.process import current_process

__all__ = ["Pipeline", "Stats"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

RESTART_AFTER = 1.0  # seconds: a worker that fails at once must not be started by every call


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records. Always ``accepted == written + lost + queued``; nothing is lost uncounted.

    Attributes:
        queued: Records accepted and not yet written; `queue_bytes` their size.
        accepted: Records that the queue took; `written` those that reached the store.
        dropped: Records that were not kept, by reason: ``chunk``, ``detail``, ``start`` (refused by a full queue,
            by rank), ``encode``, ``closed`` (made after shutdown) and ``lost`` (accepted, but the store refused
            them for good).
        spans: Rows written, two for a span that was seen running.
        unsampled: Traces left out by ``sample_rate``: a choice, no loss.
        truncated: Bodies or values cut at ``max_payload_bytes``.
        redaction_failed: Texts withheld since a ``redact=`` hook raised.
        retries: Writes that were tried again.
        open_spans: Spans that have started and not ended.
        last_error: The worker's last error in words.
    """

    queued: int
    queue_bytes: int
    accepted: int
    written: int
    dropped: dict[str, int]
    spans: int
    batches: int
    retries: int
    open_spans: int
    unsampled: int
    truncated: int
    redaction_failed: int
    last_error: str | None

    def __getitem__(self, key: str) -> Any:
        if key not in self.__struct_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a dict."""
        return msgspec.structs.asdict(self)


class Pipeline:
    """The way of records from the caller's thread to one store. Cheap to make: starts and opens nothing."""

    def __init__(self, uri: str, settings: Settings, clock: Clock, ids: Ids) -> None:
        self.uri = uri
        self.clock = clock
        self.ids = ids
        self.settings = settings
        self.queue = RecordQueue(settings.queue_max_records, settings.queue_max_bytes)
        self.unsampled = Tally()
        self._encode_failed = Tally()
        self._after_close = Tally()
        self._start_lock = threading.Lock()
        self._worker: Worker | None = None
        self._assembler: Assembler | None = None
        self._retired = False
        self.closed = False

    # --- producers ------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        """Take new settings; what is queued stays."""
        self.settings = settings
        self.queue.set_limits(settings.queue_max_records, settings.queue_max_bytes)

    def push(self, record: Record, rank: Rank) -> bool:
        """Encode a record and queue it; False, and counted, if it was refused. Never blocks, never raises."""
        if self.closed:
            self._after_close.add()
            return False
        try:
            data = encode(record)
        except Exception:  # a user's attribute that is no JSON-like data
            data = self._encode_by_hand(record)
            if data is None:
                return False
        accepted = self.queue.push(data, rank)
        worker = self._worker
        if worker is None or not worker.is_running:
            self._try_to_start_worker()
        return accepted

    def _encode_by_hand(self, record: Record) -> bytes | None:
        try:
            if isinstance(record, (SpanStarted, SpanUpdated, SpanEnded, SpanNoted)) and record.attributes:
                record.attributes = encode_attributes(record.attributes)
            return encode(record)
        except Exception:
            self._encode_failed.add()
            logger.exception("a record could not be encoded; it is counted in tracer.stats()")
            return None

    def wire_payload(self, body: bytes) -> Payload | None:
        """Return a body as a payload, cut at ``max_payload_bytes``; None if the queue is too full for bodies."""
        limit = self.settings.max_payload_bytes
        size = len(body)
        if not self.queue.has_room(Rank.DETAIL, min(size, limit)):
            self.queue.refuse(Rank.DETAIL)
            return None
        return Payload(Codec.WIRE, body) if size <= limit else Payload(Codec.WIRE, body[:limit], size - limit)

    def push_chunk(self, span_id: str, time_ns: int, data: bytes) -> bool:
        """Queue one read of a stream."""
        return self.push(SpanChunk(span_id, time_ns, data), Rank.CHUNK)

    # --- the worker -----------------------------------------------------------------------------------------------

    def _try_to_start_worker(self) -> None:
        try:
            self._start_worker()
        except Exception:  # the interpreter exits (no new threads), or the machine has no thread left
            logger.exception("the worker could not be started; records stay queued")

    def _start_worker(self) -> Worker:
        """Start the worker, or start it again if it died. Only the first record pays for this."""
        with self._start_lock:
            worker = self._worker
            if worker is not None and (worker.is_running or time.monotonic() - worker.started_at < RESTART_AFTER):
                return worker
            if self._assembler is None:
                self._assembler = Assembler(current_process())
            successor = Worker(self.queue, open_store(self.uri), self._assembler, lambda: self.settings)
            if worker is not None:
                successor.counts = worker.counts
                drained = self.queue.statistics().drained
                successor.counts.lost += drained - worker.counts.settled
                successor.counts.settled = drained
                if self._retired:
                    successor.retire()
            self._worker = successor
            successor.start()
            return successor

    def submit(self, job: Callable[[Store], Awaitable[T]], *, barrier: bool) -> concurrent.futures.Future[T]:
        """Run a coroutine function on the open store in the worker's loop, behind what was accepted so far.

        Raises:
            ClosedError: After `close`.
        """
        if self.closed:
            raise ClosedError("tracer was shut down; tracer.set_tracking_uri() opens it again")
        worker = self._start_worker()

        async def run() -> T:
            if barrier:
                await worker.settle_accepted()
            return await job(await worker.opened_store())

        return worker.submit(run)

    @property
    def is_running(self) -> bool:
        """A worker runs, or records wait for one."""
        return (self._worker is not None and self._worker.is_running) or len(self.queue) > 0

    def retire(self) -> None:
        """Another pipeline takes over: write what is queued, end the spans that began here, then let go."""
        self._retired = True
        if self._worker is not None:
            self._worker.retire()

    def stop(self, timeout: float) -> None:
        """Ask the worker to write what is queued and to end; spans that end later are counted as dropped."""
        self.closed = True
        if self._worker is not None:
            self._worker.stop(timeout)

    def join(self, timeout: float | None) -> int:
        """Wait for `stop` to take effect; return how many records are still unwritten when time is up."""
        if self._worker is not None:
            self._worker.join(timeout)
        return self.stats().queued

    def forget(self) -> None:
        """After a fork, in the child: this pipeline is the parent's. Nothing is written, closed or freed here.

        It is made immortal, as closing an inherited SQLite connection can hang on a lock that a thread of the
        parent held at the moment of the fork (43 of 60 forks under a busy writer, as measured).
        """
        self.closed = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    # --- counts ---------------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count. Safe in any thread."""
        queue = self.queue.statistics()
        counts = self._worker.counts if self._worker is not None else WorkerCounts()
        assembly = self._assembler.counts if self._assembler is not None else AssemblyCounts()
        lost = counts.lost + assembly.undecodable + assembly.orphaned
        dropped = {
            **queue.refused,
            "encode": self._encode_failed.value,
            "closed": self._after_close.value,
            "lost": lost,
        }
        return Stats(
            queued=queue.accepted - counts.settled,
            queue_bytes=queue.bytes,
            accepted=queue.accepted,
            written=counts.settled - lost,
            dropped=dropped,
            spans=counts.spans,
            batches=counts.batches,
            retries=counts.retries,
            open_spans=self._assembler.open_spans if self._assembler is not None else 0,
            unsampled=self.unsampled.value,
            truncated=assembly.truncated,
            redaction_failed=assembly.redaction_failed,
            last_error=counts.last_error,
        )
