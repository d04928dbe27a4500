from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tracer._exceptions import ConfigurationError, MissingDependencyError
from tracer.store import check_uri, open_store
from tracer.store.sqlite._schema import APPLICATION_ID
from tracer.store.uri import redact_uri, server_address, sqlite_path

from .rows import simple


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "use sqlite:///tracer.db"),
        ("traces.db", "use sqlite:///traces.db"),
        ("./a/traces.sqlite3", "use sqlite:///./a/traces.sqlite3"),
        ("sqlite:/traces.db", "must be a URI"),
        ("sqlite://traces.db", "three slashes"),
        ("sqlite:///", "three slashes and a file name"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite:///a.db?mode=ro", "no options"),
        ("mysql://host/db", "must begin with sqlite:///, http://, postgresql:// or clickhouse:// or be memory://"),
        ("memory://x", "must begin with sqlite:///, http://, postgresql:// or clickhouse:// or be memory://"),
        ("postgresql://localhost", "must name a database"),
        ("postgresql:///x", "must name a host"),
        ("postgresql://localhost/x/y", "must name a database"),
        ("postgresql://localhost:port/x", "can't be read"),
        ("postgresql://localhost/x?statement_cache_size=few", "can't be read"),
        ("postgresql://localhost/x#y", "must have its password before the @"),
        ("http://", "must name a host"),
        ("http://:5151", "must name a host"),
        ("https://host:port", "can't be read"),
        ("https://host:99999", "can't be read"),
        ("http://a host:5151", "must name a host"),
        ("http://host:5151?token=1", "no options"),
        ("http://host:5151/#x", "no options"),
        ("clickhouse://localhost", "must name a database"),
        ("clickhouse:///x", "must name a host"),
        ("clickhouse://localhost/x?password=s", "must have none but these options"),
        ("clickhouse://localhost:x/y", "can't be read"),
        ("chdb://relative", "must have three slashes and a directory"),
        ("chdb:///dir?x=1", "must have none but these options: database"),
    ],
)
def test_a_wrong_uri_is_named_with_its_remedy(uri: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_uri(uri)
    assert words in str(caught.value)
    assert repr(redact_uri(uri)) in str(caught.value)
    assert "; use " in str(caught.value)


def test_something_else_than_a_string_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must be a string, got 5"):
        check_uri(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "uri",
    [
        "https://user:se@cret@host/x?y",
        "postgresql://user:se@cret@host",
        "postgresql://host/x?password=secret",
        "postgresql://host/x?user=a&sslpassword=secret",
        "mysql://:se@cret@host",
        "sqlite://se@cret@h/x.db",
    ],
)
def test_messages_never_show_a_password(uri: str) -> None:
    assert "cret" not in redact_uri(uri).replace("@cret", "", 0)
    with pytest.raises(ConfigurationError) as caught:
        check_uri(uri)
    assert "cret" not in str(caught.value)


def test_without_its_driver_postgresql_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncpg", raising=False)
    monkeypatch.setattr("tracer.store.uri.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'openai-tracer\[postgres\]'"):
        check_uri("postgresql://localhost/x")


def test_good_uris_come_back_in_normal_form(tmp_path: Path) -> None:
    assert check_uri("memory://") == "memory://"
    assert check_uri(f" SQLite:///{tmp_path}/a.db ") == f"sqlite:///{tmp_path}/a.db"
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("uri", "url", "token"),
    [
        ("HTTP://localhost:5151", "http://localhost:5151", None),
        ("https://tracer.example/", "https://tracer.example", None),
        ("https://s%40me:token@tracer.example/team/a/", "https://tracer.example/team/a", "s@me:token"),
        ("http://t@[::1]:5151", "http://[::1]:5151", "t"),
    ],
)
def test_the_address_of_a_server_is_taken_apart(uri: str, url: str, token: str | None) -> None:
    address = server_address(check_uri(uri))
    assert (address.url, address.token) == (url, token)


def test_paths_are_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///a/b.db") == tmp_path / "a" / "b.db"
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")


async def test_a_relative_path_is_resolved_when_the_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///a.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.open()
    await store.write(simple(1))
    await store.aclose()
    assert (tmp_path / "a.db").exists()


