"""Batches that are larger than one request may be are sent in pieces, each of which is stored once."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tracer.store.batch import Batch, ChunkRow, MediaRow, SpanRow, TracePatch

__all__ = ["PIECE_BYTES", "split"]

PIECE_BYTES = 16 * 1024 * 1024  # about; a row is never cut, so a piece may have more
MAX_ROWS = 5_000
_PIECES = 1 << 20  # more than a batch can have: the number of a piece is its batch's times this, and its place

Row = TracePatch | SpanRow | ChunkRow | MediaRow


def split(batch: Batch, limit: int = PIECE_BYTES) -> list[Batch]:
    """Return a batch in pieces, for one transaction each; the same ones for the same batch.

    A piece has its own mark, so that it is stored once. What belongs to the batch as a whole comes with the last piece.
    """
    groups = list(_groups(batch, limit))
    if len(groups) <= 1:
        return [batch]
    pieces = [_piece(batch, rows) for rows in groups]
    _give_each_its_trace(pieces, {patch.trace_id: patch for patch in batch.traces})
    for place, piece in enumerate(pieces[:-1]):
        for name in batch.once:
            piece.sources[f"{name}#"] = batch.sources[name] * _PIECES + place + 1
        piece.once = [*piece.sources]
    last = pieces[-1]
    last.losses, last.sources, last.once = batch.losses, batch.sources, batch.once
    return pieces


def _groups(batch: Batch, limit: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    rows: tuple[list[Row], ...] = ([*batch.traces], [*batch.spans], [*batch.chunks], [*batch.media])
    for row in (row for kind in rows for row in kind):
        weight = _weight(row)
        if group and (size + weight > limit or len(group) >= MAX_ROWS):
            yield group
            group, size = [], 0
        group.append(row)
        size += weight
    if group:
        yield group


def _weight(row: Row) -> int:
    if isinstance(row, SpanRow):
        texts = (row.inputs, row.outputs, row.attributes, row.events, row.chunks, row.text)
        return 200 + sum(len(text) for text in texts if text is not None)
    if isinstance(row, ChunkRow):
        return 100 + sum(len(data) + 20 for _, data in row.chunks)
    return len(row.data) + 200 if isinstance(row, MediaRow) else 500


def _piece(batch: Batch, rows: list[Row]) -> Batch:
    return Batch(
        process=batch.process,
        traces=[row for row in rows if isinstance(row, TracePatch)],
        spans=[row for row in rows if isinstance(row, SpanRow)],
        chunks=[row for row in rows if isinstance(row, ChunkRow)],
        media=[row for row in rows if isinstance(row, MediaRow)],
    )


def _give_each_its_trace(pieces: list[Batch], patches: dict[str, TracePatch]) -> None:
    """A piece names the trace of each of its spans. The whole patch came before; its counts must not be added again."""
    for piece in pieces:
        named = {patch.trace_id for patch in piece.traces}
        for trace_id in dict.fromkeys(span.trace_id for span in piece.spans):
            if trace_id not in named and (patch := patches.get(trace_id)) is not None:
                piece.traces.append(msgspec.structs.replace(patch, dropped={}))
