"""Media in the store: once by hash, gone with the last span that refers to them, and in files of an older version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.store.old_files import TRACES, make_old_file
from tests.store.rows import batch, patch, simple, span, span_id, started, trace_id
from tracer import MediaNotFoundError
from tracer.store import Batch, MediaRow, Store, TraceQuery, open_store
from tracer.store.sqlite._schema import SCHEMA_VERSION
from tracer.store.sqlite.store import SqliteStore

LARGE = bytes(range(256)) * 40_000  # 10 MB


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def medium(number: int, data: bytes, content_type: str = "image/png", *, of_span: int | None = None) -> MediaRow:
    return MediaRow(
        trace_id=trace_id(number),
        span_id=span_id(number if of_span is None else of_span),
        hash=digest(data),
        content_type=content_type,
        data=data,
    )


def with_media(rows: Batch, *media: MediaRow) -> Batch:
    rows.media = list(media)
    return rows


async def count(store: SqliteStore, table: str) -> Any:
    return await store._database.write(lambda raw: raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_media_are_stored_once_and_given_back_whole(any_store: Store) -> None:
    store = any_store
    await store.write(with_media(simple(1, 2), medium(1, LARGE), medium(2, LARGE), medium(2, b"x", "audio/wav")))
    await store.write(with_media(simple(3), medium(3, LARGE), medium(3, LARGE)))
    found = await store.get_media(digest(LARGE))
    assert (found.hash, found.content_type, found.data) == (digest(LARGE), "image/png", LARGE)
    assert (await store.get_media(digest(b"x"))).content_type == "audio/wav"
    assert (await store.storage()).rows["media"] == 2
    with pytest.raises(MediaNotFoundError):
        await store.get_media(digest(b"y"))


async def test_media_go_with_the_last_span_that_refers_to_them(any_store: Store) -> None:
    store = any_store
    rows = simple(1, 2)
    rows.spans.append(span(3, trace_id=trace_id(1)))
    media = [medium(1, b"a"), medium(1, b"a", of_span=3), medium(2, b"a"), medium(1, b"b", of_span=3)]
    await store.write(with_media(rows, *media))
    await store.delete_traces(trace_ids=[trace_id(1)])
    assert (await store.get_media(digest(b"a"))).data == b"a"
    with pytest.raises(MediaNotFoundError):
        await store.get_media(digest(b"b"))
    await store.delete_traces(max_traces=10)
    assert (await store.storage()).rows["media"] == 0


async def test_media_of_many_spans_are_written_in_one_batch(store: SqliteStore) -> None:
    numbers = range(1_500)
    await store.write(with_media(simple(*numbers), *(medium(n, b"%d" % n) for n in numbers)))
    assert (await count(store, "media"), await count(store, "span_media")) == (1_500, 1_500)


async def test_media_of_a_span_that_is_written_twice_are_linked_once(store: SqliteStore) -> None:
    await store.write(with_media(batch([started(1)], [patch(1)]), medium(1, b"a")))
    await store.write(with_media(simple(1), medium(1, b"a")))
    assert (await count(store, "media"), await count(store, "span_media")) == (1, 1)


async def test_two_stores_over_one_file_share_media(store: SqliteStore, path: Path) -> None:
    other = open_store(f"sqlite:///{path}")
    assert isinstance(other, SqliteStore)
    await other.open()
    await store.write(with_media(simple(1), medium(1, LARGE)))
    await other.write(with_media(simple(2), medium(2, LARGE)))
    await store.delete_traces(trace_ids=[trace_id(1)])
    assert (await store.get_media(digest(LARGE))).data == (await other.get_media(digest(LARGE))).data == LARGE
    await other.delete_traces(trace_ids=[trace_id(2)])
    assert await count(store, "media") == 0
    await store.write(with_media(simple(3), medium(3, LARGE)))
    assert (await other.get_media(digest(LARGE))).data == LARGE
    await other.aclose()


async def test_a_file_of_version_1_is_migrated_with_what_is_in_it(path: Path) -> None:
    make_old_file(path, 1)
    store = open_store(f"sqlite:///{path}")
    assert isinstance(store, SqliteStore)
    await store.open()
    assert await store._database.write(lambda raw: raw.execute("PRAGMA user_version").fetchone()) == (SCHEMA_VERSION,)
    await store.write(with_media(simple(100), medium(100, b"a")))
    assert (await store.get_media(digest(b"a"))).data == b"a"
    found = {trace.info.trace_id for trace in await store.search_traces(TraceQuery())}
    assert found == {trace_id(number) for number in (*range(1, TRACES + 1), 100)}
    await store.aclose()
