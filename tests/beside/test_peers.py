"""tracer beside other tracing tools: whoever comes first, whoever goes first, a call is one span and stays what it was.

Needs the packages of requirements.txt: ``nox -s tests_beside`` installs and runs all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ddtrace", reason="needs other tracing tools: nox -s tests_beside")

from tests.beside.peers import PEERS

ROOT = Path(__file__).parent.parent.parent
LIMIT = 240.0  # seconds after which a case counts as hanging
OURS, THEIRS = ("ours on", "theirs on"), ("ours off", "theirs off")
ORDERS = [(*on, *off) for on in (OURS, OURS[::-1]) for off in (THEIRS, THEIRS[::-1])]
COME_AND_GO = [
    ("theirs on", "theirs off", "ours on", "ours off"),  # what a tool leaves behind
    ("theirs on", "ours on", "ours off", "ours on"),
]
ALTER_REQUESTS = ("datadog", "all at once")  # they ask for the usage of sync streams
ALONE = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "LANGSMITH_TRACING": "true",
    "TRACER_TRACKING_URI": "memory://",
}


def run(name: str, steps: tuple[str, ...]) -> Any:
    """Run a case; return its report."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.beside.case", name, *steps],
        cwd=ROOT,
        env={**os.environ, **ALONE},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def wrong(report: Any, name: str) -> Iterator[str]:
    """Say what is not as it should be: the spans of both sides, the answer, the request."""
    requests = {call["call"]: call["requests"] for call in report["calls"] if call["after"] == "nothing"}
    for call in report["calls"]:
        what = f"{call['call']} after {call['after']}"
        if call["said"] != "You said: Hi":
            yield f"{what}: the caller got {call['said']!r}"
        as_sent = call["requests"] == requests[call["call"]] or (call["theirs_on"] and name in ALTER_REQUESTS)
        if len(call["requests"]) != 1 or not as_sent:
            yield f"{what}: the server got {call['requests']}"
        if call["ours"] != call["ours_on"]:
            yield f"{what}: {call['ours']} spans of ours"
        patched = "client" not in name and name != "langsmith"  # classes; not one client only
        if call["theirs_on"] and not call["theirs"] and (patched or "new" not in call["call"]):
            yield f"{what}: no span of theirs"


@pytest.mark.parametrize("steps", [*ORDERS, *COME_AND_GO], ids=", ".join)
@pytest.mark.parametrize("name", list(PEERS))
def test_each_call_is_one_span_in_any_order(name: str, steps: tuple[str, ...]) -> None:
    report = run(name, steps)
    assert list(wrong(report, name)) == []
    assert report["log"] == []
    if steps[-1] != "ours on":
        assert report["changed"] == []
        assert report["replaced"] == [] or not report["theirs_went"]
