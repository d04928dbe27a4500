"""The store behind the pages, kept open in the server's own event loop."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from starlette.requests import Request

from tracer._exceptions import StoreError
from tracer.pipeline.adoption import Adoption
from tracer.server._limited import LimitedStore
from tracer.server._security import grant_of
from tracer.store import Store, make_store, open_store
from tracer.store.uri import redact_uri, sqlite_path

__all__ = ["Source", "store_of"]


class Source:
    """A store. If it was given by its URI, it is opened here, opened again when its file was replaced, and closed.

    A `Store` that is passed in belongs to the caller, who must have opened it in this event loop and closes it.

    Args:
        time_limit: Seconds that a read may take; for a store that is opened here.
        writes: Batches are written to the store, too. Then its file is made if there is none, and the store itself
            notices if it is replaced.

    Raises:
        ConfigurationError: The URI names no store, or a file that can't be ours (`tracer.store.check_uri`).
    """

    def __init__(self, store_or_uri: Store | str, time_limit: float | None = None, *, writes: bool = False) -> None:
        self._time_limit = time_limit
        self._owned = isinstance(store_or_uri, str)
        self._make = make_store if writes else open_store
        self._store = self._make(store_or_uri) if isinstance(store_or_uri, str) else store_or_uri
        is_file = self._store.uri.startswith("sqlite:")
        self._path = sqlite_path(self._store.uri) if is_file else None
        self._is_watched = is_file and not writes
        self._is_open = not self._owned
        self._file: tuple[int, int] | None = None
        self._opening = asyncio.Lock()
        self._adoption: Adoption

    @property
    def name(self) -> str:
        """The store's URI without secrets, so that it can be shown."""
        return redact_uri(self._store.uri)

    async def ready(self) -> Store:
        """Return the store, open. Raises StoreError if it can't be read, for example because its file has vanished."""
        if not self._owned:
            return self._store
        if not (self._is_open and self._file == self._identity()):
            async with self._opening:
                if self._is_open and self._file != (found := self._identity()):
                    await self._close()
                    if found is None:
                        raise StoreError(f"{self.name} is gone: its file was deleted or moved while it was being shown")
                if not self._is_open:
                    await self._open()
        await self._adoption.adopt_for_reader()
        return self._store

    async def aclose(self) -> None:
        """Close the store, if it was opened here."""
        if self._owned and self._is_open:
            await self._close()

    async def _open(self) -> None:
        if self._file is not None and self._identity() is None:  # the file is gone: don't create an empty one
            raise StoreError(f"{self.name} is gone: its file was deleted or moved while it was being shown")
        self._store = self._make(self._store.uri)
        self._store.options.time_limit = self._time_limit
        await self._store.open()
        self._adoption = Adoption(self._store)
        self._is_open, self._file = True, self._identity()

    async def _close(self) -> None:
        self._is_open = False
        await self._store.aclose()

    def _identity(self) -> tuple[int, int] | None:
        """Return the identity of the file at the path; None if there is no such file, or the store has no file."""
        try:
            found = os.stat(self._path) if self._path is not None and self._is_watched else None
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for other stores."""
        return self._path


async def store_of(request: Request) -> Store:
    """Return the request's store, open, as far as its token allows. Raises StoreError."""
    source: Source = request.app.state.source
    store, grant = await source.ready(), grant_of(request)
    if grant is None or grant.experiments is None:
        return store
    return LimitedStore(store, grant.experiments)
