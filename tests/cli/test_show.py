"""``tracer traces show``: one trace, whole and in parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tracer
from tests.cli.commands import ESCAPE, execute, fails, invoke, on_terminal, record
from tracer import SpanType
from tracer.testing import FakeOpenAI, reply

pytestmark = pytest.mark.usefixtures("uri")


@pytest.fixture
def agent_run(server: FakeOpenAI) -> str:
    """A trace of an agent: a model call that is streamed, and a tool that fails."""
    tracer.autolog()
    server.enqueue(reply.text("It rains."))
    with tracer.start_span("agent", span_type=SpanType.AGENT) as span, server.client() as client:
        tracer.update_current_trace(tags={"env": "test"}, session_id="s1", metadata={"build": "7"})
        with client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Weather?"}], stream=True
        ) as stream:
            assert list(stream)
        with pytest.raises(OSError, match="no such city"), tracer.start_span("look_up", span_type=SpanType.TOOL):
            raise OSError("no such city")
    tracer.sync.flush()
    return span.trace_id


def test_tree_in_a_pipe_has_everything_and_no_colour(agent_run: str) -> None:
    ended = invoke("traces", "show", agent_run)
    assert ended.code == 0
    assert "agent  [OK]  " in ended.lines[0]
    assert ended.lines[0].endswith(agent_run)
    for fact in ("session: s1", "tags: env=test", "metadata: build=7", "experiment: Default"):
        assert fact in ended.lines
    assert any(line.startswith("    ├── Completions  CHAT_MODEL  +") for line in ended.lines)
    assert any(line.startswith("    └── look_up  TOOL  +") and "ERROR" in line for line in ended.lines)
    assert any("no such city" in line for line in ended.lines)
    assert ESCAPE not in ended.out


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_terminal_gets_colour_and_fits(agent_run: str, columns: int, tmp_path: Path) -> None:
    ended = on_terminal(tmp_path, "traces", "show", "last", "--uri", tracer.get_tracking_uri(), columns=columns)
    assert ended.code == 0
    assert ESCAPE in ended.out
    assert "look_up" in ended.out
    assert ("━" in ended.out) == (columns == 140)
    without_colour = re.sub(r"\x1b\[[0-9;]*m", "", ended.out)
    assert max(map(len, without_colour.splitlines())) <= columns


def test_no_color_is_respected(agent_run: str, tmp_path: Path) -> None:
    arguments = ("traces", "show", "last", "--uri", tracer.get_tracking_uri())
    assert f"{ESCAPE}3" not in on_terminal(tmp_path, *arguments, NO_COLOR="1").out


def test_json_is_the_trace(agent_run: str) -> None:
    trace = tracer.sync.get_trace(agent_run)
    assert invoke("traces", "show", agent_run, "--json").json == trace.to_dict()
    span = invoke("traces", "show", agent_run, "--json", "--span", "look_up").json
    assert span == trace.to_dict()["data"]["spans"][2]


@pytest.mark.parametrize("how", ["id", "beginning", "UPPER", "last"])
def test_trace_is_named_by_id_beginning_or_last(agent_run: str, how: str) -> None:
    named = {"id": agent_run, "beginning": agent_run[:9], "UPPER": agent_run.upper(), "last": "last"}[how]
    assert agent_run in invoke("traces", "show", named).out


def test_one_span_shows_its_attributes_and_events(agent_run: str) -> None:
    ended = invoke("traces", "show", agent_run, "--span", "Completions", "--inputs", "--outputs", "--events")
    assert "  gen_ai.request.model = gpt-4o-mini" in ended.lines
    assert '      "content": "Weather?"' in ended.lines
    assert '"It rains."' in ended.out
    chunks = [line for line in ended.lines if "gen_ai.chunk" in line]
    assert "".join(line.rpartition("gen_ai.chunk  ")[2].strip('"') for line in chunks).startswith("It rains.")
    assert "look_up" not in ended.out


def test_span_is_named_by_the_beginning_of_its_id(agent_run: str) -> None:
    span = tracer.sync.get_trace(agent_run).data.spans[2]
    assert "look_up" in invoke("traces", "show", agent_run, "--span", span.span_id[:10]).lines[0]


def test_exceptions_are_events(agent_run: str) -> None:
    assert "exception  OSError: no such city" in invoke("traces", "show", agent_run, "--events").out


def test_feedback_is_shown(agent_run: str) -> None:
    tracer.sync.log_feedback(agent_run, "correct", False)
    assert "feedback: correct=False" in invoke("traces", "show", agent_run).lines


def test_what_is_not_there_or_not_clear_is_told(agent_run: str) -> None:
    record("another")
    tracer.sync.flush()
    assert fails(1, "traces", "show", "0" * 32) == f"error: no trace '{'0' * 32}' is stored"
    missing = next(digit for digit in "0123456789abcdef" if digit * 12 != agent_run[:12]) * 12
    assert fails(1, "traces", "show", missing) == f"error: no trace id begins with '{missing}'"
    assert "must be hex digits" in fails(2, "traces", "show", "x' OR 'a' = 'a")
    assert "has no span with this id or name" in fails(1, "traces", "show", agent_run, "--span", "nope")
    for digit in range(17):  # of seventeen ids two begin alike
        record(f"n{digit}")
    tracer.sync.flush()
    ids = [trace.info.trace_id[0] for trace in tracer.sync.search_traces()]
    twice = next(digit for digit in ids if ids.count(digit) > 1)
    assert "is the beginning of more than one trace id" in fails(2, "traces", "show", twice)


def test_last_of_none_is_told(tmp_path: Path) -> None:
    tracer.sync.search_traces()  # makes the database
    assert fails(1, "traces", "show", "last") == "error: there are no traces yet"


def test_error_with_many_lines_is_whole_in_a_pipe() -> None:
    with pytest.raises(ValueError, match="line"), tracer.start_span("x"):
        raise ValueError("line one\nline two " + "y" * 300)
    tracer.sync.flush()
    assert "line one line two " + "y" * 300 in invoke("traces", "show", "last").out


def test_real_command_shows_the_same(agent_run: str, tmp_path: Path) -> None:
    uri = tracer.get_tracking_uri()
    ended = execute(tmp_path, "traces", "show", agent_run, TRACER_TRACKING_URI=uri)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == invoke("traces", "show", agent_run).out
