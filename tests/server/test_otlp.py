"""Spans of other instrumentations, sent to the application over HTTP."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.otlp.test_received import RECORD, SPAN, logs_of, request_of
from tracer.server import create_app
from tracer.store.sqlite.store import SqliteStore

from .conftest import Site

pytest.importorskip("opentelemetry.proto")

JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture
async def collector(site: Site, store: SqliteStore, path: Path) -> httpx.AsyncClient:
    return await site.start(create_app(f"sqlite:///{path}", takes_otlp=True))


def as_protobuf(body: bytes) -> bytes:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from tracer.otlp.received import _with_base64_ids

    message = ParseDict(_with_base64_ids(json.loads(body)), ExportTraceServiceRequest())
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("headers", [JSON, PROTOBUF])
async def test_a_span_is_stored_before_the_answer(
    collector: httpx.AsyncClient, store: SqliteStore, headers: dict[str, str], packed: bool
) -> None:
    body = request_of(SPAN, **{"service.name": "theirs"})
    body = body if headers is JSON else as_protobuf(body)
    if packed:
        body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
    answer = await collector.post("/v1/traces", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, headers["content-type"])
    assert answer.content in (b"{}", b"")
    trace = await store.get_trace(str(SPAN["traceId"]))
    assert (trace.info.name, trace.info.experiment) == ("chat", "theirs")
    assert "theirs" in (await collector.get("/")).text


async def test_the_answer_names_what_was_refused(collector: httpx.AsyncClient, store: SqliteStore) -> None:
    body = request_of({**SPAN, "spanId": "0" * 16, "name": "bad"}, SPAN)
    answer = await collector.post("/v1/traces", content=body, headers=JSON)
    told = answer.json()["partialSuccess"]
    assert (answer.status_code, told["rejectedSpans"]) == (200, "1")
    assert told["errorMessage"].startswith("span 'bad': span_id must have 8 bytes")
    assert len((await store.get_trace(str(SPAN["traceId"]))).data.spans) == 1


BOMB = gzip.compress(b" " * (70 * 1024 * 1024))


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"{", JSON, 400, "must be an ExportTraceServiceRequest in JSON"),
        (b"x", {"content-type": "text/plain"}, 415, "must be application/x-protobuf or application/json"),
        (b"{}", {**JSON, "content-encoding": "br"}, 415, "Content-Encoding must be gzip, or none, got 'br'"),
        (b"{}", {**JSON, "content-encoding": "gzip"}, 400, "the body is not gzip"),
        (gzip.compress(b"{}")[:-4], {**JSON, "content-encoding": "gzip"}, 400, "it ends too early"),
        (BOMB, {**JSON, "content-encoding": "gzip"}, 413, "at most 67,108,864 bytes when it is unpacked"),
        (b" " * (33 * 1024 * 1024), JSON, 413, "at most 33,554,432 bytes"),
    ],
    ids=["no JSON", "another type", "an unknown coding", "no gzip", "half a gzip", "a bomb", "too large"],
)  # fmt: skip
async def test_what_cant_be_read_is_refused_with_a_status(
    collector: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = await collector.post("/v1/traces", content=content, headers=headers)
    assert answer.status_code == status
    assert words in answer.text


async def test_a_store_that_is_busy_is_to_be_asked_again(
    collector: httpx.AsyncClient, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracer._exceptions import TransientStoreError

    async def busy(self: Any, batch: Any) -> None:
        raise TransientStoreError("the database is locked")

    monkeypatch.setattr(SqliteStore, "write", busy)
    answer = await collector.post("/v1/traces", content=request_of(SPAN), headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_without_the_option_nothing_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/traces", content=request_of(SPAN), headers=JSON)
    assert answer.status_code == 404


async def test_a_token_is_needed_where_the_page_needs_one(site: Site, store: SqliteStore, path: Path) -> None:
    collector = await site.start(create_app(f"sqlite:///{path}", token="secret", takes_otlp=True))
    assert (await collector.post("/v1/traces", content=request_of(SPAN), headers=JSON)).status_code == 401
    answer = await collector.post(
        "/v1/traces", content=request_of(SPAN), headers={**JSON, "authorization": "Bearer secret"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("first", ["span", "log"])
async def test_messages_in_a_log_record_come_to_their_span(
    collector: httpx.AsyncClient, store: SqliteStore, first: str
) -> None:
    def attribute(key: str, value: str) -> dict[str, Any]:
        return {"key": key, "value": {"stringValue": value}}

    told: list[Any] = [
        attribute("gen_ai.input.messages", '[{"role":"user","parts":[{"type":"text","content":"Why?"}]}]'),
        attribute("gen_ai.output.messages", '[{"role":"assistant","parts":[{"type":"text","content":"So."}]}]'),
    ]
    usage = {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}}
    span = {**SPAN, "attributes": [attribute("gen_ai.operation.name", "chat"), usage]}
    sent = [
        ("/v1/traces", request_of(span)),
        ("/v1/logs", logs_of({**RECORD, "attributes": [*RECORD["attributes"], *told]})),
    ]
    for path, body in sent if first == "span" else sent[::-1]:
        answer = await collector.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.content) == (200, b"{}")
    trace = await store.get_trace(str(SPAN["traceId"]))
    [read] = trace.data.spans
    assert (read.name, trace.info.state) == ("chat", "OK")
    assert trace.info.token_usage == {"input_tokens": 3, "total_tokens": 3}
    assert read.inputs["messages"] == [{"role": "user", "content": "Why?"}]
    assert read.outputs["choices"][0]["message"] == {"role": "assistant", "content": "So."}
    assert trace.info.request_preview == "Why?"
    assert len((await collector.get("/api/traces", params={"text": "Why"})).json()["traces"]) == 1
