"""Other instrumentations, in processes of their own, send what they record to ``tracer ui --otlp``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

NAMES = ("genai", "logfire", "openinference", "openllmetry")

if any(importlib.util.find_spec(name) is None for name in ("logfire", "openinference")):
    pytest.skip("needs other instrumentations: nox -s tests_strangers", allow_module_level=True)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The address of a page that takes spans in."""
    command = (sys.executable, "-m", "tracer", "ui", "--otlp", "--no-token", "--json", "--port", "0")
    uri = f"sqlite:///{tmp_path}/t.db"
    with subprocess.Popen([*command, "--uri", uri], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"].rstrip("/")
        server.terminate()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_stranger_records_is_shown(page: str, name: str) -> None:
    sent = subprocess.run(
        [sys.executable, "-m", "tests.strangers.send", name, page], capture_output=True, text=True, check=False
    )
    assert sent.returncode == 0, sent.stderr
    [info] = httpx.get(f"{page}/api/traces").json()["traces"]
    assert (info["name"], info["state"], info["session_id"]) == ("handle question", "OK", "session-1")
    assert info["token_usage"]["total_tokens"] == 55
    spans = httpx.get(f"{page}/api/traces/{info['trace_id']}").json()["data"]["spans"]
    calls = [span for span in spans if span["span_type"] == "CHAT_MODEL"]
    assert calls[0]["inputs"]["messages"][-1]["content"] == "What is the capital of France?"
    assert calls[0]["outputs"]["choices"][0]["message"]["content"] == "You said: What is the capital of France?"
    shown = httpx.get(f"{page}/traces/{info['trace_id']}", params={"span": calls[0]["span_id"]}).text
    assert "You said: What is the capital of France?" in shown
