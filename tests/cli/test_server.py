"""`tracer serve token`, and the commands that read over a tracking server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import fails, invoke
from tests.tracking import TrackingServer
from tracer.server.tokens import Access


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TRACER_TOKEN", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A tracking server that has two traces; how a command names it."""
    with TrackingServer(f"sqlite:///{tmp_path}/served.db", Access("the-token")) as serving:
        uri = serving.url.replace("//", "//the-token@")
        tracer.set_tracking_uri(uri)
        for name in ("first", "second"):
            with tracer.start_span(name) as span:
                span.set_inputs("a question")
        assert tracer.sync.flush(20)
        yield uri


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_made_listed_and_revoked(tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path}/a.db")
    options = ("--name", "svc", "--scope", "write", "--experiment", "A")
    made = invoke("serve", "token", "create", *store, *options, "--json")
    assert (made.code, made.json["scopes"], made.json["experiments"]) == (0, ["write"], ["A"])
    assert (tmp_path / "a.db-tokens.json").exists()
    listed = invoke("serve", "token", "list", *store)
    assert listed.rows[0][:5] == [made.json["id"], "svc", "write", "A", ""]
    assert made.json["token"] not in listed.out
    assert "kept" not in invoke("serve", "token", "list", *store, "--json").out
    assert invoke("serve", "token", "revoke", "svc", *store).code == 0
    assert invoke("serve", "token", "list", *store, "--json").json == {"tokens": []}
    assert "no token has the id or name 'svc'" in fails(2, "serve", "token", "revoke", "svc", *store)


def test_in_a_pipe_only_the_token_is_printed(tmp_path: Path) -> None:
    made = invoke("serve", "token", "create", "--tokens", str(tmp_path / "t.json"))
    assert len(made.lines) == 1
    assert len(made.lines[0]) == 32
    assert made.err == ""
    (row,) = invoke("serve", "token", "list", "--tokens", str(tmp_path / "t.json")).rows
    assert row[2:4] == ["read, write, admin", "all"]


def test_an_open_address_without_a_token_is_refused(tmp_path: Path) -> None:
    line = fails(2, "serve", "--store", f"sqlite:///{tmp_path}/a.db", "--host", "0.0.0.0", "--port", "0")
    assert "can be reached by others" in line


def test_a_server_is_no_store_of_a_server() -> None:
    assert "must be a database" in fails(2, "serve", "--store", "http://127.0.0.1:5151", "--port", "0")


# --- commands over a server -------------------------------------------------------------------------------------------


def test_traces_are_listed_shown_and_deleted_over_a_server(server: str, tmp_path: Path) -> None:
    listed = invoke("traces", "list", "--uri", server, "--columns", "name")
    assert listed.rows == [["second"], ["first"]]
    shown = invoke("traces", "show", "last", "--uri", server)
    assert (shown.code, "second" in shown.out) == (0, True)
    file = tmp_path / "traces.jsonl"
    assert invoke("traces", "export", "--uri", server, "--output", str(file)).code == 0
    assert len(file.read_text().splitlines()) == 2
    found = invoke("traces", "list", "--uri", server, "--json", "--filter", "name = 'first'").json
    trace_id = found["traces"][0]["info"]["trace_id"]
    assert invoke("traces", "delete", trace_id, "--yes", "--uri", server).code == 0
    assert invoke("traces", "list", "--uri", server, "--columns", "name").rows == [["second"]]


def test_stats_are_told_over_a_server(server: str) -> None:
    told = invoke("stats", "--uri", server, "--json").json
    assert told["totals"]["traces"] == 2
    assert told["totals"]["states"] == {"OK": 2}
    assert told["storage"]["rows"]["spans"] == 2


def test_doctor_asks_the_server(server: str) -> None:
    found = {each["name"]: each for each in invoke("doctor", "--uri", server, "--json").json["findings"]}
    assert found["answers"]["state"] == "ok"
    assert "servers" in found["spool"]["value"]
    assert "the-token" not in str(found)
    wrong = invoke("doctor", "--uri", server.replace("the-token", "guess"), "--json")
    (finding,) = [each for each in wrong.json["findings"] if each["name"] == "answers"]
    assert (wrong.code, finding["state"]) == (1, "problem")
    assert "the token is not known here" in finding["remedy"]
    away = invoke("doctor", "--uri", "http://127.0.0.1:9", "--json")
    assert "did not answer" in away.out


@pytest.mark.parametrize(
    "command", [("db", "check"), ("db", "vacuum"), ("db", "upgrade"), ("traces", "prune", "--keep", "1", "--dry-run")]
)
def test_what_needs_the_file_says_where_to_run_it(server: str, command: tuple[str, ...]) -> None:
    line = fails(2, *command, "--uri", server)
    assert "run it where the server runs" in line
    assert "the-token" not in line


def test_a_server_that_is_away_is_named(server: str) -> None:
    assert "http://127.0.0.1:9 did not answer" in fails(1, "traces", "list", "--uri", "http://secret@127.0.0.1:9")
