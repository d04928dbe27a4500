from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import httpx
import pytest

from tests.store.rows import batch, patch, simple, span, trace_id
from tracer.server import _exports
from tracer.store import MediaRow
from tracer.store.sqlite.store import SqliteStore


async def test_a_list_is_exported_as_it_is_narrowed_and_sorted(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(*range(250), name="wanted"))
    await store.write(simple(300, name="other"))
    answer = await client.get("/api/export", params={"name": "wanted", "order_by": "start_time asc"})
    assert answer.headers["content-disposition"] == 'attachment; filename="traces.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [int(line["info"]["trace_id"], 16) for line in lines] == list(range(250))
    assert all(len(line["data"]["spans"]) == 1 for line in lines)


async def test_csv_runs_no_formula_and_has_a_row_a_span(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(batch([span(1), span(1, span_id="f" * 16, parent_id=f"{1:016x}")], [patch(1, name="=1+1")]))
    answer = await client.get("/api/export", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["name"] == "'=1+1"
    spans = await client.get("/api/export", params={"format": "csv", "rows": "spans"})
    assert len(list(csv.DictReader(io.StringIO(spans.text)))) == 2


async def test_parquet(client: httpx.AsyncClient, store: SqliteStore) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    await store.write(simple(*range(1_200)))
    answer = await client.get("/api/export", params={"format": "parquet"})
    table = parquet.read_table(io.BytesIO(answer.content))
    assert [int(found, 16) for found in table.column("trace_id").to_pylist()] == list(range(1_199, -1, -1))


async def test_parquet_is_not_offered_without_its_extra(
    client: httpx.AsyncClient, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(simple(1))
    monkeypatch.setattr(_exports, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "tracer.export._parquet", raising=False)
    page = (await client.get("/")).text
    assert "format=csv" in page
    assert "format=parquet" not in page
    answer = await client.get("/api/export?format=parquet")
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "missing_dependency")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"format": "xlsx"}, "format must be one of jsonl, csv, parquet"),
        ({"format": "html"}, "format must be one of"),
        ({"rows": "spans"}, "rows must be 'traces' for jsonl"),
        ({"format": "csv", "rows": "x"}, "rows must be one of"),
        ({"filter": "status ="}, "filter_string, position"),
        ({"order_by": "colour"}, "order_by must be"),
        ({"limit": "5"}, "unknown parameter 'limit'"),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_sent(
    client: httpx.AsyncClient, store: SqliteStore, parameters: dict[str, str], words: str
) -> None:
    await store.write(simple(1))
    answer = await client.get("/api/export", params=parameters)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert words in answer.json()["error"]["message"]


async def test_nothing_found_is_an_empty_file(client: httpx.AsyncClient, store: SqliteStore) -> None:
    assert (await client.get("/api/export", params={"name": "none"})).text == ""
    assert (await client.get("/api/export?name=none&format=csv")).text.startswith("trace_id,")


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "html"])
async def test_one_trace_is_exported(client: httpx.AsyncClient, store: SqliteStore, form: str) -> None:
    await store.write(simple(1, inputs=b'"what was asked"'))
    answer = await client.get(f"/api/traces/{trace_id(1)}/export", params={"format": form})
    assert answer.headers["content-disposition"] == f'attachment; filename="trace-00000000.{form}"'
    assert "what was asked" in answer.text
    assert answer.text.startswith({"html": "<!doctype html>", "csv": "trace_id,"}.get(form, "{"))


async def test_an_html_file_holds_its_media(client: httpx.AsyncClient, store: SqliteStore) -> None:
    reference = f"media://sha256/{'a' * 64}?type=image/png&bytes=4"
    inputs: Any = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": reference}}]}]}
    rows = simple(1, inputs=json.dumps(inputs).encode())
    ids = {"trace_id": trace_id(1), "span_id": f"{1:016x}"}
    rows.media = [MediaRow(**ids, hash="a" * 64, content_type="image/png", data=b"\x89PNG")]
    await store.write(rows)
    page = (await client.get(f"/api/traces/{trace_id(1)}/export?format=html")).text
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert "/api/media" not in page


async def test_an_unknown_trace_or_format_of_one_is_told(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1))
    missing = await client.get(f"/api/traces/{trace_id(9)}/export")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "trace_not_found")
    wrong = await client.get(f"/api/traces/{trace_id(1)}/export?format=pdf")
    assert "json, jsonl, csv, parquet, html" in wrong.json()["error"]["message"]


async def test_neighbours_of_a_trace(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 2, 3))
    url = f"/api/traces/{trace_id(2)}/neighbours"
    assert (await client.get(url)).json() == {"previous": trace_id(3), "next": trace_id(1)}
    up = await client.get(url, params={"order_by": "start_time asc", "name": "AsyncCompletions"})
    assert up.json() == {"previous": trace_id(1), "next": trace_id(3)}
    assert (await client.get(url, params={"order_by": "colour"})).status_code == 400
    assert (await client.get(f"/api/traces/{trace_id(9)}/neighbours")).status_code == 404
