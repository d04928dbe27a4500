"""Batches of records that are interpreted elsewhere: by a tracking server, for a process that only sends them.

Interpreting costs several times what sending does. Whoever interprets keeps nothing between two batches: what is needed
of a span's earlier records comes again, and what they had shown is given to the sender, who brings it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["Learnt", "RawBatch", "RawRecord", "Remembered", "SpanState", "TakesRecords"]

RawRecord = bytes | tuple[bytes, bytes]
"""An encoded record (`tracer.capture.records`); with it, if it is large, its body."""


class SpanState(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """What is known of a span that runs, beyond its records. Whoever interprets them says it, and is told it again.

    Attributes:
        preview: What was asked, in short.
        preview_sent: The preview that the trace got.
        asked: When the first model call below the span began, and what was asked there.
    """

    preview: str | None = None
    preview_sent: str | None = None
    asked: tuple[int, str] | None = None


class Remembered(msgspec.Struct, array_like=True, gc=False):
    """A span that began in an earlier batch: those of its records that came then and that are needed again."""

    records: list[RawRecord]
    state: SpanState | None = None


class RawBatch(msgspec.Struct, array_like=True):
    """Records that nobody has interpreted yet (`tracer.assembly.raw_batches`).

    Attributes:
        records: In the order in which they came.
        remembered: Of spans that are not new.
        counted: Ids of responses whose usage was counted earlier; only those that the records may be about.
        max_payload_bytes: As the sender's settings have it.
        spans: How many spans the records are about.
    """

    records: list[RawRecord]
    remembered: list[Remembered]
    counted: list[str]
    max_payload_bytes: int
    spans: int

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        records = (self.records, *(span.records for span in self.remembered))
        return sum(len(each) if isinstance(each, bytes) else len(each[1]) for some in records for each in some)


class Learnt(msgspec.Struct, array_like=True):
    """What interpreting a `RawBatch` has shown that its sender must know.

    Attributes:
        states: Of spans that run, by id.
        counted: Ids of responses whose usage is counted now.
        counts: What could not be kept, by the names of `tracer.assembly.counts`.
    """

    states: dict[str, SpanState] = msgspec.field(default_factory=dict)
    counted: list[str] = msgspec.field(default_factory=list)
    counts: dict[str, int] = msgspec.field(default_factory=dict)


@runtime_checkable
class TakesRecords(Protocol):
    """A store whose other side interprets records (`Batch.raw`)."""

    def listen(self, heard: Callable[[Learnt], None]) -> None:
        """Have a function called with what each such batch of this process has shown, before `write` returns."""
        ...
