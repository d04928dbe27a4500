from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.store.rows import simple, trace_id
from tests.store.sqlite.old_files import undo_version_9
from tests.store.test_links import call, chain, write
from tracer.store import open_store


async def test_a_file_of_version_1_is_migrated_and_its_traces_linked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = open_store(f"sqlite:///{path}")
    await store.open()
    await write(store, call(1), call(2, after="resp_1"), call(3, conversation="conv"), simple(5, operation="chat"))
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:  # as version 1 left it
        for table in ("links", "span_media", "media", "feedback", "taken_over", "loss", "outbox"):
            connection.execute(f"DROP TABLE {table}")
        for index in ("traces_in_sessions", "traces_with_losses", "traces_numbers"):
            connection.execute(f"DROP INDEX {index}")
        connection.execute("ALTER TABLE traces DROP COLUMN time_to_first_token")
        undo_version_9(connection)
        connection.execute("PRAGMA user_version = 1")
    store = open_store(f"sqlite:///{path}")
    await store.open()
    await write(store, call(4, conversation="conv"))
    assert await chain(store, 1) == [trace_id(1), trace_id(2)]
    assert await chain(store, 3) == [trace_id(3), trace_id(4)]
    assert await chain(store, 5) == []
    await store.aclose()
