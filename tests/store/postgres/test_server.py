"""What a server does to its clients: it refuses, is gone, comes back, answers late or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
import traceback
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from tests.postgres import PASSWORD, PostgresServer, find_binaries, running_server
from tests.store.rows import batch, patch, simple, span, span_id, trace_id
from tracer._exceptions import ReadTimeoutError, StoreError, TransientStoreError
from tracer.store import Batch, TraceQuery
from tracer.store.base import Retention
from tracer.store.batch import LossRow
from tracer.store.postgres._schema import SCHEMA_VERSION
from tracer.store.postgres._write import DAY_NS, day_of
from tracer.store.postgres.store import PostgresStore


def schema_of(uri: str) -> str:
    return uri.rpartition("=")[2]


# --- who refuses --------------------------------------------------------------------------------------------------
def refusal(store: PostgresStore, kind: type[StoreError]) -> str:
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


def test_a_wrong_password_is_refused_and_shown_to_nobody(postgres_server: PostgresServer, postgres_uri: str) -> None:
    uri = postgres_server.uri(schema_of(postgres_uri), user="careful", password="wrong-password")
    assert "password authentication failed" in refusal(PostgresStore(uri), StoreError)


def test_an_unknown_database_is_named(postgres_server: PostgresServer) -> None:
    uri = f"postgresql://tracer@127.0.0.1:{postgres_server.port}/nowhere"
    assert 'database "nowhere" does not exist' in refusal(PostgresStore(uri), StoreError)


def test_a_schema_that_does_not_exist_is_no_place(postgres_server: PostgresServer) -> None:
    assert "no schema of the search_path exists" in refusal(PostgresStore(postgres_server.uri("nope")), StoreError)


def test_a_host_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        told = refusal(PostgresStore(f"postgresql://u:{PASSWORD}@{host}/x"), TransientStoreError)
    assert f"***@{host}" in told
    assert "does not answer" in told


def test_too_many_connections_are_a_passing_failure(postgres_server: PostgresServer, postgres_uri: str) -> None:
    uri = postgres_server.uri(schema_of(postgres_uri), user="careful", password=PASSWORD)
    postgres_server.execute("ALTER ROLE careful CONNECTION LIMIT 0")
    try:
        assert "too many connections" in refusal(PostgresStore(uri), TransientStoreError)
    finally:
        postgres_server.execute("ALTER ROLE careful CONNECTION LIMIT -1")


async def test_another_programs_tables_and_a_newer_schema_are_left_alone(
    postgres_server: PostgresServer, postgres_uri: str
) -> None:
    schema = schema_of(postgres_uri)
    postgres_server.execute(f"CREATE TABLE {schema}.traces (x int)")
    store = PostgresStore(postgres_uri)
    with pytest.raises(StoreError, match=f"{schema}' has a table 'traces' of another program"):
        await store.open()
    postgres_server.execute(f"DROP TABLE {schema}.traces; CREATE TABLE {schema}.tracer_schema (version int)")
    postgres_server.execute(f"INSERT INTO {schema}.tracer_schema VALUES (99)")
    with pytest.raises(StoreError, match=f"has schema version 99, this tracer knows up to {SCHEMA_VERSION}"):
        await store.write(simple(1))
    await store.aclose()


async def test_stores_that_race_for_an_empty_schema_make_it_once(postgres_uri: str) -> None:
    stores = [PostgresStore(postgres_uri) for _ in range(4)]
    await asyncio.gather(*(store.write(simple(number)) for number, store in enumerate(stores)))
    assert len(await stores[0].search_traces(TraceQuery())) == 4
    for store in stores:
        await store.aclose()


async def test_who_may_only_read_reads(postgres_server: PostgresServer, store: PostgresStore) -> None:
    schema = schema_of(store.uri)
    await store.write(simple(1))
    postgres_server.execute(f"GRANT USAGE ON SCHEMA {schema} TO careful")
    postgres_server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO careful")
    reader = PostgresStore(postgres_server.uri(schema, user="careful", password=PASSWORD))
    assert len(await reader.search_traces(TraceQuery())) == 1
    with pytest.raises(StoreError, match="permission denied"):
        await reader.write(simple(2))
    await reader.aclose()


# --- writers beside one another -------------------------------------------------------------------------------------
async def test_writers_of_the_same_traces_in_any_order_do_not_hinder_one_another(postgres_uri: str) -> None:
    stores = [PostgresStore(postgres_uri) for _ in range(4)]
    await stores[0].open()

    async def write(store: PostgresStore, seed: int) -> None:
        rng = random.Random(seed)
        for at in range(12):
            numbers = rng.sample(range(60), 40)
            rows = [
                span(n, span_id=span_id(1_000 * seed + at), counted=True, usage={"total_tokens": 1}) for n in numbers
            ]
            made = batch(rows, [patch(n, tags={"k": str(seed)}) for n in numbers])
            rng.shuffle(made.traces)
            await store.write(made)

    await asyncio.gather(*(write(store, seed) for seed, store in enumerate(stores, 1)))
    page = await stores[0].search_traces(TraceQuery(max_results=100))
    assert sum(len(trace.data.spans) for trace in page) == 4 * 12 * 40
    assert sum((trace.info.token_usage or {}).get("total_tokens", 0) for trace in page) == 4 * 12 * 40
    for store in stores:
        await store.aclose()


# --- gone and back --------------------------------------------------------------------------------------------------
@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that this test may kill."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    with running_server(binaries) as server:
        yield server


# Under load a socket of a connection that was being made when the server died may be left to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_that_was_killed_is_found_again_and_has_what_it_had_acknowledged(
    own_server: PostgresServer,
) -> None:
    store = PostgresStore(own_server.uri("public"))
    acknowledged = 0

    async def write() -> None:
        nonlocal acknowledged
        while True:
            made = simple(acknowledged, dropped={"chunks": 1})
            while True:
                with contextlib.suppress(TransientStoreError):
                    await store.write(made)
                    break
                await anyio.sleep(0.02)
            acknowledged += 1

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        for _ in range(3):
            goal = acknowledged + 10
            while acknowledged < goal:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(own_server.kill)
            with pytest.raises(TransientStoreError):
                await store.get_trace(trace_id(0))
            await anyio.to_thread.run_sync(own_server.start)
        goal = acknowledged + 5
        while acknowledged < goal:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    page = await store.search_traces(TraceQuery(max_results=10_000))
    found = {int(trace.info.trace_id, 16): trace.info.dropped for trace in page}
    assert found.keys() >= set(range(acknowledged))
    assert set(map(str, found.values())) == {"{'chunks': 1}"}, "a batch was counted twice"
    own_server.stop()
    await store.aclose()  # raises nothing


@contextlib.asynccontextmanager
async def deaf_proxy(port: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Forwards to the server; once `waits_for` is sent by the client, nothing comes back any more: a cut network."""
    waits_for: list[bytes] = []
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        opened.extend((writer, server_writer))
        cut = False

        async def answer() -> None:
            while (data := await server_reader.read(65_536)) and not cut:
                writer.write(data)
            writer.close()

        answering = asyncio.ensure_future(answer())
        while data := await reader.read(65_536):
            if waits_for and waits_for[0] in data:
                waits_for.clear()
                cut = True
            server_writer.write(data)
        await asyncio.wait([answering], timeout=5)
        server_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], waits_for
    for writer in opened:
        writer.close()
    for writer in opened:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_batch_whose_commit_was_not_answered_is_not_counted_twice(
    postgres_server: PostgresServer, postgres_uri: str
) -> None:
    async with deaf_proxy(postgres_server.port) as (port, waits_for):
        store = PostgresStore(postgres_uri.replace(str(postgres_server.port), str(port)))
        await store.open()

        def alike() -> Batch:
            made = simple(1, dropped={"chunks": 2})
            made.losses = [LossRow(reason="start", count=5, time_ns=1)]
            return made

        made = alike()
        waits_for.append(b"COMMIT")
        with pytest.raises(TransientStoreError):
            await store.write(made)
        while True:
            with contextlib.suppress(TransientStoreError):
                await store.write(made)
                break
        assert (await store.get_trace(trace_id(1))).info.dropped == {"chunks": 2}
        assert [loss.count for loss in await store.losses()] == [5]
        await store.write(made)
        assert [loss.count for loss in await store.losses()] == [5]
        await store.write(alike())  # another batch that is alike counts
        assert [loss.count for loss in await store.losses()] == [10]
        await store.aclose()


