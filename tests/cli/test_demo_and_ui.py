"""``tracer demo`` makes a trace without key or network; ``tracer ui`` shows it."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tests.cli.commands import ESCAPE, Ended, execute, fails, on_terminal, start


def test_demo_shows_its_tree_and_what_to_do_next(tmp_path: Path) -> None:
    ended = execute(tmp_path, "demo")
    assert (ended.code, ended.err) == (0, "")
    assert "agent: According to get_weather for Paris: rainy." in ended.lines
    for line in ("└── weather_agent  AGENT", "├── AsyncCompletions_1  CHAT_MODEL", "├── get_weather  TOOL"):
        assert line in ended.out
    assert ended.lines[-2:] == ["  tracer ui --open", "  tracer traces show last --inputs --outputs"]
    shown = execute(tmp_path, "traces", "show", "last", "--outputs")
    assert '"According to get_weather for Paris: rainy."' in shown.out


def test_demo_keeps_to_its_uri(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/other.db"
    ended = execute(
        tmp_path, "demo", "--json", "--uri", uri, OPENAI_API_KEY="sk-not-used", OPENAI_BASE_URL="http://[::1]:9"
    )
    assert ended.code == 0, ended.err
    assert ended.json["uri"] == uri
    assert len(ended.json["trace"]["data"]["spans"]) == 4
    assert [path.name for path in tmp_path.glob("*.db")] == ["other.db"]
    assert f"tracer ui --open --uri {uri}" in execute(tmp_path, "demo", "--uri", uri).out


def test_demo_on_a_terminal_is_coloured(tmp_path: Path) -> None:
    ended = on_terminal(tmp_path, "demo")
    assert ended.code == 0
    assert ESCAPE in ended.out


def test_ui_serves_until_ctrl_c(tmp_path: Path) -> None:
    assert execute(tmp_path, "demo").code == 0
    process = start(tmp_path, "ui", "--port", "0", "--json")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    url = json.loads(line)["url"]
    assert urlsplit(url).hostname == "127.0.0.1"
    with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(url, timeout=20) as answer:
        assert "weather_agent" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    ended = Ended(0, *process.communicate(timeout=30))
    assert (process.returncode, ended.out, ended.err) == (0, "", "")


def test_ui_says_why_it_cannot_listen(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/tracer.db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = fails(1, "ui", "--port", port, "--uri", uri)
    assert f"can't listen on 127.0.0.1, port {port}: Address already in use; choose with --host and --port" in line
    assert "can be reached by others" in fails(2, "ui", "--no-token", "--host", "0.0.0.0", "--uri", uri)
    assert "'--port': 70000 is not in the range" in fails(2, "ui", "--port", "70000", "--uri", uri)
