from __future__ import annotations

from pathlib import Path

import httpx

from tests.server.test_pages import Elements, ids
from tests.store.rows import simple
from tracer.store.sqlite import SqliteStore


async def test_experiments_lead_to_their_traces(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, 2, experiment="A & <b>"))
    await store.write(simple(3, experiment="Default"))
    told = (await client.get("/api/experiments")).json()["experiments"]
    assert [(each["name"], each["traces"]) for each in told] == [("Default", 1), ("A & <b>", 2)]
    page = Elements((await client.get("/experiments")).text)
    links = [str(link["href"]) for link in page.named("a") if "experiment=" in str(link.get("href"))]
    assert [ids((await client.get(link)).text) for link in links] == [[3], [2, 1]]
    assert "A & <b>" in page.text


async def test_storage_tells_sizes_rows_and_commands(client: httpx.AsyncClient, store: SqliteStore, path: Path) -> None:
    await store.write(simple(*range(5), tags={"a": "b"}))
    told = (await client.get("/api/storage")).json()
    assert (told["rows"]["traces"], told["rows"]["tags"], told["traces_with_losses"]) == (5, 5, 0)
    page = Elements((await client.get("/storage")).text)
    assert f"tracer traces prune --older-than 30d --uri sqlite:///{path}" in page.text
    assert f"tracer db vacuum --uri sqlite:///{path}" in page.text
    assert "every record of these traces was written" in page.text
    assert "Schema version" in page.text


async def test_losses_lead_to_their_traces(client: httpx.AsyncClient, store: SqliteStore) -> None:
    await store.write(simple(1, dropped={"queue_full": 3}))
    await store.write(simple(2, dropped={"it's odd": 1, "queue_full": 1}))
    await store.write(simple(3))
    page = Elements((await client.get("/storage")).text)
    assert "2 traces lack" in page.text
    links = [str(link["href"]) for link in page.named("a") if "dropped" in str(link.get("href"))]
    found = sorted([ids((await client.get(link)).text) for link in links])
    assert found == [[2], [2, 1]]


async def test_empty_pages_say_so(client: httpx.AsyncClient) -> None:
    assert "Nothing is stored" in (await client.get("/experiments")).text
    assert (await client.get("/storage")).status_code == 200
