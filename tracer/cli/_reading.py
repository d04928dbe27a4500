"""An existing store, opened for one command."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from tracer._exceptions import ConfigurationError, StoreError, TraceNotFoundError, TracerError
from tracer._models import Trace
from tracer.store.base import Store, TraceQuery

__all__ = ["PAGE", "each_trace", "find_trace", "find_trace_id", "opened", "require", "run", "take_over", "with_store"]

T = TypeVar("T")
PAGE = 500
_ID = re.compile(r"[0-9a-f]{1,32}")
_ID_DIGITS = 32


def require(uri: str, *, option: str = "--uri") -> None:
    """Make sure that there is a database of this version to read. A command that reads never creates or changes one.

    A server says at the first question what is wrong with it. In an empty PostgreSQL database it makes its tables.

    Args:
        uri: The store's.
        option: What named the URI, for messages.

    Raises:
        ConfigurationError: The URI can't be used.
        StoreError: There is no such file, or an older tracer made it.
    """
    from tracer.pipeline.adoption import find_left
    from tracer.store.sqlite import _upkeep
    from tracer.store.sqlite._schema import SCHEMA_VERSION
    from tracer.store.uri import MEMORY_URI, has_file, parse_uri

    normal = parse_uri(uri)
    if not has_file(normal) and normal != MEMORY_URI:
        return
    path = _upkeep.file_of(uri)
    if find_left(path) and not (path.exists() and _upkeep.schema_version(uri)):
        return  # a process was killed before it had made the database: it is made of what that process left
    if not path.exists():
        remedy = "name the database with --uri or $TRACER_TRACKING_URI" if option == "--uri" else "name another"
        raise StoreError(f"{option} {uri!r}: there is no {path}; {remedy}")
    version = _upkeep.schema_version(uri)
    if version == 0:
        raise StoreError(
            f"{option} {uri!r}: {path} is empty; run `tracer db upgrade --uri {uri}` to make it a database"
        )
    if version < SCHEMA_VERSION:
        raise StoreError(
            f"{option} {uri!r}: {path} has schema version {version}, this tracer needs {SCHEMA_VERSION}; "
            f"run `tracer db upgrade --uri {uri}`"
        )


def with_store(uri: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Open the store, do the work, close it. Raises what `require` and the work raise."""
    require(uri)

    async def done() -> T:
        async with opened(uri) as store:
            return await work(store)

    return run(done)


def take_over(uri: str) -> None:
    """Write what dead processes left beside the database into it, if there is anything and the database is sound."""
    from tracer.pipeline.adoption import find_left
    from tracer.store.sqlite import _upkeep

    async def done(_: Store) -> None: ...

    with suppress(TracerError):
        if find_left(_upkeep.file_of(uri, unseen=True)):
            with_store(uri, done)


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function in an event loop of its own. Ctrl-C cancels it, then raises KeyboardInterrupt."""
    import asyncio

    import anyio

    try:
        return anyio.run(work)
    except asyncio.CancelledError:  # anyio turns Ctrl-C into this on Python 3.10; nothing else cancels it
        raise KeyboardInterrupt from None


@asynccontextmanager
async def opened(uri: str, *, adopts: bool = True) -> AsyncIterator[Store]:
    """Open a store for the block.

    Args:
        uri: The store's.
        adopts: What killed processes left beside it is written into it first.
    """
    import anyio

    from tracer.pipeline.adoption import Adoption
    from tracer.store import open_store

    store = open_store(uri)
    await store.open()
    try:
        if adopts:
            await Adoption(store).adopt_for_reader()
        yield store
    finally:
        with anyio.CancelScope(shield=True):  # a connection left open keeps the interpreter from exiting
            await store.aclose()


def each_trace(store: Store, query: TraceQuery, limit: int | None = None) -> AsyncIterator[Trace]:
    """Return the traces that a search finds, for ``async for``; only one page is in memory at a time."""
    from tracer.export import iterate_query

    return iterate_query(store, query, max_results=limit)


async def find_trace(store: Store, wanted: str) -> Trace:
    """Return the trace for an id, for the beginning of one, or for the word ``last``. Raises like `find_trace_id`."""
    return await store.get_trace(await find_trace_id(store, wanted))


async def find_trace_id(store: Store, wanted: str) -> str:
    """Return the whole trace id for the beginning of one, or for the word ``last`` (the trace that started last).

    Raises:
        ConfigurationError: It is not an id, or more than one id begins with it.
        TraceNotFoundError: There is none.
    """
    text = wanted.strip().lower()
    if text == "last":
        query = TraceQuery(max_results=1, include_spans=False)
    elif _ID.fullmatch(text) is None:
        raise ConfigurationError(
            f"TRACE_ID must be hex digits (the first few will do) or the word last, got {wanted!r}"
        )
    elif len(text) == _ID_DIGITS:
        return text
    else:
        query = TraceQuery(filter_string=f"trace_id LIKE '{text}%'", max_results=2, include_spans=False)
    found = await store.search_traces(query)
    if not found:
        raise TraceNotFoundError("there are no traces yet" if text == "last" else f"no trace id begins with {text!r}")
    if len(found) > 1 and text != "last":
        raise ConfigurationError(f"TRACE_ID {text!r} is the beginning of more than one trace id; give more digits")
    return found[0].info.trace_id
