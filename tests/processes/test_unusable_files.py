"""A file that can't be used keeps no service from starting, and nothing that was in the file is lost.

The environment names a file that is damaged, belongs to another program or another user, is of a newer version, is a
directory, or is read-only. The service runs, its calls return, the log says it once, and the file is moved aside or
left exactly as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.script import AS_USER, Ended, Script, assert_intact, log_stays, query, run, run_quietly
from tracer.store.sqlite._schema import APPLICATION_ID, SCHEMA_VERSION

NOBODY = 65534
SERVICE = (
    AS_USER
    + """
import json

tracer.autolog()
for number in range(5):
    record(f"call {number}")
tracer.sync.flush(20) if tracer.stats().accepted else None
print(json.dumps(tracer.stats().to_dict()))
"""
)
MOVED = "t.db.damaged-"


def snapshot(directory: Path) -> dict[str, object]:
    """What the directory holds, except our scripts."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        if not path.name.startswith("script") and "__pycache__" not in path.parts:
            name, entry = str(path.relative_to(directory)), path.lstat()
            content = path.read_bytes() if path.is_file() else os.readlink(path) if path.is_symlink() else None
            found[name] = (entry.st_mode, entry.st_uid, content)
    return found


def moved(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob(f"{MOVED}*") if not path.name.endswith(("-wal", "-shm")))


def logged(ended: Ended) -> list[str]:
    return [line for line in ended.err.splitlines() if line.strip()]


def stats_of(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    stats: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    return stats


# --- what is found at the start ---------------------------------------------------------------------------------------


def ours(path: Path) -> None:
    """A database of this tracer's with some traces in it."""
    run_quietly(path.parent, "for number in range(300): record('x' * 200)", TRACER_TRACKING_URI=f"sqlite:///{path}")


def text(path: Path) -> None:
    path.write_text("notes of mine, and no database\n" * 100)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(8192))


