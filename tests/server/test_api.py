from __future__ import annotations

import random
from typing import Any

import httpx
import msgspec
import pytest

from tests.store.rows import SECOND, START, batch, patch, simple, span, trace_id
from tracer._models import TraceState
from tracer.server.api import OPERATIONS
from tracer.store import MediaRow
from tracer.store.sqlite.store import SqliteStore


async def numbers(client: httpx.AsyncClient, **parameters: Any) -> list[int]:
    answer = await client.get("/api/traces", params=parameters)
    assert answer.status_code == 200, answer.text
    return [int(trace["trace_id"], 16) for trace in answer.json()["traces"]]


async def test_pages_follow_one_another_without_gap_or_repetition(
    client: httpx.AsyncClient, store: SqliteStore
) -> None:
    await store.write(simple(*range(25)))
    seen, token = [], ""
    while token is not None:
        page = (await client.get("/api/traces", params={"limit": 10, "page_token": token})).json()
        seen += [int(trace["trace_id"], 16) for trace in page["traces"]]
        token = page["next_page_token"]
    assert seen == list(range(24, -1, -1))


async def test_each_parameter_narrows(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, name="a", session_id="s", user_id="u", model="gpt-5", experiment="E", text="needle"))
    await store.write(simple(2, state=TraceState.ERROR, tags={"env": "prod", "release": "1=2"}))
    await store.write(simple(3, end_time_ns=START + 60 * SECOND))
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"name": "a"}, [1]),
        ({"session_id": "s"}, [1]),
        ({"user_id": "u"}, [1]),
        ({"model": "gpt-5"}, [1]),
        ({"experiment": "E"}, [1]),
        ({"text": "needle"}, [1]),
        ({"status": "ERROR"}, [2]),
        ({"tag": ["env=prod", "release=1=2"]}, [2]),
        ({"tag": ["env=prod", "release=other"]}, []),
        ({"filter": "status = 'ERROR' OR name = 'a'"}, [2, 1]),
        ({"min_duration": 5}, [3]),
        ({"since": START / 1e9 + 2.5}, [3]),
        ({"until": "2023-11-14T22:13:22Z"}, [1]),
        ({"since": "1h"}, []),
        ({"order_by": "duration desc", "limit": 1}, [3]),
        ({"status": ""}, [3, 2, 1]),
    ]
    for parameters, expected in cases:
        assert await numbers(client, **parameters) == expected, parameters


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"statu": "OK"}, "did you mean 'status'"),
        ({"limit": "0"}, "limit must be a whole number from 1 to"),
        ({"limit": "a"}, "limit must be"),
        ({"limit": "9" * 30}, "limit must be"),
        ({"tag": "env"}, "tag must be key=value"),
        ({"since": "yesterday"}, "since must be"),
        ({"since": "0001-01-01"}, "since must lie between"),
        ({"until": "9999-12-31"}, "until must lie between"),
        ({"since": "999999w"}, "since must lie between"),
        ({"since": "9" * 400}, "since must be"),
        ({"min_duration": "long"}, "min_duration must be a number"),
        ({"min_duration": "nan"}, "min_duration must be"),
        ({"status": "BAD"}, "status must be one of"),
        ({"order_by": "colour"}, "order_by must be one of"),
        ({"page_token": "garbage"}, "page_token must be"),
        ({"filter": "status ="}, "filter_string, position"),
        ({"filter": "nme = 'a'"}, "did you mean 'name'"),
        ({"text": "!!!"}, "text must hold a word"),
    ],
)
async def test_a_wrong_parameter_is_told(client: httpx.AsyncClient, parameters: dict[str, str], words: str) -> None:
    answer = await client.get("/api/traces", params=parameters)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_request"
    assert words in error["message"]


