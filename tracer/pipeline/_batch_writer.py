"""BatchWriter: brings assembled batches into the store, or into the spool while the store can't take them."""

from __future__ import annotations

import enum
import logging
import struct
import time
import zlib
from collections.abc import Callable

import anyio
import msgspec

from tracer._config import Settings
from tracer._exceptions import StoreError, TransientStoreError
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline.spool import Spool, Waiting
from tracer.store.base import Store
from tracer.store.batch import Batch
from tracer.store.uri import redact_uri, spool_directory

__all__ = ["RETRY_LAST", "BatchWriter", "Fate", "WorkerCounts"]

logger = logging.getLogger("tracer")

RETRY_FIRST, RETRY_LAST = 0.05, 1.0
KEPT_BACK = 1.0  # seconds reserved, at an end, for the spool; but at most half of the end's time
LOCK_PATIENCE = 0.5  # seconds that a store which has failed may wait for another process's lock
AT_LEAST = 2  # batches that are written from the spool before another one is added to it


class WorkerCounts(msgspec.Struct, frozen=True):
    """What the worker did. Replaced as a whole, so that a reader sees figures of one moment."""

    settled: int = 0  # records that left the queue for good; each counts in one of the next three, or was written
    lost: int = 0  # the store refused them for good, or they could not be used
    spooled: int = 0  # they wait in the spool
    shed: int = 0  # they gave way in the spool
    shed_of_others: int = 0  # records of ended processes that gave way; they are not among the settled
    batches: int = 0
    spans: int = 0
    retries: int = 0


class Fate(enum.Enum):
    """What became of a batch."""

    WRITTEN = enum.auto()
    SPOOLED = enum.auto()
    LOST = enum.auto()


