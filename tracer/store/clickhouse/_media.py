"""Images, recordings and files: stored once by hash, and not found any more when no trace refers to them.

Their rows are deleted later (`tracer.store.clickhouse._upkeep`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tracer._exceptions import MediaNotFoundError
from tracer._models import Media
from tracer.store.batch import MediaRow
from tracer.store.clickhouse._connection import Connection
from tracer.store.clickhouse._rows import fixed_row
from tracer.store.clickhouse._sql import live

__all__ = ["read_media", "write_media"]

_SMALL = 64 * 1024  # bytes
_USED = f"SELECT hash FROM span_media WHERE {live('medium')} AND hash"


def write_media(connection: Connection, media: Sequence[MediaRow], keys: dict[str, int], born: dict[int, int]) -> None:
    """Write media that are not stored yet (large ones one a statement), then which spans use them."""
    if not media:
        return
    missing = {row.hash: row for row in media}
    stored = "SELECT hash FROM media WHERE hash IN ?:Array(String)"
    for (known,) in connection.fetch(stored, (list(missing),)):
        missing.pop(known, None)
    connection.insert("media", [_row(medium) for medium in missing.values() if len(medium.data) < _SMALL])
    for medium in missing.values():
        if len(medium.data) >= _SMALL:
            connection.insert("media", [_row(medium)])
    links = sorted({(row.hash, keys[row.trace_id], row.span_id) for row in media})
    rows = [
        {"hash": hash_, "trace_key": key, "span_id": span_id, "row": fixed_row(hash_, key, span_id, born[key])}
        for hash_, key, span_id in links
    ]
    connection.insert("span_media", rows)


def _row(medium: MediaRow) -> dict[str, object]:
    size = len(medium.data)
    return {"hash": medium.hash, "content_type": medium.content_type, "size": size, "data": medium.data}


def read_media(connection: Connection, media_hash: str) -> Media:
    """Return one medium. Raises MediaNotFoundError."""
    sql = f"SELECT content_type, data FROM media WHERE hash = ?:String AND hash IN ({_USED} = ?:String) LIMIT 1"
    row = connection.row(sql, (media_hash, media_hash), raw=("data",))
    if row is None:
        raise MediaNotFoundError(f"no media with the hash {media_hash!r} are stored")
    return Media(hash=media_hash, content_type=row[0], data=row[1])