def cut_off(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def header_broken(path: Path) -> None:
    ours(path)
    path.write_bytes(b"\x5a" * 100 + path.read_bytes()[100:])


def pages_broken(path: Path) -> None:
    ours(path)
    path.write_bytes(path.read_bytes()[:4096].ljust(path.stat().st_size, b"\x5a"))


def truncated(path: Path) -> None:
    ours(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text_with_a_log(path: Path) -> None:
    text(path)
    path.with_name("t.db-wal").write_bytes(b"whatever this was" * 100)
    path.with_name("t.db-shm").write_bytes(bytes(32768))
    for name in ("t.db", "t.db-wal", "t.db-shm"):
        path.with_name(name).chmod(0o600)


@pytest.mark.parametrize(
    "make",
    [text, zeros, cut_off, header_broken, pages_broken, truncated, text_with_a_log],
    ids=lambda make: make.__name__,
)
def test_damaged_file_is_moved_aside_and_tracing_goes_on(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "t.db")
    before = (tmp_path / "t.db").read_bytes()
    ended = run(tmp_path, SERVICE)
    stats = stats_of(ended)
    assert (stats["files_moved_aside"], stats["written"]) == (1, 10)
    assert not any(stats["dropped"].values())
    (name,) = moved(tmp_path)
    assert (tmp_path / name).read_bytes() == before
    (line,) = logged(ended)
    assert all(word in line for word in (f"{tmp_path}/t.db", f"{tmp_path}/{name}", "tracer db check")), line
    assert sorted(query(tmp_path, "SELECT name FROM traces")) == [f"call {number}" for number in range(5)]
    assert_intact(tmp_path)
    again = run_quietly(tmp_path, SERVICE)  # the fresh file is an ordinary one
    assert (stats_of(again)["files_moved_aside"], moved(tmp_path)) == (0, [name])


def test_log_of_damaged_file_is_kept_with_it(tmp_path: Path) -> None:
    """What a killed process had committed last is only in the write-ahead log."""
    script = Script(tmp_path, RUNNING + "go_on()", 0)
    script.wait_for("ready")
    checkpointed(tmp_path / "t.db")
    with log_stays(tmp_path / "t.db"):
        script.answer()
        script.wait_for("ready")
        script.send(signal.SIGKILL)
        script.end()
    overwrite_pages(tmp_path / "t.db")
    assert stats_of(run(tmp_path, SERVICE))["files_moved_aside"] == 1
    assert any(b"after 0" in path.read_bytes() for path in tmp_path.glob(f"{MOVED}*"))


def test_nothing_is_overwritten_when_files_are_moved_in_the_same_second(tmp_path: Path) -> None:
    contents = set()
    for number in range(3):
        (tmp_path / "t.db").write_text(f"no database {number}\n" * 100)
        contents.add((tmp_path / "t.db").read_text())
        stats_of(
            run(
                tmp_path,
                SERVICE.replace(
                    "tracer.autolog()", "fixed = time.gmtime(0); time.gmtime = lambda *_: fixed; tracer.autolog()"
                ),
            )
        )
    assert moved(tmp_path) == [f"{MOVED}19700101T000000Z{number}" for number in ("", "-2", "-3")]
    assert {(tmp_path / name).read_text() for name in moved(tmp_path)} == contents


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (hex(zeroblob(9000)))")


def foreign_damaged(path: Path) -> None:
    foreign(path)
    path.write_bytes(path.read_bytes()[:8192])


def foreign_in_use(path: Path) -> None:
    foreign(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA application_id = 7; PRAGMA user_version = 3")


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION + 1}; CREATE TABLE t (x)"
        )


def newer_damaged(path: Path) -> None:
    newer(path)
    path.write_bytes(path.read_bytes()[:4096])


def directory(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    text(path.with_name("real.db"))
    path.symlink_to("real.db")


def below_a_file(path: Path) -> None:
    path.with_name("file").write_text("x")


def pipe(path: Path) -> None:
    os.mkfifo(path)


LEFT = {
    foreign: "another program's",
    foreign_damaged: "damaged",
    foreign_in_use: "another program's",
    newer: f"schema version {SCHEMA_VERSION + 1}",
    newer_damaged: "damaged",
    directory: "is a directory",
    link: "symbolic link",
    below_a_file: "is not a directory",
    pipe: "is not a regular file",
}


@pytest.mark.parametrize(("make", "words"), LEFT.items(), ids=[make.__name__ for make in LEFT])
def test_what_is_not_ours_to_move_is_left_as_it_is(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "t.db")
    before = snapshot(tmp_path)
    uri = {"TRACER_TRACKING_URI": f"sqlite:///{tmp_path}/file/t.db"} if make is below_a_file else {}
    ended = run(tmp_path, SERVICE, **uri)
    stats = stats_of(ended)
    assert snapshot(tmp_path) == before
    (line,) = logged(ended)
    assert "nothing is traced" in line
    assert words in line
    assert words in stats["last_error"]
    assert (stats["dropped"]["closed"], stats["accepted"], stats["files_moved_aside"]) == (5, 0, 0)


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A directory that belongs to a user without rights, who can reach it."""
    path = Path(tempfile.mkdtemp(prefix="tracer-test-"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path)


def owned(path: Path, mode: int, user: int = NOBODY) -> Path:
    os.chown(path, user, user)
    path.chmod(mode)
    return path


def read_only_file(path: Path) -> None:
    ours(path)
    for part in path.parent.glob("t.db*"):
        owned(part, 0o444)


def read_only_directory(path: Path) -> None:
    ours(path)
    for part in path.parent.glob("t.db*"):
        owned(part, 0o644)
    path.parent.chmod(0o555)


def missing_directory_that_cannot_be_made(path: Path) -> None:
    path.parent.chmod(0o555)


def shut_directory(path: Path) -> None:
    path.with_name("sub").mkdir(mode=0o700)


def damaged_file_in_read_only_directory(path: Path) -> None:
    text(path)
    owned(path, 0o644)
    path.parent.chmod(0o555)


def damaged_file_of_another_user(path: Path) -> None:
    text(path)
    path.chmod(0o666)


def file_of_another_user(path: Path) -> None:
    ours(path)


FOR_NOBODY = {
    read_only_file: "can't be read and written",
    read_only_directory: "no file can be made",
    missing_directory_that_cannot_be_made: "no file can be made",
    shut_directory: "Permission denied",
    damaged_file_in_read_only_directory: "no file can be made",
    damaged_file_of_another_user: "belongs to another user",
    file_of_another_user: "can't be read and written",
}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(("make", "words"), FOR_NOBODY.items(), ids=[make.__name__ for make in FOR_NOBODY])
def test_what_a_user_has_no_right_to_is_left_as_it_is(
    make: Callable[[Path], None], words: str, of_nobody: Path
) -> None:
    make(of_nobody / "t.db")
    before = snapshot(of_nobody)
    below = "sub/" if make in (shut_directory, missing_directory_that_cannot_be_made) else ""
    ended = run(of_nobody, SERVICE, NOBODY, TRACER_TRACKING_URI=f"sqlite:///{of_nobody}/{below}t.db")
    stats = stats_of(ended)
    assert snapshot(of_nobody) == before
    (line,) = logged(ended)
    assert "nothing is traced" in line
    assert words in line
    assert (stats["dropped"]["closed"], stats["accepted"], stats["files_moved_aside"]) == (5, 0, 0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_user_without_rights_moves_its_own_damaged_file(of_nobody: Path) -> None:
    text(of_nobody / "t.db")
    owned(of_nobody / "t.db", 0o600)
    stats = stats_of(run(of_nobody, SERVICE, NOBODY))
    assert (stats["files_moved_aside"], stats["written"], len(moved(of_nobody))) == (1, 10, 1)


def test_working_directory_that_is_gone_costs_no_call(tmp_path: Path) -> None:
    source = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')" + SERVICE
    ended = run(tmp_path, source, TRACER_TRACKING_URI="sqlite:///t.db")
    assert stats_of(ended)["dropped"]["closed"] == 5
    (line,) = logged(ended)
    assert "can't be looked at" in line


@pytest.mark.parametrize(
    "environment",
    [{"TRACER_TRACKING_URI": "nonsense"}, {"TRACER_TRACKING_URI": "sqlite:///"}, {"TRACER_SAMPLE_RATE": "abc"}],
    ids=lambda environment: "=".join(*environment.items()),
)
def test_malformed_value_is_raised_at_the_start(environment: dict[str, str], tmp_path: Path) -> None:
    source = "try:\n    tracer.autolog()\nexcept tracer.ConfigurationError as error:\n    print(error)"
    assert next(iter(environment.values())) in run_quietly(tmp_path, source, **environment).out


@pytest.mark.parametrize("make", [text, pages_broken, directory, foreign, newer, link], ids=lambda make: make.__name__)
def test_code_that_names_an_unusable_file_is_told_and_nothing_is_changed(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "t.db")
    before = snapshot(tmp_path)
    source = """
    try:
        tracer.set_tracking_uri(os.environ.pop("TRACER_TRACKING_URI"))
    except tracer.ConfigurationError as error:
        print(error)
    """
    assert f"sqlite:///{tmp_path}/t.db" in run_quietly(tmp_path, source).out
    assert snapshot(tmp_path) == before


def test_file_that_is_mended_is_used_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "t.db").mkdir()
    ended = run(
        tmp_path,
        """
        import tracer._runtime
        tracer._runtime.DORMANT_FOR = 0.05  # for a minute
        tracer.autolog()
        record("not kept")
        os.rmdir("t.db")
        while not tracer.stats().accepted:
            time.sleep(0.01)
            record("kept")
        assert tracer.sync.flush(20)
        """,
    )
    assert ended.code == 0, ended.err
    assert len(logged(ended)) == 1
    assert query(tmp_path, "SELECT DISTINCT name FROM traces") == ["kept"]


def test_processes_that_find_the_same_damaged_file_move_it_once(tmp_path: Path) -> None:
    pages_broken(tmp_path / "t.db")
    scripts = [Script(tmp_path, "sys.stdin.readline()" + SERVICE) for _ in range(4)]
    for script in scripts:
        script.answer()
    ended = [script.end() for script in scripts]
    stats = [stats_of(each) for each in ended]
    assert len(moved(tmp_path)) == 1
    assert sum(each["files_moved_aside"] for each in stats) == 1
    assert [each["written"] for each in stats] == [10] * 4
    assert sum("moved aside" in line for each in ended for line in logged(each)) == 1
    assert query(tmp_path, "SELECT count(*) FROM traces") == [20]
    assert_intact(tmp_path)


# --- what happens while the service runs ------------------------------------------------------------------------------

RUNNING = """
import json

def go_on():
    print("ready", flush=True)
    sys.stdin.readline()

for number in range(200):
    record(f"before {sys.argv[1]} " + "x" * 500)
assert tracer.sync.flush(20)
go_on()
for number in range(20):
    record(f"after {sys.argv[1]}")
    time.sleep(0.01)
tracer.sync.flush(20)
print(json.dumps(tracer.stats().to_dict()), flush=True)
"""


def overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x5a" * path.stat().st_size)


def checkpointed(path: Path) -> None:
    """Empty the log, so that all is in the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("processes", [1, 3])
def test_file_that_is_damaged_while_it_is_in_use_is_moved_aside(processes: int, tmp_path: Path) -> None:
    scripts = [Script(tmp_path, RUNNING, number) for number in range(processes)]
    for script in scripts:
        script.wait_for("ready")
    checkpointed(tmp_path / "t.db")
    overwrite_pages(tmp_path / "t.db")
    for script in scripts:
        script.answer()
    ended = [script.end() for script in scripts]
    stats = [stats_of(each) for each in ended]
    assert len(moved(tmp_path)) == 1
    assert sum(each["files_moved_aside"] for each in stats) == 1
    assert [each["dropped"]["lost"] for each in stats] == [0] * processes
    kept = dict(query(tmp_path, "SELECT name, count(*) FROM traces WHERE name LIKE 'after%' GROUP BY name"))
    assert kept == {f"after {number}": 20 for number in range(processes)}
    assert_intact(tmp_path)


def test_innocent_failures_move_nothing(tmp_path: Path) -> None:
    """A killed process left a write-ahead log, and another process locks the file for longer than anybody waits."""
    run_quietly(tmp_path, "record()")
    with log_stays(tmp_path / "t.db"):
        script = Script(tmp_path, RUNNING, 0)
        script.wait_for("ready")
        script.send(signal.SIGKILL)
        script.end()
    assert (tmp_path / "t.db-wal").stat().st_size > 0
    with contextlib.closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = Script(
            tmp_path,
            """
            record("late")
            while not tracer.stats().retries:
                time.sleep(0.05)
            print("tried", flush=True)
            assert tracer.sync.flush(20)
            """,
        )
        waiting.wait_for("tried")
        other.execute("COMMIT")
    assert waiting.end().code == 0
    assert moved(tmp_path) == []
    assert query(tmp_path, "SELECT count(*) FROM traces") == [202]


def test_child_that_is_forked_while_the_directory_is_away_loses_nothing(tmp_path: Path) -> None:
    """Its parent had written there: so this is not the mistake of whoever named the file, and will be put right."""
    (tmp_path / "data").mkdir()
    uri = f"sqlite:///{tmp_path}/data/t.db"
    source = """
    record("parent")
    assert tracer.sync.flush(20)
    os.rename("data", "away")
    open("data", "w").close()
    child = os.fork()
    if child == 0:
        record("child")
        print(tracer.stats().accepted, tracer.stats().dropped["closed"], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    os.remove("data")
    os.rename("away", "data")
    """
    ended = run(tmp_path, source, TRACER_TRACKING_URI=uri)
    assert (ended.code, ended.out.split()) == (0, ["2", "0"]), ended.err
    assert "nothing is traced" not in ended.err
    run_quietly(tmp_path, "record('next')\nassert tracer.sync.search_traces()", TRACER_TRACKING_URI=uri)
    assert set(query(tmp_path / "data", "SELECT name FROM traces")) == {"parent", "child", "next"}
