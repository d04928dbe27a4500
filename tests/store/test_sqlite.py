from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from tracer._exceptions import ConfigurationError, StoreError, TraceNotFoundError, TransientStoreError
from tracer._models import SpanStatusCode, TraceState
from tracer.store import ChunkRow, ProcessRow, TraceQuery, check_uri, current_process, open_store
from tracer.store.sqlite import _connection as connection_module
from tracer.store.sqlite import _thread as thread_module
from tracer.store.sqlite._connection import create_file
from tracer.store.sqlite._read import read_live_chunks
from tracer.store.sqlite._schema import APPLICATION_ID, SCHEMA_VERSION, migrate
from tracer.store.sqlite.store import SqliteStore

from .rows import SECOND, START, batch, patch, running, simple, span, span_id, started, trace_id

SSE = [(START + 1, b'data: {"a": 1}\n\ndata: {"a"'), (START + 5, b": 2}\n\ndata: [DONE]\n\n")]


def content(path: Path) -> bytes:
    return path.read_bytes()


def complaint_of_another_process(path: Path) -> str:
    """What it says when it takes the database for itself."""
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode = DELETE')"
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def damage(path: Path) -> None:
    """Overwrite all pages but the first."""
    path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size, b"\x5a"))


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def packed(chunks: list[tuple[int, bytes]]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(chunks))


