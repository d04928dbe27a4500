"""The tracking server: who may do what, what is refused before it costs anything, and what it tells of itself."""

from __future__ import annotations

import gzip
import json
import logging
import stat
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from starlette.routing import Mount, Route

import tracer
from tests.server.conftest import Site
from tests.store.rows import batch, patch, simple, span, started, trace_id
from tests.tracking import TrackingServer
from tracer._exceptions import ConfigurationError
from tracer.capture.records import Ending, SpanEnded, SpanStarted
from tracer.capture.records import encode as encode_record
from tracer.capture.snapshots import snapshot
from tracer.server import _intake, _metrics, run
from tracer.server.tokens import Access, Grant, TokenFile, default_token_file, digest
from tracer.server.tracking import create_tracking_server
from tracer.store import Batch, TraceQuery, current_process
from tracer.store.base import Retention
from tracer.store.raw import Learnt, RawBatch, Remembered, SpanState
from tracer.store.sqlite.store import SqliteStore
from tracer.store.wire import (
    CONTENT_TYPE,
    MAX_COMPRESSED,
    MAX_TRACES,
    METHODS,
    VERSION,
    Envelope,
    decode,
    encode,
    pack_batch,
)
from tracer.testing import isolated

TOKEN = "a-token-of-the-test"
HEADERS = {"content-type": CONTENT_TYPE, "tracer-version": str(VERSION)}


@pytest.fixture
async def served(site: Site, path: Path) -> httpx.AsyncClient:
    """A client of a server without tokens."""
    return await site.start(create_tracking_server(f"sqlite:///{path}"))


def envelope(given: Batch, **changes: Any) -> bytes:
    made = msgspec.msgpack.decode(pack_batch(given, current_process(), 1, 1), type=Envelope)
    return msgspec.msgpack.encode(msgspec.structs.replace(made, **changes))


def raw_batch(*records: bytes) -> Batch:
    return Batch(process=current_process(), raw=RawBatch([*records], [], [], 1_000, 1))


async def send(client: httpx.AsyncClient, body: bytes, token: str | None = None, **headers: str) -> httpx.Response:
    given = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    return await client.post("/api/ingest", content=body, headers=given)


