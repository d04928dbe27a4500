"""Every example runs as a user would run it: as a script, in an empty folder, without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
EXPECTED = {
    "basic_chat": ["You said: What is the capital of France?", "└── Completions  CHAT_MODEL"],
    "basic_responses": ["You said: What is the capital of France?", "└── Responses  CHAT_MODEL"],
    "streaming_chat": ["You said: How fast", "14 chunks, the first after"],
    "streaming_responses": ["In the trace: You said: How fast"],
    "async_chat": ["├── AsyncCompletions_1  CHAT_MODEL", "└── AsyncCompletions_3  CHAT_MODEL"],
    "async_responses": ["└── AsyncResponses  CHAT_MODEL"],
    "async_streaming_chat": ["└── AsyncCompletions  CHAT_MODEL", "completed"],
    "async_streaming_responses": ["abandoned", "In the trace: You"],
    "tool_agent_chat": ["get_weather for Paris: rainy", "├── get_weather  TOOL", "└── Completions_2  CHAT_MODEL"],
    "tool_agent_responses": ["get_weather for Paris: rainy", "├── get_weather  TOOL", "└── AsyncResponses_2"],
    "token_usage": ["== Total token usage: ==\n  Input tokens: 16", "Completions_1:\n  Input tokens: 7"],
    "agents_sdk": ["└── AgentRunner.run_streamed  AGENT", "├── about_weather  GUARDRAIL", "session chat-1, gold"],
    "cost": ["Responses_1: 0.0000", "Together: 0.0000"],
    "redact": ["[customer] ([email]) paid with [card number]."],
    "images": ["In the trace: media://sha256/", "?type=image/png&bytes=", "bytes, the same: True"],
    "disable": ["not traced: True"],
    "realtime": ["You said: And of Peru?", "├── AsyncRealtime_1  CHAT_MODEL", "AsyncRealtime.connect: 6240 bytes"],
    "service": ["5 traces in session s1:", "ann  POST /ask > answer > AsyncResponses", "0 dropped"],
}


def test_every_example_is_run() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if not path.stem.startswith("_")}
    assert scripts == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example_runs_offline_and_shows_its_point(name: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "TRACER_"))}
    run = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.startswith("Server: the bundled fake one")
    for line in EXPECTED[name]:
        assert line in run.stdout
    assert (tmp_path / "tracer.db").exists()