async def test_garbage_is_never_a_server_error(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    source = random.Random(7)
    names = ["filter", "text", "status", "tag", "since", "order_by", "page_token", "limit", "min_duration", "name"]
    alphabet = "'\"`()=<>%*;\\/ aORANDNOT0159.-\x00\n\ud7ff😀"
    for _ in range(300):
        text = "".join(source.choices(alphabet, k=source.randint(0, 30)))
        answer = await client.get("/api/traces", params={source.choice(names): text})
        assert answer.status_code in (200, 400), (text, answer.text)


async def test_a_trace_comes_with_its_spans(client: httpx.AsyncClient, store: SqliteStore) -> None:
    attributes = b'{"tracer.time_to_first_token": 0.25}'
    await store.write(simple(1, model="gpt-5", inputs=b'{"a": 1}', attributes=attributes))
    trace = (await client.get(f"/api/traces/{trace_id(1)}")).json()
    assert trace["data"]["spans"][0]["inputs"] == {"a": 1}
    assert trace["info"]["models"] == ["gpt-5"]
    assert trace["info"]["time_to_first_token"] == 0.25


async def test_the_first_token_of_a_trace_counts_from_its_start(client: httpx.AsyncClient, store: SqliteStore) -> None:
    """Two streamed calls below a root: the earlier first token, on the trace's clock."""
    start = START + SECOND
    calls = [
        span(1, span_id=f"{number:016x}", parent_id=f"{1:016x}", model="m", start_time_ns=start + begin * SECOND,
             attributes=b'{"tracer.time_to_first_token": 0.5}')
        for number, begin in ((2, 3), (3, 1))
    ]  # fmt: skip
    await store.write(batch([span(1), *calls], [patch(1)]))
    (trace,) = (await client.get("/api/traces")).json()["traces"]
    assert trace["time_to_first_token"] == pytest.approx(1.5)


@pytest.mark.parametrize("trace", ["unknown", "0" * 32, "%00", "..%2f.."])
async def test_an_unknown_trace_is_a_404(client: httpx.AsyncClient, trace: str) -> None:
    answer = await client.get(f"/api/traces/{trace}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("trace_not_found", "not_found")


async def test_feedback_is_logged_and_deleted(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    url = f"/api/traces/{trace_id(1)}/feedback"
    made = await client.post(url, json={"name": "helpful", "value": False, "comment": "too long"})
    assert made.status_code == 201
    (feedback,) = (await store.get_trace(trace_id(1))).info.feedback
    assert (feedback.name, feedback.value, feedback.comment, feedback.source) == ("helpful", False, "too long", "human")
    assert (await client.delete(f"/api/feedback/{made.json()['id']}")).status_code == 204
    assert (await client.delete(f"/api/feedback/{made.json()['id']}")).status_code == 404
    assert (await store.get_trace(trace_id(1))).info.feedback == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": "a"}', b'{"name": 1, "value": 1}', b"\xff", b'{"a":' * 5000])
async def test_bad_feedback_is_told(client: httpx.AsyncClient, store: SqliteStore, body: bytes) -> None:
    await store.write(simple(1))
    answer = await client.post(f"/api/traces/{trace_id(1)}/feedback", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_a_huge_body_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"/api/traces/{trace_id(1)}/feedback", content=b" " * 200_000)
    assert answer.status_code == 413


MEDIA = {"a" * 64: ("image/png", True), "b" * 64: ("image/svg+xml", False), "c" * 64: ("text/html", False)}


@pytest.mark.parametrize("media_hash", MEDIA)
async def test_media_that_a_browser_would_run_are_downloads(
    client: httpx.AsyncClient, store: SqliteStore, media_hash: str
) -> None:
    content_type, is_shown = MEDIA[media_hash]
    ids = {"trace_id": trace_id(1), "span_id": f"{1:016x}"}
    rows = simple(1)
    rows.media = [MediaRow(**ids, hash=media_hash, content_type=content_type, data=b"<svg onload=alert(1)>")]
    await store.write(rows)
    answer = await client.get(f"/api/media/{media_hash}")
    assert answer.content == b"<svg onload=alert(1)>"
    assert answer.headers["content-type"] == (content_type if is_shown else "application/octet-stream")
    assert ("attachment" in answer.headers.get("content-disposition", "")) is not is_shown
    assert answer.headers["content-security-policy"].startswith("sandbox")
    part = await client.get(f"/api/media/{media_hash}", headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"svg", "bytes 1-3/21")
    beyond = await client.get(f"/api/media/{media_hash}", headers={"range": "bytes=30-"})
    assert beyond.status_code == 416


async def test_a_filter_is_checked_without_searching(client: httpx.AsyncClient) -> None:
    good = await client.get("/api/filter", params={"filter": "duration > 2"})
    assert good.json() == {"valid": True}
    bad = await client.get("/api/filter", params={"filter": "duration > long"})
    assert bad.status_code == 400
    assert bad.json()["error"]["position"] == 12
    assert bad.json()["error"]["message"].endswith("^")


async def test_the_filter_fields_are_those_of_the_language(client: httpx.AsyncClient) -> None:
    fields = {field["name"]: field for field in (await client.get("/api/fields")).json()["fields"]}
    assert fields["status"]["values"] == ["IN_PROGRESS", "OK", "ERROR", "INTERRUPTED"]
    assert fields["duration"] == {"name": "duration", "kind": "number", "unit": "seconds", "values": []}
    assert fields["tags.<key>"]["kind"] == "text"
    for name, field in fields.items():
        value = {"number": "1", "words": f"'{(field['values'] or [''])[0]}'"}.get(field["kind"], "'x'")
        text = f"{name.replace('<key>', 'a').replace('<name>', 'a').replace('<kind>', 'a')} = {value}"
        assert (await client.get("/api/filter", params={"filter": text})).json() == {"valid": True}, text


async def test_the_description_names_every_operation(client: httpx.AsyncClient, store: SqliteStore) -> None:
    description = (await client.get("/api/openapi.json")).json()
    assert description["openapi"].startswith("3.1")
    told = {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}
    assert told == {(operation.method, operation.path) for operation in OPERATIONS}
    assert all(operation["summary"] for methods in description["paths"].values() for operation in methods.values())
    text = msgspec.json.encode(description).decode()
    names = set(description["components"]["schemas"])
    assert all(f'"#/components/schemas/{name}"' in text for name in ("TraceInfo", "Span", "Error"))
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names


async def test_a_text_may_be_searched_by_beginnings(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1_000, text="please reimburse"))
    for given, count in (({}, 0), ({"text_prefix": "false"}, 0), ({"text_prefix": "true"}, 1)):
        answer = (await client.get("/api/traces", params={"text": "reimb", **given})).json()
        assert len(answer["traces"]) == count
    wrong = await client.get("/api/traces", params={"text": "reimb", "text_prefix": "yes"})
    assert wrong.json()["error"]["message"] == "text_prefix must be true or false, got 'yes'"
