"""A tracking server as a store: what the contract's tests, which it passes too, can't see."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.store.rows import START, batch, patch, simple, span, span_id, started, trace_id
from tests.tracking import TrackingServer
from tracer._exceptions import ConfigurationError, ReadTimeoutError, StoreError, TraceNotFoundError, TransientStoreError
from tracer._http import Backoff
from tracer._models import TraceState
from tracer.store import Batch, MediaRow, ProcessRow, TraceQuery, current_process, open_store
from tracer.store.base import Retention
from tracer.store.batch import ChunkRow, LossRow
from tracer.store.http.connection import RejectedError
from tracer.store.http.encodings import BodyTooLargeError, EncodingError, compress, decompress, encodings
from tracer.store.http.pieces import split
from tracer.store.http.place import place_of
from tracer.store.http.store import HttpStore
from tracer.store.sqlite.store import SqliteStore
from tracer.store.wire import CODES, METHODS, decode, encode, raised_again


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TRACER_TOKEN", raising=False)
    return tmp_path / "state"


@contextlib.asynccontextmanager
async def opened(uri: str) -> AsyncIterator[HttpStore]:
    store = open_store(uri)
    assert isinstance(store, HttpStore)
    yield store
    await store.aclose()


# --- the wire ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**30, -(10**30), 2**63, [1, {"a": 2**70}], "a\udc00b", {"x": float("inf")}])
def test_values_that_json_allows_come_through(value: Any) -> None:
    expected = "a?b" if value == "a\udc00b" else value
    assert decode(encode(value), Any) == expected


def test_every_error_is_raised_as_the_same_class_with_the_same_words() -> None:
    for kind, (_, code) in CODES.items():
        again = raised_again(code, "what happened")
        assert type(again) is kind
        assert str(again) == "what happened"
    assert raised_again("of a later version", "x") is None


def test_the_methods_are_those_of_the_protocol() -> None:
    assert METHODS["search_traces"].arguments.__struct_fields__ == ("query",)
    assert {"open", "aclose", "write", "tidy", "expire"}.isdisjoint(METHODS)
    assert METHODS["delete_traces"].scope == "admin"


@pytest.mark.parametrize("encoding", encodings())
def test_a_body_is_unpacked_and_a_bomb_is_refused_at_its_cap(encoding: str) -> None:
    import gzip

    data = b"x" * 3_000_000
    packed = gzip.compress(data) if encoding == "gzip" else compress(data, [encoding])[0]
    assert len(packed) < 20_000
    assert decompress(packed, encoding, len(data)) == data
    with pytest.raises(BodyTooLargeError, match="more than 2,999,999 bytes"):
        decompress(packed, encoding, len(data) - 1)
    with pytest.raises(EncodingError, match=f"not {encoding}"):
        decompress(b"no such thing", encoding, 100)
    with pytest.raises(EncodingError, match="its end is missing"):
        decompress(packed[:-6], encoding, len(data))


def test_an_encoding_that_is_not_known_is_named() -> None:
    with pytest.raises(EncodingError, match=r"must be one of .*deflate.*got 'br'"):
        decompress(b"x", "br", 10)


def test_pauses_grow_with_full_jitter() -> None:
    random.seed(1)
    pauses = [[backoff.next_pause() for _ in range(12)] for backoff in (Backoff() for _ in range(200))]
    longest = [max(each) for each in zip(*pauses, strict=True)]
    assert 0.09 < longest[0] <= 0.1
    assert 25 < longest[-1] <= 30
    assert min(each[-1] for each in pauses) < 3


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_large_batch_goes_in_pieces_that_are_batches_of_their_own() -> None:
    large = batch([span(n, inputs=b'"' + b"x" * 1000 + b'"') for n in range(1, 9)], [patch(n) for n in range(1, 9)])
    large.traces[0].dropped = {"chunks": 3}
    large.chunks = [ChunkRow(trace_id=trace_id(1), span_id=span_id(1), chunks=[(1, b"x" * 900)])]
    large.media = [MediaRow(trace_id=trace_id(2), span_id=span_id(2), hash="0" * 64, content_type="x/y", data=b"d")]
    large.losses = [LossRow(reason="lost", count=2, time_ns=START)]
    large.sources, large.once = {"ring": 7, "sender": 3}, ["sender"]
    pieces = split(large, 3_000)
    assert len(pieces) > 3
    assert [row for piece in pieces for row in piece.spans] == large.spans
    assert [row for piece in pieces for row in (*piece.chunks, *piece.media)] == [*large.chunks, *large.media]
    for piece in pieces:
        assert {row.trace_id for row in piece.spans} <= {each.trace_id for each in piece.traces}
    assert sum(each.dropped.get("chunks", 0) for piece in pieces for each in piece.traces) == 3
    assert (pieces[-1].sources, pieces[-1].once, pieces[-1].losses) == (large.sources, large.once, large.losses)
    marks = [piece.sources["sender#"] for piece in pieces[:-1]]
    assert marks == sorted(set(marks))
    assert msgspec.msgpack.encode(split(large, 3_000)) == msgspec.msgpack.encode(pieces)


async def test_a_batch_in_pieces_is_stored_as_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.store.http.store.split", lambda each: split(each, 3_000))
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            large = simple(*range(1, 30), inputs=b'"' + b"x" * 500 + b'"', dropped={"chunks": 1})
            await store.write(large)
            await store.write(large)  # its answer was lost
            page = await store.search_traces(TraceQuery())
            assert len(page) == 29
            assert {trace.info.dropped["chunks"] for trace in page} == {1}


# --- exactly once -----------------------------------------------------------------------------------------------------


async def test_a_batch_that_is_sent_twice_counts_once(path: Path) -> None:
    """Also after it was in the spool, which keeps its number, and when a later one came in between."""
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            first = simple(1, dropped={"chunks": 1})
            first.losses = [LossRow(reason="lost", count=2, time_ns=START)]
            await store.write(first)
            from_spool = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=Batch)
            await store.write(simple(2, dropped={"chunks": 1}))
            await store.write(from_spool)
            assert [trace.info.dropped for trace in await store.search_traces(TraceQuery())] == [{"chunks": 1}] * 2
            assert [loss.count for loss in await store.losses()] == [2]


async def test_the_number_of_a_batch_that_was_not_answered_outlives_its_sender(path: Path) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        unanswered = simple(1, dropped={"chunks": 1})
        async with opened(server.url) as sender:
            await sender.write(unanswered)
            sender._numbering.is_answered = False
        async with opened(server.url) as other:
            await other.write(unanswered)
            assert (await other.get_trace(trace_id(1))).info.dropped == {"chunks": 1}


@pytest.mark.parametrize("name", ["spool file", "ring"])
async def test_what_another_process_takes_over_is_written_once(store: SqliteStore, name: str) -> None:
    left = simple(1, dropped={"chunks": 1})
    left.sources, left.once = {name: 1}, [name]
    await store.write(left)
    await store.write(left)
    assert (await store.get_trace(trace_id(1))).info.dropped == {"chunks": 1}
    await store.forget_source(name)
    assert await store.taken_over(name) == 0


async def test_a_process_that_ends_leaves_no_marks_and_its_traces_are_interrupted(path: Path) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as sender:
            await sender.write(batch([started(1)], [patch(1, state=TraceState.IN_PROGRESS, end_time_ns=None)]))
            name = sender._numbering.name
            assert await sender.taken_over(name) == 1
            assert (await sender.get_trace(trace_id(1))).info.state == "IN_PROGRESS"
        async with opened(server.url) as other:
            assert await other.taken_over(name) == 0
            assert (await other.get_trace(trace_id(1))).info.state == "INTERRUPTED"


async def test_the_traces_of_a_silent_process_of_another_machine_are_interrupted(path: Path) -> None:
    """Until it speaks again: it was only its network that was away."""
    elsewhere = ProcessRow(process_id="far:1:2", host="far", pid=1, started="2")
    running = batch([started(1)], [patch(1, state=TraceState.IN_PROGRESS, end_time_ns=None, process_id="far:1:2")])
    running.process = elsewhere

    async def state(store: HttpStore) -> str:
        server.app.state.source._store._next_sweep = 0.0
        return str((await store.get_trace(trace_id(1))).info.state)

    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("tracer.store.http.store.current_process", lambda: elsewhere)
                await store.write(running)
                assert await store.taken_over("seen:far:1:2") > START // 10**9
                assert await state(store) == "IN_PROGRESS"
                patched.setattr("tracer.store.sqlite._interrupted.SILENCE_SECONDS", -10)
                assert await state(store) == "INTERRUPTED"
                patched.setattr("tracer.store.sqlite._interrupted.SILENCE_SECONDS", 60)
                await store.write(running)
                del running.sources[store._numbering.name]
                running.once.clear()
                await store.write(running)
                assert await state(store) == "IN_PROGRESS"
                await store.end_process("far:1:2", [])
                assert await store.taken_over("seen:far:1:2") == 0


async def test_a_sign_of_life_is_sent_if_nothing_else_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = "seen:" + current_process().process_id
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            await store.sign_of_life()
            assert await store.taken_over(seen) > START // 10**9
            await store.write(simple(1))
            await store.forget_source(seen)
            await store.sign_of_life()  # the batch was one
            assert await store.taken_over(seen) == 0
            monkeypatch.setattr("tracer.store.http.store.SIGN_SECONDS", 0.0)
            await store.sign_of_life()
            assert await store.taken_over(seen) > 0
    await store.sign_of_life()  # nobody is there: no error
    await store.aclose()


# --- a server that is away, or refuses --------------------------------------------------------------------------------


async def test_a_server_that_is_away_is_named_and_told_when_to_try_again() -> None:
    async with opened("http://token@127.0.0.1:9") as store:
        with pytest.raises(TransientStoreError, match=r"http://127.0.0.1:9 did not answer") as caught:
            await store.write(simple(1))
        assert caught.value.retry_after is not None
        assert caught.value.retry_after <= 0.1
        assert "token" not in str(caught.value)
        with pytest.raises(StoreError, match="did not answer"):
            await store.get_trace(trace_id(1))


async def test_errors_come_back_as_they_were_raised(path: Path) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            with pytest.raises(TraceNotFoundError, match="no trace 'x' is stored"):
                await store.get_trace("x")
            with pytest.raises(ConfigurationError, match="since must be a datetime"):
                await store.search_traces(TraceQuery(since=object()))
            with pytest.raises(ConfigurationError, match="delete_traces needs"):
                await store.delete_traces()


async def test_a_row_that_is_wrong_is_refused_with_its_place_and_nothing_is_stored(path: Path) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            wrong = simple(1, 2, 3)
            wrong.spans[2].span_id = "x"
            with pytest.raises(RejectedError, match=r"spans\[2\]: span_id must be 16 lower-case hex digits, got 'x'"):
                await store.write(wrong)
            assert await store.search_traces(TraceQuery()) == []
            await store.write(simple(4))  # the next one is not held up


async def test_a_batch_at_which_the_server_fails_does_not_hold_up_the_next(
    path: Path, tracer_log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(body: bytes) -> Batch:
        raise ZeroDivisionError

    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            with monkeypatch.context() as patched:
                patched.setattr("tracer.server._intake.read_batch", fail)
                with pytest.raises(RejectedError, match="ZeroDivisionError"):
                    await store.write(simple(1))
            await store.write(simple(2))
    assert "POST /api/ingest failed" in tracer_log[0].getMessage()
    tracer_log.clear()


async def test_a_store_that_the_server_cannot_use_keeps_the_records_waiting(path: Path, tracer_log: list[Any]) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            await store.write(simple(1))
            replace_by_folder(path)
            with pytest.raises(TransientStoreError):
                await store.write(simple(2))
    tracer_log.clear()  # the server says it, too


def replace_by_folder(path: Path) -> None:
    for file in path.parent.glob("traces.db*"):
        file.unlink()
    path.mkdir()


async def test_a_time_limit_is_kept_where_the_server_is_silent(path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with opened(f"http://127.0.0.1:{silent.getsockname()[1]}") as store:
            store.options.time_limit = 0.05
            with pytest.raises(ReadTimeoutError, match=r"took longer than 0.05 s"):
                await store.get_trace(trace_id(1))


async def test_limits_of_this_process_do_not_delete_what_others_sent(path: Path, tracer_log: list[Any]) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        async with opened(server.url) as store:
            store.options.retention = Retention(max_age=1.0)
            await store.write(simple(1))
            for _ in range(2):
                assert await store.expire() is False
            assert len(await store.search_traces(TraceQuery())) == 1
    assert len([record for record in tracer_log if "retention_max_age" in record.getMessage()]) == 1
    tracer_log.clear()


# --- the place of rings and spool -------------------------------------------------------------------------------------


def test_each_server_has_a_private_place_without_its_token(state: Path) -> None:
    first, second = place_of("http://127.0.0.1:5151"), place_of("http://127.0.0.1:5152")
    assert first is not None
    assert first != second
    assert first.parent == state / "tracer" / "servers"
    assert first.parent.stat().st_mode & 0o777 == 0o700
    assert HttpStore("http://secret@127.0.0.1:5151").beside == first


def test_where_there_is_no_home_the_place_is_beside_temporary_files(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write_text("a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = place_of("http://127.0.0.1:5151")
    assert place is not None
    assert place.parent.parent == tmp_path


async def test_an_endpoint_for_otlp_does_nothing_beside_a_server_and_says_so(path: Path, tracer_log: list[Any]) -> None:
    with TrackingServer(f"sqlite:///{path}") as server:
        store = open_store(server.url)
        for _ in range(2):
            assert await store.take_exports("a", 10) == []
        await store.aclose()
    [record] = tracer_log
    assert record.getMessage().startswith(f"otlp_endpoint does nothing here: {server.url} keeps what is recorded")
    tracer_log.clear()