async def test_a_connection_that_the_server_ends_is_replaced(
    postgres_server: PostgresServer, store: PostgresStore
) -> None:
    await store.write(simple(1))
    await store.search_traces(TraceQuery())
    postgres_server.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tracer'"
    )
    for ask in (lambda: store.write(simple(2)), lambda: store.get_trace(trace_id(2))):
        for attempt in range(3):
            try:
                await ask()
                break
            except TransientStoreError:
                assert attempt < 2
    assert len(await store.search_traces(TraceQuery())) == 2


# --- time -------------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def locked(store: PostgresStore) -> AsyncIterator[None]:
    async with store._connections.changing() as connection:
        await connection.execute("LOCK TABLE traces IN ACCESS EXCLUSIVE MODE")
        yield


async def test_a_read_over_its_time_limit_is_stopped_and_says_so(store: PostgresStore) -> None:
    async with locked(store):
        store.options.time_limit = 0.2
        with pytest.raises(ReadTimeoutError, match=r"the search took longer than 0.2 s and was stopped"):
            await store.search_traces(TraceQuery())
        store.options.time_limit = None
        with anyio.move_on_after(0.2) as scope:
            await store.search_traces(TraceQuery())
        assert scope.cancelled_caught
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'tracer'"
        async with store._connections.writing() as connection:
            assert await connection.fetchval(waiting) == 0
    assert await store.search_traces(TraceQuery()) == []