class BatchWriter:
    """Writes batches in order, each once; for the worker's thread, but for `hurry` and the attributes.

    Args:
        store: Where batches go.
        queue: How full it is decides when a batch goes into the spool.
        settings: Returns the current settings.
        errors: Receives what goes wrong.

    Attributes:
        counts: What was done so far.
        failing_since: Since when the store has been failing (`time.monotonic`); None if it works.
        only_sends: The store keeps nothing (`Store.only_sends`).
        refusal: Why the store takes nothing until somebody changes something; None if it works, or may soon.
        spool: What could not be written yet.
    """

    def __init__(self, store: Store, queue: RecordQueue, settings: Callable[[], Settings], errors: ErrorLog) -> None:
        self.counts = WorkerCounts()
        self.failing_since: float | None = None
        self.refusal: StoreError | None = None
        self.spool = Spool(store.beside, lambda: settings().spool_max_bytes)
        self.only_sends = store.only_sends
        self._store = store
        self._queue = queue
        self._errors = errors
        self._stop_at = float("inf")
        self._next_try = 0.0
        self._not_before = 0.0  # as the store asked
        self._told_of_spool = False

    def hurry(self, timeout: float) -> None:
        """Keep what comes from now on within `timeout` seconds: what can't be written by then goes into the spool."""
        self._stop_at = time.monotonic() + timeout - min(KEPT_BACK, timeout / 2)
        self._store.options.deadline = self._store.options.ends_at = self._stop_at

    @property
    def seconds_left(self) -> float:
        """How long a batch may still wait for the store."""
        return max(0.0, self._stop_at - time.monotonic())

    @property
    def is_overdue(self) -> bool:
        """The time that `hurry` gave is over."""
        return not self.seconds_left

    @property
    def can_replay(self) -> bool:
        """Something waits in the spool, and there is time to try to write it."""
        return not self.spool.is_empty and self._store.may_open and not self.is_overdue

    async def write(self, batch: Batch, records: int) -> Fate:
        """Write a batch, after what waits in the spool, and try again as long as that may help.

        If the queue is half full meanwhile, or time is up, the batch goes into the spool.
        """
        delay = RETRY_FIRST
        while not self._gives_up:
            fate = None
            if not self._store.may_open:
                fate = self._put_aside(batch, records)
            elif self._is_worth_a_try() and await self.replay():
                fate = await self._try(batch, records)
            if fate is None and self._queue.is_pressed and self._put_aside(batch, records) is Fate.SPOOLED:
                fate = Fate.SPOOLED
            if fate is not None:
                return fate
            await anyio.sleep(min(delay, self.seconds_left))
            delay = min(delay * 2, RETRY_LAST)
        return self._put_aside_at_the_end(batch, records)

    async def replay(self) -> bool:
        """Write what waits in the spool, oldest first, in at most half of the time; True if nothing waits any more."""
        written = 0
        while (first := self._first()) is not None:
            if self.is_overdue or (written >= AT_LEAST and self._queue.is_pressed):
                return False
            began = time.monotonic()
            fate = await self._try(first.batch, first.records)
            if fate is None:
                return False
            self.spool.pop()
            self.count(spooled=-first.records, lost=first.records if fate is Fate.LOST else 0)
            written += 1
            await anyio.sleep(min(time.monotonic() - began, self.seconds_left) if self._stop_at == float("inf") else 0)
        return True

    def count(self, **changes: int) -> None:
        """Add to the counts."""
        counts = self.counts
        self.counts = msgspec.structs.replace(
            counts, **{name: getattr(counts, name) + change for name, change in changes.items()}
        )

    def _first(self) -> Waiting | None:
        try:
            return self.spool.first()
        except (OSError, zlib.error, struct.error, msgspec.MsgspecError) as error:
            lost = self.spool.drop_first_file()
            self.count(spooled=-lost, lost=lost)
            self._errors.report("records were lost, as a file of the spool can't be read", error, lost)
        return self._first()

    @property
    def _gives_up(self) -> bool:
        """The process ends, and time is up while the store fails; or the store refuses, which time will not mend."""
        if self.is_overdue:
            return self.failing_since is not None or not self.spool.is_empty
        return self.refusal is not None and self._stop_at != float("inf")

    def _is_worth_a_try(self) -> bool:
        """While the store fails and the queue fills, it is tried once a second: each try may take half a second."""
        return self.failing_since is None or not self._queue.is_pressed or time.monotonic() >= self._next_try

    async def _try(self, batch: Batch, records: int) -> Fate | None:
        """Try to write a batch; None if trying again may help. At the end, a pause that the store asked for is cut."""
        if time.monotonic() < self._not_before and self._stop_at == float("inf"):
            return None
        patience = LOCK_PATIENCE if self.failing_since is not None else float("inf")
        self._store.options.deadline = min(self._stop_at, time.monotonic() + patience)
        try:
            await self._store.write(batch)
        except TransientStoreError as error:
            self._note_failure(error, records)
            self.count(retries=1)
            return None
        except Exception as error:
            self._errors.report("records could not be stored", error, records)
            self.failing_since = self.refusal = None
            return Fate.LOST
        self.failing_since = self.refusal = None
        self.count(batches=1, spans=batch.span_count)
        return Fate.WRITTEN

    def _note_failure(self, error: TransientStoreError, records: int) -> None:
        now = time.monotonic()
        self._next_try = now + RETRY_LAST
        self._not_before = now + (error.retry_after or 0.0)
        self.refusal = error if error.is_refusal else None
        self.failing_since = self.failing_since or now
        self._errors.report("records wait for their store", error, records)

    def _put_aside(self, batch: Batch, records: int) -> Fate | None:
        """Add a batch to the spool; None if trying again may help."""
        try:
            spooled, shed = self.spool.append(batch, records)
        except TransientStoreError as error:
            self._note_failure(error, records)
            return None
        if any(shed):
            self.count(spooled=-shed.own, shed=shed.own, shed_of_others=shed.others)
            reason = StoreError("spool_max_bytes is reached")
            self._errors.report("records that waited for their store gave way to newer ones", reason, sum(shed))
        return Fate.SPOOLED if spooled else Fate.LOST

    def _put_aside_at_the_end(self, batch: Batch, records: int) -> Fate:
        if self._put_aside(batch, records) is not Fate.SPOOLED:
            return Fate.LOST
        if not self._told_of_spool and self._store.beside is not None:
            self._told_of_spool = True
            logger.warning(
                "%s could not be written to in time (%s); what was recorded last waits in %s for the next process that "
                "opens it",
                redact_uri(self._store.uri), self._errors.last, spool_directory(self._store.beside),
            )  # fmt: skip
        return Fate.SPOOLED
