"""``tracer traces list``: every condition, every shape of the answer."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Any

import click
import pytest

import tracer
from tests.cli.commands import fails, invoke, on_terminal, record
from tracer.cli._app import app
from tracer.cli._columns import COLUMNS

LIST: Any = app.commands["traces"].commands["list"]  # type: ignore[attr-defined]
PAGE = (Path(__file__).parent.parent.parent / "docs/cli.md").read_text()
pytestmark = pytest.mark.usefixtures("uri")


def names(*arguments: str) -> list[str]:
    ended = invoke("traces", "list", "--columns", "name", *arguments)
    assert ended.code == 0, ended.err
    return [row[0] for row in ended.rows]


def test_every_keyword_of_search_traces_is_an_option() -> None:
    keywords = set(inspect.signature(tracer.search_traces).parameters) - {"max_results"}
    assert keywords <= {parameter.name for parameter in LIST.params if isinstance(parameter, click.Option)}


def test_conditions_select() -> None:
    record("first", tags={"env": "prod"}, session_id="s1", user_id="ann")
    record("second", tags={"env": "dev", "team": "x"}, session_id="s2")
    with pytest.raises(ValueError, match="broken"), tracer.start_span("third") as span:
        raise ValueError("broken")
    tracer.sync.flush()
    everything = ["third", "second", "first"]
    for selected, arguments in [
        (everything, []),
        (["third"], ["--status", "error"]),
        (["first"], ["--tag", "env=prod"]),
        (["second"], ["--tag", "env=dev", "--tag", "team=x"]),
        (["second"], ["--session-id", "s2"]),
        (["first"], ["--user-id", "ann"]),
        (["second"], ["--name", "second"]),
        (["second"], ["--text", "second"]),
        (["third"], ["--linked-to", span.trace_id]),
        (["third"], ["--filter", "status = 'ERROR' AND name LIKE 'th%'"]),
        (everything, ["--since", "1h"]),
        ([], ["--until", "1h"]),
        (everything, ["--since", str(time.time() - 60), "--until", "2100-01-01"]),
        ([], ["--min-duration", "1000"]),
        ([], ["--model", "gpt-5"]),
        ([], ["--experiment", "other"]),
        (everything[::-1], ["--order-by", "start_time asc"]),
        (["first", "second", "third"], ["--order-by", "name asc", "--order-by", "start_time desc"]),
        (["third"], ["--limit", "1"]),
    ]:
        assert names(*arguments) == selected, arguments


def test_a_pipe_gets_whole_cells_without_colour() -> None:
    long = "x" * 500
    trace_id = record(long, tags={"a": "1\t2\n3"})
    tracer.sync.flush()
    ended = invoke("traces", "list", "--columns", "id,status,name,tags,duration")
    assert ended.lines[0] == "id\tstatus\tname\ttags\tduration"
    assert ended.rows[0][:4] == [trace_id, "OK", long, "a=1 2 3"]
    assert float(ended.rows[0][4]) > 0
    assert "\x1b" not in ended.out


def test_every_column_can_be_shown_and_is_documented() -> None:
    tracer.sync.log_feedback(record(), "helpful", True)
    tracer.sync.flush()
    ended = invoke("traces", "list", "--columns", ",".join(COLUMNS))
    assert len(ended.rows[0]) == len(COLUMNS)
    shown = dict(zip(COLUMNS, ended.rows[0], strict=True))
    assert (shown["spans"], shown["feedback"]) == ("1", "helpful=True")
    assert all(f"`{name}`" in PAGE for name in COLUMNS)


def test_json_pages_fit_together() -> None:
    made = [record(f"n{index}") for index in range(5)]
    tracer.sync.flush()
    first = invoke("traces", "list", "--json", "--limit", "3").json
    rest = invoke("traces", "list", "--json", "--limit", "3", "--page-token", first["next_page_token"]).json
    assert rest["next_page_token"] is None
    assert [trace["info"]["trace_id"] for trace in [*first["traces"], *rest["traces"]]] == made[::-1]
    assert set(first["traces"][0]) == {"info"}


def test_json_holds_spans_on_request() -> None:
    trace_id = record()
    trace = tracer.sync.get_trace(trace_id)
    assert invoke("traces", "list", "--json", "--include-spans").json["traces"] == [trace.to_dict()]


def test_a_limit_above_a_page_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracer.cli.traces.PAGE", 2)
    for index in range(5):
        record(f"n{index}")
    tracer.sync.flush()
    assert names() == ["n4", "n3", "n2", "n1", "n0"]
    assert len(names("--limit", "3")) == 3


def test_what_moves_a_cursor_does_not_reach_the_terminal() -> None:
    record("evil\x1b]0;title\x07\x9b31m\u202egnp")
    tracer.sync.flush()
    ended = invoke("traces", "list")
    assert not set(ended.out) & set("\x1b\x07\x9b\u202e")
    assert "evil\N{REPLACEMENT CHARACTER}]0;title" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--filter", "status >"], "--filter, position 9"),
        (["--filter", "nmae = 'x'"], "nmae"),
        (
            ["--status", "OKAY"],
            "--status must be one of IN_PROGRESS, OK, ERROR, INTERRUPTED, got 'OKAY'; did you mean 'OK'?",
        ),
        (["--order-by", "size"], "--order-by must be one of"),
        (["--limit", "0"], "'--limit': 0 is not in the range"),
        (["--limit", "many"], "'--limit': 'many' is not a valid integer"),
        (["--columns", "nmae"], "got 'nmae'; did you mean 'name'?"),
        (["--columns", ","], "--columns needs at least one"),
        (["--tag", "env"], "'env' is no tag; write key=value"),
        (["--since", "yesterday"], "--since must be a datetime"),
        (["--min-duration", "-1"], "--min-duration must be seconds, 0 or more, got -1.0"),
        (["--page-token", "x"], "--page-token must be a page's next_page_token"),
        (["--uri", "mysql://h/db"], "--uri must begin with sqlite:///"),
        (["--uri", "memory://"], "--uri memory:// keeps traces in its process alone"),
        (["--limt", "3"], "--limt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_clear_line(arguments: list[str], said: str) -> None:
    record()
    tracer.sync.flush()
    line = fails(2, "traces", "list", *arguments)
    assert line.startswith("error: ")
    assert said in line
    assert len(line.splitlines()) == (3 if "position" in said or "nmae =" in str(arguments) else 1)


def test_errors_are_json_too() -> None:
    record()
    tracer.sync.flush()
    ended = invoke("traces", "list", "--json", "--status", "x")
    assert ended.out == ""
    assert '{"error":{"code":"usage","message":"--status must be' in ended.err


def test_a_terminal_learns_of_no_match_and_of_more(tmp_path: Path) -> None:
    for index in range(3):
        record(f"n{index}")
    tracer.sync.flush()
    uri = tracer.get_tracking_uri()
    assert (
        "there are more: --limit 20, or --page-token"
        in on_terminal(tmp_path, "traces", "list", "--limit", "2", "--uri", uri).out
    )
    assert "no traces match" in on_terminal(tmp_path, "traces", "list", "--name", "x", "--uri", uri).out
