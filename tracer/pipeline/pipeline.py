"""Pipeline: one queue, one worker, one store, and the counts that make their sum come out.

A change of the tracking URI makes a new pipeline; the old one writes what it has accepted, and ends the spans that
began in it. After a fork the child makes its own, and forgets its parent's.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError
from tracer.assembly.assembler import AssemblyCounts
from tracer.capture.records import (
    Codec,
    LargeRecord,
    Payload,
    Rank,
    Record,
    SpanEnded,
    SpanStarted,
    encode,
)
from tracer.capture.snapshots import encode_attributes
from tracer.interpret import redact
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._hook_watch import RunningHook
from tracer.pipeline._jobs import Answer
from tracer.pipeline._queue import RecordQueue, Tally
from tracer.pipeline.clock import Clock, Ids
from tracer.pipeline.worker import Worker
from tracer.process.native_threads import why_there_are_none
from tracer.store import make_store
from tracer.store.base import Store

__all__ = ["LARGE", "Pipeline", "Stats"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

# Members of an enum are slow to look up on Python 3.11 (0.25 µs).
_WIRE, _START, _END = Codec.WIRE, Rank.START, Rank.END

LARGE = 64 * 1024  # bytes of a body that is no longer copied into its record


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records. Always ``accepted == written + lost + queued``; nothing is lost uncounted.

    Attributes:
        queued: Records accepted and not yet written; `queue_bytes` their size.
        accepted: Records that the queue took; `written` those that reached the store.
        dropped: Records that were not kept, by reason: ``chunk``, ``detail``, ``start`` (refused by a full queue,
            by rank), ``encode``, ``closed`` (made after shutdown, or while the environment is wrong), ``event`` (beyond
            10,000 of one span) and ``lost`` (accepted, but the store refused them for good).
        spans: Rows written, two for a span that was seen running.
        unsampled: Traces left out by ``sample_rate``: a choice, no loss.
        truncated: Bodies or values cut at ``max_payload_bytes``.
        redaction_failed: Texts withheld since a ``redact=`` hook raised.
        retries: Writes that were tried again.
        slow_hooks: The ``redact=`` and ``prices=`` hooks that ever took longer than a second, each with the seconds of
            its longest call; the one that runs now, too. While a hook runs, nothing is written or read.
        open_spans: Spans that have started and not ended.
        batches_put_aside: Batches that could not be written to the database, which was locked as the process ended (or
            in use as it was forked). They count as written, and wait in ``<database>-spare/`` for the next process that
            opens the database.
        files_moved_aside: Damaged database files that this process moved aside; it goes on with a new one.
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
    batches_put_aside: int
    files_moved_aside: int
    slow_hooks: dict[str, float]
    last_error: str | None

    def __getitem__(self, key: str) -> Any:
        if key not in self.__struct_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as a dict."""
        return msgspec.structs.asdict(self)


