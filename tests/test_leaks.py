"""The guard that looks for keys in what the suite wrote finds them wherever they are."""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import pytest

import tracer
from tests.leaks import NEVER_STORED, find_leaks
from tests.openai.calling import HELLO
from tracer.testing import FakeOpenAI

KEYS = (b"the-key",)


def database(path: Path, value: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE spans (text TEXT, chunks BLOB)")
    connection.execute("INSERT INTO spans VALUES (?, ?)", (value if isinstance(value, str) else None, value))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("value", ["a the-key b", b"\0the-key\0", zlib.compress(b"xx the-key xx")], ids=repr)
def test_a_key_in_a_database_is_found(value: object, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    database(tmp_path / "deep" / "any name", value)
    [leak] = find_leaks(tmp_path, KEYS)
    assert "any name" in leak


def test_a_key_in_the_write_ahead_log_is_found(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE spans (text TEXT)")
    connection.execute("INSERT INTO spans VALUES ('the-key')")
    connection.commit()
    assert any("t.db-wal" in leak for leak in find_leaks(tmp_path, KEYS))
    connection.close()


def test_other_files_and_sound_databases_are_no_leaks(tmp_path: Path) -> None:
    database(tmp_path / "t.db", "nothing")
    (tmp_path / "script.py").write_text("the-key")
    (tmp_path / "empty.db").touch()
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 2000)
    assert find_leaks(tmp_path, KEYS) == []


async def test_a_key_that_a_user_stores_is_found(server: FakeOpenAI, tmp_path: Path) -> None:
    folder = tmp_path / "kept apart"
    folder.mkdir()
    tracer.set_tracking_uri(f"sqlite:///{folder}/tracer.db")
    tracer.autolog()
    key = NEVER_STORED.replace("this", "that")  # not one of those that must not be found at the end
    with server.client() as client:
        client.chat.completions.create(model="gpt-5", messages=[*HELLO, {"role": "user", "content": key}])
    await tracer.flush()
    assert find_leaks(tmp_path, [key.encode()])
    assert find_leaks(tmp_path) == []