async def test_a_write_waits_for_a_lock_no_longer_than_it_may(store: PostgresStore) -> None:
    async with locked(store):
        store.options.deadline = time.monotonic() + 0.3
        with pytest.raises(TransientStoreError, match="lock timeout"):
            await store.write(simple(1))
    store.options.deadline = float("inf")
    await store.write(simple(1))


async def test_a_write_that_is_cancelled_writes_all_or_nothing(store: PostgresStore) -> None:
    made = simple(*range(300))
    for delay in (0.0, 0.005, 0.02, 0.05):
        with anyio.move_on_after(delay):
            await store.write(made)
        assert (await store.storage()).rows["traces"] in (0, 300)
    await store.write(made)
    assert (await store.storage()).rows["spans"] == 300


# --- forks ------------------------------------------------------------------------------------------------------------
async def test_a_child_of_a_fork_opens_connections_of_its_own(store: PostgresStore) -> None:
    await store.write(simple(1))
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            asyncio.run(store.write(simple(2)))
            code = 0
        os._exit(code)
    _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await store.write(simple(3))
    assert len(await store.search_traces(TraceQuery())) == 3


async def test_a_parent_that_was_killed_holds_no_locks_though_its_child_lives(store: PostgresStore) -> None:
    await store.write(simple(1))
    parent = os.fork()
    if parent == 0:
        with contextlib.suppress(BaseException):
            asyncio.run(_lock_and_die(store.uri))
        os._exit(1)
    await anyio.to_thread.run_sync(os.waitpid, parent, 0)
    store.options.deadline = time.monotonic() + 20
    await store.write(simple(1))


async def _lock_and_die(uri: str) -> None:
    store = PostgresStore(uri)
    async with store._connections.changing() as connection:
        await connection.execute("LOCK TABLE traces IN ACCESS EXCLUSIVE MODE")
        if os.fork() == 0:
            signal.alarm(30)
            signal.pause()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


# --- days -------------------------------------------------------------------------------------------------------------
def partitions(server: PostgresServer, store: PostgresStore) -> set[str]:
    schema = schema_of(store.uri)
    found = server.execute(
        f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relispartition"
    )
    return {line for line in found.splitlines() if line.startswith("spans_") and line.count("_") == 1}


def recent(number: int, now: int) -> Batch:
    return simple(number, start_time_ns=now, end_time_ns=now + 1)


async def test_spans_lie_in_the_partition_of_their_traces_day(
    postgres_server: PostgresServer, store: PostgresStore
) -> None:
    now = time.time_ns()
    await store.write(recent(1, now))
    await store.write(recent(2, now - 400 * DAY_NS))
    late = span(1, span_id=span_id(7), start_time_ns=now + 3 * DAY_NS, end_time_ns=now + 3 * DAY_NS)
    await store.write(batch([late], [patch(1, start_time_ns=now)]))
    made = partitions(postgres_server, store)
    assert len(made) >= 3
    where = f"SELECT tableoid::regclass::text FROM {schema_of(store.uri)}.spans ORDER BY trace_key, span_id"
    lie = [name.rpartition(".")[2] for name in postgres_server.execute(where).splitlines()]
    assert lie == [lie[0], lie[0], "spans_other"]
    assert lie[0] in made - {"spans_other"}
    assert len((await store.get_trace(trace_id(1))).data.spans) == 2


async def test_retention_drops_a_day_of_which_nothing_is_kept(
    postgres_server: PostgresServer, store: PostgresStore
) -> None:
    before = partitions(postgres_server, store)
    old = time.time_ns() - 10 * DAY_NS
    schema, day = schema_of(store.uri), day_of(old)
    name = f"spans_{time.strftime('%Y%m%d', time.gmtime(day * 86_400))}"
    postgres_server.execute(
        f"CREATE TABLE {schema}.{name} PARTITION OF {schema}.spans FOR VALUES FROM ({day}) TO ({day + 1})"
    )
    rows = recent(1, old)
    rows.spans[0].text = "needle"
    await store.write(rows)
    await store.write(batch([span(2, start_time_ns=old)], [patch(2, start_time_ns=old, end_time_ns=time.time_ns())]))
    store.options.retention = Retention(max_age=5 * 86_400.0)
    while await store.expire():
        pass
    assert name in partitions(postgres_server, store), "a trace of that day is kept"
    assert (await store.storage()).rows["spans"] == 1
    assert await store.search_traces(TraceQuery(text="needle")) == []
    await store.delete_traces(trace_ids=[trace_id(2)])
    await store.write(recent(3, old))
    while await store.expire():
        pass
    assert partitions(postgres_server, store) == before
    assert (await store.storage()).rows["spans"] == 0
    assert store.expired == 2