class Pipeline:
    """The way of records from the caller's thread to one store. Opens nothing until there is a record or a reader.

    Its store is made here, so that a later change of the working directory doesn't move it.

    Raises:
        ConfigurationError: The URI is malformed. What its file is like turns out when it is opened.
    """

    def __init__(self, uri: str, settings: Settings, clock: Clock, ids: Ids) -> None:
        self.uri = uri
        self.clock = clock
        self.ids = ids
        self.settings = settings
        self.queue = RecordQueue(settings.queue_max_records, settings.queue_max_bytes)
        self.unsampled = Tally()
        self.closed = False
        self._encode_failed = Tally()
        self._after_close = Tally()
        self._truncated = Tally()
        self._redaction_failed = Tally()
        self._errors = ErrorLog()
        self._worker = Worker(self.queue, make_store(uri), lambda: self.settings, self._errors)
        self._lost_before_stop = 0

    # --- producers ------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        """Take new settings; what is queued stays."""
        self.settings = settings
        self.queue.set_limits(settings.queue_max_records, settings.queue_max_bytes)

    def push(self, record: Record, rank: Rank, body: Payload | None = None) -> bool:
        """Encode a record and queue it; False, and counted, if it was refused. Never blocks, never raises.

        Args:
            record: Not to be used afterwards.
            rank: A start or an end with a body is a detail; where there is no room for those, it goes without the body.
            body: The record's inputs or outputs, if it has any.
        """
        if self.closed:
            self._after_close.add()
            return False
        aside = None
        data: bytes | None
        try:
            if body is not None and len(body.data) > LARGE:
                aside, body.data, body.beside = body.data, b"", True
            data = encode(record)
            if len(data) > (limit := self.settings.max_payload_bytes) and _attributes_of(record, len(data)) > limit:
                self._truncated.add()
                data = self._encode_by_hand(record)
        except Exception:  # a user's attribute that is no JSON-like data
            data = self._encode_by_hand(record)
        if data is None:
            return False
        accepted = self.queue.push(data if aside is None else LargeRecord(data, aside), rank)
        if not accepted:
            self._worker.hooks.complain()
            if body is not None:
                return self._push_without_body(record)
        if not self._worker.is_running:  # after the push: a thread that ends looks at the queue after it said so
            self._start_worker()
        return accepted

    def _start_worker(self) -> None:
        """In push's rare branch: where nothing can be traced, say so once, and refuse what comes."""
        reason = why_there_are_none()
        if reason is None:
            self._worker.try_to_start()
        elif not self.closed:
            self.closed = True
            self._errors.last = reason
            self._worker.abandon()
            logger.warning("nothing is traced any more: %s", reason)

    def _push_without_body(self, record: Record) -> bool:
        if isinstance(record, SpanStarted):
            record.inputs, record.body_dropped = None, True
            return self.push(record, _START)
        if isinstance(record, SpanEnded):
            lost = record.lost or {}
            record.outputs, record.lost = None, {**lost, "bodies": lost.get("bodies", 0) + 1}
            return self.push(record, _END)
        return False

    def _encode_by_hand(self, record: Record) -> bytes | None:
        try:
            attributes = getattr(record, "attributes", None)
            if isinstance(attributes, dict):
                record = msgspec.structs.replace(
                    record, attributes=encode_attributes(attributes, self.settings.max_payload_bytes)
                )
            return encode(record)
        except Exception as error:
            self._encode_failed.add()
            self._errors.report("a record could not be encoded", error)
            return None

    def wire_payload(self, body: bytes) -> Payload:
        """Return a body as a payload, cut at ``max_payload_bytes``."""
        limit = self.settings.max_payload_bytes
        size = len(body)
        return Payload(_WIRE, body) if size <= limit else Payload(_WIRE, body[:limit], size - limit)

    def refuse(self, rank: Rank) -> None:
        """Count a record that was not even made."""
        if self.closed:
            self._after_close.add()
        else:
            self.queue.refuse(rank)

    # --- the worker -----------------------------------------------------------------------------------------------

    def settle(self) -> Answer[None]:
        """Wait until what was accepted so far is written. Raises as `submit` does."""
        return self.submit(_nothing, barrier=True)

    def submit(self, job: Callable[[Store], Awaitable[T]], *, barrier: bool) -> Answer[T]:
        """Run a coroutine function on the open store in the worker's loop, behind what was accepted so far.

        Raises:
            ClosedError: After `stop`.
            StoreError: The worker could not be started, or can't be where eventlet has replaced threads.
        """
        if reason := why_there_are_none():
            raise StoreError(reason)
        if self.closed:
            raise ClosedError("tracer was shut down; tracer.set_tracking_uri() opens it again")
        worker = self._worker

        async def run() -> T:
            if barrier:
                await worker.settle_accepted()
            return await job(worker.store)

        return worker.submit(run)

    def redact(self, text: str) -> str:
        """Return a text that goes to the store without a record, with the hooks applied; a failure is counted.

        For jobs, in the worker's loop: a slow hook must not hold up anybody else.
        """
        redacted, failures = redact(text, self._worker.hooks.redact(self.settings.redact))
        if failures:
            self._redaction_failed.add()
        return str(redacted)

    @property
    def running_hook(self) -> RunningHook | None:
        """The user's hook that the worker is in."""
        return self._worker.hooks.running

    @property
    def is_running(self) -> bool:
        """A worker runs, or records wait for one."""
        return self._worker.is_running or len(self.queue) > 0

    def retire(self) -> None:
        """Another pipeline takes over: write what is queued, end the spans that began here, then let go."""
        self._worker.retire()

    def resume(self) -> None:
        """Take `retire` back."""
        self._worker.retire(False)

    def hurry(self, timeout: float) -> None:
        """Have what is queued kept within `timeout` seconds: what can't be written is put aside."""
        self._worker.hurry(timeout)

    def stop(self, timeout: float) -> None:
        """Ask the worker to `hurry` and to end; spans that end later are counted as dropped."""
        self.closed = True
        self._lost_before_stop = self._worker.counts.lost
        self._worker.stop(timeout)

    def join(self, timeout: float) -> int:
        """Wait for `stop` to take effect; return how many records did not reach the store since."""
        self._worker.join(timeout)
        stats = self.stats()
        return stats.queued + stats.dropped["lost"] - self._lost_before_stop

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
        counts = self._worker.counts  # before the queue's: what is settled then is accepted now
        queue = self.queue.statistics()
        assembler = self._worker.assembler
        assembly = assembler.counts if assembler is not None else AssemblyCounts()
        dropped = {
            **queue.refused,
            "encode": self._encode_failed.value,
            "closed": self._after_close.value,
            "event": assembly.events,
            "lost": counts.lost,
        }
        return Stats(
            queued=queue.accepted - counts.settled,
            queue_bytes=queue.bytes,
            accepted=queue.accepted,
            written=counts.settled - counts.lost,
            dropped=dropped,
            spans=counts.spans,
            batches=counts.batches,
            retries=counts.retries,
            open_spans=assembler.open_spans if assembler is not None else 0,
            unsampled=self.unsampled.value,
            truncated=assembly.truncated + self._truncated.value,
            redaction_failed=assembly.redaction_failed + self._redaction_failed.value,
            batches_put_aside=self._worker.store.batches_put_aside,
            files_moved_aside=self._worker.store.files_moved_aside,
            slow_hooks=self._worker.hooks.slow,
            last_error=self._errors.last,
        )


async def _nothing(store: Store) -> None:
    """Ask nothing of the store: the barrier before it is the point."""


def _attributes_of(record: Record, size: int) -> int:
    """Return about how many of an encoded record's bytes are attributes: all but its payloads."""
    payloads = (getattr(record, name, None) for name in ("inputs", "outputs", "value"))
    return size - sum(len(payload.data) for payload in payloads if payload is not None)
