"""A store as the place from which traces are moved."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from tracer._models import Media
from tracer.moving.mover import Refusal
from tracer.store.base import Store, TraceQuery
from tracer.store.batch import StoredTrace

__all__ = ["StoreSource"]

_LISTED = 500  # traces that are listed at once, without their spans
_READ = 20  # traces that are in memory at once, with all that belongs to them


class StoreSource:
    """The traces of a store that a query selects, the oldest first. Those that begin meanwhile are left out.

    Args:
        query: Its order, page and page size are ignored.
    """

    def __init__(self, store: Store, query: TraceQuery) -> None:
        self._store = store
        self._query = msgspec.structs.replace(
            query, order_by="start_time asc", max_results=_LISTED, include_spans=False
        )

    async def count(self) -> int:
        """Return how many traces there are; an estimate if there are more than 10,000."""
        return (await self._store.overview(self._query, buckets=1, limit=1)).scope.traces

    async def traces(self) -> AsyncIterator[list[StoredTrace | Refusal]]:
        """Return the traces, some at a time."""
        token = None
        while True:
            page = await self._store.search_traces(msgspec.structs.replace(self._query, page_token=token))
            ids = [trace.info.trace_id for trace in page]
            for start in range(0, len(ids), _READ):
                yield [*await self._store.stored_traces(ids[start : start + _READ])]
            if (token := page.next_page_token) is None:
                return

    async def media(self, media_hash: str) -> Media:
        """Return one medium. Raises MediaNotFoundError."""
        return await self._store.get_media(media_hash)

    async def live_chunks(self, trace_id: str, span_id: str) -> list[tuple[int, bytes]]:
        """Return what a stream had brought whose process was killed."""
        return await self._store.live_chunks(trace_id, span_id)
