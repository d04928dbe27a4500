"""From records to batches: of rows, or of records for a store that interprets them (`tracer.store.raw`)."""

from __future__ import annotations

from collections.abc import Callable

from tracer._config import Settings
from tracer.assembly.assembler import Assembler, Hooks
from tracer.assembly.counts import AssemblyCounts
from tracer.assembly.raw_batches import interpret
from tracer.capture.records import Encoded, SpanStarted
from tracer.interpret.cost import Prices
from tracer.pipeline.shipper import Shipper
from tracer.store.base import Store
from tracer.store.batch import Batch, ProcessRow
from tracer.store.raw import TakesRecords

__all__ = ["Interpreter"]

MAX_RAW_BYTES = 16 * 1024 * 1024  # in one batch; a larger one is sent as rows, which can be cut into pieces


class Interpreter:
    """Makes batches, and has the state of the spans that are open. Used only in the worker's thread.

    Records are sent as they are, if the store takes them. With ``redact=``, ``prices=``, ``keep_bodies=`` or
    ``capture_content=False`` they are interpreted here instead, so that what these change or leave out never leaves the
    process; and so is a batch with what the crash ring would not keep as it is, either (`Shipper.is_private`).

    Args:
        process: The process that writes.
        store: Where the batches go.
        report: Called with what could not be interpreted; the span is kept without that part.
    """

    def __init__(self, process: ProcessRow, store: Store, report: Callable[[str, Exception], None]) -> None:
        self._assembler = Assembler(process, report, only_ended=store.only_sends)
        self._process = process
        self._report = report
        self._hooks: Hooks = ()
        self._shipper: Shipper | None = None
        self._ships = False
        if isinstance(store, TakesRecords):
            self._shipper = Shipper()
            self._ships = True
            store.listen(self._shipper.hear)

    @property
    def _spans(self) -> Assembler | Shipper:
        return self._shipper if self._ships and self._shipper is not None else self._assembler

    @property
    def open_spans(self) -> int:
        """How many spans have started and not ended."""
        return self._spans.open_spans

    def is_open(self, span_id: str) -> bool:
        """Tell whether a span has started and not ended."""
        return self._spans.is_open(span_id)

    def starts(self) -> list[SpanStarted]:
        """Return how the open spans began. Names are as hooks left them."""
        return self._spans.starts()

    @property
    def counts(self) -> AssemblyCounts:
        """What happened to records on the way into rows."""
        here = self._assembler.counts
        if self._shipper is None:
            return here
        sent = self._shipper.counts
        return AssemblyCounts(*(getattr(here, name) + getattr(sent, name) for name in here.__struct_fields__))

    def configure(self, settings: Settings, hooks: Hooks, prices: Prices | None) -> None:
        """Take note of the settings for the records that come now."""
        self._hooks = hooks
        self._assembler.prices, self._assembler.max_payload_bytes = prices, settings.max_payload_bytes
        self._assembler.keep_bodies = settings.keep_bodies
        if self._shipper is None:
            return
        self._shipper.max_payload_bytes = settings.max_payload_bytes
        ships = settings.capture_content and not (hooks or prices or settings.keep_bodies)
        if self._ships and not ships:
            self._ships = False
            self._assembler.responses.add(self._shipper.counted.ids())
            for records, state in self._shipper.hand_over():
                self._assembler.remember(records, state, hooks)
        elif ships and not self._ships and not self._assembler.open_spans:
            self._ships = True
            self._shipper.counted.add(self._assembler.responses.ids())

    def feed(self, record: Encoded) -> None:
        """Take one record in. A record that can't be understood is counted, never raised."""
        if self._ships and self._shipper is not None:
            self._shipper.feed(record)
        else:
            self._assembler.feed(record, self._hooks)

    def take_batch(self, offer: Callable[[], None]) -> Batch:
        """Return what came since the last call. The caller must write it.

        `offer` is called again and again, so that the caller can let other threads go first.
        """
        if not self._ships or self._shipper is None:
            return self._assembler.take_batch(offer)
        raw = self._shipper.take()
        batch = Batch(process=self._process, raw=raw)
        if raw is None or not (self._shipper.is_private or raw.size > MAX_RAW_BYTES):
            return batch
        rows, learnt = interpret(batch, raw, self._report, offer)
        self._shipper.hear(learnt)
        return rows
