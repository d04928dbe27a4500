"""``tracer doctor``: it tells what is wrong, shows no secret and changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

import tracer
from tests.cli.commands import execute, invoke, record
from tests.processes.script import needs, run_bare
from tracer.cli.doctor import masked
from tracer.store.sqlite import _schema


def finding(ended: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = next(found for found in ended.json["findings"] if found["name"] == name)
    return found


def test_healthy_installation_has_no_problem(uri: str) -> None:
    record()
    tracer.sync.flush()
    ended = invoke("doctor", "--json")
    assert ended.code == 0
    assert ended.json["ok"]
    assert finding(ended, "openai")["value"] == openai.__version__
    assert finding(ended, "schema version")["value"] == str(_schema.SCHEMA_VERSION)
    assert finding(ended, "writable")["value"] == "yes"
    assert finding(ended, "search")["value"].startswith("lark ")
    patched = [found for found in ended.json["findings"] if found["topic"] == "patching"]
    assert "AsyncAPIClient.request" in patched[0]["value"]
    assert [found["value"] for found in patched[1:]] == ["no client", "completely"]
    assert ("ok", "database", "writable", "yes") in {tuple(row) for row in invoke("doctor").rows if len(row) == 4}


@needs("gevent", "eventlet")
def test_libraries_that_replace_threads_are_told(uri: str) -> None:
    ended = invoke("doctor", "--json")
    assert finding(ended, "gevent")["value"].endswith("what it patches is traced")
    assert finding(ended, "eventlet")["value"].endswith("a process whose threads it replaces is not traced")
    assert finding(ended, "eventlet")["state"] == "ok"


@needs("eventlet")
def test_a_process_that_can_not_be_traced_is_a_problem(tmp_path: Path) -> None:
    ended = run_bare(
        tmp_path,
        """
        import eventlet
        eventlet.monkey_patch()
        from tracer.cli import main
        try:
            main(["doctor"])
        except SystemExit as exit:
            print("exit code", exit.code)
        """,
    )
    assert "problem: eventlet: eventlet has replaced this process's threads" in ended.out
    assert ended.out.endswith("exit code 1\n")


def test_the_sdk_is_left_as_it_was(uri: str) -> None:
    function = openai._base_client.AsyncAPIClient.request
    before = function.__code__
    invoke("doctor")
    assert openai._base_client.AsyncAPIClient.request is function
    assert function.__code__ is before


def test_a_client_that_by_passes_tracer_is_a_problem(tmp_path: Path) -> None:
    ended = run_bare(
        tmp_path,
        """
        import openai

        class Own(openai.OpenAI):
            def request(self, *args, **kwargs):
                return "an answer of its own"

        from tracer.cli import main
        try:
            main(["doctor"])
        except SystemExit as exit:
            print("exit code", exit.code)
        """,
    )
    assert "problem: by-passed by: calls through __main__.Own may not be traced" in ended.out
    assert ended.out.endswith("exit code 1\n")


def test_a_database_that_is_not_there_is_no_problem_and_not_made(tmp_path: Path) -> None:
    ended = invoke("doctor", "--json", "--uri", f"sqlite:///{tmp_path}/new/none.db")
    assert ended.code == 0
    assert finding(ended, "file")["value"].endswith("none.db: not there yet; the first trace makes it")
    assert not (tmp_path / "new").exists()


def test_what_is_wrong_with_the_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.store.sqlite._upkeep.BUSY_TIMEOUT_MS", 50)
    uri = f"sqlite:///{tmp_path}/tracer.db"
    record()
    tracer.sync.flush()
    with closing(sqlite3.connect(tmp_path / "tracer.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ended = invoke("doctor", "--json", "--uri", uri)
        other.execute("ROLLBACK")
    assert ended.code == 1
    assert finding(ended, "writable")["state"] == "problem"
    (tmp_path / "text.db").write_text("not a database" * 100)
    ended = invoke("doctor", "--json", "--uri", f"sqlite:///{tmp_path}/text.db")
    assert ended.code == 1
    assert "is not a SQLite database" in finding(ended, "usable")["remedy"]
    assert "a service moves it aside" in finding(ended, "usable")["value"]
    (tmp_path / "folder.db").mkdir()
    ended = invoke("doctor", "--json", "--uri", f"sqlite:///{tmp_path}/folder.db")
    assert "is a directory" in finding(ended, "usable")["remedy"]
    assert "traces nothing" in finding(ended, "usable")["value"]
    assert (tmp_path / "text.db").read_text().startswith("not a database")


def test_environment_is_shown_without_secrets(tmp_path: Path) -> None:
    secret = "sk-proj-0123456789"
    ended = execute(
        tmp_path,
        "doctor",
        "--json",
        OPENAI_API_KEY=secret,
        OPENAI_BASE_URL="http://ann:hunter2@localhost/v1",
        TRACER_TOKEN=secret,
        TRACER_SAMPLERATE="0.5",
    )
    assert ended.code == 0
    assert secret not in ended.out + ended.err
    assert "hunter2" not in ended.out
    assert finding(ended, "OPENAI_API_KEY")["value"] == "set, 18 characters"
    assert finding(ended, "OPENAI_BASE_URL")["value"] == "http://***@localhost/v1"
    slip = finding(ended, "TRACER_SAMPLERATE")
    assert slip["state"] == "warning"
    assert slip["remedy"].endswith("did you mean 'TRACER_SAMPLE_RATE'?")


def test_unusable_settings_are_a_problem(tmp_path: Path) -> None:
    ended = execute(tmp_path, "doctor", TRACER_SAMPLE_RATE="7")
    assert ended.code == 1
    assert "problem: settings: TRACER_SAMPLE_RATE must be a number from 0 to 1, got 7.0" in ended.out
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "TRACER_TOKEN", "AZURE_OPENAI_AD_TOKEN", "OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS"]
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert masked(name, "hunter2") == "set, 7 characters"


def test_secrets_within_addresses_are_masked() -> None:
    assert masked("OPENAI_BASE_URL", "https://ann:hunter2@host/v1?code=hunter2") == "https://***@host/v1?***"