async def test_a_span_comes_back_with_everything_that_was_written(any_store: SqliteStore) -> None:
    row = span(
        1,
        inputs='{"messages":[{"content":"héllo"}]}'.encode(),
        outputs=b"[1,2.5,null]",
        attributes=b'{"gen_ai.request.model":"gpt-5"}',
        events=msgspec.json.encode([["note", START + 9, {"x": 1}]]),
        status_code=SpanStatusCode.ERROR,
        status_description="broke",
        usage={"input_tokens": 3, "total_tokens": 3},
        cost=0.25,
        counted=True,
    )
    await any_store.write(
        batch(
            [row],
            [
                patch(
                    1,
                    experiment="E",
                    request_preview="hello",
                    response_preview="hi",
                    tags={"k": "v"},
                    metadata={"m": "n"},
                    session_id="s",
                    user_id="u",
                    dropped={"chunks": 2},
                    state=TraceState.ERROR,
                )
            ],
        )
    )
    trace = await any_store.get_trace(trace_id(1))
    found = trace.data.spans[0]
    assert (found.inputs, found.outputs) == ({"messages": [{"content": "héllo"}]}, [1, 2.5, None])
    assert found.attributes == {"gen_ai.request.model": "gpt-5"}
    assert [(event.name, event.timestamp_ns, event.attributes) for event in found.events] == [
        ("note", START + 9, {"x": 1})
    ]
    assert (found.status.status_code, found.status.description) == (SpanStatusCode.ERROR, "broke")
    assert (found.token_usage, found.cost, found.duration_ns) == (
        {"input_tokens": 3, "total_tokens": 3},
        0.25,
        SECOND // 2,
    )
    info = trace.info
    assert (info.experiment, info.name, info.state) == ("E", "AsyncCompletions", TraceState.ERROR)
    assert (info.request_preview, info.response_preview, info.duration_ns) == ("hello", "hi", SECOND // 2)
    assert (info.tags, info.metadata, info.session_id, info.user_id) == ({"k": "v"}, {"m": "n"}, "s", "u")
    assert (info.token_usage, info.cost, info.dropped) == (found.token_usage, 0.25, {"chunks": 2})


async def test_an_unknown_trace_is_not_found(store: SqliteStore) -> None:
    with pytest.raises(TraceNotFoundError, match=trace_id(404)):
        await store.get_trace(trace_id(404))


async def test_an_end_completes_its_start(store: SqliteStore) -> None:
    await store.write(batch([started(1, inputs=b'"in"', attributes=b'{"a":1}')], [running(1)]))
    assert (await store.get_trace(trace_id(1))).info.state == TraceState.IN_PROGRESS
    await store.write(simple(1, outputs=b'"out"'))
    trace = await store.get_trace(trace_id(1))
    (found,) = trace.data.spans
    assert (found.inputs, found.outputs, found.attributes) == ("in", "out", {"a": 1})
    assert (found.status.status_code, trace.info.state) == (SpanStatusCode.OK, TraceState.OK)


async def test_a_start_that_comes_after_its_end_changes_nothing_but_fills_gaps(store: SqliteStore) -> None:
    await store.write(simple(1, attributes=b'{"end":1}'))
    await store.write(batch([started(1, inputs=b'"in"', attributes=b'{"start":1}')], [running(1)]))
    trace = await store.get_trace(trace_id(1))
    assert (trace.data.spans[0].attributes, trace.data.spans[0].inputs) == ({"end": 1}, "in")
    assert (trace.info.state, trace.info.duration_ns) == (TraceState.OK, SECOND // 2)


async def test_writing_an_end_twice_counts_its_tokens_once(store: SqliteStore) -> None:
    twice = simple(1, usage={"input_tokens": 5}, cost=0.5, counted=True, model="gpt-5")
    for _ in range(2):
        await store.write(twice)
    info = (await store.get_trace(trace_id(1))).info
    assert (info.token_usage, info.cost) == ({"input_tokens": 5}, 0.5)


async def test_a_trace_sums_its_counted_spans_over_batches(store: SqliteStore) -> None:
    def call(number: int, **changes: object) -> object:
        return span(1, span_id=span_id(number), parent_id=span_id(1), usage={"input_tokens": number}, **changes)

    await store.write(batch([span(1, span_type="CHAIN")], [patch(1)]))
    await store.write(batch([call(10, counted=True, cost=1.0), call(20, counted=True)], [patch(1)]))  # type: ignore[list-item]
    await store.write(batch([call(30, counted=False, cost=9.0)], [patch(1)]))  # type: ignore[list-item]
    info = (await store.get_trace(trace_id(1))).info
    assert (info.token_usage, info.cost) == ({"input_tokens": 30}, 1.0)


async def test_usage_that_nobody_reported_is_none(store: SqliteStore) -> None:
    await store.write(simple(1, counted=True))
    assert (await store.get_trace(trace_id(1))).info.token_usage is None


async def test_a_span_without_parent_takes_the_trace_over_from_a_remote_child(store: SqliteStore) -> None:
    await store.write(
        batch(
            [span(1, span_id=span_id(7), name="remote")],
            [patch(1, root_span_id=span_id(7), true_root=False, name="remote")],
        )
    )
    await store.write(batch([started(1, name="root")], [running(1, name="root", start_time_ns=START)]))
    await store.write(
        batch([], [patch(1, root_span_id=span_id(8), true_root=False, name="late child", request_preview="x")])
    )
    trace = await store.get_trace(trace_id(1))
    assert (trace.info.name, trace.info.state, trace.info.start_time_ns) == ("root", TraceState.IN_PROGRESS, START)
    assert (trace.info.duration_ns, trace.info.request_preview) == (None, None)
    assert trace.data.spans[0].name == "root"


async def test_the_users_name_wins_and_maps_merge(store: SqliteStore) -> None:
    await store.write(
        batch([], [patch(1, name_override="mine", tags={"a": "1", "b": "1"}, metadata={"a": "1"}, dropped={"x": 1})])
    )
    await store.write(batch([], [patch(1, tags={"b": "2"}, metadata={"b": "2"}, dropped={"x": 2, "y": 5})]))
    info = (await store.get_trace(trace_id(1))).info
    assert (info.name, info.tags, info.metadata) == ("mine", {"a": "1", "b": "2"}, {"a": "1", "b": "2"})
    assert info.dropped == {"x": 3, "y": 5}


async def test_spans_are_ordered_root_first_then_by_start_and_calls_are_numbered(store: SqliteStore) -> None:
    rows = [
        span(1, span_id=span_id(3), parent_id=span_id(1), name="Completions", start_time_ns=START + 20),
        span(1, span_id=span_id(2), parent_id=span_id(1), name="Completions", start_time_ns=START + 10),
        span(1, name="root", span_type="CHAIN", start_time_ns=START + 15),
    ]
    await store.write(batch(rows, [patch(1)]))
    spans = (await store.get_trace(trace_id(1))).data.spans
    assert [(found.name, found.span_id) for found in spans] == [
        ("root", span_id(1)),
        ("Completions_1", span_id(2)),
        ("Completions_2", span_id(3)),
    ]


async def test_stream_chunks_are_read_as_events_among_the_others(store: SqliteStore) -> None:
    events = msgspec.json.encode([["note", START + 3, {}]])
    await store.write(batch([span(1, chunks=packed(SSE), events=events)], [patch(1)]))
    found = (await store.get_trace(trace_id(1))).data.spans[0].events
    assert [event.name for event in found] == ["gen_ai.chunk", "note", "gen_ai.chunk"], "[DONE] is none"
    assert [event.attributes.get("data") for event in found if event.name == "gen_ai.chunk"] == [{"a": 1}, {"a": 2}]
    assert [event.attributes.get("index") for event in found] == [0, None, 1]


async def test_live_chunks_are_seen_while_the_span_runs_and_go_when_it_ends(store: SqliteStore, path: Path) -> None:
    await store.write(batch([started(1)], [running(1)], [ChunkRow(trace_id(1), span_id(1), SSE[:1])]))
    await store.write(batch([], [], [ChunkRow(trace_id(1), span_id(1), SSE[1:])]))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == SSE
    live = (await store.get_trace(trace_id(1))).data.spans[0]
    assert [event.attributes["data"] for event in live.events][:2] == [{"a": 1}, {"a": 2}]
    await store.write(simple(1, chunks=packed(SSE)))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == []
    assert (await store.get_trace(trace_id(1))).data.spans[0].events == live.events


async def test_live_chunks_go_when_the_span_ends_without_any(store: SqliteStore) -> None:
    """If redaction hooks are set in the middle of a stream, the row of its end has no chunks."""
    for number in (1, 2):
        chunks = [ChunkRow(trace_id(number), span_id(number), SSE)]
        await store.write(batch([started(number, operation="chat")], [running(number)], chunks))
    await store.write(simple(1, operation="chat"))
    assert await store._database.read(read_live_chunks, trace_id(1), span_id(1)) == []
    assert await store._database.read(read_live_chunks, trace_id(2), span_id(2)) == SSE


async def test_payloads_are_json_text_for_any_sql_tool(store: SqliteStore, path: Path) -> None:
    await store.write(simple(1, inputs=b'{"messages":[{"content":"hi"}]}'))
    with sqlite3.connect(path) as reader:
        sql = "SELECT json_extract(inputs, '$.messages[0].content') FROM span_list WHERE trace_id = ?"
        assert reader.execute(sql, (trace_id(1),)).fetchone() == ("hi",)
    reader.close()


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (b'{"x": NaN}', None),
        (b"not json", "not json"),
        (b'"\\ud800"', "?"),
        (b'"\xff"', "\ufffd"),
        (b"[" * 100_000 + b"]" * 100_000, "[" * 100_000 + "]" * 100_000),
    ],
    ids=["nan", "no json", "surrogate", "no utf-8", "deep"],
)
async def test_odd_payloads_are_kept_and_read(store: SqliteStore, stored: bytes, read: object) -> None:
    await store.write(simple(1, outputs=stored))
    outputs = (await store.get_trace(trace_id(1))).data.spans[0].outputs
    assert outputs == read if read is not None else outputs["x"] != outputs["x"]


