"""Takes media out of rows: base64 in a span's JSON and in its stream becomes separate media rows."""

from __future__ import annotations

from collections.abc import Iterable

from tracer import _semconv as sc
from tracer.interpret import decode_json
from tracer.interpret._decompress import decompress
from tracer.interpret.media import MEDIA_CHARS, Medium, Reads, extract_from_reads, extract_media
from tracer.interpret.previews import without_media
from tracer.store.batch import MediaRow, SpanRow

__all__ = ["take_media", "take_media_from_reads"]

_FIELDS = ("inputs", "outputs", "attributes", "events")


def take_media(row: SpanRow) -> list[MediaRow]:
    """Take the media out of a row's JSON, put references in their place, and return the media.

    Content that privacy settings withhold was removed before, so it is not among these media.
    """
    taken: list[MediaRow] = []
    cut = None
    for field in _FIELDS:
        data: bytes | None = getattr(row, field)
        if data is None or len(data) < MEDIA_CHARS:
            continue
        if cut is None:
            cut = _cut_sides(row)
        rest, media = extract_media(data, cut=field in cut, at_end=row.operation is not None)
        if media:
            setattr(row, field, rest)
            taken += _rows(row.trace_id, row.span_id, media)
    if taken and row.text:
        row.text = without_media(row.text)  # a data URL inside a text is a part of that text
    return taken


def take_media_from_reads(
    trace_id: str, span_id: str, reads: Reads, encoding: str | None
) -> tuple[Reads, str | None, list[MediaRow]]:
    """Take the media out of a stream's raw reads. Return the reads, their new content encoding, and the media.

    If media was taken out of compressed reads, the returned reads are no longer compressed. Reads that can't be
    decompressed stay as they are.
    """
    plain, note, *_ = decompress(reads, encoding)
    rest, media = (plain, []) if note else extract_from_reads(plain)
    if not media:
        return reads, encoding, []
    return rest, None, _rows(trace_id, span_id, media)


def _rows(trace_id: str, span_id: str, media: Iterable[Medium]) -> list[MediaRow]:
    return [
        MediaRow(trace_id=trace_id, span_id=span_id, hash=one.hash, content_type=one.content_type, data=one.data)
        for one in media
    ]


def _cut_sides(row: SpanRow) -> frozenset[str]:
    """Return which of a row's sides were cut at ``max_payload_bytes``."""
    if row.attributes is None or sc.TRUNCATED.encode() not in row.attributes:
        return frozenset()
    return frozenset(decode_json(row.attributes).get(sc.TRUNCATED) or ())
