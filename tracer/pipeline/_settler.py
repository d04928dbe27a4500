"""From drained records to rows in the store. Each record is written, or put aside in a file, or lost and counted."""

from __future__ import annotations

from tracer._config import Settings
from tracer.capture.records import Encoded, LargeRecord
from tracer.pipeline._batch_writer import BatchWriter, Fate
from tracer.pipeline._error_log import ErrorLog
from tracer.pipeline._hook_watch import HookWatch
from tracer.pipeline._losses import Losses
from tracer.pipeline._queue import RecordQueue
from tracer.pipeline._time_slices import Slices
from tracer.pipeline.crash_ring import CrashRing
from tracer.pipeline.interpreter import Interpreter
from tracer.store.base import Store
from tracer.store.batch import Batch
from tracer.store.process import current_process

__all__ = ["Settler"]

BACKLOG = 1_024  # with this many records in the queue, the worker no longer lets other threads go first


class Settler:
    """Assembles records, has them written, and frees the room that they took. For the worker's thread.

    Attributes:
        interpreter: Has the spans that are open; it outlives a failure of the worker's loop.
    """

    def __init__(
        self,
        queue: RecordQueue,
        store: Store,
        writer: BatchWriter,
        crash_ring: CrashRing,
        hooks: HookWatch,
        errors: ErrorLog,
    ) -> None:
        self.interpreter = Interpreter(current_process(), store, errors.report)
        self._queue = queue
        self._writer = writer
        self._crash_ring = crash_ring
        self._hooks = hooks
        self._errors = errors
        self._losses = Losses(self._count_losses)
        self._slices = Slices()

    @property
    def has_news(self) -> bool:
        """Something was lost that the store has yet to be told."""
        return self._losses.are_new

    async def settle(self, records: list[Encoded], settings: Settings) -> bool:
        """Assemble records, write the result and new losses, and count them; return False if all of them are lost."""
        batch: Batch | None
        ringed = self._queue.take_ringed()
        try:
            lost = self._feed(records, settings)
            batch = self.interpreter.take_batch(self.offer)
        except Exception as error:
            self._errors.report("records could not be assembled", error, len(records))
            batch, lost = None, len(records)
        if batch is not None and not self._crash_ring.is_left:
            batch.sources = {ring.name: sequence for ring, sequence in ringed.items()}
        fate = Fate.WRITTEN
        if batch is not None:
            batch.losses = self._losses.take()
            if batch.traces or batch.spans or batch.losses or batch.raw:
                fate = await self._writer.write(batch, len(records) - lost)
            if fate is Fate.LOST:
                self._losses.give_back(batch.losses)
        if fate is Fate.LOST:
            lost = len(records)
            if self._writer.is_overdue:
                self._crash_ring.leave()
        try:
            self._crash_ring.settle(ringed, self.interpreter)
        except Exception as error:
            self._errors.report("the crash ring failed, and is used no more", error)
            self._crash_ring.abandon()
        spooled = len(records) - lost if fate is Fate.SPOOLED else 0
        self._writer.count(settled=len(records), lost=lost, spooled=spooled)
        return lost < len(records) or not records

    def _feed(self, records: list[Encoded], settings: Settings) -> int:
        """Give the interpreter its records, in time slices; return how many of them could not be used."""
        interpreter = self.interpreter
        failed, useless = 0, self._useless
        interpreter.configure(settings, self._hooks.redact(settings.redact), self._hooks.prices(settings.prices))
        self._slices.begin()
        for record in records:
            try:
                if isinstance(record, LargeRecord):
                    self._crash_ring.look_at(record)
                interpreter.feed(record)
            except Exception as error:
                self._errors.report("a record could not be interpreted", error)
                failed += 1
            self.offer()
        return failed + self._useless - useless

    @property
    def _useless(self) -> int:
        counts = self.interpreter.counts
        return counts.undecodable + counts.orphaned

    def offer(self) -> None:
        """Let the user's threads go first, unless they produce more than we could then write.

        A thread that computes keeps the GIL for 5 ms each time it gets it. If we took turns with such a thread, one
        short slice of ours for each of its 5 ms, we could not keep up with 300 calls a second. So with a backlog we do
        not offer the GIL, and keep it until the interpreter takes it from us.
        """
        if len(self._queue) < BACKLOG:
            self._slices.offer()

    def _count_losses(self) -> dict[str, int]:
        counts = self._writer.counts
        return {
            "start": self._queue.statistics().refused["start"],
            "lost": counts.lost,
            "spool": counts.shed + counts.shed_of_others,
        }

    def give_up_drained(self, error: BaseException) -> None:
        """Count what was drained when the loop failed as lost.

        If it was assembled, it may still be written later. So this may count too many records as lost, never too few.
        """
        in_flight = self._queue.drained - self._writer.counts.settled
        self._errors.report("records were lost as the worker failed; it starts again", error, in_flight)
        self._writer.count(settled=in_flight, lost=in_flight)

    def give_up_queued(self) -> None:
        """Count what is still queued as lost, though the crash ring may have some of it for the next process."""
        self._crash_ring.leave()
        while records := self._queue.drain(BACKLOG):
            self._writer.count(settled=len(records), lost=len(records))
