"""Prompts go to files that no other user can read: such a file is made private or, if it can't be, refused."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.script import AS_USER, Script, query, run, run_quietly

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
RECORD = """
record("mine")
assert tracer.sync.flush(20)
print("ready", flush=True)
sys.stdin.readline()
"""
REFUSED = (
    AS_USER
    + """
tracer.autolog()
record("mine")
print(tracer.stats().dropped["closed"])
"""
)


def modes(directory: Path) -> dict[str, int]:
    """The permissions of the database and of what lies beside it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.glob("t.db*")}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_file_that_everybody_can_read_is_made_private_with_its_log(tmp_path: Path) -> None:
    """A killed process left a log; somebody's `chmod -R` or `cp` gave everybody access to all of it."""
    script = Script(tmp_path, RECORD)
    script.wait_for("ready")
    script.send(signal.SIGKILL)
    script.end()
    (tmp_path / "t.db-spool").mkdir(mode=0o700)
    for path in tmp_path.glob("t.db*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
    script = Script(tmp_path, RECORD)
    script.wait_for("ready")
    found = modes(tmp_path)
    script.answer()
    ended = script.end()
    assert ended.code == 0
    assert found == {"t.db": 0o600, "t.db-wal": 0o600, "t.db-shm": 0o600, "t.db-lock": 0o600, "t.db-spool": 0o700}
    (line,) = lines(ended.err)
    assert f"{tmp_path}/t.db" in line
    assert "other users" in line
    assert query(tmp_path, "SELECT count(*) FROM traces") == [2]
    run_quietly(tmp_path, "record(); assert tracer.sync.flush(20)")  # from now on it is an ordinary file


def test_file_that_log_rotation_makes_for_everybody_is_made_private(tmp_path: Path) -> None:
    script = Script(tmp_path, RECORD + "record('later'); assert tracer.sync.flush(20)")
    script.wait_for("ready")
    (tmp_path / "t.db").rename(tmp_path / "old.db")
    (tmp_path / "t.db").touch()
    (tmp_path / "t.db").chmod(0o644)
    script.answer()
    ended = script.end()
    assert ended.code == 0
    assert set(modes(tmp_path).values()) == {0o600}
    assert "other users" in ended.err
    assert query(tmp_path, "SELECT name FROM traces") == ["later"]


# --- what can't be made private ---------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in which everybody can make files, as /tmp is."""
    path = Path(tempfile.mkdtemp(prefix="tracer-test-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def of_nobody(path: Path, mode: int = 0o666) -> None:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(mode)


def file_for_everybody(path: Path) -> None:
    path.touch()
    of_nobody(path)


def sound_database(path: Path) -> None:
    run_quietly(path.parent, "record()")
    of_nobody(path)


def log(path: Path) -> None:
    run_quietly(path.parent, "record()")
    log = path.with_name("t.db-wal")
    log.touch()
    of_nobody(log)


def index_that_is_a_link(path: Path) -> None:
    run_quietly(path.parent, "record()")
    path.with_name("t.db-shm").symlink_to("elsewhere")


def lock_that_is_a_link(path: Path) -> None:
    path.with_name("t.db-lock").symlink_to("elsewhere")


def spool_directory(path: Path) -> None:
    path.with_name("t.db-spool").mkdir()
    of_nobody(path.with_name("t.db-spool"), 0o777)


PLANTED = {
    file_for_everybody: "t.db belongs to another user",
    sound_database: "t.db belongs to another user",
    log: "t.db-wal belongs to another user",
    index_that_is_a_link: "t.db-shm is a symbolic link",
    lock_that_is_a_link: "t.db-lock is a symbolic link",
    spool_directory: "t.db-spool belongs to another user",
}


@ROOT_ONLY
@pytest.mark.parametrize(("plant", "words"), PLANTED.items(), ids=[plant.__name__ for plant in PLANTED])
def test_what_another_user_has_put_there_is_refused(plant: Callable[[Path], None], words: str, shared: Path) -> None:
    plant(shared / "t.db")
    before = modes(shared) if plant not in (index_that_is_a_link, lock_that_is_a_link) else None
    ended = run(shared, REFUSED)
    assert (ended.code, ended.out.split()) == (0, ["1"]), ended.err
    (line,) = lines(ended.err)
    assert "nothing is traced" in line
    assert words in line
    assert not (shared / "elsewhere").exists()
    assert before is None or modes(shared) == before
    source = """
    try:
        tracer.set_tracking_uri(os.environ.pop("TRACER_TRACKING_URI"))
    except tracer.ConfigurationError as error:
        print(error)
    """
    assert words in run_quietly(shared, source).out


@ROOT_ONLY
def test_a_user_without_rights_refuses_the_file_of_another(shared: Path) -> None:
    run_quietly(shared, "record()")
    (shared / "t.db").chmod(0o666)
    for path in shared.glob("t.db-*"):
        path.chmod(0o666)
    ended = run(shared, REFUSED, NOBODY)
    assert (ended.code, ended.out.split()) == (0, ["1"]), ended.err
    (line,) = lines(ended.err)
    assert "belongs to another user" in line


@ROOT_ONLY
def test_root_may_use_what_a_user_keeps_in_a_directory_of_their_own(shared: Path) -> None:
    """A container's root with a directory of the machine's user. That user can go on with the files afterwards."""
    home = shared / "home"
    home.mkdir(mode=0o755)
    os.chown(home, NOBODY, NOBODY)
    uri = {"TRACER_TRACKING_URI": f"sqlite:///{home}/t.db"}
    run_quietly(shared, "record()", **uri)
    (home / "t.db-lock").unlink()
    of_nobody(home / "t.db", 0o600)
    script = Script(shared, RECORD, **uri)
    script.wait_for("ready")
    used = {path.name: path.stat().st_uid for path in home.iterdir()}
    script.answer()
    ended = script.end()
    assert (ended.code, ended.err) == (0, "")
    left = {path.name: path.stat().st_uid for path in home.iterdir()}
    assert {**used, **left} == dict.fromkeys(("t.db", "t.db-wal", "t.db-shm", "t.db-lock"), NOBODY)
    assert query(home, "SELECT count(*) FROM traces") == [2]