def refusal(path: Path) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigurationError) as caught:
        check_uri(f"sqlite:///{path}")
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_a_file_as_parent_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is not a directory" in refusal(tmp_path / "file" / "sub" / "a.db")


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    assert "symbolic link" in refusal(tmp_path / "link.db")


@pytest.mark.parametrize("content", [b"hello", b"\0" * 4096, b"SQLite format 3\0"], ids=["text", "zeros", "cut off"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    assert "is not a SQLite database" in refusal(tmp_path / "a.db")


def test_an_empty_file_is_welcome(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    check_uri(f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize(
    ("pragma", "words"),
    [
        ("application_id = 7", "another program's"),
        ("user_version = 3", "another program's"),
        ("journal_mode = DELETE", "another program's"),
    ],
)
def test_another_programs_database_is_refused(tmp_path: Path, pragma: str, words: str) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    assert words in refusal(tmp_path / "a.db")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "schema version 99" in refusal(tmp_path / "a.db")


async def test_a_file_of_ours_passes_while_open_and_closed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/a.db"
    store = open_store(uri)
    await store.open()
    check_uri(uri)
    await store.write(simple(1))
    check_uri(uri)
    await store.aclose()
    check_uri(uri)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_a_file_or_directory_without_permission_is_refused(tmp_path: Path) -> None:
    """Root may write anything, so another user looks."""
    script = """
import os, sys
from tracer.store import check_uri
os.setuid(65534)
try:
    check_uri(sys.argv[1])
except Exception as error:
    print(error)
"""
    folder = Path("/tmp") / f"tracer-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        (folder / "a.db").touch(mode=0o444)
        (folder / "shut").mkdir(mode=0o700)
        for name, words in (
            ("a.db", "can't be read and written"),
            ("new/b.db", "no file can be made in"),
            ("shut/a.db", "can't be looked at (Permission denied); name one that can be reached"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, f"sqlite:///{folder}/{name}"], capture_output=True, text=True, check=True
            )
            assert words in done.stdout
    finally:
        (folder / "shut").rmdir()
        (folder / "a.db").unlink()
        folder.rmdir()


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"x': its file can't be looked at \(File name too long\); name one"):
        check_uri(f"sqlite:///{tmp_path}/{'x' * 300}")


def test_a_working_directory_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigurationError, match=r"'sqlite:///a\.db': .*No such file.*by its whole path") as caught:
        check_uri("sqlite:///a.db")
    assert isinstance(caught.value, ValueError)


async def test_looking_leaves_alone_what_a_killed_process_left(tmp_path: Path) -> None:
    """Recovering the log, and moving it into the database, would be done in the user's thread."""
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    await store.open()
    size = (tmp_path / "a.db").stat().st_size
    await store.write(simple(*range(100)))
    left = {suffix: (tmp_path / f"a.db{suffix}").read_bytes() for suffix in ("", "-wal")}
    await store.aclose()
    assert (len(left[""]), len(left["-wal"]) > 10_000) == (size, True), "all is in the log"
    (tmp_path / "killed").mkdir()
    for suffix, content in left.items():
        (tmp_path / "killed" / f"a.db{suffix}").write_bytes(content)
    check_uri(f"sqlite:///{tmp_path}/killed/a.db")
    assert {file.name[4:]: file.read_bytes() for file in (tmp_path / "killed").iterdir()} == left


async def test_a_file_in_the_midst_of_a_checkpoint_is_not_called_damaged(tmp_path: Path) -> None:
    """Pages are moved in the order of their numbers, and the first one says how many there are."""
    store = open_store(f"sqlite:///{tmp_path}/a.db")
    await store.open()
    await store.write(simple(*range(100)))
    log = (tmp_path / "a.db-wal").read_bytes()
    await store.aclose()
    (tmp_path / "a.db").write_bytes((tmp_path / "a.db").read_bytes()[:8192])
    assert "is damaged" in refusal(tmp_path / "a.db")
    (tmp_path / "a.db-wal").write_bytes(log)
    check_uri(f"sqlite:///{tmp_path}/a.db")


async def test_the_file_is_judged_not_its_namesake_in_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///a.db")
    (tmp_path / "elsewhere" / "a.db").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.open()
    await store.aclose()
