"""Pipeline: one queue, one worker, one store, and counts that account for every record.

A change of the tracking URI makes a new pipeline. The old one writes what it has accepted, and ends the spans that
began in it. After a fork the child makes its own pipeline, and forgets its parent's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from tracer._config import Settings
from tracer._exceptions import ClosedError, StoreError
from tracer.capture.limits import VALUE_ITEMS
from tracer.capture.records import (
    Codec,
    LargeRecord,
    Payload,
    Rank,
    Record,
    SpanChunk,
    SpanEnded,
    SpanStarted,
    encode,
)
from tracer.capture.snapshots import encode_attributes
from tracer.capture.weight import fits
from tracer.interpret import redact
from tracer.otlp.endpoint import read_endpoint
from tracer.otlp.sending import import_modules
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._hook_watch import RunningHook
from tracer.pipeline._jobs import Answer
from tracer.pipeline._queue import RecordQueue, Tally
from tracer.pipeline._unfinished import Unfinished
from tracer.pipeline.clock import Clock, Ids
from tracer.pipeline.ring import MAX_RECORD
from tracer.pipeline.skeletons import encode_skeleton, quotes_a_key
from tracer.pipeline.worker import Worker
from tracer.process import forks
from tracer.process.native_threads import why_there_are_none
from tracer.store import make_store
from tracer.store.base import Retention, Store

__all__ = ["LARGE", "Pipeline", "Stats"]

T = TypeVar("T")
logger = logging.getLogger("tracer")

# Looking up an enum member is slow on Python 3.11 (0.25 µs).
_WIRE, _START, _END = Codec.WIRE, Rank.START, Rank.END

LARGE = 64 * 1024  # bytes; a larger body is not copied into its record


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the records; every loss is counted.

    Always ``accepted == queued + written + spooled + dropped["lost"] + dropped["spool"]``.

    Attributes:
        queued: Records accepted and not yet written; `queue_bytes` is their size.
        accepted: Records that the queue took; `written` counts those that reached the store.
        dropped: Records that were not kept, by reason: ``chunk``, ``detail``, ``start`` (a full queue refused records
            of this rank), ``encode``, ``closed`` (made after shutdown, or while the environment is wrong), ``event``
            (too many for one span: more than 10,000, or than ``max_payload_bytes``), ``lost`` (accepted, but the
            store refused them for good, or their span had been given up), ``spool`` (accepted, but gave way when
            ``spool_max_bytes`` was reached) and ``others`` (the same, of processes that have ended).
        expired: Traces that this process deleted because ``retention_max_age`` or ``retention_max_bytes`` keeps them no
            longer. This is a choice, not a loss.
        spans: Rows written. A span that was still running when it was first written counts twice.
        unsampled: Traces left out by ``sample_rate``. This is a choice, not a loss.
        truncated: Bodies, values, attributes and exceptions that were kept only in part.
        bodies_left_out: Spans that were stored without inputs and outputs, as ``keep_bodies`` says. This is a choice,
            not a loss.
        redaction_failed: Texts withheld because a ``redact=`` hook raised.
        retries: Writes that were tried again.
        exports: Spans that were to be sent (``otlp_endpoint``): ``sent``, ``refused`` (the receiver will never take
            them) and ``deleted`` (before they could be sent); and ``retries``, requests that failed and are to be sent
            again. What waits is in the store.
        slow_hooks: The ``redact=`` and ``prices=`` hooks that ever took longer than a second, each with the seconds of
            its longest call. Includes a hook that runs now. While a hook runs, nothing is written or read.
        open_spans: Spans that have started and not ended.
        given_up: Spans that were closed as ``abandoned`` because 10,000 younger ones were open.
        spooled: Records that wait in ``<database>-spool/``, because the database could not take them so far: it is
            locked, or the disk refuses, or it was in use when this process was forked. They are written once it can; at
            the latest by the next process that opens it.
        files_moved_aside: Damaged database files that this process moved aside before it went on with a new file.
        crash_ring: The file that keeps what is queued if the process is killed, with its size; None if there is none.
        unringed: Of `accepted`, records of which that file keeps nothing: it was full, or they are only content that
            must not lie there (with ``redact=``, ``capture_content=False``, or beside credentials).
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
    exports: dict[str, int]
    open_spans: int
    given_up: int
    unsampled: int
    expired: int
    truncated: int
    bodies_left_out: int
    redaction_failed: int
    spooled: int
    files_moved_aside: int
    crash_ring: str | None
    unringed: int
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
    """Takes records from the caller's thread to one store. Opens nothing until there is a record or a reader.

    The store object is made here, so that a later change of the working directory doesn't change its path.

    Raises:
        ConfigurationError: The URI is malformed. Problems of its file are found only when the file is opened.
    """

    def __init__(self, uri: str, settings: Settings, clock: Clock, ids: Ids) -> None:
        self.uri = uri
        self.clock = clock
        self.ids = ids
        self.settings = settings
        self.queue = RecordQueue(settings.queue_max_records, settings.queue_max_bytes)
        self.unsampled = Tally()
        self.unfinished = Unfinished()
        self.closed = False
        self._encode_failed = Tally()
        self._after_close = Tally()
        self._truncated = Tally()
        self._redaction_failed = Tally()
        self._errors = ErrorLog()
        self._worker = Worker(self.queue, make_store(uri), lambda: self.settings, self._errors)
        self._lost_before_stop = 0
        self._configure_store()

    # --- producers ------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings) -> None:
        """Take new settings; what is queued stays."""
        self.settings = settings
        self._worker.crash_ring.on_settings(settings)
        self.queue.set_limits(settings.queue_max_records, settings.queue_max_bytes)
        self._configure_store()
        self._worker.wake()

    def _configure_store(self) -> None:
        options, settings = self._worker.store.options, self.settings
        options.time_limit = settings.read_timeout
        options.durable = settings.durability == "full"
        options.exports = settings.otlp_endpoint is not None
        options.export_headers, options.export_keys = settings.otlp_headers, settings.otlp_keys
        if settings.otlp_endpoint is not None:
            import_modules(read_endpoint(settings.otlp_endpoint))
        options.retention = Retention(max_age=settings.retention_max_age, max_bytes=settings.retention_max_bytes)

    def push(self, record: Record, rank: Rank, body: Payload | None = None) -> bool:
        """Encode a record and queue it. If it is refused, count it and return False. Never blocks, never raises.

        Args:
            record: Must not be used afterwards.
            rank: How important the record is. A start or an end with a body has the rank of a detail; if there is no
                room for details, it is queued without its body.
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
                data = self._encode_by_hand(record)
        except Exception:  # a user's attribute that is not JSON-like data
            data = self._encode_by_hand(record)
        if data is None:
            return False
        if self.queue.lacks_ring:
            self._worker.crash_ring.open(self._worker.store.beside)
        skeleton = None
        if self.queue.wants_skeletons or len(data) > MAX_RECORD or quotes_a_key(record):
            # A chunk has nothing but content. If it is only too large, the ring notes that there was one.
            if type(record) is not SpanChunk or len(data) > MAX_RECORD:
                skeleton = encode_skeleton(record, hides_names=bool(self.settings.redact))
            else:
                skeleton = b""
        accepted = self.queue.push(data if aside is None else LargeRecord(data, aside), rank, skeleton)
        if not accepted:
            self._worker.hooks.complain()
            if body is not None:
                return self._push_without_body(record)
        if not self._worker.is_running:  # checked after the push: an ending thread clears this, then checks the queue
            self._start_worker()
        return accepted

    def withhold_texts(self) -> None:
        """Before a span whose texts may not be stored: have no file keep them, not even for a moment."""
        self._worker.crash_ring.withhold_texts()

    def _start_worker(self) -> None:
        """Start the worker (`push` rarely calls this). If nothing can be traced, log it once and refuse records."""
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
                record = msgspec.structs.replace(record, attributes=self._plain(attributes))
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

    def encoded(self, attributes: dict[str, Any]) -> Any:
        """Return a user's attributes, encoded; if they are too large, what is kept of them (this is counted)."""
        limit, data = self.settings.max_payload_bytes, None
        try:
            if fits(attributes, VALUE_ITEMS, limit):
                data = encode(attributes)
        except Exception:  # what msgspec can't encode is made plain data
            data = None
        return msgspec.Raw(data if data is not None and len(data) <= limit else encode(self._plain(attributes)))

    def _plain(self, attributes: dict[str, Any]) -> dict[str, Any]:
        plain, left_out = encode_attributes(attributes, self.settings.max_payload_bytes)
        if left_out:
            self._truncated.add()
        return plain

    def refuse(self, rank: Rank) -> None:
        """Count a record that was not even made."""
        if self.closed:
            self._after_close.add()
        else:
            self.queue.refuse(rank)

    # --- the worker -----------------------------------------------------------------------------------------------

    def settle(self) -> Answer[None]:
        """Wait until everything accepted so far is written. Raises the same errors as `submit`."""
        return self.submit(_nothing, barrier=True)

    def settle_before_the_end(self) -> Answer[None]:
        """Do the same in a process that ends by ``os._exit``. It leaves no ring, unless something can't be written."""

        async def end_ring(store: Store) -> None:
            for name in self._worker.crash_ring.end():
                await store.forget_source(name)

        return self.submit(end_ring, barrier=True)

    def submit(self, job: Callable[[Store], Awaitable[T]], *, barrier: bool) -> Answer[T]:
        """Ask a `question` at once. If Ctrl-C comes before its answer is returned, the job may run to its end."""
        return self.question(job, barrier=barrier).ask()

    def question(self, job: Callable[[Store], Awaitable[T]], *, barrier: bool) -> Answer[T]:
        """Return the answer of a coroutine function that runs on the open store in the worker's loop.

        `Answer.ask`, which `bridge.wait` calls, submits it. With `barrier` it runs after everything that was accepted
        before that is written.

        Raises:
            ClosedError: After `stop`.
            StoreError: The worker could not be started, or can't run because eventlet has replaced threads.
        """
        if reason := why_there_are_none():
            raise StoreError(reason)
        if self.closed:
            raise ClosedError("tracer was shut down; tracer.set_tracking_uri() opens it again")
        worker = self._worker

        async def run() -> T:
            if barrier:
                await worker.settle_accepted()
            await worker.adoption.adopt_for_reader()
            return await job(worker.store)

        return worker.question(run)

    def redact(self, text: str) -> str:
        """Apply the hooks to a text that goes to the store without a record. A failure is counted.

        Only for jobs, in the worker's loop, so that a slow hook holds up nobody else.
        """
        redacted, failures = redact(text, self._worker.hooks.redact(self.settings.redact))
        if failures:
            self._redaction_failed.add()
        return str(redacted)

    @property
    def running_hook(self) -> RunningHook | None:
        """The user's hook that the worker is running now."""
        return self._worker.hooks.running

    @property
    def is_running(self) -> bool:
        """True if a worker runs, or if records wait for one."""
        return self._worker.is_running or len(self.queue) > 0

    @property
    def has_ring(self) -> bool:
        """Records are kept in a crash ring as well."""
        return self._worker.crash_ring.is_used

    def retire(self) -> None:
        """Another pipeline takes over: write what is queued, end the spans that began here, then stop."""
        self._worker.retire()

    def resume(self) -> None:
        """Undo `retire`."""
        self._worker.retire(False)

    def hurry(self, timeout: float) -> None:
        """Make sure that what is queued is kept within `timeout` seconds: what can't be written is put aside."""
        self._worker.writer.hurry(timeout)

    def stop(self, timeout: float) -> None:
        """Ask the worker to `hurry` and to end; spans that end later are counted as dropped."""
        self.closed = True
        self._lost_before_stop = self._worker.writer.counts.lost
        self._worker.stop(timeout)

    def join(self, timeout: float) -> int:
        """Wait for `stop` to take effect; return how many records did not reach the store since `stop` was called."""
        self._worker.join(timeout)
        stats = self.stats()
        return stats.queued + stats.dropped["lost"] - self._lost_before_stop

    def forget(self) -> None:
        """After a fork, in the child: this pipeline is the parent's. Nothing is written, closed or freed here.

        The object is made immortal, because to free it would close an inherited SQLite connection. That can hang on a
        lock that a thread of the parent held at the moment of the fork (measured: 43 of 60 forks under a busy writer).
        """
        self.closed = True
        self._worker.crash_ring.forget()
        forks.make_immortal(self)

    # --- counts ---------------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count. Safe in any thread."""
        worker = self._worker
        counts = worker.writer.counts  # read before the queue's, so that what is settled is always accepted
        queue = self.queue.statistics()
        assembly = worker.settler.interpreter.counts
        dropped = {
            **queue.refused,
            "encode": self._encode_failed.value,
            "closed": self._after_close.value,
            "event": assembly.events,
            "lost": counts.lost,
            "spool": counts.shed,
            "others": counts.shed_of_others,
        }
        return Stats(
            queued=queue.accepted - counts.settled,
            queue_bytes=queue.bytes,
            accepted=queue.accepted,
            written=counts.settled - counts.lost - counts.spooled - counts.shed,
            dropped=dropped,
            spans=counts.spans,
            batches=counts.batches,
            retries=counts.retries,
            exports=msgspec.structs.asdict(worker.store.export_counts or worker.exporter.counts),
            open_spans=worker.settler.interpreter.open_spans,
            given_up=assembly.given_up,
            unsampled=self.unsampled.value,
            expired=worker.store.expired,
            truncated=assembly.truncated + self._truncated.value,
            bodies_left_out=assembly.bodies_left_out,
            redaction_failed=assembly.redaction_failed + self._redaction_failed.value,
            spooled=counts.spooled,
            crash_ring=worker.crash_ring.place,
            unringed=self.queue.unringed,
            files_moved_aside=worker.store.files_moved_aside,
            slow_hooks=worker.hooks.slow,
            last_error=self._errors.last,
        )


async def _nothing(store: Store) -> None:
    """Do nothing with the store. This job is needed only for the barrier before it."""


def _attributes_of(record: Record, size: int) -> int:
    """Return about how many of an encoded record's bytes are attributes that may have to be cut: all but payloads."""
    if isinstance(getattr(record, "attributes", None), msgspec.Raw):
        return 0
    payloads = (getattr(record, name, None) for name in ("inputs", "outputs", "value"))
    return size - sum(len(payload.data) for payload in payloads if payload is not None)