async def test_text_that_is_no_unicode_does_not_cost_the_batch(store: SqliteStore) -> None:
    await store.write(batch([span(1, name="a\ud800b"), span(2)], [patch(1, tags={"k": "\udfff"}), patch(2)]))
    assert (await store.get_trace(trace_id(1))).data.spans[0].name == "a?b"
    assert (await store.get_trace(trace_id(2))).data.spans


async def test_a_batch_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    orphan = span(2, trace_id=trace_id(99))  # its trace is not in the batch
    with pytest.raises(StoreError):
        await store.write(batch([span(1), orphan], [patch(1)]))
    with pytest.raises(TraceNotFoundError):
        await store.get_trace(trace_id(1))
    await store.write(simple(1))


async def test_a_locked_database_is_a_passing_failure(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_module, "LOCK_PATIENCE", 0.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TransientStoreError, match="locked") as caught:
        await store.write(simple(1))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    other.execute("ROLLBACK")
    other.close()
    await store.write(simple(1))


async def test_a_full_disk_is_a_passing_failure(store: SqliteStore, path: Path) -> None:
    pages = await store._database.write(lambda raw: raw.execute("PRAGMA page_count").fetchall())
    await store._database.write(lambda raw: raw.execute(f"PRAGMA max_page_count = {pages[0][0]}").fetchall())
    with pytest.raises(TransientStoreError, match="full"):
        await store.write(simple(*range(50), inputs=b'"' + b"x" * 5000 + b'"'))
    await store._database.write(lambda raw: raw.execute("PRAGMA max_page_count = 1000000").fetchall())
    await store.write(simple(*range(50)))


