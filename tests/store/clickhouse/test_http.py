"""The store over HTTP: the real client and real requests, an interface of ours before the engine (chdb)."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from tests.clickhouse import ChdbEngine
from tests.clickhouse_http import http_interface
from tests.store.rows import batch, patch, running, simple, span, started, trace_id
from tracer._exceptions import StoreError, TransientStoreError
from tracer._models import Feedback
from tracer.store import MediaRow, TraceQuery
from tracer.store.clickhouse.store import ClickHouseStore

PASSWORD = "s3cret-of-the-tests"


@pytest.fixture(scope="module")
def interface(chdb_engine: ChdbEngine) -> Iterator[str]:
    with http_interface(chdb_engine) as address:
        yield address


@pytest.fixture
async def store(interface: str, chdb_engine: ChdbEngine) -> AsyncIterator[ClickHouseStore]:
    with chdb_engine.database() as name:
        store = ClickHouseStore(f"clickhouse://{interface}/{name}")
        await store.open()
        yield store
        await store.aclose()


async def test_what_is_written_is_read_and_found(store: ClickHouseStore) -> None:
    await store.write(batch([started(1, inputs=b'"in"', text="first words")], [running(1)]))
    await store.write(simple(1, outputs=b'"out"', chunks=b"", model="gpt-5", tags={"it's": "a\\b\n"}))
    await store.write(simple(*range(2, 40)))
    trace = await store.get_trace(trace_id(1))
    assert (trace.data.spans[0].inputs, trace.data.spans[0].outputs) == ("in", "out")
    assert trace.info.tags == {"it's": "a\\b\n"}
    page = await store.search_traces(TraceQuery(text="first", tags={"it's": "a\\b\n"}))
    assert [found.info.trace_id for found in page] == [trace_id(1)]
    assert len(await store.search_traces(TraceQuery())) == 39


async def test_large_and_binary_values_come_back_whole(store: ClickHouseStore) -> None:
    data = bytes(range(256)) * 40_000  # several frames
    rows = simple(1, inputs=msgspec.json.encode("x" * 3_000_000))
    rows.media = [MediaRow(trace_id=trace_id(1), span_id=f"{1:016x}", hash="a" * 64, content_type="a/b", data=data)]
    await store.write(rows)
    assert (await store.get_media("a" * 64)).data == data
    assert len((await store.get_trace(trace_id(1))).data.spans[0].inputs) == 3_000_000


async def test_a_batch_of_many_rows_is_stored_with_all_of_them(store: ClickHouseStore) -> None:
    await store.write(
        batch([span(n, inputs=b'"%d"' % n * 1_000) for n in range(3_000)], [patch(n) for n in range(3_000)])
    )
    held = (await store.storage()).rows
    assert (held["traces"], held["spans"]) == (3_000, 3_000)
    assert await store.delete_traces(trace_ids=[trace_id(n) for n in range(2_500)]) == 2_500


async def test_tags_feedback_and_summaries_work(store: ClickHouseStore) -> None:
    await store.write(simple(1, 2, session_id="s"))
    await store.set_trace_tag(trace_id(1), "k", "v")
    await store.add_feedback(Feedback(id="f", trace_id=trace_id(1), name="good", value=True, created_ns=1))
    assert [trace.info.tags for trace in await store.search_traces(TraceQuery(tags={"k": "v"}))] == [{"k": "v"}]
    assert (await store.facets(TraceQuery())).scope.traces == 2
    assert (await store.overview(TraceQuery())).scope.traces == 2
    assert [session.traces for session in (await store.sessions(TraceQuery())).sessions] == [2]


# --- who refuses ------------------------------------------------------------------------------------------------------
def refusal(uri: str, kind: type[StoreError]) -> str:
    store = ClickHouseStore(uri)

    async def ask() -> None:
        try:
            await store.open()
        finally:
            await store.aclose()

    with pytest.raises(kind) as caught:
        asyncio.run(ask())
    assert type(caught.value) is kind
    shown = "".join(traceback.format_exception(caught.value)) + repr(store) + repr(store._connections._address)
    assert PASSWORD not in shown
    assert "wrong-password" not in shown
    return str(caught.value)


def test_a_host_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        told = refusal(f"clickhouse://u:{PASSWORD}@{host}/x", TransientStoreError)
    assert f"***@{host}" in told
    assert "does not answer" in told


def test_a_wrong_password_is_refused_and_shown_to_nobody(chdb_engine: ChdbEngine) -> None:
    with http_interface(chdb_engine, PASSWORD) as address:
        told = refusal(f"clickhouse://u:wrong-password@{address}/x", StoreError)
    assert "refuses the user or its password" in told