async def ask(client: httpx.AsyncClient, method: str, token: str | None = None, **arguments: Any) -> Any:
    """Return what a method answers; of an error, status and code."""
    headers = {**HEADERS, **({} if token is None else {"authorization": f"Bearer {token}"})}
    body = encode(METHODS[method].arguments(**arguments))
    answer = await client.post(f"/api/store/{method}", content=body, headers=headers)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]["code"]
    return decode(answer.content, METHODS[method].result)


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["identity", "deflate", "gzip"])
async def test_a_batch_is_stored_before_it_is_answered(
    served: httpx.AsyncClient, store: SqliteStore, encoding: str
) -> None:
    body = envelope(simple(1, 2))
    packed = {"identity": body, "deflate": zlib.compress(body), "gzip": gzip.compress(body)}[encoding]
    answer = await send(served, packed, content_encoding=encoding)
    assert (answer.status_code, answer.headers["tracer-version"]) == (200, str(VERSION))
    assert "deflate" in answer.headers["accept-encoding"]
    assert len(await store.search_traces(TraceQuery())) == 2


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "bad_record", "begins with its version"),
        (b"\xc1garbage", "bad_record", "begins with its version"),
        (msgspec.msgpack.encode([1]), "bad_record", "envelope"),
        (envelope(simple(1), version=2), "unknown_version", "speaks version 1, got version 2"),
        (envelope(simple(1), kind="notes"), "unknown_kind", "must be 'rows' or 'records', got 'notes'"),
        (envelope(simple(1), kind="records"), "bad_record", "the body's kind is 'records'"),
        (envelope(raw_batch(b"\x90"), kind="rows"), "bad_record", "the body's kind is 'rows'"),
        (envelope(simple(1), body=msgspec.Raw(msgspec.msgpack.encode({"process": 1}))), "bad_record", "Expected"),
    ],
    ids=["empty", "garbage", "short", "version", "kind", "rows as records", "records as rows", "batch"],
)
async def test_what_is_no_batch_is_refused(served: httpx.AsyncClient, body: bytes, code: str, words: str) -> None:
    answer = await send(served, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert words in answer.json()["error"]["message"]


STARTED = encode_record(SpanStarted("a" * 32, "1" * 16, None, "f", "CHAIN", 1, "Default", inputs=snapshot("hi", 99)))
ENDED = encode_record(SpanEnded("1" * 16, 9, Ending.RETURNED, outputs=snapshot("there", 99)))


async def test_records_are_interpreted_and_the_answer_says_what_they_showed(
    served: httpx.AsyncClient, store: SqliteStore
) -> None:
    answer = await send(served, envelope(raw_batch(STARTED), kind="records"))
    assert answer.status_code == 200
    assert decode(answer.content, Learnt).states == {"1" * 16: SpanState("hi", "hi")}
    body = raw_batch(ENDED)
    assert body.raw is not None
    body.raw.remembered = [Remembered([STARTED], SpanState("hi", "hi"))]
    answer = await send(served, envelope(body, kind="records"))
    assert decode(answer.content, Learnt) == Learnt()
    [trace] = await store.search_traces(TraceQuery())
    assert (trace.info.request_preview, trace.info.response_preview, trace.info.state) == ("hi", "there", "OK")


@pytest.mark.parametrize("record", [b"\xc1", b"\x90", STARTED[:-1], b"\x92\xa1e\xa1x"])
async def test_a_record_that_is_none_is_named_and_nothing_is_stored(
    served: httpx.AsyncClient, store: SqliteStore, record: bytes
) -> None:
    answer = await send(served, envelope(raw_batch(STARTED, record), kind="records"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["index"]) == (422, "bad_record", 1)
    assert await store.search_traces(TraceQuery()) == []


async def test_records_are_checked_like_rows_when_they_are_interpreted(served: httpx.AsyncClient) -> None:
    started = encode_record(SpanStarted("x", "1" * 16, None, "f", "CHAIN", 1, "Default"))
    answer = await send(served, envelope(raw_batch(started), kind="records"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_record")


def wrong(where: str, **changes: Any) -> bytes:
    """A batch of three whose last row is wrong."""
    given = msgspec.to_builtins(simple(1, 2, 3), builtin_types=(bytes,))
    given[where][2].update(changes)
    return envelope(simple(), body=msgspec.Raw(msgspec.msgpack.encode(given)))


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("spans", {"name": 5}),
        ("spans", {"trace_id": "x"}),
        ("spans", {"span_id": "A" * 16}),
        ("spans", {"end_time_ns": 2**63}),
        ("spans", {"usage": {"total_tokens": 2**63}}),
        ("traces", {"trace_id": "0" * 31}),
        ("traces", {"state": "DONE"}),
        ("traces", {"dropped": {'a"b': 1}}),
        ("traces", {"start_time_ns": 2**63}),
    ],
)
async def test_a_bad_row_is_refused_with_its_place_and_nothing_is_stored(
    served: httpx.AsyncClient, store: SqliteStore, where: str, changes: dict[str, Any]
) -> None:
    answer = await send(served, wrong(where, **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_record")
    assert answer.json()["error"]["index"] == 2
    assert await store.search_traces(TraceQuery()) == []


async def test_a_span_without_its_trace_is_refused_for_good(served: httpx.AsyncClient) -> None:
    """It is not the store that is at fault: the sender should not try again."""
    answer = await send(served, envelope(batch([span(1)], [])))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_record")
    assert (await send(served, envelope(simple(1)))).status_code == 200


async def test_a_mark_that_is_not_among_the_sources_is_refused(served: httpx.AsyncClient) -> None:
    given = simple(1)
    given.once = ["x"]
    assert (await send(served, envelope(given))).status_code == 422


# --- limits before work -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["deflate", "gzip"])
async def test_a_bomb_is_refused_at_the_cap(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Not after it was unpacked: 200 MB out of 200 KB cost no more memory than the cap."""
    monkeypatch.setattr(_intake, "MAX_UNPACKED", 1_000_000)
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    bomb = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(200)) + packer.flush()
    tracemalloc.start()
    answer = await send(served, bomb, content_encoding=encoding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert peak < 10_000_000


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(served: httpx.AsyncClient) -> None:
    answer = await send(served, b"x", content_length=str(MAX_COMPRESSED + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_a_body_that_does_not_say_its_size_is_cut_at_the_limit(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_intake, "MAX_COMPRESSED", 1_000)

    async def pieces() -> Any:
        for _ in range(20):
            yield b"x" * 100

    answer = await served.post("/api/ingest", content=pieces(), headers=HEADERS)
    assert answer.status_code == 413


async def test_too_many_traces_are_refused(served: httpx.AsyncClient) -> None:
    many = Batch(process=current_process(), traces=[patch(1)] * (MAX_TRACES + 1))
    assert (await send(served, envelope(many))).json()["error"]["code"] == "too_many_traces"


async def test_beyond_the_bytes_in_flight_the_next_must_wait(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = envelope(simple(1))
    monkeypatch.setattr(_intake, "MAX_IN_FLIGHT", len(body) - 1)
    answer = await send(served, body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    monkeypatch.setattr(_intake, "MAX_IN_FLIGHT", len(body))
    assert (await send(served, body)).status_code == 200  # what was refused is not counted any more


async def test_an_unknown_encoding_is_refused_with_those_that_are_known(served: httpx.AsyncClient) -> None:
    answer = await send(served, b"x", content_encoding="br")
    assert (answer.status_code, "deflate" in answer.json()["error"]["message"]) == (415, True)


# --- methods ----------------------------------------------------------------------------------------------------------


async def test_methods_of_another_version_and_unknown_ones_are_refused(served: httpx.AsyncClient) -> None:
    body = encode(METHODS["experiments"].arguments())
    old = await served.post("/api/store/experiments", content=body, headers={**HEADERS, "tracer-version": "9"})
    assert (old.status_code, old.json()["error"]["code"]) == (422, "unknown_version")
    assert "speaks version 1, got version '9'" in old.json()["error"]["message"]
    for name in ("aclose", "write", "options", "__init__"):
        answer = await served.post(f"/api/store/{name}", content=body, headers=HEADERS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_method")
    bad = await served.post("/api/store/get_trace", content=b"\xc1", headers=HEADERS)
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_request")


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


def test_a_token_is_kept_as_a_hash_in_a_private_file(tokens: TokenFile) -> None:
    token, grant = tokens.create(name="svc", scopes=("write",), experiments=("A",), rate=5.0)
    text = tokens.path.read_text()
    assert token not in text
    assert digest(token) not in text  # it would do as a cookie
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert Access(None, tokens).find(digest(token)) == grant
    assert (grant.scopes, grant.experiments, grant.rate) == (("write",), ("A",), 5.0)
    assert [file.name for file in tokens.path.parent.iterdir() if file.suffix == ".new"] == []


def test_a_token_is_revoked_by_id_or_name(tokens: TokenFile) -> None:
    first, grant = tokens.create(name="a")
    tokens.create(name="b")
    tokens.create(name="b")
    with pytest.raises(ConfigurationError, match=r"2 tokens have the id or name 'b'"):
        tokens.revoke("b")
    with pytest.raises(ConfigurationError, match=r"no token has the id or name 'x'"):
        tokens.revoke("x")
    assert tokens.revoke(grant.id) == grant
    assert Access(None, tokens).find(digest(first)) is None


def test_a_scope_that_is_not_known_is_refused(tokens: TokenFile) -> None:
    with pytest.raises(ConfigurationError, match=r"scope must be one of read, write, admin, got 'all'"):
        tokens.create(scopes=("all",))


def test_a_damaged_file_stops_a_start_and_not_a_running_server(
    tokens: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, grant = tokens.create()
    access = Access(None, tokens)
    monkeypatch.setattr("tracer.server.tokens._LOOK_EVERY", 0.0)
    tokens._next_look = 0.0
    tokens.path.write_text("{")
    assert access.find(digest(token)) == grant
    with pytest.raises(ConfigurationError, match="can't be read"):
        Access(None, TokenFile(tokens.path))


def test_a_server_whose_last_token_is_revoked_does_not_become_open(tokens: TokenFile) -> None:
    _, grant = tokens.create()
    access = Access(None, tokens)
    tokens.revoke(grant.id)
    assert access.is_required
    assert not Access(None, tokens).is_required  # one that is started then


def test_tokens_lie_beside_a_file_or_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_token_file(f"sqlite:///{tmp_path}/a.db") == tmp_path / "a.db-tokens.json"
    assert default_token_file("memory://") == tmp_path / "tracer" / "tokens.json"


async def test_every_route_needs_a_token(site: Site, store: SqliteStore, path: Path) -> None:
    """Also one that is added later; open is only what tells whether the server lives."""
    app = create_tracking_server(f"sqlite:///{path}", access=Access(TOKEN))
    client = await site.start(app)
    asked = 0
    for route in app.routes:
        if isinstance(route, Mount):
            continue
        assert isinstance(route, Route)
        url = route.path.replace("{trace_id}", trace_id(1)).replace("{", "").replace("}", "")
        for method in route.methods or ():
            expected = 200 if url == "/healthz" else 401
            assert (await client.request(method, url)).status_code == expected, (method, url)
            asked += 1
    assert asked > 20
    assert (await client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200


async def test_a_scope_allows_what_it_says_and_no_more(site: Site, path: Path, tokens: TokenFile) -> None:
    given = {scope: tokens.create(scopes=(scope,))[0] for scope in ("read", "write", "admin")}
    client = await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens)))
    statuses = {scope: (await send(client, envelope(simple(1)), token)).status_code for scope, token in given.items()}
    assert statuses == {"read": 403, "write": 200, "admin": 403}
    answers = {scope: await ask(client, "get_trace", token, trace_id=trace_id(1)) for scope, token in given.items()}
    assert answers["read"].info.trace_id == trace_id(1)
    assert answers["write"] == answers["admin"] == (403, "forbidden")
    deletes = {scope: await ask(client, "delete_traces", token, max_traces=9) for scope, token in given.items()}
    assert deletes == {"read": (403, "forbidden"), "write": (403, "forbidden"), "admin": 1}
    wrong_one = await send(client, envelope(simple(1)), "guess")
    assert (wrong_one.status_code, wrong_one.json()["error"]["code"]) == (401, "unauthorized")
    assert "not known here" in wrong_one.json()["error"]["message"]


async def test_a_running_server_takes_new_tokens_and_leaves_old_ones(
    site: Site, path: Path, tokens: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.server.tokens._LOOK_EVERY", 0.0)
    client = await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens)))
    assert await ask(client, "experiments") == []  # without a token, on loopback
    command = TokenFile(tokens.path)
    token, grant = command.create()
    assert await ask(client, "experiments") == (401, "unauthorized")
    assert await ask(client, "experiments", token) == []
    command.revoke(grant.id)
    assert await ask(client, "experiments", token) == (401, "unauthorized")


async def test_with_a_token_any_host_name_is_answered_and_without_loopbacks_only(
    site: Site, path: Path, tokens: TokenFile
) -> None:
    access = Access(TOKEN)
    client = await site.start(create_tracking_server(f"sqlite:///{path}", access=access))
    given = {"host": "tracer.example", "authorization": f"Bearer {TOKEN}"}
    assert (await client.get("/api/traces", headers=given)).status_code == 200
    opened = await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens)))
    assert (await opened.get("/api/traces", headers={"host": "tracer.example"})).status_code == 421


async def test_a_rate_is_kept_and_told(site: Site, path: Path, tokens: TokenFile) -> None:
    token, _ = tokens.create(rate=2.0)
    other, _ = tokens.create()
    client = await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens)))
    assert (await send(client, envelope(simple(*range(1, 21))), token)).status_code == 200
    refused = await send(client, envelope(simple(30)), token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_exceeded")
    assert 5 <= int(refused.headers["retry-after"]) <= 9
    assert (await send(client, envelope(simple(30)), other)).status_code == 200


# --- experiments ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def limited(site: Site, store: SqliteStore, path: Path, tokens: TokenFile) -> tuple[httpx.AsyncClient, str]:
    """A client, and a token for the experiments A and ``it's``, over traces of both and of B."""
    for number, name in enumerate(("A", "B", "it's", "A"), 1):
        await store.write(simple(number, experiment=name, session_id="s"))
    token, _ = tokens.create(experiments=("A", "it's"))
    return await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens))), token


async def test_reads_are_limited_to_the_tokens_experiments(limited: tuple[httpx.AsyncClient, str]) -> None:
    client, token = limited

    async def found(**query: Any) -> Any:
        page = await ask(client, "search_traces", token, query=TraceQuery(order_by="start_time", **query))
        return page if isinstance(page, tuple) else [int(trace.info.trace_id, 16) for trace in page]

    assert await found() == [1, 3, 4]
    assert await found(experiment="A") == [1, 4]
    assert await found(experiment="B") == []
    assert await found(filter_string="experiment = 'B'") == []
    assert await found(filter_string="status = 'OK' OR experiment = 'B'") == [1, 3, 4]
    assert await found(filter_string="status = 'OK') OR (experiment = 'B'") == (400, "invalid_request")
    assert await ask(client, "get_trace", token, trace_id=trace_id(2)) == (404, "trace_not_found")
    assert (await ask(client, "get_trace", token, trace_id=trace_id(1))).info.experiment == "A"
    whole = await ask(client, "stored_traces", token, trace_ids=[trace_id(number) for number in (1, 2, 3)])
    assert [(each.patch.trace_id, each.patch.experiment) for each in whole] == [
        (trace_id(1), "A"),
        (trace_id(3), "it's"),
    ]
    assert [each.name for each in await ask(client, "experiments", token)] == ["A", "it's"]
    assert (await ask(client, "overview", token, query=TraceQuery())).scope.traces == 3
    assert (await ask(client, "histogram", token, query=TraceQuery())).scope.traces == 3
    for method, arguments in (
        ("sessions", {"query": TraceQuery()}),
        ("storage", {}),
        ("list_feedback", {}),
        ("delete_feedback", {"feedback_id": "x"}),
        ("delete_traces", {"max_traces": 9}),
        ("delete_traces", {"experiment": "B"}),
    ):
        assert await ask(client, method, token, **arguments) == (403, "forbidden"), method
    for method, arguments in (
        ("set_trace_tag", {"trace_id": trace_id(2), "key": "a", "value": "b"}),
        ("live_chunks", {"trace_id": trace_id(2), "span_id": "0" * 16}),
        ("list_feedback", {"trace_id": trace_id(2)}),
    ):
        assert await ask(client, method, token, **arguments) == (404, "trace_not_found"), method


async def test_the_page_is_limited_too(limited: tuple[httpx.AsyncClient, str]) -> None:
    client, token = limited
    headers = {"authorization": f"Bearer {token}"}
    page = (await client.get("/", headers=headers)).text
    assert trace_id(1) in page
    assert trace_id(2) not in page
    assert (await client.get(f"/traces/{trace_id(2)}", headers=headers)).status_code == 404
    assert len((await client.get("/api/traces", headers=headers)).json()["traces"]) == 3
    exported = (await client.get("/api/export?format=jsonl", headers=headers)).text
    assert trace_id(2) not in exported
    assert trace_id(4) in exported


async def test_a_write_outside_the_tokens_experiments_is_refused_with_its_place(
    limited: tuple[httpx.AsyncClient, str], store: SqliteStore
) -> None:
    client, token = limited
    for given in (
        batch([span(11), span(12)], [patch(11, experiment="A"), patch(12, experiment="B")]),
        batch([span(11), span(12)], [patch(11, experiment="A"), patch(12)]),  # Default
        batch([span(11), span(2)], [patch(11, experiment="A"), patch(2, experiment="A")]),  # would take it over
        batch([span(11), span(2)], [patch(11, experiment="A"), patch(2)]),
    ):
        answer = await send(client, envelope(given), token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert answer.json()["error"]["index"] == 1
    hidden = await send(client, envelope(batch([started(2)], [])), token)
    assert (hidden.status_code, hidden.json()["error"]["index"]) == (403, 0)
    assert len(await store.search_traces(TraceQuery())) == 4
    good = await send(client, envelope(batch([span(11)], [patch(11, experiment="A")])), token)
    assert good.status_code == 200
    later = await send(client, envelope(batch([span(11)], [patch(11)])), token)  # a later batch need not name it
    assert later.status_code == 200


# --- what it tells of itself ------------------------------------------------------------------------------------------


async def test_health_tells_whether_the_store_answers(served: httpx.AsyncClient, path: Path) -> None:
    assert (await served.get("/healthz")).json() == {"status": "ok"}


async def test_a_store_that_does_not_answer_is_not_healthy(
    served: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(self: SqliteStore, source: str) -> int:
        await anyio.sleep_forever()
        return 0

    monkeypatch.setattr(_metrics, "_HEALTH_SECONDS", 0.01)
    monkeypatch.setattr(SqliteStore, "taken_over", hang)
    assert (await served.get("/healthz")).status_code == 503


async def test_metrics_count_what_was_stored_and_what_was_refused(served: httpx.AsyncClient) -> None:
    await send(served, envelope(simple(1, 2)))
    await send(served, b"")
    lines = (await served.get("/metrics")).text.splitlines()
    assert "tracer_ingest_spans_total 2" in lines
    assert "tracer_in_flight_bytes 0" in lines
    assert 'tracer_requests_total{route="/api/ingest",status="200"} 1' in lines
    assert 'tracer_requests_total{route="/api/ingest",status="422"} 1' in lines


async def test_what_people_ask_for_does_not_become_a_label(served: httpx.AsyncClient) -> None:
    for path in ('/api/store/"x', "/api/store/unknown", "/api/nothing", "/" + "x" * 50):
        await served.get(path)
    text = (await served.get("/metrics")).text
    assert "unknown" not in text
    assert "xxxxx" not in text


async def test_the_access_log_has_a_line_a_request_and_no_secret(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture, tokens: TokenFile
) -> None:
    token, grant = tokens.create()
    client = await site.start(create_tracking_server(f"sqlite:///{path}", access=Access(None, tokens)))
    with caplog.at_level(logging.INFO, logger="tracer.access"):
        await client.get("/api/traces?text=a+secret+word", headers={"authorization": f"Bearer {token}"})
        await client.get(f"/?token={token}")
        await send(client, envelope(simple(1, inputs=b'"a secret word"')), token)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "tracer.access"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/api/traces", 200), ("GET", "/", 303), ("POST", "/api/ingest", 200)
    ]  # fmt: skip
    assert [line["token"] for line in lines] == [grant.id, None, grant.id]
    logged = json.dumps(lines)
    assert token not in logged
    assert "secret" not in logged


# --- upkeep, start and stop -------------------------------------------------------------------------------------------


async def test_a_server_deletes_what_it_keeps_no_longer(
    site: Site, path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracer.server.tracking._LOOK_EVERY", 0.01)
    monkeypatch.setattr("tracer.server.tracking._EXPIRE_EVERY", 0.01)
    now = time.time_ns()
    client = await site.start(create_tracking_server(f"sqlite:///{path}", retention=Retention(max_age=3600.0)))
    await send(client, envelope(simple(1)))
    await send(client, envelope(simple(2, start_time_ns=now, end_time_ns=now + 1)))
    with anyio.fail_after(30):
        while len(await store.search_traces(TraceQuery())) > 1:  # noqa: ASYNC110  the server gives no sign
            await anyio.sleep(0.01)


async def test_a_server_that_is_about_to_stop_takes_nothing_new(site: Site, path: Path) -> None:
    app = create_tracking_server(f"sqlite:///{path}")
    client = await site.start(app)
    app.state.intake.metrics.closing = True
    answer = await send(client, envelope(simple(1)))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_an_open_address_needs_a_token(path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com"):
        with pytest.raises(ConfigurationError, match=r"can be reached by others: make a token .*TRACER_TOKEN"):
            run.serve_store(f"sqlite:///{path}", host, 0, access=Access())


def test_a_server_does_not_serve_a_server() -> None:
    with pytest.raises(ConfigurationError, match="point the services at that one"):
        create_tracking_server("http://127.0.0.1:5151")


def test_a_wrong_certificate_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ssl_certfile '/nowhere.pem' can't be used"):
        run.serve_store(f"sqlite:///{path}", port=0, access=Access(), ssl_certfile="/nowhere.pem")
    with pytest.raises(ConfigurationError, match="ssl_keyfile needs ssl_certfile"):
        run.serve_store(f"sqlite:///{path}", port=0, access=Access(), ssl_keyfile="/nowhere.pem")


def test_a_grant_is_found_in_any_place() -> None:
    assert Access(TOKEN).find(digest(TOKEN)) == Grant(id="shared", kept=Access(TOKEN).find(digest(TOKEN)).kept)  # type: ignore[union-attr]
    assert Access(TOKEN).find(None) is None
    assert Access().find(digest(TOKEN)) is None


@pytest.mark.parametrize("redacts", [False, True])
def test_a_service_sends_records_unless_hooks_must_see_them_first(
    redacts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left open in one batch, and what it showed, comes back with the next."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sent: list[Batch] = []

    def noted(given: Batch, *rest: Any) -> bytes:
        sent.append(given)
        return pack_batch(given, *rest)

    monkeypatch.setattr("tracer.store.http.store.pack_batch", noted)
    with TrackingServer(f"sqlite:///{tmp_path}/t.db") as server, isolated(server.url):
        tracer.configure(redact=(str.upper,) if redacts else ())
        with tracer.start_span("outer") as span:
            span.set_inputs("asked")
            assert tracer.sync.flush()
            span.set_outputs("answered")
        trace = tracer.sync.get_trace(span.trace_id)
        assert (trace.info.state, trace.data.spans[0].outputs) == ("OK", "ANSWERED" if redacts else "answered")
        assert trace.info.request_preview == ("ASKED" if redacts else "asked")
    raws = [batch.raw for batch in sent if batch.raw is not None]
    assert (len(raws) == 0) == redacts
    if not redacts:
        [again] = raws[-1].remembered
        assert again.state is not None, "as the server had answered"
