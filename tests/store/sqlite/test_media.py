from __future__ import annotations

from pathlib import Path

from tests.store.rows import simple, trace_id
from tests.store.sqlite.old_files import TRACES, make_old_file
from tests.store.test_media import LARGE, count, digest, medium, with_media
from tracer.store import TraceQuery, open_store
from tracer.store.sqlite._schema import SCHEMA_VERSION
from tracer.store.sqlite.store import SqliteStore


async def test_two_stores_over_one_file_share_media(store: SqliteStore, path: Path) -> None:
    other = open_store(f"sqlite:///{path}")
    assert isinstance(other, SqliteStore)
    await other.open()
    await store.write(with_media(simple(1), medium(1, LARGE)))
    await other.write(with_media(simple(2), medium(2, LARGE)))
    await store.delete_traces(trace_ids=[trace_id(1)])
    assert (await store.get_media(digest(LARGE))).data == (await other.get_media(digest(LARGE))).data == LARGE
    await other.delete_traces(trace_ids=[trace_id(2)])
    assert await count(store) == 0
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