async def test_tags_can_be_set_changed_and_deleted(store: SqliteStore) -> None:
    await store.write(simple(1))
    await store.set_trace_tag(trace_id(1), "k", "1")
    await store.set_trace_tag(trace_id(1), "k", "2")
    assert (await store.get_trace(trace_id(1))).info.tags == {"k": "2"}
    await store.delete_trace_tag(trace_id(1), "k")
    await store.delete_trace_tag(trace_id(1), "never there")
    assert (await store.get_trace(trace_id(1))).info.tags == {}
    with pytest.raises(TraceNotFoundError):
        await store.set_trace_tag(trace_id(2), "k", "1")
    with pytest.raises(TraceNotFoundError):
        await store.delete_trace_tag(trace_id(2), "k")


async def test_deleting_takes_spans_tags_chunks_and_text_with_it(store: SqliteStore, path: Path) -> None:
    await store.write(simple(1, 2, 3, text="needle", tags={"k": "v"}))
    await store.write(batch([started(4, text="needle")], [running(4)], [ChunkRow(trace_id(4), span_id(4), SSE)]))
    assert len(await store.search_traces(TraceQuery(text="needle"))) == 4
    assert await store.delete_traces(trace_ids=[trace_id(4), trace_id(404)]) == 1
    assert await store.delete_traces(max_timestamp_ms=2**40 * 1000, max_traces=2) == 2
    page = await store.search_traces(TraceQuery(text="needle"))
    assert [trace.info.trace_id for trace in page] == [trace_id(3)]
    with sqlite3.connect(path) as reader:
        for table in ("traces", "spans", "tags"):
            assert reader.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
        assert reader.execute("SELECT count(*) FROM live_chunks").fetchone() == (0,)
        reader.execute("INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")
    reader.close()


async def test_deleting_everything_by_accident_is_refused(store: SqliteStore) -> None:
    with pytest.raises(ConfigurationError, match="got none of them"):
        await store.delete_traces()


async def test_a_number_alone_deletes_the_oldest(store: SqliteStore) -> None:
    await store.write(simple(3, 1, 2))
    assert await store.delete_traces(max_traces=2) == 2
    assert [trace.info.trace_id for trace in await store.search_traces(TraceQuery())] == [trace_id(3)]


