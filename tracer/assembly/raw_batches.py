"""Interprets batches of raw records (`tracer.store.raw`). It has no state: all that it needs is in the batch."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tracer.assembly.assembler import Assembler, Hooks
from tracer.assembly.counts import AssemblyCounts
from tracer.capture.records import Encoded, LargeRecord
from tracer.store.batch import Batch
from tracer.store.raw import Learnt, RawBatch, RawRecord

__all__ = ["interpret"]


def interpret(
    batch: Batch,
    raw: RawBatch,
    report: Callable[[str, Exception], None],
    offer: Callable[[], None] = lambda: None,
    hooks: Hooks = (),
) -> tuple[Batch, Learnt]:
    """Return the batch with rows in place of its records, and what its sender must know.

    Args:
        batch: Whose process, losses and sources are taken over.
        raw: Its records.
        report: Called with what could not be interpreted; the span is kept without that part.
        offer: Called after each record.
        hooks: Functions from text to text.
    """
    assembler = Assembler(batch.process, report)
    assembler.max_payload_bytes = raw.max_payload_bytes
    assembler.responses.add(raw.counted)
    for span in raw.remembered:
        assembler.remember([_encoded(record) for record in span.records], span.state, hooks)
        offer()
    for record in raw.records:
        try:
            assembler.feed(_encoded(record), hooks)
        except Exception as error:
            report("a record could not be interpreted", error)
        offer()
    rows = assembler.take_batch(offer)
    rows.losses, rows.sources, rows.once = batch.losses, batch.sources, batch.once
    return rows, Learnt(assembler.states(), assembler.responses.ids()[len(raw.counted) :], _changed(assembler.counts))


def _encoded(record: RawRecord) -> Encoded:
    return record if isinstance(record, bytes) else LargeRecord(*record)


def _changed(counts: AssemblyCounts) -> dict[str, int]:
    return {name: count for name, count in msgspec.structs.asdict(counts).items() if count}
