"""Places to keep traces."""

from __future__ import annotations

from tracer.store.base import Store, TraceQuery
from tracer.store.batch import Batch, ChunkRow, MediaRow, ProcessRow, SpanRow, TracePatch
from tracer.store.process import current_process
from tracer.store.sqlite.check import check_uri
from tracer.store.uri import is_clickhouse, is_otlp, is_postgres, is_server, parse_uri

__all__ = [
    "Batch",
    "ChunkRow",
    "MediaRow",
    "ProcessRow",
    "SpanRow",
    "Store",
    "TracePatch",
    "TraceQuery",
    "check_uri",
    "current_process",
    "make_store",
    "open_store",
]


def open_store(uri: str) -> Store:
    """Return the store that a tracking URI names, not yet opened: ``await store.open()`` or its first use opens it.

    A relative path is resolved now, so changing the working directory later does no harm.

    Raises:
        ConfigurationError: See `check_uri`.
    """
    return _store(check_uri(uri), rescues=False)


def make_store(uri: str) -> Store:
    """Return the store that the pipeline writes to. Its file is not looked at now, but when the store is opened.

    A damaged file is then moved aside, and a new one takes its place.

    Raises:
        ConfigurationError: The URI is malformed.
    """
    return _store(parse_uri(uri), rescues=True)


def _store(uri: str, *, rescues: bool) -> Store:
    if is_postgres(uri):
        from tracer.store.postgres.store import PostgresStore

        return PostgresStore(uri)
    if is_clickhouse(uri):
        from tracer.store.clickhouse.store import ClickHouseStore

        return ClickHouseStore(uri)
    if is_otlp(uri):
        from tracer.store.otlp.store import make_otlp_store

        return make_otlp_store(uri)
    if is_server(uri):
        from tracer.store.http.store import HttpStore

        return HttpStore(uri)
    from tracer.store.sqlite.store import SqliteStore  # keeps aiosqlite out of `import tracer`

    return SqliteStore(uri, rescues=rescues)
