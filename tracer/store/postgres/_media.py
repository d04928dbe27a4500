"""Images, recordings and files: stored once by hash, and deleted with the last trace that refers to them.

Who writes media holds `LOCK_MEDIA` together with others, who deletes traces holds it alone. Otherwise a medium could be
deleted between the moment in which a writer finds it and the one in which it is linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracer.store.batch import MediaRow

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["delete_unused_media", "lock_media", "write_media"]

_LOCK_MEDIA = 0x74726163_65720002
_WRITE = """
INSERT INTO media (hash, content_type, size, data) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO NOTHING
"""
_LINK = """
INSERT INTO span_media (trace_key, span_id, media_key)
SELECT trace_key, span_id, media.key
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS given (trace_key, span_id, hash) JOIN media USING (hash)
ORDER BY trace_key, span_id, media.key ON CONFLICT DO NOTHING
"""
_UNUSED = """
DELETE FROM media WHERE key = ANY($1) AND NOT EXISTS (SELECT 1 FROM span_media WHERE media_key = media.key)
"""


async def write_media(connection: Connection[Any], media: Sequence[MediaRow], keys: dict[str, int]) -> None:
    """Write media that are not stored yet, one a statement (each may have megabytes), then which spans use them.

    The transaction holds `lock_media`.
    """
    missing = {row.hash: row for row in media}
    for row in await connection.fetch("SELECT hash FROM media WHERE hash = ANY($1)", list(missing)):
        del missing[row[0]]
    for _, medium in sorted(missing.items()):
        await connection.execute(_WRITE, medium.hash, medium.content_type, len(medium.data), medium.data)
    links = sorted({(keys[row.trace_id], row.span_id, row.hash) for row in media if row.trace_id in keys})
    if links:
        await connection.execute(_LINK, *map(list, zip(*links, strict=True)))


async def lock_media(connection: Connection[Any], *, alone: bool) -> None:
    """Keep those out who delete traces, or (`alone`) also those who write media, until the transaction ends.

    It comes before all other locks of the transaction, so that nobody waits in a circle.
    """
    kind = "" if alone else "_shared"
    await connection.execute(f"SELECT pg_advisory_xact_lock{kind}($1)", _LOCK_MEDIA)


async def delete_unused_media(connection: Connection[Any], keys: list[int]) -> None:
    """Delete those of these media to which nothing refers any more."""
    await connection.execute(_UNUSED, keys)