async def test_the_file_shrinks_when_traces_are_deleted_and_the_store_is_idle(store: SqliteStore, path: Path) -> None:
    await store.write(simple(*range(1_000), inputs=b'"' + b"x" * 5_000 + b'"', text="word"))
    await store.delete_traces(max_traces=1_000)
    steps = 0
    while await store.tidy():
        steps += 1
    assert 1 < steps < 50
    await store.aclose()
    assert len(content(path)) < 1_000_000


async def test_tidying_a_file_that_cannot_shrink_comes_to_an_end(path: Path) -> None:
    create_file(path)
    with sqlite3.connect(path) as creator:  # an empty file whose first page says: no auto_vacuum
        creator.execute("PRAGMA user_version = 0")
        creator.execute("VACUUM")
    creator.close()
    store = SqliteStore(check_uri(f"sqlite:///{path}"))
    await store.open()
    await store.write(simple(*range(100), inputs=b'"' + b"x" * 5_000 + b'"'))
    await store.delete_traces(max_traces=100)
    assert await store._database.write(lambda raw: raw.execute("PRAGMA auto_vacuum").fetchone()) == (0,)
    assert [await store.tidy() for _ in range(3)][-1] is False
    await store.aclose()


async def test_reading_needs_nothing_from_who_is_writing(store: SqliteStore, path: Path) -> None:
    gone = ProcessRow(process_id="gone", host=current_process().host, pid=2**22 + 1, started="1")
    await store.write(batch([started(1)], [running(1, process_id="gone")], process=gone))
    await store.write(simple(2, text="word"))
    assert len(await store.search_traces(TraceQuery(text="word"))) == 1
    await store.write(simple(3, text="word"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._next_sweep = 0.0
    assert (await store.get_trace(trace_id(1))).info.state == TraceState.IN_PROGRESS
    assert len(await store.search_traces(TraceQuery(text="word"))) == 1
    assert not await store.tidy()
    other.close()
    store._next_sweep = 0.0
    assert (await store.get_trace(trace_id(1))).info.state == TraceState.INTERRUPTED
    assert len(await store.search_traces(TraceQuery(text="word"))) == 2


async def test_a_text_search_indexes_what_was_there_when_it_began(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would never end while a faster writer is at work."""
    index_text = store.index_text
    calls = 0

    async def and_more_comes(limit: int) -> bool:
        nonlocal calls
        calls += 1
        assert calls < 10
        await store.write(simple(*range(calls * 100, calls * 100 + 10), text="word"))
        return await index_text(limit)

    monkeypatch.setattr("tracer.store.sqlite.store._INDEX_ROWS", 5)
    monkeypatch.setattr(store, "index_text", and_more_comes)
    await store.write(simple(*range(12), text="word"))
    assert len(await store.search_traces(TraceQuery(text="word"))) >= 12
    assert calls == 3


def test_what_stops_a_migration_is_what_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite rolls back by itself after some errors, such as a full disk; here the script does."""
    monkeypatch.setattr("tracer.store.sqlite._schema._MIGRATIONS", ("ROLLBACK;\nSELECT the_cause;\n",))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="the_cause"):
        migrate(connection)
    assert not connection.in_transaction
    connection.close()


async def test_text_index_follows_changes_and_reused_keys(store: SqliteStore, path: Path) -> None:
    await store.write(batch([started(1, text="before")], [running(1)]))
    assert len(await store.search_traces(TraceQuery(text="before"))) == 1
    await store.write(simple(1, text="after"))
    assert len(await store.search_traces(TraceQuery(text="before"))) == 0
    assert len(await store.search_traces(TraceQuery(text="after"))) == 1
    await store.delete_traces(trace_ids=[trace_id(1)])
    await store.write(simple(2, text="reborn"))  # SQLite gives the freed span key again
    assert len(await store.search_traces(TraceQuery(text="after"))) == 0
    assert len(await store.search_traces(TraceQuery(text="reborn"))) == 1
    with sqlite3.connect(path) as reader:
        reader.execute("INSERT INTO span_text (span_text, rank) VALUES ('integrity-check', 0)")
    reader.close()


async def test_the_log_is_moved_into_the_database_when_it_grows(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.store.sqlite.store.CHECKPOINT_BYTES", 100_000)
    for number in range(40):
        await store.write(simple(number, inputs=b'"' + b"x" * 5000 + b'"'))
        assert log_size(path) < 200_000


async def test_only_the_elected_process_moves_the_log(store: SqliteStore, path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    await store.write(simple(1))
    size = log_size(path)
    with Path(f"{path}-lock").open("w") as lock:  # noqa: ASYNC230  instant
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not await store._database.write(connection_module.checkpoint, path, at_least=1)
    assert log_size(path) == size
    assert await store._database.write(connection_module.checkpoint, path, at_least=1)
    assert log_size(path) == 0


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = open_store(f"sqlite:///{tmp_path}/new/dir/traces.db")
        await store.open()
        await store.write(simple(1))
        folder = tmp_path / "new" / "dir"
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        assert modes.keys() >= {"traces.db", "traces.db-wal", "traces.db-shm"}
        assert set(modes.values()) == {0o600}
        assert {stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)} == {0o700}
        await store.aclose()
    finally:
        os.umask(old)


async def test_a_file_of_a_newer_version_is_refused_and_untouched(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as writer:  # between check and open
        writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    writer.close()
    before = content(path)
    with pytest.raises(StoreError, match=f"version {SCHEMA_VERSION + 1}"):
        await store.open()
    assert content(path) == before


async def test_another_programs_file_is_refused_at_open_too(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as writer:
        writer.execute("CREATE TABLE theirs (x)")
    writer.close()
    with pytest.raises(StoreError, match="another program"):
        await store.open()


async def test_a_damaged_file_is_a_store_error(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(*range(200), inputs=b'"' + b"x" * 3000 + b'"'))
    await store.aclose()
    store = open_store(f"sqlite:///{path}")
    damage(path)
    with pytest.raises(StoreError) as caught:
        await store.open()
    assert not isinstance(caught.value, TransientStoreError)
    await store.aclose()
    with pytest.raises(ConfigurationError, match="is damaged"):
        open_store(f"sqlite:///{path}")


async def test_looking_at_a_file_keeps_the_locks_that_this_process_holds_on_it(path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of it."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(1))
    check_uri(f"sqlite:///{path}")
    assert "database is locked" in complaint_of_another_process(path), (
        "another process took itself for the only user of the database"
    )
    await store.aclose()


async def test_what_was_written_is_there_after_opening_again(path: Path) -> None:
    for number in range(3):
        store = open_store(f"sqlite:///{path}")
        await store.open()
        await store.write(simple(number))
        await store.aclose()
    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert len(await store.search_traces(TraceQuery())) == 3
    await store.aclose()


async def test_a_store_opens_itself_whenever_it_is_used(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    for number in range(3):
        await store.write(simple(number))
        assert len(await store.search_traces(TraceQuery())) == number + 1
        await store.aclose()


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await store._database.read(lambda raw: raw.execute("DELETE FROM traces").fetchall())


async def test_a_trace_survives_json(store: SqliteStore) -> None:
    await store.write(simple(1, inputs=b'{"a":[1]}'))
    trace = await store.get_trace(trace_id(1))
    assert json.loads(trace.to_json())["data"]["spans"][0]["inputs"] == {"a": [1]}


def stored(path: Path) -> bool:
    return path.exists()


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


async def test_a_file_that_was_deleted_is_made_anew(path: Path, tracer_log: list[logging.LogRecord]) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await store.write(simple(1))
    remove(path)
    await store.write(simple(2))
    assert [trace.info.trace_id for trace in await store.search_traces(TraceQuery())] == [trace_id(2)]
    assert stored(path), "the file is there again"
    await store.aclose()
    assert "was deleted or replaced" in tracer_log.pop().getMessage()
