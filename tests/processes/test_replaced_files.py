"""A database is deleted, moved or replaced while processes write to it: nothing that they record after that is lost.

What was recorded before is not lost either, unless the file that holds it was deleted. A file that was moved away has
its tables and all that was committed in it, although most of that was in a write-ahead log under the old name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.script import Script, assert_intact, log_stays
from tests.scripted_store import eventually

WRITER = """
number = 0

def record_until(name):
    global number
    first = number
    while not os.path.exists(name) or number < first + 30:
        record(f"{sys.argv[1]}.{number}")
        number += 1
        time.sleep(0.002)
    return number

record_until(".")
assert tracer.sync.flush(20)
print("ready", flush=True)
print("acted", record_until("acted"), flush=True)
print("ended", record_until("stop"), flush=True)
assert tracer.sync.flush(20)
assert not tracer.stats().dropped["lost"]
"""
WAITS = """
record("first")
assert tracer.sync.flush(20)
print("ready", flush=True)
sys.stdin.readline()
"""


def names(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {name for (name,) in connection.execute("SELECT name FROM traces WHERE state = 'OK'")}


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.glob("t.db*"):
        file.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("old.db"))


def move_and_create(path: Path) -> None:
    """As logrotate does with `create`."""
    path.rename(path.with_name("old.db"))
    path.touch(mode=0o600)


def replace_by_backup(path: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(path.with_name("backup"))) as target,
    ):
        source.backup(target)
    path.rename(path.with_name("old.db"))
    path.with_name("backup").rename(path)


def replace_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("old"))
    path.parent.mkdir()


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(
    "act",
    [delete, delete_all, move, move_and_create, replace_by_backup, replace_directory],
    ids=lambda act: act.__name__,
)
def test_nothing_is_lost_when_the_file_is_replaced(act: Callable[[Path], None], processes: int, tmp_path: Path) -> None:
    path = tmp_path / "data" / "t.db"
    path.parent.mkdir()
    uri = f"sqlite:///{path}"
    scripts = [Script(tmp_path, WRITER, number, TRACER_TRACKING_URI=uri) for number in range(processes)]
    for script in scripts:
        script.wait_for("ready")
    acted = {}
    act(path)
    (tmp_path / "acted").touch()
    (tmp_path / "stop").touch()
    for number, script in enumerate(scripts):
        ended = script.end()
        assert ended.code == 0, ended.err
        assert "deleted or replaced" in ended.err
        counts = dict(line.split() for line in ended.out.splitlines())
        acted[number] = (int(counts["acted"]), int(counts["ended"]))
    made = {f"{number}.{call}" for number, (_, end) in acted.items() for call in range(end)}
    since = {f"{number}.{call}" for number, (begin, end) in acted.items() for call in range(begin, end)}
    found = names(path)
    assert since <= found
    if act not in (delete, delete_all):
        moved = names(tmp_path / "old" / "t.db" if act is replace_directory else path.with_name("old.db"))
        assert {f"{number}.{call}" for number in range(processes) for call in range(30)} <= moved
        assert found | moved == made
    assert_intact(path.parent)


def test_moved_file_is_whole_though_its_writer_was_killed_and_began_anew(tmp_path: Path) -> None:
    """No process is left that could move the write-ahead log into the file: it is kept, and a log line says where."""
    script = Script(tmp_path, WAITS.replace("first", "zeroth") + WAITS)
    script.wait_for("ready")
    with log_stays(tmp_path / "t.db"):
        script.answer()
        script.wait_for("ready")
        script.process.kill()
        script.end()
    os.rename(tmp_path / "t.db", tmp_path / "old.db")
    ended = Script(tmp_path, "record('second')").end()
    assert (ended.code, len(ended.err.splitlines())) == (0, 1), ended.err
    (log,) = tmp_path.glob("t.db.left-*-wal")
    assert str(log) in ended.err
    log.rename(tmp_path / "old.db-wal")
    assert (names(tmp_path / "old.db"), names(tmp_path / "t.db")) == ({"zeroth", "first"}, {"second"})


def alone(path: Path) -> Path:
    """A copy of the database without its log, as a program sees it that knows only this one file."""
    return Path(shutil.copy(path, path.with_name("alone.db")))


def test_file_that_is_moved_before_its_writer_notices_has_its_tables(tmp_path: Path) -> None:
    script = Script(tmp_path, WAITS)
    script.wait_for("ready")
    os.rename(tmp_path / "t.db", tmp_path / "old.db")
    assert names(alone(tmp_path / "old.db")) <= {"first"}
    script.answer()
    assert script.end().code == 0


def test_file_of_a_process_without_work_holds_all_that_was_written(tmp_path: Path) -> None:
    script = Script(tmp_path, WAITS)
    script.wait_for("ready")
    eventually(lambda: (tmp_path / "t.db-wal").stat().st_size == 0)
    os.rename(tmp_path / "t.db", tmp_path / "old.db")
    assert names(alone(tmp_path / "old.db")) == {"first"}
    script.process.kill()
    script.end()
    Script(tmp_path, "record('second')").end()
    assert (names(tmp_path / "old.db"), names(tmp_path / "t.db")) == ({"first"}, {"second"})
    assert not list(tmp_path.glob("t.db.left-*"))


def test_process_that_ends_without_having_noticed_leaves_the_moved_file_whole(tmp_path: Path) -> None:
    script = Script(tmp_path, WAITS)
    script.wait_for("ready")
    os.rename(tmp_path / "t.db", tmp_path / "old.db")
    script.answer()
    assert script.end().code == 0
    assert names(tmp_path / "old.db") == {"first"}
    assert not (tmp_path / "t.db").exists()
