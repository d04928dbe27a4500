from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.server.test_pages import Elements, ids
from tests.store.rows import SECOND, simple
from tracer.store import Batch, current_process
from tracer.store.batch import LossRow
from tracer.store.sqlite.store import SqliteStore


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


async def test_losses_of_whole_traces_are_told_above_the_list(client: httpx.AsyncClient, store: SqliteStore) -> None:
    now = time.time_ns()
    await store.write(simple(1))
    assert "They are in no trace" not in (await client.get("/")).text
    rows = [
        LossRow(reason="start", count=1_200, time_ns=now - 60 * SECOND),
        LossRow(reason="start", count=34, time_ns=now),
        LossRow(reason="lost", count=5, time_ns=now - 30 * 86_400 * SECOND),
    ]
    await store.write(Batch(process=current_process(), losses=rows))
    page = Elements((await client.get("/")).text).text
    assert "1,234 spans were not recorded, because the queue was full" in page
    assert "records were not stored" not in page, "that was a month ago"
    assert "1,234 spans were not recorded, because the queue was full" in (await client.get("/?name=nothing")).text
    page = Elements((await client.get("/storage")).text).text
    assert "1,234 spans were not recorded" in page
    assert "5 records were not stored, because the database refused them" in page
    told = (await client.get("/api/storage")).json()["losses"]
    counts = [(loss["reason"], loss["count"], loss["processes"]) for loss in told]
    assert counts == [("start", 1_234, 1), ("lost", 5, 1)]
    assert (told[0]["first_ns"], told[0]["last_ns"]) == (now - 60 * SECOND, now)


async def test_empty_pages_say_so(client: httpx.AsyncClient) -> None:
    assert "Nothing is stored" in (await client.get("/experiments")).text
    assert (await client.get("/storage")).status_code == 200
